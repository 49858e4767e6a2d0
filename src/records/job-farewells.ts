/**
 * The last event of a job that was removed, with the job as it was: for watchers and webhooks that had not heard of its end.
 * Kept only where somebody may still ask for it: the end was just now, or a webhook was not told.
 */
import { FAREWELL_TTL_MS, UNTOLD_FAREWELL_TTL_MS } from '../limits.ts'
import { eventOf } from './jobs-schema.ts'
import type { JobRow } from './jobs-schema.ts'
import type { JobEvent, JobRecord } from './jobs-port.ts'
import { readJob } from './jobs-rows.ts'
import { jsonText } from './schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { stopTelling } from './webhooks.ts'

/** Before anything of the job is removed; it has ended. */
export async function sayFarewell(records: Records, trx: RecordsTransaction, row: JobRow): Promise<void> {
  const time = records.now()
  const untold = row.webhook !== null && await stopTelling(trx, row.id)
  if (!untold && row.completed_at! < time - FAREWELL_TTL_MS) return
  const last = await trx.selectFrom('job_events').selectAll().where('job_id', '=', row.id).where('seq', '=', row.last_seq).executeTakeFirst()
  const job = await readJob(records, trx, row.id)
  if (last === undefined || job === undefined) return
  const expiresAt = time + (untold ? UNTOLD_FAREWELL_TTL_MS : FAREWELL_TTL_MS)
  await trx.insertInto('job_farewells').values({ job_id: row.id, event: jsonText(eventOf(last)), job: jsonText(job), expires_at: expiresAt }).execute()
}

export async function findFarewell({ db }: Records, id: string): Promise<{ event: JobEvent, job: JobRecord } | undefined> {
  const row = await db.selectFrom('job_farewells').select(['event', 'job']).where('job_id', '=', id).executeTakeFirst()
  return row && { event: JSON.parse(row.event) as JobEvent, job: JSON.parse(row.job) as JobRecord }
}
