/**
 * Progress of a running job: the share of work that was done, which never falls within a run, also where an attempt begins
 * anew. 100 means that results can be read, so nothing gets there before completion.
 *
 * Of a stage the newest event is enough: the one before goes, in the same transaction.
 */
import { changeJob } from './jobs-changes.ts'
import { PROGRESS, withoutNul } from './jobs-schema.ts'
import type { Progress } from './jobs-port.ts'
import { lockJob } from './jobs-rows.ts'
import type { Records } from './schema.ts'
import { timingsIn } from './stage-timings.ts'
import { transact } from './transact.ts'

const RUNNING_MAX = 99

export async function noteProgress(records: Records, id: string, token: string, noted: Progress): Promise<boolean> {
  const stage = withoutNul(noted.stage)
  return transact(records, async work => {
    const row = await lockJob(records, work, id, token)
    if (row === undefined) return false
    const progress = raised(row.progress, noted.progress)
    const columns = { stage, progress, stage_timings: timingsIn(row.stage_timings, stage, records.now()) }
    await work.trx.deleteFrom('job_events').where('job_id', '=', id).where('stage', '=', stage).where(PROGRESS).execute()
    await changeJob(records, work, row, columns, { event: 'generation_progress', stage, data: { progress, stage, message: noted.message } })
    return true
  })
}

/** Null while nothing is known. */
function raised(before: number | null, now: number | null): number | null {
  if (now === null || Number.isNaN(now)) return before
  return Math.max(before ?? 0, Math.min(now, RUNNING_MAX))
}
