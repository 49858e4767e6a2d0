/**
 * Clients of uploads behind a proxy, used to nodes that go away: an upload that was cut off is made anew, a finalize that was
 * cut off is asked for again until it is answered. What they were told is kept.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Promised } from './upload-checks.ts'

const MAX_UPLOAD_BYTES = 4 * 1024 * 1024
const AGAIN_MS = 100

export interface UploadWorld {
  readonly url: string
  readonly headers: Record<string, string>
  /** clients end at their next step */
  readonly stopping: AbortSignal
  readonly promised: Promised
  readonly counts: { uploads: number, uploadsCutOff: number, finalizesAgain: number }
}

/** undefined: cut off, or answered by the proxy or by a node that ends. @throws where it was refused */
async function post({ url, headers }: UploadWorld, path: string, body: Uint8Array<ArrayBuffer> | string, type: string): Promise<Record<string, unknown> | undefined> {
  let response: Response
  let text: string
  try {
    response = await fetch(`${url}${path}`, { method: 'POST', body, headers: { ...headers, 'content-type': type } })
    text = await response.text()
  } catch {
    return undefined
  }
  if ([502, 503, 504].includes(response.status)) return undefined
  if (response.status !== 200) throw new Error(`POST ${path} was answered with ${response.status} ${text}`)
  return JSON.parse(text) as Record<string, unknown>
}

/** Uploads until the world stops; two of three are finalized. @throws where an answer was wrong */
export async function uploadClient(world: UploadWorld): Promise<void> {
  while (!world.stopping.aborted) {
    const bytes = randomBytes(randomInt(1, MAX_UPLOAD_BYTES))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const answer = await post(world, `/upload-proxy?filename=a.bin&size=${bytes.length}`, bytes, 'application/octet-stream')
    if (answer === undefined) {
      world.counts.uploadsCutOff += 1
      await delay(AGAIN_MS)
      continue
    }
    if (answer.sha256 !== sha256) throw new Error(`the service hashed ${String(answer.sha256)} where ${sha256} was sent`)
    const { key } = answer.upload as { key: string }
    world.counts.uploads += 1
    if (randomInt(3) === 0) world.promised.staged.set(key, sha256)
    else await finalize(world, key, sha256)
  }
}

async function finalize(world: UploadWorld, key: string, sha256: string): Promise<void> {
  for (;;) {
    const answer = await post(world, '/finalize', JSON.stringify({ key }), 'application/json')
    if (answer !== undefined) {
      if (answer.contentHash !== sha256) throw new Error(`finalized to ${String(answer.contentHash)} where ${sha256} was sent`)
      world.promised.finalized.add(sha256)
      return
    }
    // unanswered: either state is right
    if (world.stopping.aborted) return
    world.counts.finalizesAgain += 1
    await delay(AGAIN_MS)
  }
}
