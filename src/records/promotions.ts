/** Promotions. What begins and what ends one is decided with the row of its job locked: there is one decision at a time. */
import { lockJob } from './jobs-rows.ts'
import type { BeginPromotion, NewPromotion, Promotion, PromotionId, PromotionLease, PromotionRecords } from './promotions-port.ts'
import { promotionOf } from './promotions-schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { transact } from './transact.ts'

export function promotionRecords(records: Records): PromotionRecords {
  return {
    begin: (promotion, lease, after) => begin(records, promotion, lease, after),
    touch: (id, lease) => touch(records, id, lease),
    record: (id, token) => record(records, id, token),
    release: (id, token) => release(records, id, token)
  }
}

const NOBODY = { lease: null, lease_until: 0 } as const

async function begin(records: Records, { size, sha256, ...id }: NewPromotion, { token, leaseMs }: PromotionLease, after: number): Promise<BeginPromotion> {
  return transact<BeginPromotion>(records, async work => {
    if ((await lockJob(records, work, id.jobId))?.status !== 'completed') return { outcome: 'gone' }
    const time = records.now()
    const row = await rowOf(work.trx, id)
    const promotion = row && promotionOf(row)
    if (promotion !== undefined && promotion.promotedAt > after) return { outcome: 'promoted', promotion }
    if (row !== undefined && row.lease !== null && row.lease_until > time) return { outcome: 'busy', promotedAt: row.promoted_at ?? 0 }
    const held = { lease: token, lease_until: time + leaseMs, size, sha256 }
    if (row === undefined) await work.trx.insertInto('promotions').values({ ...columns(id), ...held, promoted_at: null }).execute()
    else await update(work.trx, id).set(held).execute()
    return { outcome: 'begun' }
  })
}

async function touch({ db, now }: Records, id: PromotionId, { token, leaseMs }: PromotionLease): Promise<boolean> {
  const { numUpdatedRows } = await update(db, id).where('lease', '=', token).set({ lease_until: now() + leaseMs }).executeTakeFirstOrThrow()
  return numUpdatedRows > 0n
}

async function record(records: Records, id: PromotionId, token: string): Promise<Promotion | undefined> {
  return transact(records, async work => {
    const job = await lockJob(records, work, id.jobId)
    const row = await rowOf(work.trx, id)
    if (job === undefined || row === undefined) return undefined
    const time = records.now()
    const promoted = { ...row, promoted_at: Math.max(time, (row.promoted_at ?? 0) + 1) }
    await update(work.trx, id).set({ promoted_at: promoted.promoted_at, ...(row.lease === token && NOBODY) }).execute()
    // what a job is shown with has changed: its ETag is made of this time
    await work.trx.updateTable('jobs').set({ updated_at: Math.max(time, job.updated_at + 1) }).where('id', '=', job.id).execute()
    return promotionOf(promoted)
  })
}

async function release(records: Records, id: PromotionId, token: string): Promise<void> {
  await transact(records, async ({ trx }) => {
    await trx.deleteFrom('promotions').where(eb => eb.and(columns(id))).where('lease', '=', token).where('promoted_at', 'is', null).execute()
    await update(trx, id).where('lease', '=', token).set(NOBODY).execute()
  })
}

function columns({ jobId, source, target }: PromotionId): { job_id: string, source: string, target_object_key: string } {
  return { job_id: jobId, source, target_object_key: target }
}

function update(db: Records['db'] | RecordsTransaction, id: PromotionId) {
  return db.updateTable('promotions').where(eb => eb.and(columns(id)))
}

function rowOf(trx: RecordsTransaction, id: PromotionId) {
  return trx.selectFrom('promotions').selectAll().where(eb => eb.and(columns(id))).executeTakeFirst()
}
