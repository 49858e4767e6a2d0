import t from 'tap'
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { nothingLeft, keysOf } from '../support/nothing-left.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp } from '../support/start-app.ts'
import { watchUpload } from '../support/watch.ts'

const bytes = randomBytes(300_000)
const sha256 = createHash('sha256').update(bytes).digest('hex')
const size = String(bytes.length)

t.test('an upload is streamed into staging and its answer says what the store got', async t => {
  const app = await startApp(t)
  const { status, body, headers } = await app.upload(bytes, { filename: '../Fotos/ümlaut.jpg' }, { 'content-type': 'application/json' })
  t.equal(status, 200, 'a JSON type is only bytes here')
  t.match(body, { upload: { strategy: 'staging', key: `sha256/_staging/${body.upload.id}/object` }, filename: '_Fotos_ümlaut.jpg', size: bytes.length, sha256 })
  t.notOk('declaredHash' in body)
  t.equal(headers.get('repr-digest'), `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`)
  t.same(await keysOf(app), [body.upload.key])
  t.equal(app.logged('ingest.upload.success').length, 1)
})

t.test('kinds have their own names in staging, on the alias too', async t => {
  const app = await startApp(t)
  for (const [query, name] of [[{ filename: 'a.tar.zst' }, 'bundle.tar.zst'], [{ kind: 'model' }, 'model.onnx'], [{ kind: 'object', filename: 'a.tar.zst' }, 'object']] as const) {
    const { body } = await app.upload(bytes, query)
    t.ok(body.upload.key.endsWith(`/${name}`), name)
  }
  const alias = await fetch(`${app.url}/api/ext-bundles/upload-proxy?filename=x&size=${size}`, { method: 'POST', body: bytes, headers: { 'x-alga-admin': 'true' } })
  t.equal(alias.status, 200)
})

t.test('every refusal has its code, its slug and leaves nothing', async t => {
  const app = await startApp(t, { MAX_OBJECT_SIZE_BYTES: '400000' })
  const rows: [string, Record<string, string>, Record<string, string>?][] = [
    ['kind_invalid', { kind: 'zip' }],
    ['upload_id_invalid', { uploadId: 'not-a-uuid' }],
    ['filename_required', { filename: ' ' }],
    ['filename_required', { filename: 'x'.repeat(256) }],
    ['size_required', { size: '' }],
    ['size_invalid', { size: '3e5' }],
    ['size_exceeds_cap', { size: '400001' }],
    ['declared_hash_invalid', { declaredHash: '' }],
    ['content_length_mismatch', { size: '299999' }],
    ['hash_mismatch', { declaredHash: 'a'.repeat(64) }]
  ]
  for (const [why, query, headers] of rows) {
    const answer = await app.upload(bytes, query, headers)
    t.equal(answer.status, 400, why)
    t.equal(answer.headers.get('x-upload-proxy-why'), why)
    t.match(answer.body, { error: String, code: why === 'hash_mismatch' ? 'HASH_MISMATCH' : 'BAD_REQUEST' })
    t.ok(answer.headers.get('x-request-id'))
  }
  const mismatch = await app.upload(bytes, { declaredHash: 'a'.repeat(64) })
  t.same(mismatch.body.details, { declared: 'a'.repeat(64), computed: sha256 })
  await nothingLeft(app)
})

t.test('the caller is asked before anything else', async t => {
  const app = await startApp(t)
  const nobody = await fetch(`${app.url}/upload-proxy?kind=nonsense`, { method: 'POST', body: bytes })
  t.equal(nobody.status, 403)
  t.equal(nobody.headers.get('x-upload-proxy-why'), 'rbac_forbidden')
  t.match(await nobody.json(), { code: 'RBAC_FORBIDDEN' })
  const wrong = await fetch(`${app.url}/upload-proxy`, { method: 'POST', body: bytes, headers: { authorization: 'Bearer nonsense' } })
  t.equal(wrong.status, 401)
})

