/**
 * Canonical objects and their collector. What gives a hash a reference or takes it away runs under the lock of that hash
 * (locks.ts says why).
 *
 * A hash that is being collected has a row in `collections`, whether or not it has rows in `objects`: a collector also
 * finds bytes that no row ever knew. While it is there nobody can claim or finalize the hash, and its end removes the
 * rows in `objects`. So a finalize whose row still carries the claim that it was given knows that no collector was
 * there since, however long it took.
 *
 * The row is also the collector's lease. A second collector is kept off it, or it could end the collection, a new upload
 * could put the bytes back, and a late delete of the first would take them away. For the same reason a collector deletes
 * only in the first half of its lease: the other half is for a delete that is slow, and for clocks that differ.
 */
import { randomUUID } from 'node:crypto'
import { sql } from 'kysely'
import { COLLECT_LEASE_MS } from '../limits.ts'
import { lockHash } from './locks.ts'
import type { FinalizeInput, ObjectRecords, StoredObject } from './port.ts'
import { isReferenced, pointedAt } from './references.ts'
import { FINALIZED, PENDING, STORED } from './schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'

export function objectRecords(records: Records): ObjectRecords {
  return {
    claim: object => locked(records, object.sha256, trx => claim(records, trx, object)),
    pruneClaims: (before, limit) => pruneClaims(records, before, limit),
    anyStored: () => anyStored(records),
    isGarbage: (sha256, claimedBefore) => locked(records, sha256, trx => isGarbage(records, trx, sha256, claimedBefore)),
    beginCollect: (sha256, claimedBefore) => locked(records, sha256, trx => beginCollect(records, trx, sha256, claimedBefore)),
    resumeCollect: sha256 => locked(records, sha256, trx => resumeCollect(records, trx, sha256)),
    holdsCollect: (sha256, lease) => holdsCollect(records, sha256, lease),
    endCollect: (sha256, lease) => locked(records, sha256, trx => endCollect(trx, sha256, lease)),
    listCutOff: limit => listCutOff(records, limit),
    listReferenced: (limit, after) => listReferenced(records, limit, after)
  }
}

function locked<T>(records: Records, sha256: string, work: (trx: RecordsTransaction) => Promise<T>): Promise<T> {
  return records.db.transaction().execute(async trx => {
    await lockHash(records, trx, sha256)
    return work(trx)
  })
}

/** Is the object's row still the one that was claimed, and nobody collecting it? Call it under the lock of the hash. Keeps the row locked. */
export async function holdsClaim({ name }: Records, trx: RecordsTransaction, input: Pick<FinalizeInput, 'sha256' | 'canonicalKey' | 'claim'>): Promise<boolean> {
  if (await isCollecting(trx, input.sha256)) return false
  const row = await trx.selectFrom('objects').select('claim').where('key', '=', input.canonicalKey)
    .$if(name === 'postgres', query => query.forUpdate()).executeTakeFirst()
  return row?.claim === input.claim
}

/** Completes a claim that holds. Call it under the lock of the hash. */
export async function setStored(trx: RecordsTransaction, input: Pick<FinalizeInput, 'canonicalKey' | 'size' | 'contentType'>): Promise<void> {
  await trx.updateTable('objects').set({ state: 'stored', size: input.size, content_type: input.contentType })
    .where('key', '=', input.canonicalKey).execute()
}

async function isCollecting(trx: RecordsTransaction, sha256: string): Promise<boolean> {
  return await trx.selectFrom('collections').select('sha256').where('sha256', '=', sha256).executeTakeFirst() !== undefined
}

async function claim({ now }: Records, trx: RecordsTransaction, object: StoredObject): Promise<string | undefined> {
  if (await isCollecting(trx, object.sha256)) return undefined
  const time = now()
  const row = await trx.insertInto('objects').values({
    key: object.key,
    sha256: object.sha256,
    size: object.size,
    content_type: object.contentType,
    state: 'pending',
    claim: randomUUID(),
    claimed_at: time,
    created_at: time
  }).onConflict(conflict => conflict.column('key').doUpdateSet({ claimed_at: time })).returning('claim').executeTakeFirstOrThrow()
  return row.claim
}

/** Under the locks of the rows, not of their hashes: one that is being claimed again or finalized is passed over. */
async function pruneClaims({ db, name }: Records, before: number, limit: number): Promise<number> {
  const { numDeletedRows } = await db.deleteFrom('objects')
    .where('key', 'in', query => query.selectFrom('objects').select('key').where(PENDING).where('claimed_at', '<', before)
      .orderBy('claimed_at').orderBy('key').limit(limit)
      .$if(name === 'postgres', rows => rows.forUpdate().skipLocked()))
    .executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}

