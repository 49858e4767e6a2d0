/** What the running of jobs tells of itself to whoever counts. Nothing here may throw, or take long. */
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
