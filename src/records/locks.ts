/**
 * How transactions that must not overlap are kept apart.
 *
 * SQLite: every transaction begins with BEGIN IMMEDIATE, so there is one writer at a time and nothing to do here.
 *
 * Postgres runs READ COMMITTED: each statement sees what was committed before it began, and two transactions that read
 * first and write other rows do not notice each other. The collector asks "does any row point at this hash?", which
 * no row lock can answer for rows that are not there yet. So everything that gives a hash a reference (claim, finalize)
 * and everything that takes it away (beginCollect, endCollect) first takes the advisory lock of that hash, held to the
 * end of the transaction. Postgres makes a commit visible before it lets go of the locks, so the next holder's
 * statements see all of it.
 *
 * Order of locks, which is what rules out deadlocks: job row, queue, upload row, hash, then rows of what points at it
 * (extension, version, model). Several hashes are taken in the order of their lock numbers, several job rows in that of
 * their ids. Claim and the collector take only the hash. Two hashes with one lock number wait for each other without
 * need; nothing else happens.
 */
import { sql } from 'kysely'
import type { Records, RecordsTransaction } from './schema.ts'

/** First numbers of our advisory locks; they keep clear of other programs in the same database. */
const HASH_LOCK = 1_886_613_363
const MIGRATION_LOCK = 1_886_613_364
const HOLDER_LOCK = 1_886_613_365
const QUEUE_LOCK = 1_886_613_366

/** Waits until no other transaction works on the references of this hash. */
export async function lockHash(records: Records, trx: RecordsTransaction, sha256: string): Promise<void> {
  if (records.name === 'sqlite') return
  await sql`select pg_advisory_xact_lock(${sql.lit(HASH_LOCK)}, hashtext(${sha256}))`.execute(trx)
}

/** The same of several hashes, in one order everywhere: two transactions with the same ones wait, and never in a circle. */
export async function lockHashes(records: Records, trx: RecordsTransaction, hashes: readonly string[]): Promise<void> {
  if (records.name === 'sqlite' || hashes.length === 0) return
  // a lock number may stand for two hashes: ordered by number, or two such pairs could cross
  await sql`select pg_advisory_xact_lock(${sql.lit(HASH_LOCK)}, number)
    from (select distinct hashtext(hash) as number from unnest(${hashes}::text[]) as hash order by 1) as numbers`.execute(trx)
}

/** Waits until no other transaction counts the active jobs of this holder. */
export async function lockHolder(records: Records, trx: RecordsTransaction, holder: string): Promise<void> {
  if (records.name === 'sqlite') return
  await sql`select pg_advisory_xact_lock(${sql.lit(HOLDER_LOCK)}, hashtext(${holder}))`.execute(trx)
}

/** Waits until no other transaction that is near the end of the queue adds to it. */
export async function lockQueue(records: Records, trx: RecordsTransaction): Promise<void> {
  if (records.name === 'sqlite') return
  await sql`select pg_advisory_xact_lock(${sql.lit(QUEUE_LOCK)}, 0)`.execute(trx)
}

/** Waits until no other node migrates. */
export async function lockMigrations(records: Records, trx: RecordsTransaction): Promise<void> {
  if (records.name === 'sqlite') return
  await sql`select pg_advisory_xact_lock(${sql.lit(MIGRATION_LOCK)}, 0)`.execute(trx)
}
