/**
 * A check of a dependency that anybody may ask for, as often as they like: one is under way at a time, whoever asks
 * meanwhile shares it, and a good answer is believed for a moment. A check that takes too long is an error for those who
 * ask, but counts as under way until it ends: no second one takes another connection.
 */
import { CHECK_TIMEOUT_MS, STORE_CHECK_TTL_MS } from '../limits.ts'

/**
 * `believedMs`: how long a good answer counts; 0 where the check itself knows.
 * @throws what the check throws, or an error where it takes longer than CHECK_TIMEOUT_MS
 */
export function sharedCheck(check: () => Promise<unknown>, believedMs = STORE_CHECK_TTL_MS): () => Promise<void> {
  let goodUntil = 0
  let asking: Promise<void> | undefined
  const ask = async (): Promise<void> => {
    await check()
    goodUntil = performance.now() + believedMs
  }
  return async () => {
    if (performance.now() < goodUntil) return
    asking ??= atMost(CHECK_TIMEOUT_MS, ask().finally(() => { asking = undefined }))
    await asking
  }
}

async function atMost(timeoutMs: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
