import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { isFailure } from '../support/over-stub.ts'
import { ownPostgresOrSkip, type OwnPostgres } from '../support/postgres.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'
import { sweepNow } from '../support/sweep-now.ts'
import { watchUpload } from '../support/watch.ts'

const body = randomBytes(300_000)
const size = String(body.length)

async function start(t: Test, postgres: OwnPostgres): Promise<StartedApp> {
  return await startApp(t, { DATABASE_URL: await postgres.createDatabase(), MAX_CONCURRENT_UPLOADS: '1' })
}

/** What was left while the records were away is found by the sweeper; after that all works. */
async function isBack(t: Test, app: StartedApp, kept: string[] = []): Promise<void> {
  await eventually(async () => assert.equal((await fetch(`${app.url}/readyz`)).status, 200), 10_000)
  await sweepNow(app)
  await nothingLeft(app, kept)
  const { body: { upload } } = await app.upload(randomBytes(1000))
  const finalized = await app.post('/finalize', { key: upload.key })
  t.equal(finalized.status, 200)
  await nothingLeft(app, [...kept, finalized.body.canonicalKey])
}

function whileAway(postgres: OwnPostgres): void {
  t.test('an upload that begins while the records are away is refused before its body is read', async t => {
    const app = await start(t, postgres)
    await postgres.halt()
    const answer = await app.upload(body)
    isFailure(t, answer, 503, 'RECORDS_UNAVAILABLE', 'records_unavailable')
    t.match(answer.body.error, 'the record store is not available')
    t.same(app.logged('ingest.upload.put_start'), [])
    const readyz = await fetch(`${app.url}/readyz`)
    t.match([readyz.status, await readyz.json()], [503, { reasons: ['records not reachable'] }])
    t.equal((await fetch(`${app.url}/livez`)).status, 200)
    for (const path of ['/finalize', '/abort']) {
      isFailure(t, await app.post(path, { key: `sha256/_staging/${randomUUID()}/object` }), 503, 'RECORDS_UNAVAILABLE')
    }
    const list = await fetch(`${app.url}/extensions`)
    t.match([list.status, await list.json()], [503, { error: { code: 'records_unavailable' } }])
    await postgres.start()
    await isBack(t, app)
  })

  t.test('an upload whose records go away while it arrives is not acknowledged, and what it stored goes', async t => {
    const app = await start(t, postgres)
    const uploadId = randomUUID()
    const client = await rawClient(app.port)
    client.send(uploadHead({ filename: 'x', size, uploadId }, { 'content-length': size }))
    client.send(body.subarray(0, 200_000))
    await eventually(() => assert.equal(app.logged('ingest.upload.put_start').length, 1))
    const watch = watchUpload(t, app.url, uploadId)
    await watch.until('upload_started')
    await postgres.halt()
    await delay(2200) // it is noted twice in between, in vain
    t.notSame(app.logged('ingest.progress.failed'), [], 'which is logged')
    client.send(body.subarray(200_000))
    const answer = await client.answer()
    t.match([answer.status, JSON.parse(answer.body)], [503, { code: 'RECORDS_UNAVAILABLE' }])
    t.match(answer.head, /x-upload-proxy-why: records_unavailable/i)
    t.same(await keysOf(app), [])
    await postgres.start()
    await isBack(t, app)
    client.hangUp()
  })

  t.test('a finalize whose records go away is answered so, and succeeds when they are back', async t => {
    const app = await start(t, postgres)
    const { body: { upload } } = await app.upload(body)
    const finalizing = Array.from({ length: 20 }, () => app.post('/finalize', { key: upload.key }))
    const halted = postgres.halt()
    for (const { status, body: { code } } of await Promise.all(finalizing)) {
      assert.ok(status === 200 || (status === 503 && code === 'RECORDS_UNAVAILABLE'), `${status} ${code}`)
    }
    await halted
    await postgres.start()
    await eventually(async () => assert.equal((await fetch(`${app.url}/readyz`)).status, 200), 10_000)
    const retried = await app.post('/finalize', { key: upload.key })
    t.equal(retried.status, 200)
    await isBack(t, app, [retried.body.canonicalKey])
  })
}

const postgres = await ownPostgresOrSkip(t)
if (postgres) whileAway(postgres)
