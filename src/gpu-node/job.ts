/**
 * One job of another machine on this node:
 *
 *   its id is taken ─▶ its inputs into staging, or named ─▶ run ─▶ result kept (and delivered) ─▶ its id is free
 *
 * What it is told of is the newest state, when its percentage has changed: a reader that is slow gets fewer lines, and no job
 * waits for its reader. Nothing of it is left in the bucket, however it ends; its result stays only where it was completed.
 */
import type { Readable } from 'node:stream'
import { PenstockError } from '../errors.ts'
import { InferenceFailed, type RunInput, type StagedResult } from '../inference/port.ts'
import { resultPath, type NodeCancelled, type NodeCompleted, type NodeFailed, type NodeLine, type NodeProcessing } from '../inference/remote/lines.ts'
import { stagingKeys } from '../inference/staging-keys.ts'
import { receivePart } from '../ingest/receive-part.ts'
import { failureOf } from '../jobs/attempt.ts'
import { deleteStaged } from '../jobs/results.ts'
import { NODE_LINE_MAX_BYTES, NODE_RESULT_MAX_BYTES } from '../limits.ts'
import { modelRef } from '../models/infer.ts'
import type { NodeContext } from './context.ts'
import { NODE_OWNER } from './expire.ts'
import { deliver, openInput, type Place } from './paths.ts'
import type { CheckedRequest } from './request.ts'

export interface NodeInput { name: string, filename: string, contentType: string, body: Readable, maxBytes: number }

/** Why a job ends early. */
export type StopReason = 'cancelled' | 'client_gone' | 'shutdown'

export interface NodeJob {
  readonly id: string
  readonly signal: AbortSignal
  /** Uploads of its inputs. */
  readonly uploads: readonly string[]
  readonly place: Place | undefined
  /** The first reason counts. */
  stop(reason: StopReason): void
  /** Takes one input as it arrives. @throws what receivePart throws; UPLOAD_ABORTED where the job was cancelled */
  receive(input: NodeInput): Promise<void>
  /** Takes the input of this place. @throws FILE_NOT_FOUND, PAYLOAD_TOO_LARGE … */
  read(place: Place, contentType: string, maxBytes: number): Promise<void>
  /** Runs it, once. Ends behind the one line that says how it ended; never rejects. */
  lines(request: CheckedRequest, deliverTo?: Place): AsyncGenerator<NodeLine, void, undefined>
  /** Lets go of the id and of what is left of its inputs. Idempotent. */
  end(): Promise<void>
}

const REASONS: Record<StopReason, () => PenstockError> = {
  cancelled: () => new PenstockError('UPLOAD_ABORTED'),
  client_gone: () => new PenstockError('UPLOAD_ABORTED', { message: 'the client has gone' }),
  shutdown: () => new PenstockError('SERVICE_BUSY', { retryAfterSeconds: 1 })
}

interface Input extends RunInput { uploadId: string, etag: string }

/** @param release gives the id back */
export function nodeJob(context: NodeContext, id: string, release: () => void): NodeJob {
  const stopping = new AbortController()
  const { signal } = stopping
  const inputs: Input[] = []
  let stopped: StopReason | undefined
  let place: Place | undefined
  let receiving: Promise<unknown> = Promise.resolve()
  let ended: Promise<void> | undefined

  async function receive({ name, filename, contentType, body, maxBytes }: NodeInput): Promise<void> {
    const part = receivePart(context.ingest, { field: name, filename, body, maxBytes }, { owner: NODE_OWNER, log: context.log, signal })
    receiving = part.catch(() => {})
    inputs.push({ ...await part, name, contentType })
  }

  async function read(from: Place, contentType: string, maxBytes: number): Promise<void> {
    place = from
    const { body, size } = await openInput(from, context.ingest.store, signal)
    if (size > maxBytes) {
      body.destroy()
      throw new PenstockError('PAYLOAD_TOO_LARGE', { message: `inputPath has more than ${maxBytes} bytes`, details: { field: 'inputPath', limit_bytes: maxBytes } })
    }
    await receive({ name: 'input', filename: 'input', contentType, body, maxBytes })
  }

  async function letGo(): Promise<void> {
    await receiving
    await deleteStaged({ store: context.ingest.store, log: context.log }, inputs)
    for (const { uploadId } of inputs) {
      await context.ingest.records.uploads.end(uploadId, 'aborted').catch((error: unknown) => context.log.warn({ action: 'node.input.left', upload_id: uploadId, err: error }))
    }
    release()
  }

  return {
    id, signal, receive, read,
    get uploads() { return inputs.map(({ uploadId }) => uploadId) },
    get place() { return place },
    stop(reason) {
      stopped ??= reason
      stopping.abort(REASONS[stopped]())
    },
    async* lines(request, deliverTo) {
      const progress = newest()
      yield progress.first
      const outcome = run(context, { id, signal, inputs, deliverTo, onProgress: progress.note }, request)
        .then((line): NodeLine => ({ ...line, totalFrames: progress.total() }))
        .catch((error: unknown) => endOf(context, { id, stopped, progress: progress.percent() }, error))
        .finally(progress.close)
      try {
        for await (const line of progress) yield line
        yield await outcome
      } finally {
        // a reader that has gone: until the run is over, the job is
        await outcome
      }
    },
    end: () => ended ??= letGo()
  }
}

