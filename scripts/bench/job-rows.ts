/**
 * What a claim and a list cost with many jobs in the table, against few: one database for each size, asked in turn, so that
 * neither the warmth of the program nor the mood of the disk is taken for growth. The rows are as a service leaves them,
 * with inputs, results, files and events, many owners, users and models; as many wait as may (QUEUE_MAX has 10 000).
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { DatabaseSync } from 'node:sqlite'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import type { Owner, RecordStore } from '../../src/records/port.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { fillStatements, ROWS } from './job-rows-sql.ts'
import type { BenchOptions } from './main.ts'
import { median } from './measure.ts'
import { machine } from './report.ts'
import type { Figure, Report } from './report.ts'

const MAX_RATIO = 1.5
const SMALLEST = 100
const LISTS_PER_ROUND = 20
const CLAIMS_PER_ROUND = 20
const LEASE_MS = 600_000
/** Least that wait, so that every round finds some. */
const WAITING_PART = 0.4
const WAITING_MAX = 10_000

interface Sized { readonly rows: number, readonly records: RecordStore, readonly middle: { createdAt: number, id: string } }
interface Database { readonly name: string, open(rows: number): Promise<RecordStore>, stop(): Promise<void> }

async function sqlite(): Promise<Database> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-rows-'))
  return {
    name: 'sqlite',
    async open(rows) {
      const file = join(folder, `${rows}.db`)
      const records = sqliteRecordStore({ file })
      await records.migrate()
      const database = new DatabaseSync(file)
      database.exec('pragma synchronous = off; pragma cache_size = -262144; begin')
      for (const statement of fillStatements(rows, waitingOf(rows))) database.exec(statement)
      database.exec('commit; pragma wal_checkpoint(truncate)')
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
  for (const statement of fillStatements(rows, waitingOf(rows))) await client.query(statement)
  // as autovacuum would, in its own time
  await client.query('vacuum analyze')
  await client.query('checkpoint')
  await client.end()
  return records
}

function waitingOf(rows: number): number {
  return Math.min(WAITING_MAX, Math.floor(rows * WAITING_PART))
}

const owner: Owner = ROWS.owner(7)
/** Every way in which the service asks for a page. */
const LISTS: Record<string, (sized: Sized) => Parameters<RecordStore['jobs']['list']>[0]> = {
  'list ms': () => ({ limit: 20 }),
  'of an owner': () => ({ limit: 20, owner }),
  'of a user': () => ({ limit: 20, userId: ROWS.user(7) }),
  'of an owner and user': () => ({ limit: 20, owner, userId: ROWS.user(7) }),
  'of a status': () => ({ limit: 20, status: 'failed' }),
  'of a model': () => ({ limit: 20, model: ROWS.model(3) }),
  'of none': () => ({ limit: 20, owner, status: 'cancelled' }),
  'in the middle': ({ middle }) => ({ limit: 20, after: middle })
}

async function timed(times: number, work: (turn: number) => Promise<unknown>): Promise<number> {
  const took: number[] = []
  for (let turn = 0; turn < times; turn += 1) {
    const before = performance.now()
    await work(turn)
    took.push(performance.now() - before)
  }
  return median(took)
}

async function measureOnce(sized: Sized, claims: number, round: number): Promise<Record<string, number>> {
  const { jobs } = sized.records
  const found: Record<string, number> = {}
  found['claim ms'] = await timed(claims, async turn => {
    if (await jobs.claim({ token: `${round}-${turn}`, worker: 'bench', leaseMs: LEASE_MS }) === undefined) throw new Error('there was nothing to claim')
  })
  for (const [name, query] of Object.entries(LISTS)) found[name] = await timed(LISTS_PER_ROUND, () => jobs.list(query(sized)))
  found['stats ms'] = await timed(LISTS_PER_ROUND, () => jobs.stats())
  return found
}

async function measureDatabase(database: Database, sizes: readonly number[], rounds: number): Promise<Record<string, string | number>[]> {
  const opened: Sized[] = []
  try {
    for (const rows of sizes) opened.push({ rows, records: await database.open(rows), middle: ROWS.cursor(Math.floor(rows / 2)) })
    const claims = Math.min(CLAIMS_PER_ROUND, Math.floor(waitingOf(sizes[0]!) / (rounds + 1)))
    const found: Record<string, string | number>[] = []
    for (let round = 0; round <= rounds; round += 1) {
      for (const sized of round % 2 === 0 ? opened : opened.toReversed()) {
        const measured = await measureOnce(sized, claims, round)
        if (round > 0) found.push({ round, records: database.name, rows: sized.rows, ...measured })
      }
    }
    return found
  } finally {
    for (const { records } of opened) await records.close()
  }
}

/** Median over the rounds, one row for each store and size. */
function mediansOf(found: readonly Record<string, string | number>[], records: string, sizes: readonly number[]): Record<string, string | number>[] {
  return sizes.map(rows => {
    const of = found.filter(row => row.records === records && row.rows === rows)
    const columns = Object.keys(of[0] ?? {}).filter(column => !['round', 'records', 'rows'].includes(column))
    return { records, rows, ...Object.fromEntries(columns.map(column => [column, median(of.map(row => Number(row[column])))])) }
  })
}

function figuresOf(rows: readonly Record<string, string | number>[]): Figure[] {
  const [few, many] = [rows[0]!, rows.at(-1)!]
  const ratio = (column: string) => Number(many[column]) / Number(few[column])
  const lists = Object.keys(LISTS)
  const worst = lists.toSorted((a, b) => ratio(b) - ratio(a))[0]!
  const bound = { at: 'most', value: MAX_RATIO } as const
  return [
    { name: `${few.records}: claim, ${many.rows} rows / ${few.rows}`, value: ratio('claim ms'), unit: '×', bound },
    { name: `${few.records}: worst list (${worst}), ${many.rows} rows / ${few.rows}`, value: ratio(worst), unit: '×', bound },
    { name: `${few.records}: stats, ${many.rows} rows / ${few.rows}`, value: ratio('stats ms'), unit: '×' }
  ]
}

export async function benchJobRows({ rounds, count = 0 }: BenchOptions): Promise<Report> {
  const sizes = [count / 1000, count / 100, count / 10, count].map(Math.floor).filter(size => size >= SMALLEST)
  const rows: Record<string, string | number>[] = []
  const figures: Figure[] = []
  for (const start of [sqlite, postgres]) {
    const database = await start()
    try {
      const medians = mediansOf(await measureDatabase(database, sizes, rounds), database.name, sizes)
      rows.push(...medians)
      figures.push(...figuresOf(medians))
    } finally {
      await database.stop()
    }
  }
  return { name: 'job-rows', setup: { rounds, 'lists a round': LISTS_PER_ROUND, ...machine() }, rows, figures }
}