/** The models that come along do not count: every records know those, whichever bucket they belong to. */
async function anyStored({ db }: Records): Promise<boolean> {
  const found = await Promise.all([
    db.selectFrom('uploads').select('id').where(FINALIZED).limit(1).executeTakeFirst(),
    // any at all, but asked for so that the planner seeks it in an index
    db.selectFrom('files').select('id').where('id', '>', '').limit(1).executeTakeFirst(),
    db.selectFrom('job_inputs').select('sha256').where('sha256', '>', '').limit(1).executeTakeFirst()
  ])
  return found.some(row => row !== undefined)
}

async function beginCollect(records: Records, trx: RecordsTransaction, sha256: string, claimedBefore: number): Promise<string | undefined> {
  return await isGarbage(records, trx, sha256, claimedBefore) ? takeLease(records, trx, sha256) : undefined
}

async function resumeCollect(records: Records, trx: RecordsTransaction, sha256: string): Promise<string | undefined> {
  return await leaseOf(records, trx, sha256) === 'over' ? takeLease(records, trx, sha256) : undefined
}

async function takeLease({ now }: Records, trx: RecordsTransaction, sha256: string): Promise<string> {
  const taken = { lease: randomUUID(), begun_at: now() }
  await trx.insertInto('collections').values({ sha256, ...taken })
    .onConflict(conflict => conflict.column('sha256').doUpdateSet(taken)).execute()
  return taken.lease
}

async function isGarbage(records: Records, trx: RecordsTransaction, sha256: string, claimedBefore: number): Promise<boolean> {
  if (await isReferenced(trx, sha256)) return false
  const lease = await leaseOf(records, trx, sha256)
  // a collection that was begun ends as one: nobody can have claimed the hash since
  return lease === undefined ? !await isClaimedSince(trx, sha256, claimedBefore) : lease === 'over'
}

async function leaseOf({ now }: Records, trx: RecordsTransaction, sha256: string): Promise<'held' | 'over' | undefined> {
  const row = await trx.selectFrom('collections').select('begun_at').where('sha256', '=', sha256).executeTakeFirst()
  if (row === undefined) return undefined
  return row.begun_at < now() - COLLECT_LEASE_MS ? 'over' : 'held'
}

async function isClaimedSince(trx: RecordsTransaction, sha256: string, since: number): Promise<boolean> {
  const row = await trx.selectFrom('objects').select('key').where('sha256', '=', sha256).where('claimed_at', '>=', since)
    .limit(1).executeTakeFirst()
  return row !== undefined
}

async function holdsCollect({ db, now }: Records, sha256: string, lease: string): Promise<boolean> {
  const row = await db.selectFrom('collections').select('sha256').where('sha256', '=', sha256).where('lease', '=', lease)
    .where('begun_at', '>', now() - COLLECT_LEASE_MS / 2).executeTakeFirst()
  return row !== undefined
}

async function endCollect(trx: RecordsTransaction, sha256: string, lease: string): Promise<boolean> {
  const { numDeletedRows } = await trx.deleteFrom('collections').where('sha256', '=', sha256).where('lease', '=', lease).executeTakeFirstOrThrow()
  // without this collection the rows of the hash may be someone's claim by now
  if (numDeletedRows === 0n) return false
  await trx.deleteFrom('objects').where('sha256', '=', sha256).execute()
  return true
}

async function listCutOff({ db, now }: Records, limit: number): Promise<string[]> {
  const rows = await db.selectFrom('collections').select('sha256').where('begun_at', '<', now() - COLLECT_LEASE_MS)
    .orderBy('begun_at').orderBy('sha256').limit(limit).execute()
  return rows.map(({ sha256 }) => sha256)
}

/** By key, which is the primary one: the cost of a page does not grow with the table. */
async function listReferenced({ db }: Records, limit: number, after = ''): Promise<StoredObject[]> {
  const rows = await db.selectFrom('objects').select(['key', 'sha256', 'size', 'content_type']).where('key', '>', after)
    .where(STORED).where(pointedAt(sql.ref('objects.sha256'))).orderBy('key').limit(limit).execute()
  return rows.map(({ content_type: contentType, ...row }) => ({ ...row, contentType }))
}
