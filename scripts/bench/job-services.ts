/** Services that run jobs, as the benchmarks of jobs want them, and what is asked of them over HTTP. */
import { setTimeout as delay } from 'node:timers/promises'
import { startPostgres } from '../../test/support/postgres.ts'
import { startService } from './processes.ts'
import type { Running } from './processes.ts'
import { startMinioStore, startSink } from './stores.ts'
import { ADMIN, MIB } from './upload.ts'

const POLL_INTERVAL_MS = 20
const QUEUE_TIMEOUT_MS = 600_000
const ROOM_MIB = 256

/** Limits that would be measured instead of the service are off. */
const JOBS_ENV = { API_V1_RATE_LIMIT_MAX: '0', QUEUE_MAX: '10000000', DEVICE: 'cpu' }

export type RecordsKind = 'sqlite' | 'postgres'

export interface JobStack {
  /** with the role of an API */
  readonly apis: readonly Running[]
  /** with the role of a worker; of one that has both, the same */
  readonly workers: readonly Running[]
  /** of the stores, to read them directly; undefined with SQLite, whose folder is the service's own */
  readonly env: Record<string, string> | undefined
  /** Starts one more process with the role of a worker (Postgres only). */
  startWorker(): Promise<Running>
  stop(): Promise<void>
}

export interface StackOptions { records: RecordsKind, store: 'sink' | 'minio', apis?: number, workers?: number, env?: Record<string, string>, nodeArgs?: readonly string[] }

/** SQLite: one process that does everything, over files. Postgres: processes of one role each, over S3. */
export async function startJobs({ records, store, apis = 1, workers = 1, env = {}, nodeArgs = [] }: StackOptions): Promise<JobStack> {
  const stops: (() => Promise<void>)[] = []
  const stop = async () => {
    for (const each of stops.splice(0)) await each()
  }
  const start = async (settings: Record<string, string>) => {
    const running = await startService({ ...JOBS_ENV, ...settings, ...env }, nodeArgs)
    stops.unshift(running.stop)
    return running
  }
  try {
    if (records === 'sqlite') {
      const both = await start({ ROLES: 'api,worker' })
      return { apis: [both], workers: [both], env: undefined, startWorker: () => Promise.reject(new Error('SQLite is for one process')), stop }
    }
    const objects = store === 'sink' ? await startSink() : await startMinioStore(ROOM_MIB * MIB)
    stops.unshift(objects.stop)
    const postgres = await startPostgres()
    stops.unshift(postgres.stop)
    const shared = { ...objects.env, DATABASE_URL: postgres.url }
    const api: Running[] = []
    for (let each = 0; each < apis; each += 1) api.push(await start({ ...shared, ROLES: 'api' }))
    const startWorker = () => start({ ...shared, ROLES: 'worker' })
    const worker: Running[] = []
    for (let each = 0; each < workers; each += 1) worker.push(await startWorker())
    return { apis: api, workers: worker, env: shared, startWorker, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** As much of a job as is looked at here. */
export interface ShownJob {
  job_id: string
  status: string
  created_at: string
  started_at?: string
  completed_at?: string
  error?: { code: string, message: string }
  stage_timings: Record<string, { started_at: string, finished_at: string | null }>
}

export async function ask<T>({ url }: Running, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${url}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { ...ADMIN, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) })
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`)
  return JSON.parse(text) as T
}

/** A job that costs nothing but itself: a handful of numbers through a model that gives them back. `{n}` makes each another. */
export const NO_OP = { model: 'identity', cache: false, input: { tensors: [{ name: 'x', datatype: 'FP32', shape: [2], data: [1, 2] }] } }
export const NO_OP_TEMPLATE = JSON.stringify(NO_OP).replace('[1,2]', '[1,{n}]')

/** @throws where it fails */
export async function completed(api: Running, id: string): Promise<ShownJob> {
  for (;;) {
    const job = await ask<ShownJob>(api, `/api/v1/jobs/${id}`)
    if (job.status === 'completed') return job
    if (job.status !== 'queued' && job.status !== 'processing') throw new Error(`a job of the benchmark has ${job.status}: ${JSON.stringify(job.error)}`)
    await delay(POLL_INTERVAL_MS)
  }
}

export interface Queue { waiting: number, running: number, completed: number, failed: number }
export const queueOf = (api: Running) => ask<Queue>(api, '/api/v1/queue')

/** Waits until nothing waits or runs. @throws where something failed */
export async function drained(api: Running): Promise<void> {
  await queueBecomes(api, ({ waiting, running }) => waiting + running === 0)
}

/** Waits until that many are completed, and returns how many there are then. @throws where something failed */
export async function completedBehind(api: Running, count: number): Promise<number> {
  return (await queueBecomes(api, queue => queue.completed >= count)).completed
}

async function queueBecomes(api: Running, isSo: (queue: Queue) => boolean): Promise<Queue> {
  for (const deadline = performance.now() + QUEUE_TIMEOUT_MS; ;) {
    const queue = await queueOf(api)
    if (queue.failed > 0) throw new Error(`${queue.failed} jobs of the benchmark failed`)
    if (isSo(queue)) return queue
    if (performance.now() > deadline) throw new Error(`the jobs of the benchmark do not end: ${JSON.stringify(queue)}`)
    await delay(POLL_INTERVAL_MS)
  }
}
