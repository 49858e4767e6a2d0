/**
 * From the moment a job is committed to the moment its worker begins, with workers that are free. Both are the service's own
 * records: `created_at` is taken just before the commit, so that the commit itself is counted too, and the first stage of the
 * worker begins when it says so. They are whole milliseconds: a single value is one too high or too low, their median is not.
 */
import { NO_OP, ask, completed, startJobs } from './job-services.ts'
import type { RecordsKind, ShownJob } from './job-services.ts'
import type { BenchOptions } from './main.ts'
import { median, percentile } from './measure.ts'
import type { Running } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'

const MAX_P50_MS: Record<RecordsKind, number> = { sqlite: 5, postgres: 15 }

function dispatchMs({ created_at: created, stage_timings: { inference } }: ShownJob): number {
  if (inference === undefined) throw new Error('a job of the benchmark has no stage `inference`')
  return Date.parse(inference.started_at) - Date.parse(created)
}

/** One job at a time: another would have to wait for its worker. */
async function dispatches(api: Running, count: number): Promise<number[]> {
  const took: number[] = []
  for (let job = 0; job < count; job += 1) {
    const { job_id: id } = await ask<ShownJob>(api, '/api/v1/jobs', NO_OP)
    took.push(dispatchMs(await completed(api, id)))
  }
  return took
}

export async function benchJobDispatch({ rounds, store, count = 0 }: BenchOptions): Promise<Report> {
  const rows: Record<string, string | number>[] = []
  for (const records of ['sqlite', 'postgres'] satisfies RecordsKind[]) {
    const stack = await startJobs({ records, store })
    try {
      // round 0 loads the model
      for (let round = 0; round <= rounds; round += 1) {
        const took = await dispatches(stack.apis[0]!, count)
        if (round > 0) rows.push({ round, records, jobs: count, 'p50 ms': percentile(took, 50), 'p99 ms': percentile(took, 99), 'max ms': Math.max(...took) })
      }
    } finally {
      await stack.stop()
    }
  }
  const of = (records: RecordsKind, column: string) => median(rows.filter(row => row.records === records).map(row => Number(row[column])))
  return {
    name: 'job-dispatch',
    setup: { rounds, 'jobs a round': count, 'store of Postgres': store, ...machine() },
    rows,
    figures: (['sqlite', 'postgres'] satisfies RecordsKind[]).flatMap(records => [
      { name: `${records}: dispatch, p50`, value: of(records, 'p50 ms'), unit: 'ms', bound: { at: 'most', value: MAX_P50_MS[records] } as const },
      { name: `${records}: dispatch, p99`, value: of(records, 'p99 ms'), unit: 'ms' }
    ])
  }
}
