/**
 * A GPU node as a pool: whoever runs jobs does not see that their models run on another machine, which has neither this bucket
 * nor these records.
 *
 *   how is it? ─▶ the inputs, out of the bucket ─▶ lines: progress … the end ─▶ the result, into staging
 *
 * A place is for one job, from its first byte to the last of its result. What ends a run early (a cancel, its time, a shutdown, a
 * node that does not do as agreed) ends its connection, and the node is told as well.
 *
 * Load checks of models and synchronous inferences are small and somebody waits for them: the local pool has them.
 */
import { setMaxListeners } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { NODE_LINE_MAX_BYTES } from '../../limits.ts'
import type { ObjectStore } from '../../objects/port.ts'
import type { MultipartIntents } from '../../objects/with-intent.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type Execution, type InferenceFailureCode, type InferencePool, type RunHooks, type RunInput, type RunRequest, type RunResult, type WorkerStatus } from '../port.ts'
import { ask, askHealth, refusal, tellToCancel, type NodeAddress } from './ask.ts'
import { formOf } from './form.ts'
import { nodeFailed, NODE_HEADERS, NODE_LINES, readLine, type NodeCompleted, type NodeFailed, type NodeProcessing } from './lines.ts'
import { linesOf } from './read-lines.ts'
import { fetchResults } from './result.ts'

export interface RemotePoolOptions {
  node: NodeAddress
  /** Jobs that the node is given at once. */
  slots: number
  store: ObjectStore
  intents: MultipartIntents
  /** For what is no job. */
  local: InferencePool
}

interface Slot { id: string, running: string | null, device: string | null, runs: number }

