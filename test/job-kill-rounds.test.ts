import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { jobRounds, type JobReport } from '../scripts/job-rounds.ts'
import { brokenEvents } from '../scripts/rounds/job-checks.ts'
import type { JobEvent, JobEventName } from '../src/records/jobs-port.ts'
import { minioOrSkip } from './support/minio.ts'
import { postgresOrSkip } from './support/postgres.ts'

/** A short form of `npm run job-rounds`, which does 100. A round waits for leases to lapse, and for the pauses before further attempts. */
const ROUNDS = { fs: 3, minio: 2 }
const TEST_TIMEOUT_SECONDS = 300
t.setTimeout(TEST_TIMEOUT_SECONDS * 1000)

async function dataDir(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-job-rounds-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

function thereWasSomething({ kills, workerKills, acknowledged, completed, cutOff }: JobReport): boolean {
  return kills + workerKills > 0 && acknowledged > 0 && completed > 0 && (cutOff > 0 || workerKills > 0)
}

t.test('files + SQLite: every job ends exactly once, whatever is killed, and nothing is left', async t => {
  const report = await jobRounds({ rounds: ROUNDS.fs, env: {}, split: false, dataDir: await dataDir() })
  t.same(report.faults, [])
  t.ok(thereWasSomething(report), 'there was something to survive')
})

t.test('MinIO + Postgres, an API and two nodes of workers: every job ends exactly once, whatever is killed, and nothing is left', async t => {
  const minio = await minioOrSkip(t)
  const postgres = minio && await postgresOrSkip(t)
  if (!minio || !postgres) return
  const env = {
    OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: await minio.bucket(),
    S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey, DATABASE_URL: await postgres.createDatabase()
  }
  const report = await jobRounds({ rounds: ROUNDS.minio, env, split: true, dataDir: await dataDir() })
  t.same(report.faults, [])
  t.ok(report.kills + report.workerKills > 0 && report.completed > 0, 'there was something to survive')
})

type Heard = [seq: number, event: JobEventName]

/** Of a job that was completed. */
function check(run: number, lastSeq: number, ...heard: Heard[]): string[] {
  const events: JobEvent[] = heard.map(([seq, event]) => ({ seq, event, data: {}, createdAt: 0 }))
  return brokenEvents({ id: 'job', run, status: 'completed', lastSeq }, events)
}

t.test('the check of events sees what it is there for', async t => {
  t.same(check(1, 2, [1, 'generation_started'], [2, 'generation_complete']), [])
  t.same(check(1, 5, [1, 'generation_started'], [4, 'generation_progress'], [5, 'generation_complete']), [], 'progress that was superseded may be missing')
  t.same(check(2, 4, [1, 'generation_started'], [2, 'generation_failed'], [3, 'generation_started'], [4, 'generation_complete']), [])
  t.same(check(2, 6, [1, 'generation_started'], [3, 'generation_failed'], [4, 'generation_started'], [5, 'generation_progress'], [6, 'generation_complete']), [], 'also by a later run')
  t.match(check(1, 4, [1, 'generation_started'], [4, 'generation_complete']), [/lost its events between 1 and 4/])
  t.match(check(1, 4, [1, 'generation_started'], [2, 'generation_progress'], [4, 'generation_complete']), [/lost its events between 2 and 4/])
  t.match(check(1, 3, [1, 'generation_started'], [2, 'generation_complete'], [3, 'generation_complete']), [/2 terminal events in 1 runs/])
  t.match(check(1, 2, [1, 'generation_started'], [2, 'generation_failed']), [/last event is generation_failed/])
  t.match(check(1, 3, [1, 'generation_started'], [2, 'generation_complete']), [/says that its last event is 3/])
})
