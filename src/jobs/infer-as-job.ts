/**
 * A synchronous inference on a node without workers: a job of the highest priority, which a node that has them takes. Its
 * result is read back from the bucket, and the job removed, whatever became of it. Tensors travel byte for byte, so that it is
 * all the same which kind of node was asked.
 */
import { buffer } from 'node:stream/consumers'
import { PenstockError } from '../errors.ts'
import { InferenceFailed, type InferenceFailureCode, type WireTensor } from '../inference/port.ts'
import { decodeTensors } from '../inference/tensor-frames.ts'
import type { Log } from '../ingest/context.ts'
import { inferenceError, type Infer } from '../models/infer.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { JobEvent, JobFailure } from '../records/jobs-port.ts'
import type { InferenceJob, JobService } from './port.ts'

export interface InferAsJobOptions {
  jobs: Pick<JobService, 'createInference'>
  store: Pick<ObjectStore, 'open'>
  /** from creating the job to its result */
  timeoutMs: number
  /** largest result that is read back */
  maxBytes: number
  log: Log
}

type Request = Parameters<Infer>[0]
const RESULT = 'output.tensors'

export function inferAsJob(options: InferAsJobOptions): Infer {
  return async request => {
    const deadline = AbortSignal.timeout(options.timeoutMs)
    try {
      return await runJob(options, request, AbortSignal.any([request.signal, deadline]))
    } catch (error) {
      if (deadline.aborted) throw new PenstockError('INFERENCE_TIMEOUT', { cause: error })
      // nobody is there to read it, but it is no fault either
      if (request.signal.aborted) throw new PenstockError('SERVICE_BUSY', { cause: error })
      throw inferenceError(error)
    }
  }
}

async function runJob(options: InferAsJobOptions, { principal, model, tensors, outputs }: Request, signal: AbortSignal): Promise<WireTensor[]> {
  const { jobs, log } = options
  const job = await jobs.createInference(principal, { model, tensors }, { signal })
  try {
    await completion(job.watch(signal))
    const found = await readResult(options, job)
    return outputs === undefined ? found : outputs.map(name => found.find(tensor => tensor.name === name) ?? missing(name))
  } finally {
    // the answer need not wait for it, and a worker may have to be told first
    job.remove().catch((error: unknown) => log.warn({ action: 'inference.job.left', job_id: job.id, err: error }))
  }
}

/** Returns once the job is completed. @throws InferenceFailed where it ends otherwise, or the events do before it */
async function completion(events: AsyncIterable<JobEvent>): Promise<void> {
  for await (const { event, data } of events) {
    if (event === 'generation_complete') return
    if (event === 'generation_failed') throw failureOf(data.error as JobFailure | undefined)
    if (event === 'generation_cancelled') break
  }
  throw new InferenceFailed('cancelled', 'the job was cancelled')
}

const codes = new Set<string>([
  'invalid_input', 'invalid_model', 'worker_lost', 'storage_failed', 'resource_exhausted', 'timeout', 'cancelled', 'busy', 'shutdown', 'internal_error'
] satisfies InferenceFailureCode[])

function failureOf(failure: JobFailure | undefined): InferenceFailed {
  const { code = 'internal_error', message = 'the job failed' } = failure ?? {}
  return new InferenceFailed(codes.has(code) ? code as InferenceFailureCode : 'internal_error', message)
}

async function readResult({ store, maxBytes }: InferAsJobOptions, job: InferenceJob): Promise<WireTensor[]> {
  const file = await job.result(RESULT)
  if (file.size > maxBytes) throw new PenstockError('PAYLOAD_TOO_LARGE', { message: `the outputs have ${file.size} bytes, and at most ${maxBytes} are answered here: run it as a job` })
  const { body } = await store.open(file.key)
  return decodeTensors(await buffer(body))
}

function missing(name: string): never {
  throw new InferenceFailed('internal_error', `the result has no output ${name}`)
}
