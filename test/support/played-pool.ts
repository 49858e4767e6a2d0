/** A pool whose workers are played by a test: each run waits until the test says how it goes. Results are really staged. */
import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { InferenceFailed, type InferencePool, type RunHooks, type RunRequest, type RunResult, type StagedResult } from '../../src/inference/port.ts'
import { stagingKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'

export const EXECUTION = { provider: 'cpu', device: 'played', worker: 'w1' }

export interface PlayedRun {
  readonly request: RunRequest
  readonly hooks: RunHooks
  /** Puts a result into staging. */
  stage(text: string, name?: string): Promise<StagedResult>
  /** The run ends with these results, also where it was told to stop: too late then. */
  done(results: StagedResult[]): void
  /** Stages and ends. */
  finish(text: string, name?: string): Promise<void>
  fail(error: InferenceFailed): void
}

export interface PlayedPool extends InferencePool {
  /** The next run, in the order in which they begin. */
  next(): Promise<PlayedRun>
  /** How many began. */
  readonly begun: number
  /** Ends runs by themselves from now on. */
  play(script: ((run: PlayedRun) => Promise<void>) | undefined): void
  /** false: a run that is cancelled goes on as if it had not heard of it */
  obeys: boolean
}

export function playedPool(store: ObjectStore, workers = 1): PlayedPool {
  const waiting: PlayedRun[] = []
  const wanting: ((run: PlayedRun) => void)[] = []
  const listeners = new Set<() => void>()
  const running = new Set<{ reject(error: Error): void }>()
  let script: ((run: PlayedRun) => Promise<void>) | undefined
  let begun = 0

  function give(run: PlayedRun): void {
    if (script !== undefined) {
      script(run).catch((error: unknown) => run.fail(error instanceof InferenceFailed ? error : new InferenceFailed('internal_error', String(error))))
      return
    }
    const wants = wanting.shift()
    if (wants) wants(run)
    else waiting.push(run)
  }

  async function stage(text: string, name = 'output.json'): Promise<StagedResult> {
    const bytes = Buffer.from(text)
    const key = stagingKey(randomUUID(), 'object')
    const { etag } = await store.put(key, bytes, { size: bytes.length })
    return { name, filename: name, key, etag, size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'), contentType: 'application/json' }
  }

  const pool: PlayedPool = {
    obeys: true,
    get begun() { return begun },
    get free() { return workers - running.size },
    start: async () => {},
    onFree(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    next: () => {
      const first = waiting.shift()
      return first ? Promise.resolve(first) : new Promise(resolve => { wanting.push(resolve) })
    },
    play(next) {
      script = next
      if (next !== undefined) for (const run of waiting.splice(0)) give(run)
    },
    async run(request, hooks) {
      if (running.size >= workers) throw new InferenceFailed('busy', 'all workers are busy')
      begun += 1
      const { promise, resolve, reject } = Promise.withResolvers<RunResult>()
      const held = { reject }
      running.add(held)
      hooks.signal?.addEventListener('abort', () => { if (pool.obeys) reject(new InferenceFailed('cancelled', 'it was cancelled')) })
      const done = (results: StagedResult[]): void => resolve({ results, tensors: [], execution: EXECUTION })
      hooks.onStarted?.(EXECUTION)
      give({ request, hooks, stage, done, fail: reject, finish: async (text, name) => done([await stage(text, name)]) })
      try {
        return await promise
      } finally {
        running.delete(held)
        for (const listener of listeners) listener()
      }
    },
    checkModel: async () => { throw new Error('no models are checked here') },
    importModel: async () => { throw new Error('no models are brought in here') },
    status: () => [{ id: 'w1', pid: null, state: running.size > 0 ? 'busy' : 'idle', provider: 'cpu', device: 'played', running: null, rss: null, runs: begun }],
    async close() {
      for (const { reject } of running) reject(new InferenceFailed('shutdown', 'the pool is closed'))
      await delay(0)
    }
  }
  return pool
}
