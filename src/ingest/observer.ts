/** What ingest tells of itself to whoever counts. Nothing here may throw, or take long. */
import { isPenstockError } from '../errors.ts'

export interface IngestObserver {
  /** `outcome`: succeeded, aborted (by its client or by a call), or the slug of the failure. */
  uploadEnded(upload: { kind: string, outcome: string, bytes: number, seconds: number }): void
  finalizeEnded(finalize: { kind: string, result: 'created' | 'deduplicated' | 'refused' | 'failed' }): void
}

const ABORTED: readonly string[] = ['client_aborted', 'upload_aborted']

/** Watches one upload from here to `ended`. `received` says how many bytes have come. */
export function observeUpload(observer: IngestObserver | undefined, kind: string): { received: () => number, ended(outcome: string): void } {
  const startedAt = performance.now()
  return {
    received: () => 0,
    ended(outcome) {
      observer?.uploadEnded({ kind, outcome: ABORTED.includes(outcome) ? 'aborted' : outcome, bytes: this.received(), seconds: (performance.now() - startedAt) / 1000 })
    }
  }
}

/** Was it refused, or did something here fail? */
export function failureOfFinalize(error: unknown): 'refused' | 'failed' {
  return isPenstockError(error) && error.statusCode < 500 ? 'refused' : 'failed'
}
