/** What the running of jobs tells of itself to whoever counts. Nothing here may throw, or take long. */
import type { JobRecord } from '../records/jobs-port.ts'

export interface JobObserver {
  /** A job was taken up for the first time; `waitedSeconds` since it was made. */
  claimed(job: { waitedSeconds: number }): void
  /** Its first worker has begun; `waitedSeconds` since it was made. */
  started(job: { waitedSeconds: number }): void
  /** A worker was at it for this long, whatever came of it. */
  ran(job: { model: string, seconds: number }): void
  /** It has ended here. */
  ended(job: { model: string, status: 'completed' | 'failed' | 'cancelled' }): void
}

function waitedSeconds({ createdAt }: JobRecord): number {
  // clocks of nodes differ
  return Math.max(0, Date.now() - createdAt) / 1000
}

/** What came before is none of the queue's time, or the worker's. */
function isFirst({ run, attempt }: JobRecord): boolean {
  return run === 1 && attempt === 1
}

export function noteClaim(observer: JobObserver | undefined, job: JobRecord): void {
  if (isFirst(job)) observer?.claimed({ waitedSeconds: waitedSeconds(job) })
}

/** Watches a worker's work on a job, from `started` to `over`. */
export function observeRun(observer: JobObserver | undefined, job: JobRecord): { started(): void, over(): void } {
  let startedAt: number | undefined
  return {
    started() {
      startedAt = performance.now()
      if (isFirst(job)) observer?.started({ waitedSeconds: waitedSeconds(job) })
    },
    over() {
      if (startedAt !== undefined) observer?.ran({ model: job.model.name, seconds: (performance.now() - startedAt) / 1000 })
    }
  }
}

/** `status`: what the job is now, or anything else where it goes on. */
export function noteEnd(observer: JobObserver | undefined, job: JobRecord, status: string): void {
  if (status === 'completed' || status === 'failed' || status === 'cancelled') observer?.ended({ model: job.model.name, status })
}
