/** What a caller does with a job: cancel, retry, remove. */
import { sayFarewell } from './job-farewells.ts'
import { userOf } from './holders.ts'
import { cancelJob, changeJob } from './jobs-changes.ts'
import type { JobRecord } from './jobs-port.ts'
import { lockJob, readJob } from './jobs-rows.ts'
import type { Records } from './schema.ts'
import { transact } from './transact.ts'

export async function requestCancel(records: Records, id: string): Promise<JobRecord | undefined> {
  return transact(records, async work => {
    const row = await lockJob(records, work, id)
    if (row?.status === 'queued') await cancelJob(records, work, row)
    if (row?.status === 'processing' && row.cancel_requested === 0) {
      await changeJob(records, work, row, { cancel_requested: 1 })
      work.tell({ kind: 'job', jobId: id })
    }
    return readJob(records, work.trx, id)
  })
}

/** The next run begins as the first did, with an event of its own. */
export async function retryJob(records: Records, id: string): Promise<boolean> {
  return transact(records, async work => {
    const row = await lockJob(records, work, id)
    if (row?.status !== 'failed' && row?.status !== 'cancelled') return false
    await changeJob(records, work, row, {
      status: 'queued',
      run: row.run + 1,
      attempt: 0,
      stage: null,
      progress: null,
      failure: null,
      execution: null,
      cancel_requested: 0,
      stage_timings: row.first_timings,
      available_at: 0,
      started_at: null,
      completed_at: null
    }, { event: 'generation_started' })
    work.tell({ kind: 'queued' })
    return true
  })
}

/**
 * One that waits is cancelled for it. Its objects stay until the collector comes by. Downloads of its files are good for
 * nothing then, and lapse.
 */
export async function removeJob(records: Records, id: string): Promise<'removed' | 'running' | undefined> {
  return transact<'removed' | 'running' | undefined>(records, async work => {
    const found = await lockJob(records, work, id)
    if (found === undefined) return undefined
    if (found.status === 'processing') return 'running'
    if (found.status === 'queued') await cancelJob(records, work, found)
    const row = found.status === 'queued' ? (await lockJob(records, work, id))! : found
    await sayFarewell(records, work.trx, row)
    await work.trx.deleteFrom('files').where('id', 'in', query => query.selectFrom('job_results').select('file_id').where('job_id', '=', id)).execute()
    for (const table of ['job_results', 'job_inputs', 'job_events', 'promotions'] as const) await work.trx.deleteFrom(table).where('job_id', '=', id).execute()
    await work.trx.deleteFrom('jobs').where('id', '=', id).execute()
    work.moved(row.status, undefined)
    work.tell({ kind: 'job', jobId: id })
    work.tell({ kind: 'activity', user: userOf(row) })
    return 'removed'
  })
}
