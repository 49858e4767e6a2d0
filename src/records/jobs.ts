/** Jobs: what the port promises, and the file that keeps each promise. */
import { createDownload, pruneLapsed, takeDownload } from './downloads.ts'
import { findFarewell } from './job-farewells.ts'
import { removeJob, requestCancel, retryJob } from './jobs-caller.ts'
import { claimJob, heartbeat, reapLost } from './jobs-claim.ts'
import { createJob, idempotent, queueGauge } from './jobs-create.ts'
import { complete, confirmCancel, fail, release } from './jobs-finish.ts'
import { findMemo, listFinished, listJobs, queueStats } from './jobs-list.ts'
import { noteProgress } from './jobs-progress.ts'
import type { JobRecords } from './jobs-port.ts'
import { releaseReservation, reserve, touchReservation } from './jobs-reserve.ts'
import { readJob } from './jobs-rows.ts'
import { eventOf } from './jobs-schema.ts'
import { ownerText } from './schema.ts'
import type { Records } from './schema.ts'

/** All but subscribe(), which asks the database nothing. */
export function jobRecords(records: Records): Omit<JobRecords, 'subscribe'> {
  const { db } = records
  const gauge = queueGauge()
  return {
    reserve: (owner, max) => reserve(records, owner, max),
    touchReservation: id => touchReservation(records, id),
    releaseReservation: id => releaseReservation(records, id),
    create: job => createJob(records, gauge, job),
    findIdempotent: (owner, key) => idempotent(records, db, ownerText(owner), key),
    get: id => readJob(records, db, id),
    list: query => listJobs(records, query),
    async events(jobId, after, limit) {
      const rows = await db.selectFrom('job_events').selectAll().where('job_id', '=', jobId).where('seq', '>', after).orderBy('seq').limit(limit).execute()
      return rows.map(eventOf)
    },
    farewell: id => findFarewell(records, id),
    claim: claimant => claimJob(records, claimant),
    heartbeat: (held, leaseMs) => heartbeat(records, held, leaseMs),
    progress: (id, token, progress) => noteProgress(records, id, token, progress),
    complete: (id, token, done) => complete(records, id, token, done),
    fail: (id, token, failure, retry) => fail(records, id, token, failure, retry),
    release: (id, token) => release(records, id, token),
    requestCancel: id => requestCancel(records, id),
    confirmCancel: (id, token) => confirmCancel(records, id, token),
    reapLost: options => reapLost(records, options),
    retry: id => retryJob(records, id),
    remove: id => removeJob(records, id),
    findMemo: (memoKey, owner) => findMemo(records, memoKey, ownerText(owner)),
    listFinished: (before, limit) => listFinished(records, before, limit),
    stats: () => queueStats(records),
    createDownload: download => createDownload(records, download),
    takeDownload: tokenHash => takeDownload(records, tokenHash),
    pruneLapsed: limit => pruneLapsed(records, limit)
  }
}