t.test('a filename with NUL is cleaned and never reaches the key', async t => {
  const app = await startApp(t)
  const { status, body } = await app.upload(bytes, { filename: 'a\u0000b/../c' })
  t.equal(status, 200)
  t.equal(body.filename, 'a_b_.._c')
})

t.test('exactly the cap passes, one byte more does not', async t => {
  const app = await startApp(t, { MAX_OBJECT_SIZE_BYTES: size })
  t.equal((await app.upload(bytes)).status, 200)
  t.match(await app.upload(Buffer.concat([bytes, Buffer.from('x')])), { status: 400, body: { details: { limit_bytes: bytes.length } } })
})

t.test('a declared hash that is right is answered back', async t => {
  const app = await startApp(t)
  t.match(await app.upload(bytes, { declaredHash: sha256 }), { status: 200, body: { declaredHash: sha256 } })
  const digest = `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`
  t.match(await app.upload(bytes, {}, { 'content-digest': digest }), { status: 200, body: { declaredHash: sha256 } })
})

t.test('a body without length is measured while it arrives', async t => {
  const app = await startApp(t)
  async function chunked(body: Buffer): Promise<Response> {
    return await fetch(`${app.url}/upload-proxy?filename=x&size=${size}`, {
      method: 'POST', headers: { 'x-alga-admin': 'true' }, duplex: 'half',
      body: new ReadableStream({ start(controller) { controller.enqueue(body.subarray(0, 1000)); controller.enqueue(body.subarray(1000)); controller.close() } })
    } as RequestInit)
  }
  const right = await chunked(bytes)
  t.equal(right.status, 200)
  const { upload } = await right.json() as { upload: { key: string } }
  for (const [reason, body] of [['body_shorter_than_size', bytes.subarray(1)], ['body_longer_than_size', Buffer.concat([bytes, Buffer.from('x')])]] as const) {
    const answer = await chunked(body)
    t.equal(answer.status, 400, reason)
    t.equal(answer.headers.get('x-upload-proxy-why'), 'body_size_mismatch')
    t.match(await answer.json(), { details: { reason, expected: bytes.length } })
  }
  await nothingLeft(app, [upload.key])
})

t.test('a request without a body is told so', async t => {
  const app = await startApp(t)
  const client = await rawClient(app.port)
  client.send(uploadHead({ filename: 'x', size: '5' }, {}))
  const answer = await client.answer()
  t.equal(answer.status, 400)
  t.match(answer.head, /x-upload-proxy-why: missing_body/i)
  client.hangUp()
})

t.test('a client that hangs up leaves nothing and gives its slot back', async t => {
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: '1' })
  for (const [when, sent] of [['at the start', 0], ['in the middle', 150_000], ['before the last byte', bytes.length - 1]] as const) {
    const before = app.logged('ingest.upload.client_aborted').length
    const client = await rawClient(app.port)
    client.send(uploadHead({ filename: 'x', size }, { 'content-length': size }))
    client.send(bytes.subarray(0, sent))
    await eventually(() => { if (app.logged('ingest.upload.put_start').length <= before) throw new Error('not begun') })
    await delay(50)
    client.hangUp()
    await eventually(() => { if (app.logged('ingest.upload.client_aborted').length === before) throw new Error(`no line ${when}`) }, 1000)
    t.match(app.logged('ingest.upload.client_aborted').at(-1), { bytes: Number, filename: 'x' }, when)
    await nothingLeft(app)
  }
  t.equal((await app.upload(bytes)).status, 200, 'the only slot is free again')
})

t.test('a body that stops is ended with 408, a slow one is not', async t => {
  const app = await startApp(t, { UPLOAD_IDLE_TIMEOUT_MS: '300' })
  const stalled = await rawClient(app.port)
  stalled.send(uploadHead({ filename: 'x', size }, { 'content-length': size }))
  stalled.send(bytes.subarray(0, 1000))
  const slow = await rawClient(app.port)
  slow.send(uploadHead({ filename: 'y', size: '10' }, { 'content-length': '10' }))
  for (let sent = 0; sent < 10; sent++) {
    slow.send('x')
    await delay(100)
  }
  t.equal((await slow.answer()).status, 200, 'a second in all, never 300 ms without a byte')
  const answer = await stalled.answer()
  t.equal(answer.status, 408)
  t.match(answer.head, /x-upload-proxy-why: idle_timeout/i)
  t.match(answer.head, /connection: close/i)
  t.match(JSON.parse(answer.body), { code: 'REQUEST_TIMEOUT' })
  await stalled.closed
  slow.hangUp()
  await eventually(async () => { assert.equal((await keysOf(app)).length, 1) })
})

