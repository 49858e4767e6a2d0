/**
 * The worker pool, seen from the service: a fixed number of places, in each a worker (a child process or a thread).
 *
 *     run ──▶ an idle worker, the one that used this model last if there is a choice
 *         └─▶ the line, when none is idle ─▶ the worker that becomes idle next
 *
 * What somebody waits for the answer of (synchronous inferences, load checks) does not wait for jobs: where it has waited
 * `spareAfterMs` and every worker is at a job, a spare worker is started beside the others, which does nothing else and ends
 * when it was idle for `spareIdleMs`. For that time there is one worker more than was asked for.
 *
 * A worker that ends, for whatever reason, is followed by another in its place at once. One that dies at its start, or idle
 * and soon after, is followed after a pause that doubles from WORKER_RESTART_MIN_MS to WORKER_RESTART_MAX_MS, until one
 * lives. A run ends with its worker: `worker_lost`. So whatever a model or an image does to the process that handles it
 * costs one attempt.
 *
 * With isolation `thread` nothing is killed in the middle of a run, since ONNX Runtime would end the service with it
 * (SIGABRT). A run that is over its time or its grace is answered as such, and its worker is back when it is done. A
 * thread's memory is that of the service, so that `maxRssBytes` is for processes alone.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import {
  MODEL_CHECK_ATTEMPTS_MAX, MODEL_CHECK_TIMEOUT_MS, MODEL_IMPORT_TIMEOUT_MS, SPARE_WORKER_AFTER_MS, SPARE_WORKER_IDLE_MS, WORKER_KILL_WAIT_MS,
  WORKER_RESTART_MAX_MS, WORKER_RESTART_MIN_MS, WORKER_STABLE_MS, WORKER_STOP_GRACE_MS, WORKER_THREAD_CLOSE_MS
} from '../../limits.ts'
import { InferenceFailed, type InferencePool, type ModelSignature, type RunHooks } from '../port.ts'
import type { WorkerSettings } from '../protocol.ts'
import type { Isolation } from './channel.ts'
import { waitingLine } from './line.ts'
import type { Done, Order } from './order.ts'
import { startWorker, type EndReason, type Ending, type WorkerHandle } from './worker-handle.ts'

export interface PoolOptions {
  workers: number
  /** With DEVICE=auto it turns out only in the first worker whether there is a GPU: then so many. Default: `workers`. */
  workersOnGpu?: number
  isolation: Isolation
  /** path of src/worker.ts */
  entry: string
  /** the whole environment of workers that are processes: no secret belongs there. Default: nothing. */
  env?: Readonly<Record<string, string>>
  settings: WorkerSettings
  /** A worker is replaced after so many runs; 0: never. */
  maxJobs: number
  /** A worker that holds more after a run is replaced; 0: never. */
  maxRssBytes: number
  cancelGraceMs: number
  /** runs that may wait for a worker */
  queueMax: number
  spareAfterMs?: number
  spareIdleMs?: number
  startTimeoutMs: number
  log: Logger
  /** A worker has ended and another follows. */
  onRestart?(reason: EndReason): void
}

interface Place {
  readonly number: number
  /** Of the worker that is there for what is brief alone. */
  readonly spare: boolean
  /** workers that it has had */
  count: number
  worker: WorkerHandle | null
  /** starts without success since the last good one */
  failures: number
  pause: NodeJS.Timeout | undefined
}

/** Where the first workers of a pool are waited for. */
interface FirstStart { ready(worker: WorkerHandle): void, failed(ending: Ending): void }

const closed = (): InferenceFailed => new InferenceFailed('shutdown', 'the pool was closed')

/** Somebody waits for the answer. */
function isBrief(order: Order): boolean {
  return order.type !== 'run' || order.tensors !== undefined
}

