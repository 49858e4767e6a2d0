/** Cancels a job that waits, and asks for the end of one that runs. */
import type { JobRecord } from '../records/jobs-port.ts'
import type { JobsContext } from './context.ts'

/** `before`: as it was found. Undefined: it is gone. */
export async function cancelJob({ records: { jobs }, webhooks }: Pick<JobsContext, 'records' | 'webhooks'>, before: JobRecord): Promise<JobRecord | undefined> {
  const job = await jobs.requestCancel(before.id)
  // nobody runs it who would tell of it; before its first attempt nobody was told that it is there either
  if (before.status === 'queued' && job?.status === 'cancelled') webhooks.follow(job, job.lastSeq - (job.attempt === 0 ? 2 : 1))
  return job
}
