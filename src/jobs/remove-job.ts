/** Removes a job with its events, inputs and results. One that waits is cancelled first; one that runs too, and is waited for. */
import { PenstockError } from '../errors.ts'
import { RETENTION_BATCH } from '../limits.ts'
import type { JobsContext } from './context.ts'
import { isTerminalEvent, type JobWatchers } from './watch.ts'

/** A retry may come in between; this many are waited for. */
const CANCELS_MAX = 3
const RETRY_AFTER_SECONDS = 5

/** A job that is gone already is no fault. @throws SERVICE_BUSY where it does not end */
export async function removeJob(context: Pick<JobsContext, 'config' | 'records' | 'webhooks'>, watchers: JobWatchers, id: string): Promise<void> {
  const { config, records: { jobs }, webhooks } = context
  for (let cancels = 0; await jobs.remove(id) === 'running'; cancels++) {
    if (cancels === CANCELS_MAX) throw new PenstockError('SERVICE_BUSY', { retryAfterSeconds: RETRY_AFTER_SECONDS })
    const job = await jobs.requestCancel(id)
    // whoever runs it ends it, or its lease does
    const patience = AbortSignal.timeout(config.CANCEL_GRACE_MS + config.JOB_LEASE_MS)
    for await (const event of watchers.watch(id, job?.lastSeq ?? 0, patience)) if (isTerminalEvent(event)) break
  }
  // what nobody was told of by then
  webhooks.look()
}

/** Removes jobs that finished before `before`, at most RETENTION_BATCH. Returns how many. */
export async function removeFinished({ records: { jobs } }: Pick<JobsContext, 'records'>, before: number): Promise<number> {
  let removed = 0
  for (const id of await jobs.listFinished(before, RETENTION_BATCH)) {
    // retried in between: it stays
    if (await jobs.remove(id) === 'removed') removed += 1
  }
  return removed
}
