/**
 * Places among the active jobs of (client, user). Each unfinished job holds one, and so does a reservation until it becomes
 * a job, is released, or lapses. Those who ask for the same holder's come one after the other.
 */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { RESERVATION_TTL_MS } from '../limits.ts'
import { ACTIVE, holderText, jobOf } from './jobs-schema.ts'
import type { JobRecord } from './jobs-port.ts'
import { selectJobs } from './jobs-rows.ts'
import { lockHolder } from './locks.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { transact } from './transact.ts'

export async function reserve(records: Records, owner: { clientId: string | null, userId: string | null }, max: number): Promise<{ reservation: string } | { active: JobRecord | null }> {
  const holder = holderText(owner.clientId, owner.userId)
  return transact(records, async ({ trx }) => {
    await lockHolder(records, trx, holder)
    if (await taken(records, trx, holder, max) >= max) return { active: await newestActive(records, trx, holder) }
    const reservation = randomUUID()
    await trx.insertInto('job_reservations').values({ id: reservation, holder, expires_at: records.now() + RESERVATION_TTL_MS }).execute()
    return { reservation }
  })
}

/** In one statement: a reservation that becomes a job between two would be in neither. */
async function taken({ now }: Records, trx: RecordsTransaction, holder: string, max: number): Promise<number> {
  const { rows } = await sql<{ taken: number }>`select
    (select count(*) from (select 1 from jobs where holder = ${holder} and ${ACTIVE} limit ${max}) as unfinished)
    + (select count(*) from job_reservations where holder = ${holder} and expires_at > ${now()}) as taken`.execute(trx)
  return rows[0]!.taken
}

async function newestActive(records: Records, trx: RecordsTransaction, holder: string): Promise<JobRecord | null> {
  const row = await selectJobs(records, trx).where('holder', '=', holder).where(ACTIVE)
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(1).executeTakeFirst()
  return row === undefined ? null : jobOf(row)
}

/** Nothing where it lapsed: its place may be another's by now. */
export async function touchReservation({ db, now }: Records, id: string): Promise<void> {
  const time = now()
  await db.updateTable('job_reservations').set({ expires_at: time + RESERVATION_TTL_MS }).where('id', '=', id).where('expires_at', '>', time).execute()
}

export async function releaseReservation({ db }: Records, id: string): Promise<void> {
  await db.deleteFrom('job_reservations').where('id', '=', id).execute()
}