export function createRemotePool({ node, slots, store, intents, local }: RemotePoolOptions): InferencePool {
  const places: Slot[] = Array.from({ length: slots }, (_, at) => ({ id: `gpu-node.${at + 1}`, running: null, device: null, runs: 0 }))
  const listeners = new Set<() => void>()
  const farewells = new Set<Promise<void>>()
  const underWay = new Set<Promise<unknown>>()
  const closing = new AbortController()
  setMaxListeners(slots + 1, closing.signal)
  const free = (): Slot[] => closing.signal.aborted ? [] : places.filter(({ running }) => running === null)

  /** Whoever waits for the run does not wait for this. */
  function cancelThere(jobId: string): void {
    const telling = tellToCancel(node, jobId).finally(() => farewells.delete(telling))
    farewells.add(telling)
  }

  async function runAt(place: Slot, request: RunRequest, hooks: RunHooks): Promise<RunResult> {
    const limits = limitsOf(hooks, closing.signal)
    place.running = request.id
    place.runs += 1
    try {
      const { device } = await askHealth(node, limits.signal)
      place.device = device ?? 'gpu-node'
      return await exchange({ node, store, intents, signal: limits.signal, cancelThere }, request, hooks, { provider: 'remote', device: place.device, worker: 'gpu-node' })
    } catch (error) {
      throw limits.signal.aborted ? limits.signal.reason : error
    } finally {
      limits.release()
      place.running = null
      for (const listener of free().length > 0 ? listeners : []) listener()
    }
  }

  async function close(): Promise<void> {
    closing.abort(new InferenceFailed('shutdown', 'the pool was closed'))
    await Promise.allSettled(underWay)
    await Promise.allSettled(farewells)
    listeners.clear()
    await local.close()
  }

  return {
    start: () => local.start(),
    get free() { return free().length },
    onFree(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    async run(request, hooks) {
      if (request.tensors !== undefined) return await local.run(request, hooks)
      if (closing.signal.aborted) throw closing.signal.reason
      const [place] = free()
      if (place === undefined) throw new InferenceFailed('busy', 'the GPU node has as many jobs as it is given at once')
      const running = runAt(place, request, hooks)
      underWay.add(running)
      return await running.finally(() => underWay.delete(running))
    },
    checkModel: (model, signal) => local.checkModel(model, signal),
    importModel: (file, known, hooks) => local.importModel(file, known, hooks),
    status: () => [...places.map(statusOf), ...local.status()],
    close
  }
}

function statusOf({ id, running, device, runs }: Slot): WorkerStatus {
  return { id, pid: null, state: running === null ? 'idle' : 'busy', provider: 'remote', device, running, rss: null, runs }
}

/** One signal for all that may end a run before its end; its reason is what the run rejects with. */
function limitsOf({ signal, timeoutMs }: RunHooks, closing: AbortSignal): { signal: AbortSignal, release(): void } {
  const stop = new AbortController()
  const onAbort = (): void => stop.abort(new InferenceFailed('cancelled', 'it was cancelled'))
  const onClose = (): void => stop.abort(closing.reason)
  const timer = setTimeout(() => stop.abort(new InferenceFailed('timeout', `it took longer than ${timeoutMs} ms`)), timeoutMs)
  signal?.addEventListener('abort', onAbort)
  closing.addEventListener('abort', onClose)
  if (signal?.aborted === true) onAbort()
  return {
    signal: stop.signal,
    release() {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      closing.removeEventListener('abort', onClose)
    }
  }
}

interface Exchange {
  node: NodeAddress
  store: ObjectStore
  intents: MultipartIntents
  signal: AbortSignal
  cancelThere(jobId: string): void
}

async function exchange(context: Exchange, request: RunRequest, hooks: RunHooks, execution: Execution): Promise<RunResult> {
  const { node, signal } = context
  const jobId = jobIdOf(request)
  const line = await sendJob(context, jobId, request, { ...hooks, onStarted: () => hooks.onStarted?.(execution) })
  const results = await fetchResults({ node, jobId, task: request.task, line }, { ...context, signal, onStaging: hooks.onStaging })
  return { results, tensors: [], execution: { ...execution, ...line.execution } }
}

/** The job's own, as far as the protocol takes it. */
function jobIdOf({ id }: RunRequest): string {
  return id.replaceAll(/[^A-Za-z0-9_-]/g, '_').slice(0, 128)
}

/** Returns the last line of a job that was completed. */
async function sendJob({ node, store, signal, cancelThere }: Exchange, jobId: string, request: RunRequest, hooks: Pick<RunHooks, 'onStarted' | 'onProgress'> & { onStarted(): void }): Promise<NodeCompleted> {
  const { task, model, params, inputs } = request
  const form = formOf({ jobId, model: model.name, params: JSON.stringify(params) }, inputs.map(input => ({ ...namesOf(input, task), input })))
  const sending = new AbortController()
  let over = false
  try {
    const response = await ask(node, {
      method: 'POST', path: '/process-upload', signal,
      headers: { ...form.headers, accept: NODE_LINES, [NODE_HEADERS.task]: task, [NODE_HEADERS.version]: model.version, [NODE_HEADERS.sha256]: model.sha256 },
      body: form.stream(store, AbortSignal.any([signal, sending.signal]))
    })
    if (response.statusCode !== 200) {
      over = true
      throw await refusal(response)
    }
    // a model may take its time over one step; how long in all is limited
    response.setTimeout(0)
    hooks.onStarted()
    const line = await lastLine(response, jobId, task, hooks)
    over = true
    if (line.status === 'completed') return line
    throw line.status === 'failed' ? failureOf(line) : nodeFailed('cancelled the job')
  } finally {
    sending.abort()
    if (!over) cancelThere(jobId)
  }
}

const VIDEO_ENDINGS: Readonly<Record<string, string>> = {
  'video/mp4': 'mp4', 'video/x-msvideo': 'avi', 'video/x-matroska': 'mkv', 'video/quicktime': 'mov', 'video/x-ms-wmv': 'wmv', 'video/webm': 'webm'
}

function namesOf({ name, contentType }: RunInput, task: string): { field: string, filename: string } {
  if (name !== 'input') return { field: name, filename: name }
  return task === 'video-to-video' ? { field: 'video', filename: `input.${VIDEO_ENDINGS[contentType] ?? 'mp4'}` } : { field: 'input', filename: 'input' }
}

type LastLine = Exclude<NonNullable<ReturnType<typeof readLine>>, NodeProcessing>

async function lastLine(response: IncomingMessage, jobId: string, task: string, { onProgress }: Pick<RunHooks, 'onProgress'>): Promise<LastLine> {
  try {
    for await (const text of linesOf(response, NODE_LINE_MAX_BYTES, () => nodeFailed('sent a line without an end'))) {
      // to keep a connection alive
      if (text.trim() === '') continue
      const line = readLine(text, jobId)
      if (line === undefined) continue
      if (line.status !== 'processing') return line
      onProgress?.({ stage: 'inference', ...progressOf(line, task) })
    }
  } catch (error) {
    throw error instanceof InferenceFailed ? error : nodeFailed('broke off in the middle of the job', { cause: error })
  } finally {
    response.destroy()
  }
  throw nodeFailed('ended before it said what became of the job')
}

/** Until the result can be read, nothing is done whole. */
const PROGRESS_MAX = 99

function progressOf({ progress, currentFrame: current, totalFrames: total }: NodeProcessing, task: string): { progress: number | null, message: string | null } {
  const counted = current !== null && total !== null && total > 0 ? { done: Math.min(current, total), total } : undefined
  const percent = progress ?? (counted && 100 * counted.done / counted.total) ?? null
  const unit = task === 'video-to-video' ? 'frames' : 'tiles'
  return {
    progress: percent === null ? null : Math.min(PROGRESS_MAX, percent),
    message: counted === undefined ? null : `${counted.done} of ${counted.total} ${unit}`
  }
}

/** What a node may say of a failure as if it were our own; of the others, those that may pass say so. */
const OWN: ReadonlySet<string> = new Set<InferenceFailureCode>(['invalid_input', 'invalid_model', 'worker_lost', 'storage_failed', 'resource_exhausted', 'timeout', 'internal_error'])
const PASSING: ReadonlySet<string> = new Set<InferenceFailureCode>(['busy', 'shutdown', 'cancelled', 'node_failed'])

function failureOf({ error, code = '', retryable }: NodeFailed): InferenceFailed {
  const reason = plainReason(error ?? '') || 'no reason was given'
  if (OWN.has(code)) return new InferenceFailed(code as InferenceFailureCode, reason, retryable === undefined ? {} : { retryable })
  return nodeFailed(`failed: ${reason}`, { retryable: retryable ?? PASSING.has(code) })
}
