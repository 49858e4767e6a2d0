/**
 * What callers are told of. Triggers write the rows (media-tables.ts), in the transactions that they tell of; whoever looks
 * first numbers them, for all who look later:
 *
 *   lock the holder's head ▶ number what is committed, in the order of writing ▶ move the head
 *
 * A transaction that writes does not wait for any other, and a number that was given is never followed by a row with a
 * lower one. What follows from something was written behind it, and is numbered behind it too.
 */
import { sql } from 'kysely'
import { ACTIVITY_NUMBERED_MAX } from '../limits.ts'
import type { ActivityEvent, ActivityName, ActivityRecords, Holder } from './access-port.ts'
import { holderId } from './holders.ts'
import { NEW, NUMBERED } from './media-schema.ts'
import type { Records } from './schema.ts'

export function activityRecords(records: Records): ActivityRecords {
  return {
    head: holder => head(records, holderId(holder)),
    read: (holder, after, limit) => read(records, holder, after, limit),
    prune: (before, limit) => prune(records, before, limit)
  }
}

async function head(records: Records, holder: string): Promise<number> {
  await number(records, holder)
  const row = await records.db.selectFrom('activity_heads').select('last_seq').where('holder', '=', holder).executeTakeFirst()
  return row?.last_seq ?? 0
}

async function read(records: Records, holder: Holder, after: number, limit: number): Promise<ActivityEvent[]> {
  const id = holderId(holder)
  await number(records, id)
  const rows = await records.db.selectFrom('activity').select(['seq', 'event', 'data', 'created_at']).where('holder', '=', id).where(NUMBERED).where('seq', '>', after)
    .orderBy('seq').limit(limit).execute()
  return rows.map(({ seq, event, data, created_at: createdAt }) => ({ seq: seq!, event: event as ActivityName, data: JSON.parse(data) as Record<string, unknown>, createdAt }))
}

/** Numbers all that is there, some at a time. */
async function number(records: Records, holder: string): Promise<void> {
  for (let numbered = ACTIVITY_NUMBERED_MAX; numbered === ACTIVITY_NUMBERED_MAX;) {
    const first = await records.db.selectFrom('activity').select('position').where('holder', '=', holder).where(NEW).orderBy('position').limit(1).executeTakeFirst()
    numbered = first === undefined ? 0 : await numberSome(records, holder)
  }
}

async function numberSome({ db }: Records, holder: string): Promise<number> {
  return db.transaction().execute(async trx => {
    // waits for whoever is at it; the next statement sees what that did
    const { last_seq: last } = await trx.insertInto('activity_heads').values({ holder, last_seq: 0 })
      .onConflict(conflict => conflict.column('holder').doUpdateSet({ last_seq: sql`activity_heads.last_seq` })).returning('last_seq').executeTakeFirstOrThrow()
    const { rows } = await sql<{ seq: number }>`update activity set seq = ${last} + fresh.place
      from (select position, row_number() over (order by position) as place from activity where holder = ${holder} and seq is null
        order by position limit ${ACTIVITY_NUMBERED_MAX}) as fresh
      where activity.position = fresh.position returning activity.seq`.execute(trx)
    if (rows.length > 0) await trx.updateTable('activity_heads').set({ last_seq: last + rows.length }).where('holder', '=', holder).execute()
    return rows.length
  })
}

/** Those that nobody looked at are numbered first: whoever looks later sees that there were some. */
async function prune(records: Records, before: number, limit: number): Promise<number> {
  const { db } = records
  const rows = await db.selectFrom('activity').select(['position', 'holder', 'seq', 'created_at']).orderBy('position').limit(limit).execute()
  const young = rows.findIndex(({ created_at: createdAt }) => createdAt >= before)
  const old = young === -1 ? rows : rows.slice(0, young)
  if (old.length === 0) return 0
  for (const holder of new Set(old.filter(({ seq }) => seq === null).map(row => row.holder))) await number(records, holder)
  const { numDeletedRows } = await db.deleteFrom('activity').where('position', 'in', old.map(({ position }) => position)).where(NUMBERED).executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}
