/**
 * What a list of files costs with many in the table, against few: one database for each size, asked in turn, so that
 * neither the warmth of the program nor the mood of the disk is taken for growth.
 *
 * Searches read the caller's own files, newest first, as far as they need and as far as they may: what many files have is
 * found as soon among many as among few, and what none has costs what may be read at the most.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import type { Holder } from '../../src/records/access-port.ts'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { ownerText } from '../../src/records/schema.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import type { BenchOptions } from './main.ts'
import { median } from './measure.ts'
import { machine } from './report.ts'
import type { Figure, Report } from './report.ts'

const MAX_RATIO = 1.5
const SMALLEST = 1000
const LISTS_PER_ROUND = 50
/** Few enough that with the smallest table too a search reads as much of each as it does at once. */
const HOLDERS = 2
const EPOCH_MS = 1_700_000_000_000
const SECOND_MS = 1000
/** Makes every number as long as the others. */
const ID_BASE = 1_000_000_000
const TYPES = ['image/png', 'application/pdf', 'text/plain', 'video/mp4']

/** Row i was made i seconds after EPOCH_MS, and belongs to user i modulo HOLDERS. */
function fillStatement(rows: number): string {
  const user = `' || (i % ${HOLDERS}) || '`
  const digest = `'${'a'.repeat(54)}' || (${ID_BASE} + i)`
  const columns = {
    id: `'file-' || (${ID_BASE} + i)`, filename: `'report ' || (${ID_BASE} + i) || '.bin'`,
    content_type: `case i / ${HOLDERS} % ${TYPES.length} ${TYPES.map((type, at) => `when ${at} then '${type}'`).join(' ')} end`,
    size: '100', sha256: digest, key: `'sha256/' || ${digest} || '/object'`, access: `'account'`,
    subject: `'user-${user}'`, account: `'acme'`, client_id: 'null', owner: `'${ownerText({ subject: `user-${user}`, account: 'acme', clientId: null })}'`,
    created_at: `(${EPOCH_MS} + cast(i as bigint) * ${SECOND_MS})`
  }
  return `insert into files (${Object.keys(columns).join(', ')})
    with recursive n(i) as (select 1 union all select i + 1 from n where i < ${rows})
    select ${Object.values(columns).join(', ')} from n`
}

interface Sized { readonly rows: number, readonly records: RecordStore }
interface Database { readonly name: string, open(rows: number): Promise<RecordStore>, stop(): Promise<void> }

async function sqlite(): Promise<Database> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-files-'))
  return {
    name: 'sqlite',
    async open(rows) {
      const file = join(folder, `${rows}.db`)
      const records = sqliteRecordStore({ file })
      await records.migrate()
      const database = new DatabaseSync(file)
      database.exec(`pragma synchronous = off; pragma cache_size = -262144; begin; ${fillStatement(rows)}; commit; pragma wal_checkpoint(truncate)`)
      database.close()
      return records
    },
    stop: () => rm(folder, { recursive: true, force: true })
  }
}

async function postgres(): Promise<Database> {
  const server = await startPostgres()
  return { name: 'postgres', open: async rows => await openPostgres(await server.createDatabase(), rows), stop: () => server.stop() }
}

async function openPostgres(url: string, rows: number): Promise<RecordStore> {
  const records = postgresRecordStore({ url, maxConnections: 2 })
  await records.migrate()
  const client = new Client({ connectionString: url })
  await client.connect()
  // vacuum: as autovacuum would, in its own time
  for (const statement of [fillStatement(rows), 'vacuum analyze', 'checkpoint']) await client.query(statement)
  await client.end()
  return records
}

const holder: Holder = { subject: 'user-1', account: 'acme' }
const page = { holder, limit: 20 }
const middleOf = (rows: number) => ({ createdAt: EPOCH_MS + Math.floor(rows / 2) * SECOND_MS, id: '' })

/** Every way in which the service asks for a page. */
const LISTS: Record<string, (sized: Sized) => Promise<unknown>> = {
  'list ms': ({ records: { files } }) => files.list(page),
  'in the middle': ({ records: { files }, rows }) => files.list({ ...page, after: middleOf(rows) }),
  'of none': ({ records: { files } }) => files.list({ ...page, holder: { subject: 'nobody', account: 'acme' } }),
  'without a user': ({ records: { files } }) => files.list({ ...page, holder: { subject: null, account: 'acme' } }),
  'of a type': ({ records: { files } }) => files.search({ ...page, type: 'image/' }),
  'with a text': ({ records: { files } }) => files.search({ ...page, text: '3.BIN' })
}
const FRUITLESS = 'fruitless'

async function timed(work: () => Promise<unknown>): Promise<number> {
  const took: number[] = []
  for (let turn = 0; turn < LISTS_PER_ROUND; turn += 1) {
    const before = performance.now()
    await work()
    took.push(performance.now() - before)
  }
  return median(took)
}

async function measureOnce(sized: Sized): Promise<Record<string, number>> {
  const found: Record<string, number> = {}
  for (const [name, list] of Object.entries(LISTS)) found[name] = await timed(() => list(sized))
  found[FRUITLESS] = await timed(() => sized.records.files.search({ ...page, text: 'no file is called that' }))
  return found
}

/** Median over the rounds, one row for each size. */
async function measureDatabase({ name, open }: Database, sizes: readonly number[], rounds: number): Promise<Record<string, string | number>[]> {
  const opened: Sized[] = []
  try {
    for (const rows of sizes) opened.push({ rows, records: await open(rows) })
    const found = new Map(opened.map(({ rows }) => [rows, [] as Record<string, number>[]]))
    // round 0 warms everything up and is thrown away
    for (let round = 0; round <= rounds; round += 1) {
      for (const sized of round % 2 === 0 ? opened : opened.toReversed()) {
        const measured = await measureOnce(sized)
        if (round > 0) found.get(sized.rows)?.push(measured)
      }
    }
    return [...found].map(([rows, rounds$]) => ({
      records: name, rows, ...Object.fromEntries([...Object.keys(LISTS), FRUITLESS].map(column => [column, median(rounds$.map(each => each[column] ?? Number.NaN))]))
    }))
  } finally {
    for (const { records } of opened) await records.close()
  }
}

function figuresOf(rows: readonly Record<string, string | number>[]): Figure[] {
  const [few, many] = [rows[0]!, rows.at(-1)!]
  const ratio = (column: string) => Number(many[column]) / Number(few[column])
  const worst = Object.keys(LISTS).toSorted((a, b) => ratio(b) - ratio(a))[0]!
  return [
    { name: `${few.records}: list, ${many.rows} rows / ${few.rows}`, value: ratio('list ms'), unit: '×' },
    { name: `${few.records}: the list that grows most (${worst})`, value: ratio(worst), unit: '×', bound: { at: 'most', value: MAX_RATIO } },
    { name: `${few.records}: a fruitless search, ${many.rows} rows`, value: Number(many[FRUITLESS]), unit: 'ms' }
  ]
}

export async function benchFileRows({ rounds, count = SMALLEST }: BenchOptions): Promise<Report> {
  const sizes = [SMALLEST, Math.max(count, SMALLEST + 1)]
  const rows: Record<string, string | number>[] = []
  const figures: Figure[] = []
  for (const start of [sqlite, postgres]) {
    const database = await start()
    try {
      const measured = await measureDatabase(database, sizes, rounds)
      rows.push(...measured)
      figures.push(...figuresOf(measured))
    } finally {
      await database.stop()
    }
  }
  return { name: 'file-rows', setup: { rounds, 'lists a round': LISTS_PER_ROUND, ...machine() }, rows, figures }
}
