/** The job that a caller means. One of another is as one that is not there; administrators reach every job. */
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import { mayReach } from '../ingest/ownership.ts'
import { isUploadId } from '../objects/keys.ts'
import type { JobRecord, JobRecords } from '../records/jobs-port.ts'

/** @throws JOB_NOT_FOUND */
export async function findJob(jobs: Pick<JobRecords, 'get'>, principal: Principal, id: string): Promise<JobRecord> {
  const job = isUploadId(id) ? await jobs.get(id) : undefined
  if (job === undefined || !mayReach(principal, job)) throw new PenstockError('JOB_NOT_FOUND')
  return job
}
