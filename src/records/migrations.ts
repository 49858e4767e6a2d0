/**
 * The schema as a list of steps. A step that was released is never edited: a change is a new step at the end.
 *
 * All steps that a database lacks run in one transaction, so that a start that is killed leaves the schema it found.
 * Nodes that start at once queue: on the advisory lock in Postgres, on BEGIN IMMEDIATE in SQLite. The second finds
 * nothing to do. A database with more steps than this program knows is refused: an older program would write rows that
 * the newer one does not expect.
 *
 * Indexes are partial where only few rows are ever asked for (uploads that are not final), and end in the columns of
 * their ORDER BY, so that every query of the port reads about as many entries as it returns, whatever the table holds.
 * Their conditions stand as literals in the queries too: neither planner proves a condition from a bound parameter.
 */
import { sql } from 'kysely'
import { jobsChanges } from './jobs-changes-tables.ts'
import { jobsTables } from './jobs-tables.ts'
import { lockMigrations } from './locks.ts'
import { mediaTables } from './media-tables.ts'
import { RecordStoreFailed } from './port.ts'
import { promotionsTables } from './promotions-tables.ts'
import type { DatabaseName, Records, RecordsTransaction } from './schema.ts'
import { sharingTables } from './sharing-tables.ts'
import { tokensTables } from './tokens-tables.ts'

interface Migration {
  readonly name: string
  /** @param text column type of identifiers, which are compared byte by byte */
  statements(text: string, database: DatabaseName): readonly string[]
}

/** Keys and ids never need a language's order, and a locale's can change under an index with the operating system. */
const IDENTIFIER: Record<DatabaseName, string> = { sqlite: 'text', postgres: 'text collate "C"' }

const uploads = (text: string) => [
  `create table uploads (
    id ${text} not null primary key,
    kind text not null,
    staging_key ${text} not null,
    filename text not null,
    size bigint not null,
    received bigint not null,
    declared_sha256 ${text},
    sha256 ${text},
    etag text,
    status ${text} not null,
    failure text,
    canonical_key ${text},
    result text,
    subject ${text},
    account ${text},
    client_id ${text},
    owner ${text} not null,
    created_at bigint not null,
    updated_at bigint not null
  )`,
  `create index uploads_open on uploads (updated_at, id) where status in ('receiving', 'staged')`,
  `create index uploads_ended on uploads (updated_at, id) where status in ('failed', 'aborted', 'expired')`,
  `create index uploads_canonical on uploads (canonical_key, created_at, id) where status = 'finalized'`,
  `create index uploads_owned on uploads (canonical_key, owner, created_at, id) where status = 'finalized'`,
  `create index uploads_sha256 on uploads (sha256) where status = 'finalized'`
]

const objects = (text: string) => [
  `create table objects (
    key ${text} not null primary key,
    sha256 ${text} not null,
    size bigint not null,
    content_type text not null,
    state ${text} not null,
    claim ${text} not null,
    claimed_at bigint not null,
    created_at bigint not null
  )`,
  'create index objects_sha256 on objects (sha256, claimed_at)',
  `create index objects_pending on objects (claimed_at, key) where state = 'pending'`,
  `create table collections (
    sha256 ${text} not null primary key,
    lease ${text} not null,
    begun_at bigint not null
  )`,
  'create index collections_begun on collections (begun_at, sha256)'
]

const extensions = (text: string) => [
  `create table extensions (
    id ${text} not null primary key,
    publisher ${text} not null,
    name ${text} not null,
    latest_version ${text} not null,
    created_at bigint not null,
    unique (publisher, name)
  )`,
  'create index extensions_newest on extensions (created_at, id)',
  `create table extension_versions (
    id ${text} not null primary key,
    extension_id ${text} not null references extensions (id),
    version ${text} not null,
    content_hash ${text} not null,
    canonical_key ${text} not null,
    manifest text not null,
    signature text not null,
    created_at bigint not null,
    unique (extension_id, version)
  )`,
  'create index extension_versions_newest on extension_versions (extension_id, created_at, id)',
  'create index extension_versions_content on extension_versions (content_hash, created_at, id)'
]

const multiparts = (text: string) => [
  `create table multipart_intents (
    id ${text} not null primary key,
    key ${text} not null,
    upload_id text,
    touched_at bigint not null
  )`,
  'create index multipart_intents_oldest on multipart_intents (touched_at, id)'
]

const migrations: readonly Migration[] = [
  { name: 'uploads, objects, extensions, multipart intents', statements: text => [uploads, objects, extensions, multiparts].flatMap(make => make(text)) },
  { name: 'jobs, files, models', statements: jobsTables },
  { name: 'tokens, sharing, media, webhooks that outlast a node, promotions', statements: (text, database) => [tokensTables, sharingTables, mediaTables, jobsChanges, promotionsTables].flatMap(make => make(text, database)) }
]

/** Brings the schema up to date, or leaves it as it was. @throws RecordStoreFailed where it is newer than this program */
export async function migrate(records: Records): Promise<void> {
  await records.db.transaction().execute(async trx => {
    await lockMigrations(records, trx)
    await sql`create table if not exists schema_migrations (version bigint not null primary key, name text not null, applied_at bigint not null)`.execute(trx)
    const done = await newest(trx)
    if (done > migrations.length) {
      throw new RecordStoreFailed(`the schema of the database has version ${done}, this program knows ${migrations.length}: start a newer Penstock, or restore a backup`)
    }
    for (const [index, migration] of migrations.entries()) {
      if (index >= done) await apply(records, trx, index + 1, migration)
    }
  })
}

async function newest(trx: RecordsTransaction): Promise<number> {
  const row = await trx.selectFrom('schema_migrations').select('version').orderBy('version', 'desc').limit(1).executeTakeFirst()
  return row?.version ?? 0
}

async function apply(records: Records, trx: RecordsTransaction, version: number, migration: Migration): Promise<void> {
  for (const statement of migration.statements(IDENTIFIER[records.name], records.name)) await sql.raw(statement).execute(trx)
  await trx.insertInto('schema_migrations').values({ version, name: migration.name, applied_at: records.now() }).execute()
}
