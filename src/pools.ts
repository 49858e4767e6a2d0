/**
 * Which pool of workers the configuration asks for: a whole one where models are run here, else one that starts a single worker
 * on the CPU when a model has to be looked at. With AI_TRANSFER_MODE=remote jobs go past that to a GPU node; load checks and
 * synchronous inferences, which are small and are waited for, stay with it. With INFER_URL workers prepare and render, and have the
 * models run there.
 */
import { join, resolve } from 'node:path'
import { tmpdir } from 'node:os'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import { readExecTasks } from './inference/exec-tasks.ts'
import { findFfmpeg, HOW_TO_GET_FFMPEG } from './inference/ffmpeg.ts'
import { createOnDemandPool } from './inference/pool/on-demand.ts'
import { createPool, type PoolOptions } from './inference/pool/pool.ts'
import { sizePool } from './inference/pool/sizing.ts'
import type { ServerAddress } from './inference/oip/ask.ts'
import type { InferencePool } from './inference/port.ts'
import type { WorkerSettings } from './inference/protocol.ts'
import { askReady } from './inference/oip/server.ts'
import { askHealth, type NodeAddress } from './inference/remote/ask.ts'
import { createRemotePool } from './inference/remote/pool.ts'
import { whileThere } from './inference/while-there.ts'
import { ON_DEMAND_IDLE_MS, POOL_LINE_MAX, SESSIONS_PER_WORKER_MAX, WORKER_START_TIMEOUT_MS } from './limits.ts'
import type { ObjectStore } from './objects/port.ts'
import type { MultipartIntents } from './objects/with-intent.ts'
import { storeSettings } from './stores.ts'

const ENTRY = join(import.meta.dirname, 'worker.ts')

/** Does this process run jobs? Objects in this process's memory cannot be read by its workers. */
export function runsJobs(config: Config): boolean {
  return config.ROLES.includes('worker') && config.OBJECT_STORE !== 'memory'
}

/** Do models run in workers of this process? */
export function hasWorkers(config: Config): boolean {
  const forJobs = config.ROLES.includes('worker') && config.AI_TRANSFER_MODE === 'path'
  return (forJobs || config.ROLES.includes('gpu-node')) && config.OBJECT_STORE !== 'memory'
}

/** The GPU node that jobs of this process go to; undefined: they run here, or not at all. */
export function gpuNodeOf(config: Config): NodeAddress | undefined {
  const { AI_SERVICE_URL: url, AI_INTERNAL_TOKEN: token } = config
  return config.AI_TRANSFER_MODE === 'remote' && url !== undefined && runsJobs(config) ? { url, token } : undefined
}

/** Where the workers of this process have models run; undefined: they do it themselves, or there are none. */
export function inferServerOf(config: Config): ServerAddress | undefined {
  const { INFER_URL: url, INFER_TOKEN: token = null } = config
  return url !== undefined && hasWorkers(config) ? { url, token } : undefined
}

/** The same pool where jobs run here; else one that ships them to the GPU node. WORKERS is then how many at once. */
export function viaGpuNode(config: Config, local: InferencePool, stores: { store: ObjectStore, intents: MultipartIntents }): InferencePool {
  const node = gpuNodeOf(config)
  return node === undefined ? local : createRemotePool({ ...stores, node, slots: config.WORKERS ?? 1, local })
}

/** The same pool where models run here; else one that takes no jobs while the machine that they run on is away. */
export function whileModelsRun(config: Config, pool: InferencePool, log: Logger): InferencePool {
  const node = gpuNodeOf(config)
  const infer = inferServerOf(config)
  const ask = node !== undefined ? async () => void await askHealth(node) : infer !== undefined ? () => askReady(infer) : undefined
  if (ask === undefined) return pool
  return whileThere(pool, {
    ask,
    onAway: error => log.warn({ action: 'jobs.waiting', err: error }, 'jobs wait until the machine that models run on is there'),
    onBack: () => log.info({ action: 'jobs.resumed' })
  })
}

/** A pool that was not started. `onRestart` is told why a worker was followed by another. @throws where EXEC_TASKS_FILE cannot be used */
export async function openPool(config: Config, log: Logger, onRestart?: (reason: string) => void): Promise<InferencePool> {
  const execTasks = config.EXEC_TASKS_FILE === undefined ? null : await readExecTasks(config.EXEC_TASKS_FILE)
  const infer = inferServerOf(config) ?? null
  // a GPU is for models
  const device = infer === null ? config.DEVICE : 'cpu'
  const sizing = sizePool({ workers: config.WORKERS, threads: config.WORKER_THREADS, device })
  const ffmpeg = await findFfmpeg(config.workerEnvironment)
  if (ffmpeg === undefined && hasWorkers(config)) log.warn({ action: 'video.ffmpeg.missing' }, `no videos are taken here: ${HOW_TO_GET_FFMPEG}`)
  const settings: WorkerSettings = {
    store: { ...storeSettings(config), DATA_DIR: resolve(config.DATA_DIR) },
    modelCacheDir: resolve(config.MODEL_CACHE_DIR ?? join(config.DATA_DIR, 'models')),
    workDir: join(resolve(config.DATA_DIR), 'work'),
    device,
    intraOpNumThreads: sizing.intraOpNumThreads,
    execTasks,
    ffmpeg: ffmpeg ?? null,
    sessionsMax: SESSIONS_PER_WORKER_MAX,
    infer
  }
  const options: PoolOptions = {
    workers: sizing.workers,
    ...(infer === null && { workersOnGpu: sizing.workersOnGpu }),
    isolation: config.WORKER_ISOLATION,
    entry: ENTRY,
    env: { TMPDIR: tmpdir(), ...config.workerEnvironment },
    settings,
    maxJobs: config.WORKER_MAX_JOBS,
    maxRssBytes: config.WORKER_MAX_RSS_BYTES,
    cancelGraceMs: config.CANCEL_GRACE_MS,
    queueMax: POOL_LINE_MAX,
    startTimeoutMs: WORKER_START_TIMEOUT_MS,
    log,
    ...(onRestart && { onRestart })
  }
  if (hasWorkers(config)) return createPool(options)
  return createOnDemandPool({
    idleMs: ON_DEMAND_IDLE_MS,
    create: () => createPool({ ...options, workers: 1, workersOnGpu: 1, isolation: 'process', settings: { ...settings, device: 'cpu' } })
  })
}
