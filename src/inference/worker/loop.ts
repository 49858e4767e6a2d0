/**
 * What a worker does with what it is told (protocol.ts), over whatever channel it comes: one order at a time, each answered
 * once. It ends when it is told to stop, as soon as nothing runs.
 */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { inspect as inspectValue } from 'node:util'
import { INFERENCE_ANSWER_MAX_BYTES, WORKER_KEPT_MEMORY_MAX_BYTES, WORKER_PROGRESS_INTERVAL_MS } from '../../limits.ts'
import { stagingKey } from '../../objects/keys.ts'
import type { ObjectStore } from '../../objects/port.ts'
import { inferServer } from '../oip/server.ts'
import { InferenceFailed, type StagedResult, type WireTensor } from '../port.ts'
import type { FromWorker, ToWorker, WorkerRun, WorkerSettings } from '../protocol.ts'
import { taskNamed } from '../tasks/index.ts'
import { putFile, runContext, type Surroundings } from './context.ts'
import { failureOf, reasonOf } from './failure.ts'
import { removeLeftovers } from './folders.ts'
import { keptMemory } from './memory.ts'
import { modelCache, type ModelCache } from './model-cache.ts'
import { chooseProvider } from './providers.ts'
import { hostAtServer, hostHere, type ModelHost } from './remote-sessions.ts'
import { openSessions } from './sessions.ts'

export interface LoopOptions {
  say(message: FromWorker): void
  openStore(settings: Record<string, unknown>): ObjectStore
  /** Nothing is said and nothing heard any more. */
  onEnd(): void
}

type Order = Extract<ToWorker, { type: 'run' | 'check' | 'import' }>
type Done = Extract<FromWorker, { type: 'done' }>

interface Equipment extends Surroundings, ModelHost { cache: ModelCache }

const rss = (): number => process.memoryUsage.rss()

/** Returns what hears the messages. */
export function workerLoop({ say, openStore, onEnd }: LoopOptions): (message: ToWorker) => void {
  let equipment: Equipment | undefined
  let current: { id: string, cancel: AbortController } | undefined
  let stopping = false

  async function start(worker: string, settings: WorkerSettings): Promise<void> {
    try {
      equipment = await equip(worker, settings, openStore)
      say({ type: 'ready', execution: equipment.execution, note: equipment.note })
      if (stopping) await end()
    } catch (error) {
      say({ type: 'unusable', message: error instanceof Error ? error.message : String(error) })
      onEnd()
    }
  }

  async function end(): Promise<void> {
    await equipment?.sessions.close()
    await equipment?.store.close()
    onEnd()
  }

  async function obey(order: Order): Promise<void> {
    const refuse = (failure: InferenceFailed): void => {
      const { code, message, retryable } = failure
      say({ type: 'failed', id: order.id, code, message, retryable, reason: reasonOf(failure), rss: rss() })
    }
    if (equipment === undefined || current !== undefined || stopping) return refuse(new InferenceFailed('internal_error', 'the worker is not ready for an order'))
    const cancel = new AbortController()
    current = { id: order.id, cancel }
    try {
      const done = await carryOut(order, equipment, cancel.signal, say)
      say({ type: 'done', id: order.id, results: [], tensors: [], signature: null, sha256: null, size: null, ...done, rss: rss() })
    } catch (error) {
      const failure = failureOf(error, cancel.signal)
      if (failure.code === 'internal_error') process.stderr.write(`${inspectValue(error)}\n`)
      refuse(failure)
    } finally {
      current = undefined
      if (stopping) await end()
    }
  }

  return message => {
    switch (message.type) {
      case 'init': return void start(message.worker, message.settings)
      case 'cancel': {
        if (current?.id === message.id) current.cancel.abort()
        return
      }
      case 'stop': {
        stopping = true
        if (current === undefined && equipment !== undefined) void end()
        return
      }
      default: return void obey(message)
    }
  }
}

async function equip(worker: string, settings: WorkerSettings, openStore: LoopOptions['openStore']): Promise<Equipment> {
  const { modelCacheDir, workDir, device: asked, intraOpNumThreads, execTasks, ffmpeg, sessionsMax, infer: server } = settings
  const { provider, device, note } = await chooseProvider(asked)
  const store = openStore(settings.store)
  await removeLeftovers(workDir)
  const cache = modelCache({ dir: modelCacheDir, store })
  const here = hostHere(openSessions({ cache, provider, intraOpNumThreads, max: sessionsMax }), { provider, device, worker }, note)
  const host = server === null ? here : await hostAtServer(inferServer(server), here)
  return { ...host, store, cache, workDir, execTasks, ffmpeg, threads: intraOpNumThreads, memory: keptMemory(WORKER_KEPT_MEMORY_MAX_BYTES) }
}

