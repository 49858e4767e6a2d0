/**
 * `npm run bench -- <what> [--rounds N] [--parallel N] [--size-mib N] [--store sink|minio] [--count N] [--json]` (Linux only)
 *
 *     upload     CPU seconds per GiB against a bare pass-through that hashes
 *     rss        memory under 64 uploads of 200 MiB at once
 *     finalize   time against the store's own copy, and bytes through the process (MinIO)
 *     small      64 KiB uploads against the same SDK straight into the store (MinIO)
 *     loop       event-loop delay under 16 uploads
 *     infer      images through the worker pool against a bare loop around onnxruntime-node; --parallel is the workers
 *     video      1080p through a model that changes nothing against ffmpeg alone; --count is the frames
 *     promote    CPU seconds per GiB of a result on its way from MinIO to a file gateway, against a bare pass-through
 *     remote     a video by way of a GPU node that shares no storage against the service's own workers
 *     jobs       all of the next, each of which can be named alone:
 *       job-dispatch   committed → begun by a worker
 *       job-rows       claims and lists with a thousand jobs in the table and with a million (--count)
 *       job-listeners  1 000 event streams (--parallel) on one job
 *       job-rate       jobs that come in, and that go through, a second
 *       job-loop       event-loop delay and /livez under 16 uploads and a full pool
 *     files      all of the next, each of which can be named alone:
 *       file-download  CPU seconds per GiB of a file on MinIO against a bare pass-through
 *       file-readers   memory under 64 slow readers (--parallel)
 *       file-upload    CPU seconds per GiB of multipart forms against the same bytes raw to /upload-proxy (MinIO)
 *       file-jwt       small reads with a JWT against the same without a credential
 *       file-rows      lists with a thousand files in the table and with a million (--count)
 *     all        every one of them with its defaults
 *
 * Store, load generator, baseline and service are processes of their own; what is compared alternates within one run,
 * and figures are medians. Ratios travel between machines, seconds do not.
 */
import { parseArgs } from 'node:util'
import { FILE_BENCHMARKS } from './files.ts'
import { benchFinalize } from './finalize.ts'
import { defaultWorkers } from '../../src/inference/pool/sizing.ts'
import { benchInfer } from './infer.ts'
import { benchLoop } from './loop.ts'
import { JOB_BENCHMARKS } from './jobs.ts'
import { benchPromote } from './promote.ts'
import { format } from './report.ts'
import type { Report } from './report.ts'
import { benchRemote } from './remote.ts'
import { benchRss } from './rss.ts'
import { benchSmall } from './small.ts'
import { benchUpload } from './upload.ts'
import { benchVideo } from './video.ts'

export interface BenchOptions {
  readonly rounds: number
  readonly parallel: number
  readonly sizeMib: number
  readonly store: 'sink' | 'minio'
  /** Jobs or reads of a round, or rows at the most, where it is about jobs or files. */
  readonly count?: number
}

export interface Benchmark { readonly run: (options: BenchOptions) => Promise<Report>, readonly defaults: BenchOptions }

const BENCHMARKS: Record<string, Benchmark> = {
  upload: { run: benchUpload, defaults: { rounds: 5, parallel: 8, sizeMib: 200, store: 'sink' } },
  rss: { run: benchRss, defaults: { rounds: 3, parallel: 64, sizeMib: 200, store: 'sink' } },
  finalize: { run: benchFinalize, defaults: { rounds: 10, parallel: 1, sizeMib: 200, store: 'minio' } },
  small: { run: benchSmall, defaults: { rounds: 5, parallel: 16, sizeMib: 0, store: 'minio' } },
  loop: { run: benchLoop, defaults: { rounds: 5, parallel: 16, sizeMib: 100, store: 'sink' } },
  infer: { run: benchInfer, defaults: { rounds: 5, parallel: defaultWorkers('cpu'), sizeMib: 0, store: 'sink' } },
  video: { run: benchVideo, defaults: { rounds: 3, parallel: 1, sizeMib: 0, store: 'sink', count: 250 } },
  promote: { run: benchPromote, defaults: { rounds: 5, parallel: 1, sizeMib: 500, store: 'minio' } },
  remote: { run: benchRemote, defaults: { rounds: 3, parallel: 1, sizeMib: 100, store: 'sink' } },
  ...JOB_BENCHMARKS,
  ...FILE_BENCHMARKS
}

/** Names that stand for several. */
const GROUPS: Record<string, readonly string[]> = { all: Object.keys(BENCHMARKS), jobs: Object.keys(JOB_BENCHMARKS), files: Object.keys(FILE_BENCHMARKS) }

/** Uploads at once and their size stay within what a machine of 8 GiB takes. */
const BOUNDS = { rounds: 100, parallel: 128, 'size-mib': 1024, count: 1_000_000 }

function positive(name: keyof typeof BOUNDS, value: string | undefined, fallback: number): number {
  if (value === undefined) return fallback
  const number = /^\d{1,7}$/.test(value) ? Number(value) : 0
  const most = Math.max(BOUNDS[name], fallback)
  if (number < 1 || number > most) throw new Error(`--${name} must be a whole number from 1 to ${most}`)
  return number
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rounds: { type: 'string' }, parallel: { type: 'string' }, 'size-mib': { type: 'string' }, store: { type: 'string' }, count: { type: 'string' }, json: { type: 'boolean', default: false } }
  })
  const names = positionals.flatMap(name => GROUPS[name] ?? name)
  const unknown = names.find(name => BENCHMARKS[name] === undefined)
  if (names.length === 0 || unknown !== undefined) throw new Error(`say which: ${[...Object.keys(BENCHMARKS), ...Object.keys(GROUPS)].join(', ')}`)
  if (values.store !== undefined && values.store !== 'sink' && values.store !== 'minio') throw new Error('--store must be sink or minio')
  for (const name of names) {
    const { run, defaults } = BENCHMARKS[name] as Benchmark
    const report = await run({
      rounds: positive('rounds', values.rounds, defaults.rounds),
      parallel: positive('parallel', values.parallel, defaults.parallel),
      sizeMib: positive('size-mib', values['size-mib'], defaults.sizeMib),
      store: values.store ?? defaults.store,
      ...(defaults.count !== undefined && { count: positive('count', values.count, defaults.count) })
    })
    console.log(values.json ? JSON.stringify(report) : format(report))
  }
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
})
