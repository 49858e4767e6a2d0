import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chaos } from '../scripts/chaos.ts'
import { findNginx, provideNginx } from '../scripts/servers/nginx.ts'
import { isRequired, minioOrSkip } from './support/minio.ts'
import { postgresOrSkip } from './support/postgres.ts'

/** Short forms of `npm run chaos`, which takes 10: one for CI, and one for those who wait. */
const MINUTES = isRequired('nginx') ? 2 : 0.5
/** Starting, the minutes, jobs that wait for leases and further attempts, and every object read once more. */
const TEST_TIMEOUT_MS = 10 * 60_000
t.setTimeout(TEST_TIMEOUT_MS)

t.test('three APIs and two workers behind nginx: nothing that was answered is lost, whatever is killed, and nothing is left', async t => {
  if (isRequired('nginx')) await provideNginx(line => console.error(line))
  else if (await findNginx() === undefined) return void t.test('nginx', { skip: 'there is no nginx: `node scripts/servers/nginx.ts` gets one' }, () => {})
  const minio = await minioOrSkip(t)
  const postgres = minio && await postgresOrSkip(t)
  if (!minio || !postgres) return
  const dataDir = await mkdtemp(join(tmpdir(), 'penstock-chaos-'))
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  const env = {
    OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: await minio.bucket(),
    S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey, DATABASE_URL: await postgres.createDatabase()
  }
  const report = await chaos({ minutes: MINUTES, env, dataDir })
  t.same(report.faults, [])
  // half a minute may pass without some of it; what CI runs may not
  t.ok(report.kills > (MINUTES < 2 ? 0 : 5) && (MINUTES < 2 || report.workerKills + report.ends > 0), 'processes were killed')
  t.ok(report.finalized > 0 && report.completed > 0 && report.followed > 0, 'there was something to survive')
  t.ok(report.uploadsCutOff + report.cutOff > 0, 'and work under way when they were')
  t.comment(JSON.stringify(report))
})
