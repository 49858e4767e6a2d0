/**
 * A pool whose models run on another machine has no free worker while that machine is away. Jobs stay in the queue then, where
 * they use up no attempts and any other node may take them; what is asked for directly is tried nevertheless.
 *
 *   start, or a run that failed for the other side ─▶ is it there? ─▶ yes: workers are free again
 *                                                        └─▶ no: asked again, every few seconds
 */
import { setTimeout as delay } from 'node:timers/promises'
import { REMOTE_ASK_INTERVAL_MS } from '../limits.ts'
import { InferenceFailed, type InferencePool } from './port.ts'

export interface WhileThereOptions {
  /** Rejects while the other side is away. */
  ask(): Promise<void>
  /** Once for each absence, with why it is thought to be away. */
  onAway(reason: unknown): void
  onBack(): void
  /** between two questions */
  intervalMs?: number
}

export function whileThere(pool: InferencePool, { ask, onAway, onBack, intervalMs = REMOTE_ASK_INTERVAL_MS }: WhileThereOptions): InferencePool {
  const listeners = new Set<() => void>()
  const closing = new AbortController()
  let asking: Promise<void> | undefined

  async function untilThere(): Promise<void> {
    let away = false
    while (!closing.signal.aborted) {
      const reason = await ask().then(() => undefined, (error: unknown) => ({ error }))
      if (reason === undefined) break
      if (!away) onAway(reason.error)
      away = true
      await delay(intervalMs, undefined, { signal: closing.signal, ref: false }).catch(() => {})
    }
    asking = undefined
    if (closing.signal.aborted) return
    if (away) onBack()
    tell()
  }

  function tell(): void {
    if (asking === undefined && pool.free > 0) for (const listener of listeners) listener()
  }

  function look(): void {
    if (!closing.signal.aborted) asking ??= untilThere()
  }

  const off = pool.onFree(tell)
  return {
    async start() {
      await pool.start()
      look()
    },
    get free() { return asking === undefined ? pool.free : 0 },
    onFree(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async run(request, hooks) {
      try {
        return await pool.run(request, hooks)
      } catch (error) {
        if (error instanceof InferenceFailed && error.code === 'node_failed') look()
        throw error
      }
    },
    checkModel: (model, signal) => pool.checkModel(model, signal),
    importModel: (file, known, hooks) => pool.importModel(file, known, hooks),
    status: () => pool.status(),
    async close() {
      closing.abort()
      off()
      listeners.clear()
      await pool.close()
      await asking
    }
  }
}
