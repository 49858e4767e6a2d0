import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { keysOf } from '../support/nothing-left.ts'
import { goesOn, isFailure, s3Env, startOverStub } from '../support/over-stub.ts'
import { eventually, rawClient, uploadHead, type RawClient } from '../support/raw-client.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

// they wait more than they work
t.jobs = 2

const staged = { operation: 'PutObject', key: /_staging/ } as const
/** More than all buffers between a client and the store hold. */
const large = randomBytes(24 * 1024 * 1024)
const small = randomBytes(300_000)

async function beginUpload(app: StartedApp, bytes: Uint8Array, sent = bytes.length): Promise<RawClient> {
  const client = await rawClient(app.port)
  client.send(uploadHead({ filename: 'x', size: String(bytes.length) }, { 'content-length': String(bytes.length) }))
  client.send(bytes.subarray(0, sent))
  return client
}

/** The upload ended as one of which the client has gone. */
async function isGivenUp(app: StartedApp, withinMs: number): Promise<void> {
  await eventually(() => { if (app.logged('ingest.upload.client_aborted').length === 0) throw new Error('still going on') }, withinMs)
}

t.test('a store that hangs makes the service not ready, and does not hang with it', async t => {
  const over = await startOverStub(t)
  over.stub.fault({ operation: 'HeadBucket' }, { kind: 'stall-answer' })
  await delay(5100) // a good answer is believed for five seconds
  const startedAt = performance.now()
  const [readyz, upload] = await Promise.all([fetch(`${over.app.url}/readyz`), over.app.upload(small)])
  t.equal(readyz.status, 503)
  isFailure(t, upload, 500, 'S3_PUT_FAILED', 's3_put_failed')
  t.ok(performance.now() - startedAt < 20_000)
  t.equal((await fetch(`${over.app.url}/livez`)).status, 200)
})

t.test('a store that takes no bytes ends the upload as its own failure, not as one of the client', async t => {
  const over = await startOverStub(t, { UPLOAD_IDLE_TIMEOUT_MS: '300' })
  const undo = over.stub.fault(staged, { kind: 'stall-body', afterBytes: 0 })
  isFailure(t, await over.app.upload(large), 500, 'S3_PUT_FAILED', 's3_put_failed')
  undo()
  await goesOn(t, over)
})

t.test('a store that stops in the middle of a body ends the upload', async t => {
  const over = await startOverStub(t, { UPLOAD_IDLE_TIMEOUT_MS: '300' })
  const undo = over.stub.fault(staged, { kind: 'stall-body', afterBytes: 1_000_000 })
  isFailure(t, await over.app.upload(large), 500, 'S3_PUT_FAILED', 's3_put_failed')
  undo()
  await goesOn(t, over)
})

t.test('a store that answers 503 in the middle of a body ends the upload', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'answer', status: 503, code: 'SlowDown', afterBytes: 1_000_000 })
  isFailure(t, await over.app.upload(large), 500, 'S3_PUT_FAILED', 's3_put_failed')
  t.equal(over.stub.requests.filter(each => each.operation === 'PutObject' && each.key.includes('_staging')).length, 1, 'a body is not sent twice')
  undo()
  await goesOn(t, over)
})

t.test('a store that refuses a body and leaves it unread does not hold up what comes after', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'answer', status: 503, code: 'SlowDown', afterBytes: 1000 })
  for (let round = 0; round < 5; round++) isFailure(t, await over.app.upload(small), 500, 'S3_PUT_FAILED', 's3_put_failed')
  undo()
  t.same(over.app.logged('ingest.upload.cleanup_failed'), [], 'the delete that follows went through')
  await goesOn(t, over)
})

t.test('a store that cuts the connection in the middle of a body ends the upload', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'cut', afterBytes: 1_000_000 })
  isFailure(t, await over.app.upload(large), 500, 'S3_PUT_FAILED', 's3_put_failed')
  undo()
  await goesOn(t, over)
})

t.test('a store that stored the body and lost its answer leaves nothing behind', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'cut-answer' })
  isFailure(t, await over.app.upload(small), 500, 'S3_PUT_FAILED', 's3_put_failed')
  undo()
  await goesOn(t, over)
})

t.test('a client that hangs up while the store owes its answer is noticed, and what was stored goes', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'stall-answer' })
  const client = await beginUpload(over.app, small)
  await eventually(async () => { if ((await keysOf(over.app)).length === 0) throw new Error('not stored yet') })
  client.hangUp()
  await isGivenUp(over.app, 2000)
  t.match(over.app.logged('ingest.upload.client_aborted'), [{ bytes: small.length }])
  undo()
  await goesOn(t, over)
})

