import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { startOverStub } from '../support/over-stub.ts'
import { eventually, rawClient, uploadHead, type RawClient } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'
import { watchUpload } from '../support/watch.ts'

const body = randomBytes(300_000)
const size = String(body.length)
const staged = { operation: 'PutObject', key: /_staging/ } as const

async function begin(app: StartedApp, uploadId: string, query: Record<string, string> = {}): Promise<RawClient> {
  const before = app.logged('ingest.upload.put_start').length
  const client = await rawClient(app.port)
  client.send(uploadHead({ filename: 'x', size, uploadId, ...query }, { 'content-length': size }))
  await eventually(() => assert.ok(app.logged('ingest.upload.put_start').length > before))
  return client
}

t.test('a watcher is told why an upload failed, as it happens and afterwards', async t => {
  const over = await startOverStub(t, { UPLOAD_IDLE_TIMEOUT_MS: '1500' })
  const { app, stub } = over
  const cases: [string, Record<string, string>, (client: RawClient) => void, boolean?][] = [
    ['client_aborted', {}, client => client.hangUp()],
    ['hash_mismatch', { declaredHash: 'a'.repeat(64) }, client => client.send(body)],
    ['idle_timeout', {}, () => {}],
    ['s3_put_failed', {}, client => client.send(body), true]
  ]
  for (const [reason, query, end, storeFails] of cases) {
    const uploadId = randomUUID()
    const undo = storeFails === true ? stub.fault(staged, { kind: 'answer', status: 500, code: 'InternalError' }) : () => {}
    const client = await begin(app, uploadId, query)
    const watch = watchUpload(t, app.url, uploadId)
    await watch.until('upload_started')
    end(client)
    await watch.until('upload_failed')
    t.match(watch.events.at(-1), { event: 'upload_failed', data: { id: uploadId, reason } })
    const late = watchUpload(t, app.url, uploadId)
    await late.until('upload_failed')
    t.match(late.events.map(each => each.event), ['upload_started', 'upload_failed'], 'who comes late is told the same')
    undo()
    client.hangUp()
    await eventually(async () => assert.equal((await app.upload(Buffer.from('x'))).status, 200))
  }
})

t.test('a watcher gets at most four progress events a second, however many pieces the body comes in', async t => {
  const app = await startApp(t)
  const uploadId = randomUUID()
  const client = await begin(app, uploadId)
  const watch = watchUpload(t, app.url, uploadId)
  await watch.until('upload_started')
  const startedAt = performance.now()
  for (let piece = 0; piece < 100; piece++) {
    client.send(body.subarray(piece * 3000, (piece + 1) * 3000))
    await delay(10)
  }
  t.equal((await client.answer()).status, 200)
  await watch.until('upload_complete')
  const seconds = (performance.now() - startedAt) / 1000
  const progress = watch.events.filter(each => each.event === 'upload_progress')
  t.ok(progress.length >= 2 && progress.length <= seconds * 4 + 2, `${progress.length} in ${seconds} s`)
  client.hangUp()
})

t.test('watchers that come and go leave nothing, and do not touch the upload', async t => {
  const app = await startApp(t)
  const uploadId = randomUUID()
  const client = await begin(app, uploadId)
  client.send(body.subarray(0, 100_000))
  for (let round = 0; round < 3; round++) {
    const watchers = await Promise.all(Array.from({ length: 20 }, () => rawClient(app.port)))
    for (const watcher of watchers) watcher.send(`GET /uploads/${uploadId}/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`)
    await eventually(() => assert.equal(app.app.server.eventStreams.size, 20))
    for (const watcher of watchers) watcher.hangUp()
    await eventually(() => assert.equal(app.app.server.eventStreams.size, 0))
  }
  client.send(body.subarray(100_000))
  t.equal((await client.answer()).status, 200)
  client.hangUp()
})

t.test('lines of JSON are given to who asks for them', async t => {
  const app = await startApp(t)
  const uploadId = randomUUID()
  await app.upload(body, { uploadId })
  const response = await fetch(`${app.url}/uploads/${uploadId}/events`, { headers: { accept: 'application/x-ndjson' } })
  t.match(response.headers.get('content-type'), 'application/x-ndjson')
  const events = (await response.text()).trim().split('\n').map(line => (JSON.parse(line) as { event: string }).event)
  t.same(events, ['upload_started', 'upload_progress', 'upload_complete'])
})
