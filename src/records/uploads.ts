/** Uploads: reserve, note progress, end, list. `finalize.ts` has the transaction that makes one final. */
import { sql } from 'kysely'
import type { Insertable } from 'kysely'
import { PROGRESS_ROWS_MAX } from '../limits.ts'
import { finalizeUpload } from './finalize.ts'
import type { NewUpload, Owner, StagedUpload, UploadRecord, UploadRecords, UploadStatus } from './port.ts'
import { ENDED, FINALIZED, OPEN, ownerText, uploadOf } from './schema.ts'
import type { Records, RecordsTransaction, UploadsTable } from './schema.ts'

export function uploadRecords(records: Records): UploadRecords {
  const { db, now } = records
  return {
    create: upload => insertUpload(records, newRow(upload, now())),
    adopt: (upload, staged) => insertUpload(records, { ...newRow(upload, now()), ...stagedColumns(staged) }),
    async get(id) {
      const row = await db.selectFrom('uploads').selectAll().where('id', '=', id).executeTakeFirst()
      return row && uploadOf(row)
    },
    findFinalized: (canonicalKey, owner) => findFinalized(records, canonicalKey, owner),
    progress: updates => noteProgress(records, updates),
    stage: (id, staged) => changeReceiving(records, id, stagedColumns(staged)),
    fail: (id, failure, received) => changeReceiving(records, id, { status: 'failed', failure, received }),
    end: (id, status) => endUpload(records, id, status),
    listStale: (before, limit, after) => listStale(records, before, limit, after),
    prune: (before, limit) => pruneEnded(records, before, limit),
    finalize: input => finalizeUpload(records, input)
  }
}

function newRow(upload: NewUpload, now: number): Insertable<UploadsTable> {
  return {
    id: upload.id,
    kind: upload.kind,
    staging_key: upload.stagingKey,
    filename: upload.filename,
    size: upload.size,
    received: 0,
    declared_sha256: upload.declaredSha256,
    status: 'receiving',
    subject: upload.owner.subject,
    account: upload.owner.account,
    client_id: upload.owner.clientId,
    owner: ownerText(upload.owner),
    created_at: now,
    updated_at: now
  }
}

function stagedColumns({ sha256, etag, size }: StagedUpload) {
  return { status: 'staged' as const, sha256, etag, size, received: size }
}

async function insertUpload({ db }: Records, row: Insertable<UploadsTable>): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await db.insertInto('uploads').values(row)
    .onConflict(conflict => conflict.column('id').doNothing()).executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

/** receiving → what the columns say. False where the row is not receiving. */
async function changeReceiving({ db, now }: Records, id: string, columns: Partial<UploadsTable>): Promise<boolean> {
  const { numUpdatedRows } = await db.updateTable('uploads').set({ ...columns, updated_at: now() })
    .where('id', '=', id).where('status', '=', 'receiving').executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/**
 * The row is read under its lock: a statement that updates and answers with the status before it needs Postgres 18.
 */
async function endUpload(records: Records, id: string, status: 'aborted' | 'expired'): Promise<UploadStatus | undefined> {
  return records.db.transaction().execute(async trx => {
    const row = await trx.selectFrom('uploads').select('status').where('id', '=', id)
      .$if(records.name === 'postgres', query => query.forUpdate()).executeTakeFirst()
    if (row?.status === 'receiving' || row?.status === 'staged') {
      await trx.updateTable('uploads').set({ status, updated_at: records.now() }).where('id', '=', id).execute()
    }
    return row?.status
  })
}

async function noteProgress(records: Records, updates: readonly { id: string, received: number }[]): Promise<string[]> {
  if (updates.length === 0) return []
  // in one order everywhere, so that two writers of the same rows wait for each other and never in a circle
  const sorted = updates.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const running = await records.db.transaction().execute(async trx => {
    const ids: string[] = []
    for (let first = 0; first < sorted.length; first += PROGRESS_ROWS_MAX) {
      const batch = sorted.slice(first, first + PROGRESS_ROWS_MAX)
      await lockInOrder(records, trx, batch.map(({ id }) => id))
      ids.push(...await noteBatch(records, trx, batch))
    }
    return new Set(ids)
  })
  return updates.map(({ id }) => id).filter(id => !running.has(id))
}

/** An update of many rows locks them in the order of its plan, which is any: two of them met in a circle. */
async function lockInOrder({ name }: Records, trx: RecordsTransaction, ids: readonly string[]): Promise<void> {
  if (name === 'sqlite') return
  await sql`select id from uploads where id = any(${ids}) order by id collate "C" for update`.execute(trx)
}

/** One statement for many rows; returns the ids that are still receiving. */
async function noteBatch({ now }: Records, trx: RecordsTransaction, updates: readonly { id: string, received: number }[]): Promise<string[]> {
  const values = sql.join(updates.map(({ id, received }) => sql`(cast(${id} as text), cast(${received} as bigint))`))
  const { rows } = await sql<{ id: string }>`
    with noted (id, received) as (values ${values})
    update uploads set received = noted.received, updated_at = ${now()} from noted
    where uploads.id = noted.id and uploads.status = 'receiving' returning uploads.id`.execute(trx)
  return rows.map(({ id }) => id)
}

async function findFinalized({ db }: Records, canonicalKey: string, owner?: Owner): Promise<UploadRecord | undefined> {
  const row = await db.selectFrom('uploads').selectAll().where('canonical_key', '=', canonicalKey).where(FINALIZED)
    .$if(owner !== undefined, query => query.where('owner', '=', ownerText(owner!)))
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(1).executeTakeFirst()
  return row && uploadOf(row)
}

async function listStale({ db }: Records, before: number, limit: number, after?: { updatedAt: number, id: string }): Promise<UploadRecord[]> {
  const rows = await db.selectFrom('uploads').selectAll().where(OPEN).where('updated_at', '<', before)
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('updated_at', 'id'), '>', eb.tuple(after!.updatedAt, after!.id))))
    .orderBy('updated_at').orderBy('id').limit(limit).execute()
  return rows.map(uploadOf)
}

/** Only rows that cannot change any more are deleted, so nothing can happen between the inner and the outer query. */
async function pruneEnded({ db }: Records, before: number, limit: number): Promise<number> {
  const { numDeletedRows } = await db.deleteFrom('uploads')
    .where('id', 'in', query => query.selectFrom('uploads').select('id').where(ENDED).where('updated_at', '<', before)
      .orderBy('updated_at').orderBy('id').limit(limit))
    .executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}
