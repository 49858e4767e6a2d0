/**
 * How a job that is locked (lockJob) goes from one state to the next. Each change writes the event that tells of it, whose
 * seq is the next of the job, and gives a hint.
 */
import type { Updateable } from 'kysely'
import { userOf } from './holders.ts'
import { withoutNul } from './jobs-schema.ts'
import type { JobRow, JobsTable } from './jobs-schema.ts'
import type { JobEventName, JobExecution, JobFailure } from './jobs-port.ts'
import { jsonText } from './schema.ts'
import type { Records } from './schema.ts'
import { closedTimings } from './stage-timings.ts'
import type { Work } from './transact.ts'
import { beginTelling, tellMore } from './webhooks.ts'

export interface NewEvent { event: JobEventName, data?: Record<string, unknown>, stage?: string }

/** Sets columns and writes the event, which its webhook is to hear of too. The times of a row do not go back with the clock. */
export async function changeJob({ now }: Records, { trx, tell, moved }: Work, row: JobRow, columns: Updateable<JobsTable>, event?: NewEvent): Promise<void> {
  const time = Math.max(now(), row.updated_at)
  const seq = event === undefined ? row.last_seq : row.last_seq + 1
  await trx.updateTable('jobs').set({ ...columns, last_seq: seq, updated_at: time }).where('id', '=', row.id).execute()
  if (columns.status !== undefined) moved(row.status, columns.status)
  if (event === undefined) return
  const data = jsonText({ jobId: row.id, ...event.data })
  await trx.insertInto('job_events').values({ job_id: row.id, seq, event: event.event, stage: event.stage ?? null, data, created_at: time }).execute()
  if (row.webhook !== null) await (event.event === 'generation_started' ? beginTelling : tellMore)(trx, row.id, seq)
  tell({ kind: 'job', jobId: row.id })
  if (event.event !== 'generation_progress') tell({ kind: 'activity', user: userOf(row) })
}

const NOBODY = { attempt_token: null, worker: null, lease_until: null } as const

interface Requeue { at?: number, attempt?: number }

/** A job that somebody wants to be cancelled does not wait for another attempt. */
export async function requeueOrCancel(records: Records, work: Work, row: JobRow, options: Requeue): Promise<'queued' | 'cancelled'> {
  if (row.cancel_requested === 0) {
    await requeueJob(records, work, row, options)
    return 'queued'
  }
  await cancelJob(records, work, row)
  return 'cancelled'
}

/** queued: free for the next claim, or for one of that time or later. */
async function requeueJob(records: Records, work: Work, row: JobRow, { at = 0, attempt = row.attempt }: Requeue): Promise<void> {
  // 0 stands for "ready", so a time that is over is as good as it
  const availableAt = at <= records.now() ? 0 : at
  await changeJob(records, work, row, { ...NOBODY, status: 'queued', stage: null, stage_timings: row.first_timings, available_at: availableAt, attempt })
  work.tell({ kind: 'queued' })
}

export async function completeJob(records: Records, work: Work, row: JobRow, execution: JobExecution): Promise<void> {
  const columns = { status: 'completed', progress: 100, execution: jsonText(execution) } as const
  await changeJob(records, work, row, { ...ended(records, row), ...columns }, { event: 'generation_complete' })
}

export async function failJob(records: Records, work: Work, row: JobRow, failure: JobFailure): Promise<void> {
  const error = { code: withoutNul(failure.code), message: withoutNul(failure.message) }
  const columns = { status: 'failed', failure: jsonText(error) } as const
  await changeJob(records, work, row, { ...ended(records, row), ...columns }, { event: 'generation_failed', data: { error } })
}

export async function cancelJob(records: Records, work: Work, row: JobRow): Promise<void> {
  await changeJob(records, work, row, { ...ended(records, row), status: 'cancelled' }, { event: 'generation_cancelled' })
}

function ended({ now }: Records, row: JobRow): Updateable<JobsTable> {
  const time = Math.max(now(), row.started_at ?? row.created_at)
  return { ...NOBODY, available_at: null, stage_timings: closedTimings(row.stage_timings, time), completed_at: time }
}
