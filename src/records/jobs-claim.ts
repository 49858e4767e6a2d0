/**
 * Claims and leases. A claim is one statement that finds the next ready job and takes it: in Postgres it passes over rows
 * that others are taking (SKIP LOCKED), in SQLite there is one writer at a time. Jobs that wait for their time are no part
 * of what it looks at; each claim first makes those ready whose time has come.
 */
import { sql } from 'kysely'
import { DUE_JOBS_MAX, PROGRESS_ROWS_MAX } from '../limits.ts'
import { failJob, requeueOrCancel } from './jobs-changes.ts'
import { DELAYED, LEASED, READY } from './jobs-schema.ts'
import type { JobRow } from './jobs-schema.ts'
import type { Claimant, JobRecord, JobStatus } from './jobs-port.ts'
import { readJob } from './jobs-rows.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { transact, type Work } from './transact.ts'
import { CallerFault } from './translate-errors.ts'

type Held = readonly { id: string, token: string }[]

export async function claimJob(records: Records, claimant: Claimant): Promise<JobRecord | undefined> {
  await makeDueReady(records)
  const id = await takeNext(records, claimant)
  if (id === undefined) return undefined
  const job = await readJob(records, records.db, id)
  // a lease shorter than this took
  return job?.attemptToken === claimant.token ? job : undefined
}

async function makeDueReady({ db, name, now }: Records): Promise<void> {
  await db.updateTable('jobs').set({ available_at: 0 })
    .where('id', 'in', query => query.selectFrom('jobs').select('id').where(DELAYED).where('available_at', '<=', now())
      .orderBy('available_at').orderBy('id').limit(DUE_JOBS_MAX).$if(name === 'postgres', rows => rows.forUpdate().skipLocked()))
    .execute()
}

async function takeNext({ db, name, now }: Records, { token, worker, leaseMs, exceptTasks = [] }: Claimant): Promise<string | undefined> {
  const time = now()
  const row = await db.updateTable('jobs')
    .set({
      status: 'processing',
      attempt: sql<number>`attempt + 1`,
      attempt_token: token,
      worker,
      available_at: null,
      lease_until: time + leaseMs,
      started_at: sql<number>`coalesce(started_at, ${time})`,
      // a row's times do not go back with the clock
      updated_at: sql<number>`case when updated_at < ${time} then ${time} else updated_at end`
    })
    .where('id', '=', query => query.selectFrom('jobs').select('id').where(READY)
      .$if(exceptTasks.length > 0, rows => rows.where('task', 'not in', exceptTasks))
      .orderBy('priority', 'desc').orderBy('created_at').orderBy('id').limit(1).$if(name === 'postgres', rows => rows.forUpdate().skipLocked()))
    .returning('id').executeTakeFirst()
  return row?.id
}

export async function heartbeat(records: Records, held: Held, leaseMs: number): Promise<{ lost: string[], cancelled: string[] }> {
  if (held.length === 0) return { lost: [], cancelled: [] }
  // in one order everywhere, as in uploads.ts
  const sorted = held.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const ours = await transact(records, async ({ trx }) => {
    const wishes = new Map<string, boolean>()
    for (let first = 0; first < sorted.length; first += PROGRESS_ROWS_MAX) {
      for (const row of await extend(records, trx, sorted.slice(first, first + PROGRESS_ROWS_MAX), leaseMs)) wishes.set(row.id, row.cancel_requested === 1)
    }
    return wishes
  })
  const ids = held.map(({ id }) => id)
  return { lost: ids.filter(id => !ours.has(id)), cancelled: ids.filter(id => ours.get(id) === true) }
}

/** One statement for many rows; returns those that are still theirs. `updated_at` stays: nothing changed that anyone sees. */
async function extend({ name, now }: Records, trx: RecordsTransaction, held: Held, leaseMs: number): Promise<Pick<JobRow, 'id' | 'cancel_requested'>[]> {
  if (name === 'postgres') await sql`select id from jobs where id = any(${held.map(({ id }) => id)}) order by id collate "C" for update`.execute(trx)
  const values = sql.join(held.map(({ id, token }) => sql`(cast(${id} as text), cast(${token} as text))`))
  const { rows } = await sql<Pick<JobRow, 'id' | 'cancel_requested'>>`
    with held (id, token) as (values ${values})
    update jobs set lease_until = ${now() + leaseMs} from held
    where jobs.id = held.id and jobs.attempt_token = held.token and jobs.status = 'processing' returning jobs.id, jobs.cancel_requested`.execute(trx)
  return rows
}

export interface ReapOptions { maxAttempts: number, retryAt(attempt: number): number, limit: number }

export async function reapLost(records: Records, options: ReapOptions): Promise<{ reaped: number, ended: string[] }> {
  return transact(records, async work => {
    const rows = await work.trx.selectFrom('jobs').selectAll().where(LEASED).where('lease_until', '<', records.now())
      .orderBy('lease_until').orderBy('id').limit(options.limit)
      .$if(records.name === 'postgres', query => query.forUpdate().skipLocked()).execute()
    const ended: string[] = []
    for (const row of rows) {
      if (await reapOne(records, work, row, options) !== 'queued') ended.push(row.id)
    }
    return { reaped: rows.length, ended }
  })
}

async function reapOne(records: Records, work: Work, row: JobRow, options: ReapOptions): Promise<JobStatus> {
  if (row.cancel_requested === 1 || row.attempt < options.maxAttempts) return await requeueOrCancel(records, work, row, { at: retryTime(options, row.attempt) })
  await failJob(records, work, row, WORKER_LOST)
  return 'failed'
}

const WORKER_LOST = { code: 'worker_lost', message: 'the worker was lost' }

function retryTime({ retryAt }: ReapOptions, attempt: number): number {
  try {
    return retryAt(attempt)
  } catch (error) {
    throw new CallerFault(error)
  }
}
