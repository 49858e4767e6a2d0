/** What went wrong in a run, as whoever asked for it may hear it. */
import { INFERENCE_MESSAGE_MAX_CHARACTERS, LOGGED_CAUSES_MAX } from '../../limits.ts'
import { ObjectNotFound, ObjectStoreFailed } from '../../objects/port.ts'
import { InferenceFailed, type InferenceFailureCode } from '../port.ts'

const EXHAUSTED = ['ENOSPC', 'ENOMEM', 'EMFILE', 'ENFILE', 'EDQUOT', 'EAGAIN']

export function failureOf(error: unknown, signal: AbortSignal): InferenceFailed {
  if (signal.aborted) return new InferenceFailed('cancelled', 'it was cancelled', { cause: error })
  if (error instanceof InferenceFailed) return error
  if (error instanceof ObjectNotFound) return new InferenceFailed('storage_failed', 'an object that it needs is not there', { retryable: false, cause: error })
  if (error instanceof ObjectStoreFailed) return new InferenceFailed('storage_failed', 'object storage failed', { cause: error })
  if (EXHAUSTED.includes((error as NodeJS.ErrnoException).code ?? '')) return new InferenceFailed('resource_exhausted', 'this machine has no room left for it', { cause: error })
  if (error instanceof RangeError && /allocation failed|array (buffer )?length|string length/i.test(error.message)) return new InferenceFailed('resource_exhausted', 'there is not enough memory for it', { cause: error })
  return new InferenceFailed('internal_error', 'the worker failed', { cause: error })
}

/** Their own doing, which they are told of: what is behind it may hold what they sent. */
const OF_CALLERS: readonly InferenceFailureCode[] = ['invalid_input', 'invalid_model', 'cancelled']

/** What was behind it, for the log of whoever is on call: the disk that is full, what the store said. */
export function reasonOf({ code, cause }: InferenceFailed): string | null {
  if (OF_CALLERS.includes(code)) return null
  const texts: string[] = []
  for (let error = cause; error instanceof Error && texts.length < LOGGED_CAUSES_MAX; error = error.cause) texts.push(error.message)
  return texts.length === 0 ? null : texts.join(': ').slice(0, INFERENCE_MESSAGE_MAX_CHARACTERS)
}
