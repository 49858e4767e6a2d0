/** A pool of scripted workers. At the end of the test it is closed, and no process of it may be left. */
import { join } from 'node:path'
import { createLogger } from '../../src/logging.ts'
import type { InferencePool, RunHooks, RunRequest } from '../../src/inference/port.ts'
import { createPool, type PoolOptions } from '../../src/inference/pool/pool.ts'
import type { WorkerSettings } from '../../src/inference/protocol.ts'
import type { Test } from 'tap'
import type { StartScript, Step } from './scripted-worker.ts'

export const SCRIPTED = join(import.meta.dirname, 'scripted-worker.ts')

export interface ScriptedPool {
  pool: InferencePool
  /** Every process that was seen so far. */
  pids: Set<number>
  restarts: string[]
  logged(action: string): Record<string, unknown>[]
  /** Runs these steps. */
  run(id: string, steps: Step[], hooks?: Partial<RunHooks>, more?: Partial<RunRequest>): ReturnType<InferencePool['run']>
}

export type ScriptedOptions = Partial<PoolOptions> & { start?: StartScript }

export const settings = (start: StartScript = {}): WorkerSettings =>
  ({ store: {}, modelCacheDir: '', workDir: '', device: 'cpu', intraOpNumThreads: 1, execTasks: start, ffmpeg: null, sessionsMax: 1, infer: null })

export const MODEL = { name: 'm', version: '1', sha256: '0'.repeat(64), key: 'k', size: 1, task: 'tensor', manifest: {} }

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

export function makePool(t: Test, { start, ...options }: ScriptedOptions = {}): ScriptedPool {
  const lines: Record<string, unknown>[] = []
  const restarts: string[] = []
  const pids = new Set<number>()
  const log = createLogger({ level: 'debug', destination: { write: line => void lines.push(JSON.parse(line) as Record<string, unknown>) } })
  const pool = createPool({
    workers: 1, isolation: 'process', entry: SCRIPTED, settings: settings(start), maxJobs: 0, maxRssBytes: 0, cancelGraceMs: 200, queueMax: 10,
    startTimeoutMs: 20_000, log, onRestart: reason => void restarts.push(reason), ...options
  })
  const logged = (action: string): Record<string, unknown>[] => lines.filter(line => line.action === action)
  t.teardown(async () => {
    await pool.close()
    for (const { pid } of logged('worker.ready')) if (typeof pid === 'number') pids.add(pid)
    const left = [...pids].filter(isAlive)
    if (left.length > 0) throw new Error(`processes are left: ${left.join(', ')}`)
  })
  return {
    pool, pids, restarts, logged,
    run: (id, steps, hooks = {}, more = {}) =>
      pool.run({ id, task: 'tensor', model: MODEL, params: { do: steps }, inputs: [], ...more }, { timeoutMs: 60_000, ...hooks })
  }
}

export async function startPool(t: Test, options: ScriptedOptions = {}): Promise<ScriptedPool> {
  const scripted = makePool(t, options)
  await scripted.pool.start()
  return scripted
}