interface Running {
  id: string
  signal: AbortSignal
  inputs: readonly Input[]
  deliverTo: Place | undefined
  onProgress(progress: { progress: number | null, message: string | null }): void
}

async function run(context: NodeContext, { id, signal, inputs, deliverTo, onProgress }: Running, { task, model, params }: CheckedRequest): Promise<NodeCompleted> {
  const { config, pool, results, log, ingest: { store } } = context
  const staging = stagingKeys()
  const startedAt = performance.now()
  try {
    signal.throwIfAborted()
    const { results: staged, execution } = await pool.run({
      id: `node.${id}`, task: task.name, model: modelRef(model), params,
      inputs: inputs.map(({ name, key, sha256, size, contentType }) => ({ name, key, sha256, size, contentType }))
    }, { signal, timeoutMs: config.JOB_TIMEOUT_MS, onStaging: staging.add, onProgress })
    const line = await keep(context, { id, signal, deliverTo }, staged)
    log.info({ action: 'node.job.end', node_job_id: id, result: 'completed', model: model.name, duration_ms: Math.round(performance.now() - startedAt) })
    return { ...line, execution: { provider: execution.provider, device: execution.device } }
  } catch (error) {
    await results.remove(id).catch(() => {})
    throw error
  } finally {
    await deleteStaged({ store, log }, staging.all())
  }
}

async function keep({ results, ingest: { store } }: NodeContext, { id, signal, deliverTo }: Pick<Running, 'id' | 'signal' | 'deliverTo'>, staged: readonly StagedResult[]): Promise<NodeCompleted> {
  const [first] = staged
  if (first === undefined) throw new InferenceFailed('invalid_input', 'the task made no result')
  if (staged.reduce((sum, { size }) => sum + size, 0) > NODE_RESULT_MAX_BYTES) throw new InferenceFailed('invalid_input', `the results have more than ${NODE_RESULT_MAX_BYTES} bytes`)
  if (deliverTo !== undefined && staged.length > 1) throw new InferenceFailed('invalid_input', `the task made ${staged.length} files, and outputPath takes one`)
  const { fileSize, sha256, results: files, file } = await results.keep(id, staged, store, signal)
  signal.throwIfAborted()
  if (deliverTo !== undefined) await deliver(deliverTo, { staged: first, file }, store, signal)
  const line: NodeCompleted = { status: 'completed', jobId: id, progress: 100, fileSize, sha256, resultDownloadUrl: resultPath(id), results: files }
  if (Buffer.byteLength(JSON.stringify(line)) > NODE_LINE_MAX_BYTES) throw new InferenceFailed('invalid_input', 'the task made too many files')
  return line
}

function endOf({ log }: NodeContext, { id, stopped, progress }: { id: string, stopped: StopReason | undefined, progress: number }, error: unknown): NodeCancelled | NodeFailed {
  if (stopped === 'cancelled' || stopped === 'client_gone') {
    log.info({ action: 'node.job.end', node_job_id: id, result: stopped })
    return { status: 'cancelled', jobId: id, progress, error: 'it was cancelled' }
  }
  const { code, message, retryable } = stopped === 'shutdown' ? { code: 'shutdown', message: 'the node shuts down', retryable: true } : failureOf(error)
  log[code === 'internal_error' ? 'error' : 'info']({ action: 'node.job.end', node_job_id: id, result: 'failed', code, err: error })
  return { status: 'failed', jobId: id, error: message, code, retryable }
}

interface Newest extends AsyncIterable<NodeProcessing> {
  readonly first: NodeProcessing
  note(progress: { progress: number | null, message: string | null }): void
  percent(): number
  /** Frames, or tiles, of which the newest line tells. */
  total(): number | null
  close(): void
}

/** The newest line of progress, for one reader; none twice for the same percentage. */
function newest(): Newest {
  const first: NodeProcessing = { status: 'processing', progress: 0, currentFrame: null, totalFrames: null }
  const closing = new AbortController()
  let said = 0
  let total: number | null = null
  let line: NodeProcessing | undefined
  let news = Promise.withResolvers<void>()
  closing.signal.addEventListener('abort', () => news.resolve())
  return {
    first,
    percent: () => said,
    total: () => total,
    note({ progress, message }) {
      const frames = framesIn(message)
      total = frames.totalFrames ?? total
      const percent = Math.floor(progress ?? 0)
      if (percent <= said) return
      said = percent
      line = { status: 'processing', progress: percent, ...frames }
      news.resolve()
    },
    close: () => closing.abort(),
    async* [Symbol.asyncIterator]() {
      for (;;) {
        await news.promise
        const next = line
        if (next === undefined) return
        line = undefined
        if (!closing.signal.aborted) news = Promise.withResolvers()
        yield next
      }
    }
  }
}

/** Tasks that count say so: `12 of 300 frames`, `3 of 8 tiles`. */
function framesIn(message: string | null): Pick<NodeProcessing, 'currentFrame' | 'totalFrames'> {
  const [, current, total] = /^(\d{1,15}) of (\d{1,15}) \w+$/.exec(message ?? '') ?? []
  return { currentFrame: current === undefined ? null : Number(current), totalFrames: total === undefined ? null : Number(total) }
}
