import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killRounds } from '../scripts/kill-rounds.ts'
import { minioOrSkip } from './support/minio.ts'

/** A short form of `npm run rounds`, which does 100. */
const ROUNDS = 4

async function dataDir(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-rounds-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

t.test('files + SQLite: what was answered survives kill -9, and nothing else is left', async t => {
  const report = await killRounds({ rounds: ROUNDS, env: {}, dataDir: await dataDir() })
  t.same(report.faults, [])
  t.ok(report.uploads > 0 && report.finalized > 0, 'there was something to survive')
  t.ok(report.killedDuring > 0, 'and work under way when it was killed')
})

t.test('MinIO + SQLite: what was answered survives kill -9, and nothing else is left', async t => {
  const minio = await minioOrSkip(t)
  if (!minio) return
  const env = {
    OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: await minio.bucket(),
    S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey
  }
  const report = await killRounds({ rounds: ROUNDS, env, dataDir: await dataDir() })
  t.same(report.faults, [])
  t.ok(report.uploads > 0 && report.finalized > 0, 'there was something to survive')
  t.ok(report.killedDuring > 0, 'and work under way when it was killed')
})