t.test('slots are a limit, and free again afterwards', async t => {
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: '2', UPLOAD_RETRY_AFTER_SECONDS: '7' })
  const holders = await Promise.all([0, 1].map(() => rawClient(app.port)))
  for (const holder of holders) holder.send(uploadHead({ filename: 'x', size: '5' }, { 'content-length': '5' }))
  await eventually(() => { if (app.logged('ingest.upload.put_start').length < 2) throw new Error('not begun') })
  const refused = await app.upload(bytes)
  t.match(refused, { status: 503, body: { code: 'SERVICE_BUSY' } })
  t.equal(refused.headers.get('retry-after'), '7')
  t.equal(refused.headers.get('x-upload-proxy-why'), 'service_busy')
  for (const holder of holders) holder.send('12345')
  for (const holder of holders) t.equal((await holder.answer()).status, 200)
  t.equal((await app.upload(bytes)).status, 200)
  for (const holder of holders) holder.hangUp()
})

t.test('an upload can be watched and aborted by its id while it arrives', async t => {
  const app = await startApp(t)
  const uploadId = randomUUID()
  const client = await rawClient(app.port)
  client.send(uploadHead({ filename: 'x', size, uploadId }, { 'content-length': size }))
  client.send(bytes.subarray(0, 200_000))
  await eventually(() => { if (app.logged('ingest.upload.put_start').length === 0) throw new Error('not begun') })
  t.match(await app.upload(bytes, { uploadId }), { status: 409, body: { code: 'UPLOAD_ID_IN_USE' } })
  const watching = watchUpload(t, app.url, uploadId)
  await watching.until('upload_progress')
  t.match(await app.post('/abort', { key: `sha256/_staging/${uploadId}/object`, reason: 'changed my mind' }), { status: 200, body: { status: 'deleted', area: 'staging' } })
  t.equal((await client.answer()).status, 409)
  await watching.until('upload_failed')
  t.match(watching.events.map(each => each.event), ['upload_started', 'upload_progress', 'upload_failed'])
  await nothingLeft(app)
  client.hangUp()
})

t.test('a watcher is told of every byte the store took, and of the end', async t => {
  const app = await startApp(t)
  const uploadId = randomUUID()
  const client = await rawClient(app.port)
  client.send(uploadHead({ filename: 'x', size, uploadId }, { 'content-length': size }))
  await eventually(() => { if (app.logged('ingest.upload.put_start').length === 0) throw new Error('not begun') })
  const watching = watchUpload(t, app.url, uploadId)
  await watching.until('upload_started')
  client.send(bytes.subarray(0, 100_000))
  await watching.until('upload_progress')
  client.send(bytes.subarray(100_000))
  t.equal((await client.answer()).status, 200)
  await watching.until('upload_complete')
  const received = watching.events.filter(each => each.event === 'upload_progress').map(each => each.data.received as number)
  t.same(received, received.toSorted((a, b) => a - b), 'progress never falls')
  t.equal(received.at(-1), bytes.length)
  t.match(watching.events.at(-1), { event: 'upload_complete', data: { sha256 } })
  const late = watchUpload(t, app.url, uploadId)
  await late.until('upload_complete')
  t.equal((await fetch(`${app.url}/uploads/${randomUUID()}/events`)).status, 404)
  client.hangUp()
})

t.test('the retired route points to its successor', async t => {
  const app = await startApp(t)
  t.match(await app.post('/api/ext-bundles/initiate-upload', {}, { 'content-type': 'text/plain' }), { status: 410, body: { error: /upload-proxy/ } })
})
