/** The benchmarks of jobs: `npm run bench -- jobs` runs them all, and each can be run by its name. */
import { benchJobDispatch } from './job-dispatch.ts'
import { benchJobListeners } from './job-listeners.ts'
import { benchJobLoop } from './job-loop.ts'
import { benchJobRate } from './job-rate.ts'
import { benchJobRows } from './job-rows.ts'
import type { Benchmark } from './main.ts'

export const JOB_BENCHMARKS: Record<string, Benchmark> = {
  'job-dispatch': { run: benchJobDispatch, defaults: { rounds: 5, parallel: 1, sizeMib: 0, store: 'sink', count: 200 } },
  'job-rows': { run: benchJobRows, defaults: { rounds: 5, parallel: 1, sizeMib: 0, store: 'sink', count: 1_000_000 } },
  'job-listeners': { run: benchJobListeners, defaults: { rounds: 3, parallel: 1000, sizeMib: 72, store: 'minio' } },
  'job-rate': { run: benchJobRate, defaults: { rounds: 5, parallel: 32, sizeMib: 0, store: 'sink', count: 1000 } },
  'job-loop': { run: benchJobLoop, defaults: { rounds: 5, parallel: 16, sizeMib: 100, store: 'minio' } }
}