export function createPool(options: PoolOptions): InferencePool {
  const { log } = options
  const env = options.env ?? {}
  const line = waitingLine<WorkerHandle>(options.queueMax)
  const listeners = new Set<() => void>()
  const places: Place[] = []
  const firstStarts = new Map<Place, FirstStart>()
  let starting: Promise<void> | null = null
  let closing: Promise<void> | null = null

  const { spareAfterMs = SPARE_WORKER_AFTER_MS, spareIdleMs = SPARE_WORKER_IDLE_MS } = options
  const spare: Place = { number: 0, spare: true, count: 0, worker: null, failures: 0, pause: undefined }
  /** Is what a worker was given last a job? */
  const atJobs = new Map<WorkerHandle, boolean>()
  let patience: NodeJS.Timeout | undefined
  /** One that does not start is not tried again at once. */
  let spareNotBefore = 0

  const workers = (): WorkerHandle[] => places.flatMap(place => place.worker ?? [])
  const idle = (): WorkerHandle[] => workers().filter(worker => worker.state === 'idle')
  const everyWorker = (): WorkerHandle[] => [...workers(), ...spare.worker === null ? [] : [spare.worker]]

  function launch(place: Place): void {
    place.count += 1
    place.worker = startWorker({
      ...options, env,
      id: `${place.number}.${place.count}`,
      onIdle: worker => freed(place, worker),
      onEnd: (worker, ending) => ended(place, worker, ending)
    })
  }

  /** A worker that is ready, or done with a run. */
  function freed(place: Place, worker: WorkerHandle): void {
    firstStarts.get(place)?.ready(worker)
    if (closing !== null) return worker.end('shutdown')
    const worn = wornBy(worker)
    if (worn !== null) return worker.end(worn)
    if (place.spare) return freedSpare(worker)
    if (line.serve(worker)) return
    for (const listener of listeners) call(listener)
  }

  function freedSpare(worker: WorkerHandle): void {
    clearTimeout(spare.pause)
    if (!line.serve(worker, { briefOnly: true })) spare.pause = setTimeout(() => worker.end('shutdown'), spareIdleMs).unref()
  }

  function isAtJob({ worker }: Place): boolean {
    return worker?.state === 'busy' && atJobs.get(worker) === true
  }

  /** While something brief waits: is it for jobs that it waits? */
  function watchLine(): void {
    patience ??= setTimeout(() => {
      patience = undefined
      if (closing !== null || !line.hasBrief) return
      if (spare.worker === null && performance.now() >= spareNotBefore && places.every(isAtJob)) {
        log.info({ action: 'worker.spare_started' })
        launch(spare)
      }
      watchLine()
    }, spareAfterMs).unref()
  }

  function wornBy(worker: WorkerHandle): EndReason | null {
    if (options.maxJobs > 0 && worker.runs >= options.maxJobs) return 'max_jobs'
    return options.maxRssBytes > 0 && worker.runs > 0 && (worker.rss ?? 0) > options.maxRssBytes ? 'max_rss' : null
  }

  function call(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      log.error({ action: 'pool.listener_failed', err: error })
    }
  }

  function ended(place: Place, worker: WorkerHandle, ending: Ending): void {
    place.worker = null
    const { reason, how, was } = ending
    const level = reason === 'crash' || reason === 'start_failed' ? 'error' : 'info'
    log[level]({ action: 'worker.ended', worker: worker.id, reason, how, was, runs: worker.runs })
    atJobs.delete(worker)
    if (place.spare) {
      if (reason === 'start_failed') spareNotBefore = performance.now() + WORKER_RESTART_MAX_MS
      return clearTimeout(spare.pause)
    }
    const first = firstStarts.get(place)
    if (first !== undefined) return first.failed(ending)
    if (closing !== null) return
    options.onRestart?.(reason)
    follow(place, worker, ending)
  }

  function follow(place: Place, worker: WorkerHandle, { reason, was, livedMs }: Ending): void {
    const stillborn = reason === 'start_failed' || (reason === 'crash' && was === 'idle' && worker.runs === 0 && livedMs < WORKER_STABLE_MS)
    place.failures = stillborn ? place.failures + 1 : 0
    if (!stillborn) return launch(place)
    const pauseMs = Math.min(WORKER_RESTART_MAX_MS, WORKER_RESTART_MIN_MS * 2 ** (place.failures - 1))
    log.warn({ action: 'worker.start_postponed', place: place.number, failures: place.failures, pauseMs })
    place.pause = setTimeout(() => launch(place), pauseMs)
  }

  /** One worker more. @throws InferenceFailed with the reason that it gave */
  function add(): Promise<WorkerHandle> {
    if (closing !== null) return Promise.reject(closed())
    const place: Place = { number: places.length + 1, spare: false, count: 0, worker: null, failures: 0, pause: undefined }
    places.push(place)
    return new Promise<WorkerHandle>((resolve, reject) => {
      firstStarts.set(place, { ready: resolve, failed: ({ how, reason }) => reject(reason === 'shutdown' ? closed() : new InferenceFailed('internal_error', how)) })
      launch(place)
    }).finally(() => firstStarts.delete(place))
  }

  async function startAll(): Promise<void> {
    const first = options.workersOnGpu === undefined ? null : await add()
    const onGpu = first !== null && first.execution?.provider !== 'cpu'
    const more = (onGpu ? Math.min(options.workers, options.workersOnGpu ?? 1) : options.workers) - places.length
    await Promise.all(Array.from({ length: more }, add))
  }

  function submit(order: Order, hooks: RunHooks): Promise<{ done: Done, worker: WorkerHandle }> {
    if (closing !== null) return Promise.reject(closed())
    if (hooks.signal?.aborted === true) return Promise.reject(new InferenceFailed('cancelled', 'it was cancelled before it began'))
    const brief = isBrief(order)
    const free = idle()
    if (brief && free.length === 0 && spare.worker?.state === 'idle') free.push(spare.worker)
    const model = order.type === 'run' ? order.model.sha256 : null
    const worker = free.find(each => each.model === model) ?? free[0]
    if (worker !== undefined) return execute(worker, order, hooks)
    if (brief) watchLine()
    return line.wait(hooks, brief, next => execute(next, order, hooks))
  }

  async function execute(worker: WorkerHandle, order: Order, hooks: RunHooks): Promise<{ done: Done, worker: WorkerHandle }> {
    if (worker === spare.worker) clearTimeout(spare.pause)
    atJobs.set(worker, !isBrief(order))
    return { done: await worker.execute(order, hooks), worker }
  }

  async function check(order: Order, signal: AbortSignal | undefined): Promise<ModelSignature> {
    const { done } = await submit(order, { timeoutMs: MODEL_CHECK_TIMEOUT_MS, ...(signal !== undefined && { signal }) })
    if (done.signature === null) throw new InferenceFailed('internal_error', 'the worker gave no signature of the model')
    return done.signature
  }

  async function closeAll(): Promise<void> {
    const why = closed()
    line.clear(why)
    for (const place of [...places, spare]) clearTimeout(place.pause)
    clearTimeout(patience)
    const ending = everyWorker()
    for (const worker of ending) worker.end('shutdown', why)
    await Promise.all(ending.map(endOf))
    listeners.clear()
  }

  function close(): Promise<void> {
    closing ??= closeAll()
    return closing
  }

  /** Some do not end: a thread in a run without end, a process that the kernel holds (a driver that hangs). */
  async function endOf(worker: WorkerHandle): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<'late'>()
    const timer = setTimeout(() => resolve('late'), worker.killable ? WORKER_STOP_GRACE_MS + WORKER_KILL_WAIT_MS : WORKER_THREAD_CLOSE_MS)
    if (await Promise.race([worker.ended, late]) === 'late') {
      log.error({ action: 'worker.left_behind', worker: worker.id, run: worker.status().running })
      worker.forget()
    }
    clearTimeout(timer)
  }

  return {
    start() {
      starting ??= startAll().catch(async (error: unknown) => {
        await close()
        throw error
      })
      return starting
    },
    get free() { return idle().length },
    onFree(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async run({ id, task, model, params, inputs, tensors, outputs }, hooks) {
      const order: Order = { type: 'run', id, task, model, params, inputs, ...(tensors !== undefined && { tensors }), ...(outputs !== undefined && { outputs }) }
      const { done, worker } = await submit(order, hooks)
      return { results: done.results, tensors: done.tensors, execution: worker.execution! }
    },
    async checkModel({ key, sha256, size, manifest }, signal) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await check({ type: 'check', id: `check-${randomUUID()}`, key, sha256, size, manifest }, signal)
        } catch (error) {
          if (!(error instanceof InferenceFailed) || error.code !== 'worker_lost') throw error
          if (attempt === MODEL_CHECK_ATTEMPTS_MAX) throw new InferenceFailed('invalid_model', 'loading it ends the process that loads it', { cause: error })
        }
      }
    },
    async importModel(file, known, hooks) {
      const { done: { sha256, size, signature, results } } = await submit({ type: 'import', id: `import-${randomUUID()}`, file, known }, { ...hooks, timeoutMs: MODEL_IMPORT_TIMEOUT_MS })
      if (sha256 === null || size === null || signature === null) throw new InferenceFailed('internal_error', 'the worker left out what the model is')
      return { sha256, size, signature, staged: results[0] ?? null }
    },
    status: () => everyWorker().map(worker => worker.status()),
    close
  }
}
