/** A synchronous inference: small tensors in, tensors out, whoever runs it. */
import { randomUUID } from 'node:crypto'
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import { InferenceFailed, type InferencePool, type ModelRef, type WireTensor } from '../inference/port.ts'
import { BUSY_RETRY_AFTER_SECONDS } from '../limits.ts'
import type { ModelRecord } from '../records/jobs-port.ts'

export interface InferRequest {
  principal: Principal
  model: ModelRecord
  /** Checked against the model's signature. */
  tensors: readonly WireTensor[]
  /** without it all */
  outputs?: readonly string[]
  /** aborts when the client is gone */
  signal: AbortSignal
}

/** Answers with the outputs that were asked for. @throws PenstockError BAD_REQUEST, INVALID_MODEL, QUEUE_FULL, INFERENCE_TIMEOUT, SERVICE_BUSY … */
export type Infer = (request: InferRequest) => Promise<WireTensor[]>

export function modelRef({ name, version, sha256, key, size, task, manifest }: ModelRecord): ModelRef {
  return { name, version, sha256, key, size, task, manifest }
}

/** Runs on the workers of this process. The wait for one counts. */
export function inferOnPool(pool: Pick<InferencePool, 'run'>, { timeoutMs }: { timeoutMs: number }): Infer {
  return async ({ model, tensors, outputs, signal }) => {
    const deadline = AbortSignal.timeout(timeoutMs)
    try {
      const result = await pool.run({
        id: randomUUID(), task: 'tensor', model: modelRef(model), params: {}, inputs: [], tensors, ...(outputs && { outputs })
      }, { timeoutMs, signal: AbortSignal.any([signal, deadline]) })
      return result.tensors
    } catch (error) {
      if (deadline.aborted && error instanceof InferenceFailed && error.code === 'cancelled') throw new PenstockError('INFERENCE_TIMEOUT', { cause: error })
      throw inferenceError(error)
    }
  }
}

/** What a failed run is to its caller. What is no InferenceFailed stays as it is. */
export function inferenceError(error: unknown): unknown {
  if (!(error instanceof InferenceFailed)) return error
  const { message } = error
  switch (error.code) {
    case 'invalid_input': return new PenstockError('BAD_REQUEST', { message, cause: error })
    case 'invalid_model': return new PenstockError('INVALID_MODEL', { message, cause: error })
    case 'busy': return new PenstockError('QUEUE_FULL', { message: 'all workers are busy, try again later', retryAfterSeconds: BUSY_RETRY_AFTER_SECONDS, cause: error })
    case 'timeout': return new PenstockError('INFERENCE_TIMEOUT', { cause: error })
    case 'storage_failed': return new PenstockError('STORAGE_FAILED', { cause: error })
    case 'internal_error': return new PenstockError('INTERNAL_ERROR', { cause: error })
    case 'worker_lost':
    case 'resource_exhausted':
    case 'node_failed':
    case 'cancelled':
    case 'shutdown': return new PenstockError('SERVICE_BUSY', { retryAfterSeconds: BUSY_RETRY_AFTER_SECONDS, cause: error })
  }
}
