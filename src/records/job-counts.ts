/**
 * How many jobs have completed and failed, counted as they do: what is finished is never counted row by row.
 *
 * A count is the sum of several rows, and each transaction adds to one of them, so that those that end jobs at once seldom
 * wait for each other. It does so last, in one order, with all that it has to add: so it waits for nobody while it holds one.
 */
import { sql } from 'kysely'
import { JOB_COUNT_SHARDS } from '../limits.ts'
import type { JobStatus } from './jobs-port.ts'
import type { Records, RecordsTransaction } from './schema.ts'

const COUNTED = ['completed', 'failed'] as const
type Counted = typeof COUNTED[number]

export interface JobCounting {
  /** A job went from one state to another; undefined: it was not there before, or is not any more. */
  moved(from: JobStatus | undefined, to: JobStatus | undefined): void
  /** At the end of the transaction. */
  write(trx: RecordsTransaction): Promise<void>
}

export function jobCounting(): JobCounting {
  const changes: Record<Counted, number> = { completed: 0, failed: 0 }
  const add = (status: JobStatus | undefined, jobs: number): void => { if (status === 'completed' || status === 'failed') changes[status] += jobs }
  return {
    moved(from, to) {
      add(from, -1)
      add(to, 1)
    },
    async write(trx) {
      const shard = Math.floor(Math.random() * JOB_COUNT_SHARDS)
      const rows = COUNTED.filter(status => changes[status] !== 0).map(status => ({ shard, status, jobs: changes[status] }))
      if (rows.length === 0) return
      await trx.insertInto('job_counts').values(rows)
        .onConflict(conflict => conflict.columns(['shard', 'status']).doUpdateSet({ jobs: sql<number>`job_counts.jobs + excluded.jobs` })).execute()
    }
  }
}

/** One row of it may be below zero. */
export async function countedJobs({ db }: Records): Promise<Record<Counted, number>> {
  const rows = await db.selectFrom('job_counts').select(['status', 'jobs']).execute()
  const sum = (status: Counted): number => rows.reduce((total, row) => total + (row.status === status ? row.jobs : 0), 0)
  return { completed: sum('completed'), failed: sum('failed') }
}
