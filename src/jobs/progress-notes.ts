/**
 * Progress of one attempt on its way to the records: one note at a time, at most one every `intervalMs`, of each stage the
 * newest. When the attempt is over, what still waits is dropped, and nothing is written behind its end.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { JOB_PROGRESS_INTERVAL_MS, JOB_STAGES_WAITING_MAX } from '../limits.ts'
import type { Progress } from '../records/jobs-port.ts'

export interface ProgressNotes {
  note(progress: Progress): void
  /** Resolves when nothing is written any more. Idempotent. */
  end(): Promise<void>
}

/** `write` must not reject. */
export function progressNotes(write: (progress: Progress) => Promise<void>, intervalMs = JOB_PROGRESS_INTERVAL_MS): ProgressNotes {
  /** by stage, in the order in which they came */
  const waiting = new Map<string, Progress>()
  let writing: Promise<void> | undefined
  const stop = new AbortController()

  async function writeAll(): Promise<void> {
    for (let first = take(); first !== undefined && !stop.signal.aborted; first = take()) {
      await Promise.all([write(first), delay(intervalMs, undefined, { signal: stop.signal }).catch(() => {})])
    }
    writing = undefined
  }

  function take(): Progress | undefined {
    const [first] = waiting.values()
    if (first !== undefined) waiting.delete(first.stage)
    return first
  }

  return {
    note(progress) {
      if (stop.signal.aborted) return
      waiting.set(progress.stage, progress)
      if (waiting.size > JOB_STAGES_WAITING_MAX) waiting.delete(waiting.keys().next().value!)
      writing ??= writeAll()
    },
    async end() {
      stop.abort()
      await writing
    }
  }
}