t.test('a client that hangs up while the store stalls costs no more than the idle time', async t => {
  const over = await startOverStub(t, { UPLOAD_IDLE_TIMEOUT_MS: '800' })
  const undo = over.stub.fault(staged, { kind: 'stall-body', afterBytes: 0 })
  const client = await beginUpload(over.app, large)
  await over.stub.seen(staged)
  await delay(200)
  client.hangUp()
  // nobody reads the client's socket while the store takes nothing, so that its end cannot be seen
  await eventually(() => { if (over.app.logged('http.request.completed').length === 0) throw new Error('still going on') }, 4000)
  undo()
  await goesOn(t, over)
})

t.test('a client that hangs up while the store waits for more is noticed at once', async t => {
  const over = await startOverStub(t)
  const client = await beginUpload(over.app, small, 100_000)
  await over.stub.seen(staged)
  client.hangUp()
  await isGivenUp(over.app, 2000)
  await goesOn(t, over)
})

t.test('the connection of an upload that the store refused after its body was read serves the next request', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'answer', status: 500, code: 'InternalError' })
  const client = await rawClient(over.app.port)
  const head = uploadHead({ filename: 'x', size: '5' }, { 'content-length': '5' })
  client.send(`${head}first`)
  const failed = await client.answer()
  t.match([failed.status, JSON.parse(failed.body)], [500, { code: 'S3_PUT_FAILED' }])
  t.match(failed.head, /connection: keep-alive/i)
  undo()
  let more = ''
  client.socket.on('data', (chunk: Buffer) => { more += chunk.toString('latin1') })
  client.send(`${head}again`)
  await eventually(() => { if (!more.includes('_staging')) throw new Error(`no answer: ${more}`) })
  t.match(more, /^HTTP\/1\.1 200 /)
  client.hangUp()
})

t.test('after a client hung up, the connection to the store is not used for others with bytes of its body missing', async t => {
  const over = await startOverStub(t)
  for (let round = 0; round < 5; round++) {
    const client = await beginUpload(over.app, small, 100_000)
    await eventually(() => { if (over.app.logged('ingest.upload.put_start').length < 2 * round + 1) throw new Error('not begun') })
    await delay(20)
    client.hangUp()
    await eventually(() => { if (over.app.logged('ingest.upload.client_aborted').length <= round) throw new Error('still going on') })
    t.equal((await over.app.upload(Buffer.from(`round ${round}`))).status, 200)
  }
  const bodies = [...over.stub.objects].filter(([key]) => key.includes('_staging')).map(([, object]) => object.bytes.toString())
  t.same(bodies.toSorted(), [0, 1, 2, 3, 4].map(round => `round ${round}`))
})

t.test('a bucket that is not there is named so before the body is read', async t => {
  const over = await startOverStub(t, {}, { bucketExists: false })
  isFailure(t, await over.app.upload(large), 500, 'BUCKET_NOT_FOUND', 'bucket_missing')
  t.same(over.app.logged('ingest.upload.put_start'), [])
  t.equal((await fetch(`${over.app.url}/readyz`)).status, 503)
})

t.test('a bucket that vanishes is named so too', async t => {
  const over = await startOverStub(t)
  const undo = over.stub.fault(staged, { kind: 'answer', status: 404, code: 'NoSuchBucket' })
  isFailure(t, await over.app.upload(small), 500, 'BUCKET_NOT_FOUND', 'bucket_missing')
  undo()
  await goesOn(t, over)
})

t.test('a store that refuses connections fails uploads before their body is read; when it is there the service is ready', async t => {
  const stub = await startS3Stub()
  await stub.close()
  const app = await startApp(t, { ...s3Env(stub), MAX_CONCURRENT_UPLOADS: '1' })
  t.equal(app.logged('objects.probe.failed').length, 1, 'it starts, and says that it cannot work')
  t.equal((await fetch(`${app.url}/livez`)).status, 200)
  const readyz = await fetch(`${app.url}/readyz`)
  t.match([readyz.status, await readyz.json()], [503, { status: 'not_ready', reasons: ['object storage not reachable'] }])
  const { status, headers, body } = await app.upload(large)
  t.match([status, body], [500, { code: 'S3_PUT_FAILED' }])
  t.equal(headers.get('x-upload-proxy-why'), 's3_put_failed')
  t.equal(headers.get('connection'), 'close')
  t.same(app.logged('ingest.upload.put_start'), [])
  isFailure(t, await app.post('/finalize', { key: 'sha256/_staging/0f8fad5b-d9cb-469f-a165-70867728950e/object' }), 500, 'S3_HEAD_FAILED')
  const revived = await startS3Stub({ port: Number(new URL(stub.endpoint).port) })
  t.teardown(() => revived.close())
  await eventually(async () => { assert.equal((await fetch(`${app.url}/readyz`)).status, 200) })
  t.match(app.logged('objects.probe.done'), [{ createOnlyCopy: 'copy' }], 'what it enforces is found out then')
  await goesOn(t, { app, stub: revived })
})
