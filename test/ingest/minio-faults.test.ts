import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Minio } from '../../scripts/servers/minio.ts'
import { minioOrSkip, type TestS3 } from '../support/minio.ts'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { isFailure, s3Env } from '../support/over-stub.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'
import { sweepNow } from '../support/sweep-now.ts'

const body = randomBytes(1_000_000)
const size = String(body.length)

async function readyz(app: StartedApp, status: number): Promise<void> {
  await eventually(async () => assert.equal((await fetch(`${app.url}/readyz`)).status, status), 15_000)
}

function killed({ minio, own }: { minio: TestS3, own: Minio }): void {
  t.test('MinIO that is killed in the middle of uploads fails them; restarted, it takes the next ones', async t => {
    const app = await startApp(t, s3Env({ ...minio, bucket: await minio.bucket() }))
    const clients = await Promise.all([0, 1, 2].map(() => rawClient(app.port)))
    for (const client of clients) {
      client.send(uploadHead({ filename: 'x', size }, { 'content-length': size }))
      client.send(body.subarray(0, 700_000))
    }
    await eventually(() => assert.equal(app.logged('ingest.upload.put_start').length, 3))
    await delay(100)
    const startedAt = performance.now()
    await own.kill('SIGKILL')
    for (const client of clients) {
      const answer = await client.answer()
      t.match([answer.status, JSON.parse(answer.body)], [500, { code: 'S3_PUT_FAILED', error: 'object storage did not take the bytes' }])
      t.match(answer.head, /x-upload-proxy-why: s3_put_failed/i)
      client.hangUp()
    }
    t.ok(performance.now() - startedAt < 15_000)
    isFailure(t, await app.upload(body), 500, 'S3_PUT_FAILED', 's3_put_failed')
    await readyz(app, 503)
    await own.restart()
    await readyz(app, 200)
    await nothingLeft(app)
    const { status, body: { upload } } = await app.upload(body)
    t.equal(status, 200)
    const finalized = await app.post('/finalize', { key: upload.key })
    t.equal(finalized.status, 200)
    await nothingLeft(app, [finalized.body.canonicalKey])
  })

  t.test('MinIO that is killed while finalizes run: each is acknowledged and there, or succeeds when it is tried again', async t => {
    const app = await startApp(t, s3Env({ ...minio, bucket: await minio.bucket() }))
    const keys: string[] = []
    for (let n = 0; n < 12; n++) keys.push((await app.upload(randomBytes(50_000))).body.upload.key as string)
    const running = keys.map(key => app.post('/finalize', { key }))
    await Promise.race(running)
    await own.kill('SIGKILL')
    const first = await Promise.all(running)
    for (const { status, body: { code } } of first) {
      assert.ok(status === 200 || ['S3_HEAD_FAILED', 'COPY_FAILED', 'CANONICAL_MISSING'].includes(code), `${status} ${code}`)
    }
    t.ok(first.some(answer => answer.status === 200))
    t.comment(`${first.filter(answer => answer.status !== 200).length} of ${first.length} failed`)
    await own.restart()
    await readyz(app, 200)
    const again = await Promise.all(keys.map(key => app.post('/finalize', { key })))
    for (const [n, answer] of again.entries()) {
      t.equal(answer.status, 200)
      if (first[n]!.status === 200) t.same(answer.body, first[n]!.body, 'the same answer as before')
    }
    const canonical = again.map(answer => answer.body.canonicalKey as string)
    const stored = await keysOf(app)
    t.same(stored.filter(key => !key.includes('_staging')), canonical.toSorted())
    // a multipart upload or a delete that MinIO did not answer for is left to the sweeper
    await sweepNow(app)
    await nothingLeft(app, canonical)
  })
}

const minio = await minioOrSkip(t, { own: true })
if (minio?.own) killed({ minio, own: minio.own })
