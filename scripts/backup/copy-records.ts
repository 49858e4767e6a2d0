/**
 * All rows of the records, as they were at one moment, from one database to another that has the same schema and is empty.
 *
 * The snapshot of a backup is always one SQLite file, wherever the records are: of SQLite a copy by SQLite's own online backup,
 * of Postgres the rows of one REPEATABLE READ transaction. So a backup of either can be restored into either.
 *
 *   - Tables are read and written in the order in which the schema makes them, so that what is referred to is there first.
 *   - What triggers note while rows come in is not what was noted: activity goes last, over what it holds by then.
 *   - A column that the database numbers by itself is left to it, in the order of its numbers.
 *   - The table of migrations is the target's own.
 */
import { closeSync, openSync } from 'node:fs'
import { backup, DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { Client, types } from 'pg'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'

/** Rows held at once. A manifest may have 1 MiB. */
const ROWS_AT_ONCE = 200
const CONNECT_TIMEOUT_MS = 10_000
/** All at once: between two steps another process could write, and then it begins anew. */
const PAGES_AT_ONCE = 2 ** 30
const MIGRATIONS = 'schema_migrations'
const WRITTEN_BY_TRIGGERS = 'activity'

type Row = Record<string, SQLInputValue>
interface Table { name: string, columns: readonly string[], orderBy: string }

/** Where records are: a file of SQLite, or the address of a Postgres. */
export type Place = { file: string } | { url: string }

export class RecordsDiffer extends Error {}

/**
 * Writes the snapshot of records that a service uses, which may go on. Neither makes nor changes anything in them.
 * @throws RecordsDiffer where their schema is not that of this program
 */
export async function takeSnapshot(from: Place, file: string): Promise<void> {
  // for this user only, from the first byte
  closeSync(openSync(file, 'w', 0o600))
  if ('file' in from) await copySqlite(from.file, file)
  else await readPostgres(from.url, file)
}

/**
 * Brings the snapshot (which is changed by that) to the schema of this program and its rows into an empty place.
 * @throws RecordsDiffer where it is not empty
 */
export async function loadSnapshot(snapshot: string, url: string): Promise<void> {
  await migrateFile(snapshot)
  await inPostgres(url, async client => {
    const source = new DatabaseSync(snapshot, { readOnly: true })
    try {
      const tables = await ofPostgres(client, tablesOf(source))
      for (const { name } of tables) await assertNoRow(client, name)
      for (const table of tables) {
        if (table.name === WRITTEN_BY_TRIGGERS) await client.query(`delete from "${table.name}"`)
        for (const rows of batchesOf(source, table)) await insertPostgres(client, table, rows)
      }
    } finally {
      source.close()
    }
  })
}

/** @throws RecordsDiffer where a table of the database has a row */
export async function assertEmpty(url: string): Promise<void> {
  await inPostgres(url, async client => {
    const { rows } = await client.query<{ table_name: string }>(`select table_name from information_schema.tables where table_schema = current_schema() and table_type = 'BASE TABLE' and table_name <> $1`, [MIGRATIONS])
    for (const { table_name: name } of rows) await assertNoRow(client, name)
  })
}

async function assertNoRow(client: Client, name: string): Promise<void> {
  if ((await client.query(`select 1 from "${name}" limit 1`)).rowCount !== 0) throw new RecordsDiffer(`the database is in use already (table ${name}): nothing is written into it`)
}

/** Makes the schema where there is none, and brings an older one up to date. */
export async function migrateFile(file: string): Promise<void> {
  const records = sqliteRecordStore({ file })
  try {
    await records.migrate()
  } finally {
    await records.close()
  }
  // without a log beside it, so that the file is all there is
  const database = new DatabaseSync(file)
  try {
    database.exec('PRAGMA journal_mode = DELETE')
  } finally {
    database.close()
  }
}

async function copySqlite(from: string, to: string): Promise<void> {
  const source = new DatabaseSync(from, { readOnly: true })
  try {
    await backup(source, to, { rate: PAGES_AT_ONCE })
  } finally {
    source.close()
  }
  const version = newestIn(to)
  await migrateFile(to)
  if (newestIn(to) !== version) throw new RecordsDiffer(`the records have version ${version}, this program knows ${newestIn(to)}: use the version that runs on them`)
}

function newestIn(file: string): number {
  const database = new DatabaseSync(file, { readOnly: true })
  try {
    return newestOf(database)
  } finally {
    database.close()
  }
}

async function readPostgres(url: string, file: string): Promise<void> {
  await migrateFile(file)
  const target = new DatabaseSync(file)
  try {
    target.exec('PRAGMA foreign_keys = OFF; PRAGMA synchronous = FULL; BEGIN IMMEDIATE')
    const version = newestOf(target)
    await inPostgres(url, async client => {
      await client.query('set transaction isolation level repeatable read, read only')
      const theirs = await client.query(`select version from ${MIGRATIONS} order by version desc limit 1`)
      if (theirs.rows[0]?.version !== version) throw new RecordsDiffer(`the records have version ${theirs.rows[0]?.version}, this program knows ${version}: use the version that runs on them`)
      for (const table of await ofPostgres(client, tablesOf(target))) await readTable(client, table, target)
    })
    target.exec('COMMIT')
  } finally {
    target.close()
  }
}

/** @throws RecordsDiffer where the service has never run on it */
function newestOf(database: DatabaseSync): number {
  const made = database.prepare(`select 1 from sqlite_master where type = 'table' and name = ?`).get(MIGRATIONS)
  if (made === undefined) throw new RecordsDiffer('the service has never run on these records')
  return Number(database.prepare(`select max(version) as version from ${MIGRATIONS}`).get()!.version)
}

/** In the order in which they were made, those that triggers write into behind the others. */
function tablesOf(database: DatabaseSync): Table[] {
  const names = database.prepare(`select name from sqlite_master where type = 'table' and name not like 'sqlite_%' and name <> ? order by rowid`).all(MIGRATIONS).map(row => String(row.name))
  const inOrder = [...names.filter(name => name !== WRITTEN_BY_TRIGGERS), ...names.filter(name => name === WRITTEN_BY_TRIGGERS)]
  return inOrder.map(name => ({ name, columns: database.prepare(`select name from pragma_table_info(?)`).all(name).map(row => String(row.name)), orderBy: 'rowid' }))
}

/** Without the columns that Postgres numbers by itself, and in their order. */
async function ofPostgres(client: Client, tables: readonly Table[]): Promise<Table[]> {
  const { rows } = await client.query<{ table_name: string, column_name: string }>(`select table_name, column_name from information_schema.columns where table_schema = current_schema() and is_identity = 'YES'`)
  return tables.map(table => {
    const numbered = rows.filter(({ table_name: name }) => name === table.name).map(({ column_name: name }) => name)
    return numbered.length === 0 ? table : { ...table, columns: table.columns.filter(name => !numbered.includes(name)), orderBy: `"${numbered[0]}"` }
  })
}

function* batchesOf(database: DatabaseSync, { name, columns, orderBy }: Table): Generator<Row[]> {
  let rows: Row[] = []
  for (const row of database.prepare(`select ${quoted(columns)} from "${name}" order by ${orderBy}`).iterate()) {
    rows.push(row as Row)
    if (rows.length < ROWS_AT_ONCE) continue
    yield rows
    rows = []
  }
  if (rows.length > 0) yield rows
}

async function readTable(client: Client, { name, columns, orderBy }: Table, target: DatabaseSync): Promise<void> {
  if (name === WRITTEN_BY_TRIGGERS) target.exec(`delete from "${name}"`)
  const insert = target.prepare(`insert into "${name}" (${quoted(columns)}) values (${columns.map(() => '?').join(', ')})`)
  await client.query(`declare everything no scroll cursor for select ${quoted(columns)} from "${name}"${orderBy === 'rowid' ? '' : ` order by ${orderBy}`}`)
  for (;;) {
    const { rows } = await client.query<Row>(`fetch ${ROWS_AT_ONCE} from everything`)
    for (const row of rows) insert.run(...columns.map(column => row[column]!))
    if (rows.length < ROWS_AT_ONCE) break
  }
  await client.query('close everything')
}

async function insertPostgres(client: Client, { name, columns }: Table, rows: readonly Row[]): Promise<void> {
  await client.query(`insert into "${name}" (${quoted(columns)}) select ${quoted(columns)} from json_populate_recordset(null::"${name}", $1)`, [JSON.stringify(rows)])
}

const quoted = (columns: readonly string[]): string => columns.map(column => `"${column}"`).join(', ')

/** Within one transaction, on a connection of its own. */
async function inPostgres(url: string, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({
    connectionString: url, application_name: 'penstock backup', connectionTimeoutMillis: CONNECT_TIMEOUT_MS, keepAlive: true,
    // bigint as a number: all of ours are bytes and milliseconds below 2^53
    types: { getTypeParser: (oid: number, format?: 'text' | 'binary') => oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format as 'text') }
  })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('begin')
    await work(client)
    await client.query('commit')
  } finally {
    await client.end()
  }
}
