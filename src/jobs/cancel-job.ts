/** Cancels a job that waits, and asks for the end of one that runs. */
import type { JobRecord } from '../records/jobs-port.ts'
import type { JobsContext } from './context.ts'

/** Undefined: it is gone. */
export async function cancelJob({ records: { jobs }, webhooks }: Pick<JobsContext, 'records' | 'webhooks'>, id: string): Promise<JobRecord | undefined> {
  const job = await jobs.requestCancel(id)
  // one that waited has nobody who runs it and would tell of it
  if (job?.status === 'cancelled' && job.webhook !== null) webhooks.look()
  return job
}
