/**
 * Lists of jobs, newest first. Each index of a list holds what is asked for by equality, then the status, then the order.
 * So a list of one status reads just its rows, and a list of all of them merges the heads of five such lists: whatever the
 * table holds, a page costs a few pages of index. Two lists pass over rows of others: that of a user's jobs of one model
 * over the user's jobs of other models, and a list narrowed in two ways over what is unfinished, which is bounded.
 */
import { sql } from 'kysely'
import type { SqlBool } from 'kysely'
import { countedJobs } from './job-counts.ts'
import { ACTIVE, COMPLETED, FINISHED, jobOf } from './jobs-schema.ts'
import type { JobQuery, JobRecord, JobStatus, QueueStats } from './jobs-port.ts'
import { selectJobs } from './jobs-rows.ts'
import { ownerText } from './schema.ts'
import type { Records } from './schema.ts'

const UNFINISHED: readonly JobStatus[] = ['queued', 'processing']
const STATUSES: readonly JobStatus[] = [...UNFINISHED, 'completed', 'failed', 'cancelled']

export async function listJobs(records: Records, query: JobQuery): Promise<JobRecord[]> {
  const rows = await selectJobs(records, records.db).where('jobs.id', 'in', idsOf(records, query))
    .orderBy('jobs.created_at', 'desc').orderBy('jobs.id', 'desc').execute()
  return rows.map(jobOf)
}

function idsOf(records: Records, query: JobQuery) {
  const statuses = query.status === undefined ? STATUSES : [query.status]
  const [first, ...others] = statuses.map(status => headOf(records, query, status))
  const heads = others.reduce((all, head) => all.unionAll(head), first!)
  return records.db.selectFrom(heads.as('heads')).select('heads.id')
    .orderBy('heads.created_at', 'desc').orderBy('heads.id', 'desc').limit(query.limit)
}

/** Within brackets of its own: SQLite takes no ORDER BY in a part of a union. */
function headOf({ db }: Records, { limit, after, owner, userId, model }: JobQuery, status: JobStatus) {
  const head = db.selectFrom('jobs').select(['created_at', 'id']).where('status', '=', sql.lit(status)).where(UNFINISHED.includes(status) ? ACTIVE : FINISHED)
    .$if(owner !== undefined, query => query.where('owner', '=', ownerText(owner!)))
    .$if(userId !== undefined, query => query.where('user_id', '=', userId!))
    .$if(model !== undefined, query => query.where('model_name', '=', model!))
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit)
  return db.selectFrom(head.as('head')).select(['head.created_at', 'head.id'])
}

export async function listFinished({ db }: Records, before: number, limit: number): Promise<string[]> {
  const rows = await db.selectFrom('jobs').select('id').where(FINISHED).where('completed_at', '<', before)
    .orderBy('completed_at').orderBy('id').limit(limit).execute()
  return rows.map(({ id }) => id)
}

/** Where one of the results is gone, the next newest. */
export async function findMemo(records: Records, memoKey: string, owner: string): Promise<JobRecord | undefined> {
  const row = await selectJobs(records, records.db).where('memo_key', '=', memoKey).where('owner', '=', owner).where(COMPLETED)
    .where(sql<SqlBool>`not exists (select 1 from job_results where job_results.job_id = jobs.id
      and not exists (select 1 from files where files.id = job_results.file_id))`)
    .orderBy('completed_at', 'desc').orderBy('id', 'desc').limit(1).executeTakeFirst()
  return row && jobOf(row)
}

/** What is unfinished is counted, which is bounded; of what has ended there are counts. */
export async function queueStats(records: Records): Promise<QueueStats> {
  const active = await records.db.selectFrom('jobs').select(eb => ['model_name', 'status', eb.fn.countAll<number>().as('jobs'), eb.fn.min('created_at').as('oldest')])
    .where(ACTIVE).groupBy(['model_name', 'status']).execute()
  const { completed, failed } = await countedJobs(records)
  const sum = (status: JobStatus, model?: string) => active.filter(row => row.status === status && (model === undefined || row.model_name === model)).reduce((total, { jobs }) => total + jobs, 0)
  const waitingSince = active.filter(({ status }) => status === 'queued').map(({ oldest }) => oldest)
  return {
    waiting: sum('queued'),
    running: sum('processing'),
    completed,
    failed,
    oldestCreatedAt: waitingSince.length === 0 ? null : Math.min(...waitingSince),
    perModel: [...new Set(active.map(row => row.model_name))].toSorted().map(model => ({ model, waiting: sum('queued', model), running: sum('processing', model) }))
  }
}
