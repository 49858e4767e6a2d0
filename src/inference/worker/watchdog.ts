/**
 * A thread of a worker that is a process: it sees that the parent is gone, also while the worker's own thread is in a run of
 * ONNX Runtime and hears of nothing, and ends the worker with everything in its process group.
 */
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { WATCHDOG_INTERVAL_MS } from '../../limits.ts'

/** Call it in the worker's own thread. */
export function watchParent(parent = process.ppid): void {
  const thread = new Worker(new URL(import.meta.url), { execArgv: [], workerData: { watchedParent: parent }, resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 } })
  thread.unref()
}

function look(parent: number): void {
  if (process.ppid === parent) return
  try {
    // where it leads a group: the commands that it has started
    process.kill(-process.pid, 'SIGKILL')
  } catch {
    process.kill(process.pid, 'SIGKILL')
  }
}

const { watchedParent } = (workerData ?? {}) as { watchedParent?: number }
if (!isMainThread && watchedParent !== undefined) setInterval(look, WATCHDOG_INTERVAL_MS, watchedParent)