async function carryOut(order: Order, equipment: Equipment, signal: AbortSignal, say: (message: FromWorker) => void): Promise<Partial<Done>> {
  switch (order.type) {
    case 'run': {
      say({ type: 'started', id: order.id, execution: await equipment.executionOf(order.task, signal) })
      return order.tensors === undefined ? await runTask(order, equipment, signal, say) : { tensors: await infer(order, order.tensors, equipment, signal) }
    }
    case 'check': {
      const path = await equipment.cache.fetch(order, signal)
      return { signature: await inspect(equipment, order.sha256, path, order.manifest) }
    }
    case 'import': return await bringIn(order, equipment, signal, key => say({ type: 'staging', id: order.id, key }))
  }
}

async function runTask(run: WorkerRun, equipment: Equipment, signal: AbortSignal, say: (message: FromWorker) => void): Promise<Partial<Done>> {
  const task = taskNamed(run.task)
  if (task === undefined) throw new InferenceFailed('invalid_input', `there is no task "${run.task}"`)
  const { context, end } = runContext(run, equipment, signal, {
    progress: coalesced(progress => say({ type: 'progress', id: run.id, ...progress })),
    staging: key => say({ type: 'staging', id: run.id, key })
  })
  let keepResults = false
  try {
    const results = await task.run(context)
    keepResults = true
    return { results }
  } finally {
    await end({ keepResults })
  }
}

type Progress = { stage: string, progress: number | null, message: string | null }

/** What comes too soon after the one before is left out; of each stage the first is told. */
function coalesced(tell: (progress: Progress) => void): (progress: Progress) => void {
  let told = { stage: '', at: 0 }
  return progress => {
    const now = performance.now()
    if (progress.stage === told.stage && now - told.at < WORKER_PROGRESS_INTERVAL_MS) return
    told = { stage: progress.stage, at: now }
    tell(progress)
  }
}

async function infer({ model, outputs }: WorkerRun, tensors: readonly WireTensor[], { sessions }: Equipment, signal: AbortSignal): Promise<WireTensor[]> {
  const session = await sessions.get(model, signal)
  signal.throwIfAborted()
  const results = await session.run(tensors, outputs)
  const bytes = results.reduce((sum, { data }) => sum + data.length, 0)
  if (bytes > INFERENCE_ANSWER_MAX_BYTES) throw new InferenceFailed('invalid_input', `the outputs have ${bytes} bytes, more than the ${INFERENCE_ANSWER_MAX_BYTES} of an answer: ask for fewer, or make a job of it`)
  return results
}

/** What does not load is not kept either. */
async function inspect({ sessions, cache }: Equipment, sha256: string, path: string, manifest?: unknown) {
  try {
    return await sessions.inspect(path, manifest)
  } catch (error) {
    if (error instanceof InferenceFailed && error.code === 'invalid_model') await cache.drop(sha256)
    throw error
  }
}

async function bringIn({ file, known }: Extract<ToWorker, { type: 'import' }>, equipment: Equipment, signal: AbortSignal, tellStaging: (key: string) => void): Promise<Partial<Done>> {
  const { path, sha256, size } = await equipment.cache.adopt(file, signal).catch((error: unknown) => {
    throw (error as NodeJS.ErrnoException).code === 'ENOENT' ? new InferenceFailed('invalid_model', 'there is no such file', { cause: error }) : error
  })
  const signature = await inspect(equipment, sha256, path)
  const results = known.includes(sha256) ? [] : [await stageModel(equipment.store, path, size, signal, tellStaging)]
  if (results.some(staged => staged.sha256 !== sha256)) throw new InferenceFailed('internal_error', 'the model changed while it was stored')
  return { signature, sha256, size, results }
}

async function stageModel(store: ObjectStore, path: string, size: number, signal: AbortSignal, tellStaging: (key: string) => void): Promise<StagedResult> {
  const key = stagingKey(randomUUID(), 'object')
  const contentType = 'application/octet-stream'
  if (size > store.putMaxBytes) throw new InferenceFailed('invalid_model', `the model has ${size} bytes, more than the store takes at once`)
  tellStaging(key)
  const { etag, sha256 } = await putFile(store, key, createReadStream(path), size, contentType, signal)
  return { name: 'model', filename: 'model.onnx', key, etag, size, sha256, contentType }
}
