import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killRounds } from '../scripts/kill-rounds.ts'
import { brokenUploads, leftovers } from '../scripts/rounds/upload-checks.ts'
import { readConfig } from '../src/config.ts'
import { canonicalKey } from '../src/objects/keys.ts'
import { openObjectStore, openRecordStore } from '../src/stores.ts'
import { startApp } from './support/start-app.ts'
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

t.test('the check of uploads sees what it is there for', async t => {
  const app = await startApp(t)
  const { body: { sha256, upload } } = await app.upload(Buffer.from('abc'))
  const config = readConfig({ DATA_DIR: app.dataDir })
  const stores = { store: openObjectStore(config), records: openRecordStore(config) }
  t.teardown(async () => {
    await stores.records.close()
    await stores.store.close()
  })
  const staged = { staged: new Map([[upload.key as string, sha256 as string]]), finalized: new Set<string>() }
  const finalized = { staged: new Map<string, string>(), finalized: new Set([sha256 as string]) }
  t.same(await brokenUploads(stores, staged), [])
  t.match(await brokenUploads(stores, finalized), [/is not there whole/, /has no row/])
  t.match(await leftovers(stores, staged, app.dataDir), [/was left/])
  await app.post('/finalize', { key: upload.key })
  t.same(await brokenUploads(stores, finalized), [])
  t.match(await brokenUploads(stores, staged), [/is not there whole/, /its row does not say so/])
  await stores.store.delete(canonicalKey(sha256 as string, 'object'))
  t.match(await brokenUploads(stores, finalized), [/is not there whole/])
  await stores.store.put(canonicalKey('f'.repeat(64), 'object'), Buffer.from('x'), { size: 1 })
  t.match(await leftovers(stores, staged, app.dataDir), [/f{64}\/object has no row/])
})
