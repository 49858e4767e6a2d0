/** What is still to be told to webhooks, and who tells it. */
import { sql } from 'kysely'
import type { Updateable } from 'kysely'
import { PROGRESS_ROWS_MAX } from '../limits.ts'
import { UNTOLD } from './jobs-changes-schema.ts'
import type { JobWebhooksTable } from './jobs-changes-schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import type { WebhookRecords, WebhookTurn } from './webhooks-port.ts'

export function webhookRecords(records: Records): WebhookRecords {
  return {
    takeDue: (lease, leaseMs, limit) => takeDue(records, lease, leaseMs, limit),
    async take(jobId, lease, leaseMs) {
      const [turn] = await takeThese(records, [jobId], lease, leaseMs)
      if (turn !== undefined) return turn
      return await records.db.selectFrom('job_webhooks').select('job_id').where('job_id', '=', jobId).executeTakeFirst() === undefined ? 'none' : 'held'
    },
    hold: (jobIds, lease, leaseMs) => hold(records, jobIds, lease, leaseMs),
    note: ({ jobId, seq, attempts }, lease, leaseMs) => set(records, jobId, lease, { seq, attempts, lease_until: records.now() + leaseMs }),
    giveBack: async ({ jobId, seq, attempts }, lease) => { await set(records, jobId, lease, { seq, attempts, lease: null, lease_until: 0 }) },
    async end(jobId, lease, seq) {
      const { numDeletedRows } = await records.db.deleteFrom('job_webhooks').where('job_id', '=', jobId).where('lease', '=', lease).where('last_seq', '<=', seq).executeTakeFirstOrThrow()
      return numDeletedRows === 1n
    }
  }
}

/** Looks first: mostly there is nothing, and a look is no write. */
async function takeDue(records: Records, lease: string, leaseMs: number, limit: number): Promise<WebhookTurn[]> {
  const due = await records.db.selectFrom('job_webhooks').select('job_id').where(UNTOLD).where('lease_until', '<=', records.now())
    .orderBy('lease_until').orderBy('job_id').limit(limit).execute()
  return due.length === 0 ? [] : await takeThese(records, due.map(row => row.job_id), lease, leaseMs)
}

/** A lease that is over, and was not given back, is that of a node that died over an attempt. */
async function takeThese({ db, name, now }: Records, jobIds: readonly string[], lease: string, leaseMs: number): Promise<WebhookTurn[]> {
  const time = now()
  const rows = await db.updateTable('job_webhooks')
    .set({ lease, lease_until: time + leaseMs, attempts: sql<number>`case when lease is null then attempts else attempts + 1 end` })
    .where('job_id', 'in', query => query.selectFrom('job_webhooks').select('job_id').where('job_id', 'in', jobIds).where('lease_until', '<=', time)
      .$if(name === 'postgres', free => free.forUpdate().skipLocked()))
    .returning(['job_id', 'seq', 'attempts']).execute()
  return rows.map(row => ({ jobId: row.job_id, seq: row.seq, attempts: row.attempts }))
}

/** A row that is being written at the moment is passed over: it is held all the same, and extended the next time. */
async function hold({ db, name, now }: Records, jobIds: readonly string[], lease: string, leaseMs: number): Promise<string[]> {
  const held = new Set<string>()
  for (let first = 0; first < jobIds.length; first += PROGRESS_ROWS_MAX) {
    const ids = jobIds.slice(first, first + PROGRESS_ROWS_MAX)
    const mine = db.selectFrom('job_webhooks').select('job_id').where('job_id', 'in', ids).where('lease', '=', lease)
    await db.updateTable('job_webhooks').set({ lease_until: now() + leaseMs }).where('lease', '=', lease)
      .where('job_id', 'in', mine.$if(name === 'postgres', rows => rows.forUpdate().skipLocked())).execute()
    for (const row of await mine.execute()) held.add(row.job_id)
  }
  return jobIds.filter(id => !held.has(id))
}

async function set({ db }: Records, jobId: string, lease: string, columns: Updateable<JobWebhooksTable>): Promise<boolean> {
  const { numUpdatedRows } = await db.updateTable('job_webhooks').set(columns).where('job_id', '=', jobId).where('lease', '=', lease).executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** The job has its first event, or the first of another run: `last_seq` is its seq. */
export async function beginTelling(trx: RecordsTransaction, jobId: string, seq: number): Promise<void> {
  await trx.insertInto('job_webhooks').values({ job_id: jobId, seq: seq - 1, last_seq: seq, attempts: 0, lease: null, lease_until: 0 })
    .onConflict(conflict => conflict.column('job_id').doUpdateSet({ last_seq: seq })).execute()
}

/** There is another event to be told, where there is a webhook. */
export async function tellMore(trx: RecordsTransaction, jobId: string, seq: number): Promise<void> {
  await trx.updateTable('job_webhooks').set({ last_seq: seq }).where('job_id', '=', jobId).execute()
}

/** Before the job goes. Is there something that nobody was told of? Then whoever tells it finds the farewell. */
export async function stopTelling(trx: RecordsTransaction, jobId: string): Promise<boolean> {
  await trx.deleteFrom('job_webhooks').where('job_id', '=', jobId).where(sql<boolean>`seq >= last_seq`).execute()
  return await trx.selectFrom('job_webhooks').select('job_id').where('job_id', '=', jobId).executeTakeFirst() !== undefined
}
