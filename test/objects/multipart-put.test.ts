import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { putLarge } from '../../src/objects/multipart-put.ts'
import { ObjectAlreadyExists, ObjectBodyInvalid, ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import { collect, keysOf, pieces, text } from '../contract/object-store.ts'
import { notedIntents } from '../support/intents.ts'
import { minioOrSkip } from '../support/minio.ts'
import { eventually } from '../support/raw-client.ts'
import { openFs, openMemory, openMinio, openStub } from '../support/object-stores.ts'

const MIB = 1024 * 1024

async function leavesNothing(t: Test, store: ObjectStore, intents: ReturnType<typeof notedIntents>): Promise<void> {
  t.same(await keysOf(store), [])
  t.same(await store.listMultiparts('k'), [])
  t.equal(intents.open.size, 0)
}

async function soon<T>(promise: Promise<T>): Promise<T> {
  return await Promise.race([promise, delay(3000, undefined, { ref: false }).then(() => { throw new Error('not soon') })])
}

t.test('a body of any length becomes the object, whatever its chunks, on every store', async t => {
  const { stub, store } = await openStub(t)
  for (const each of [await openMemory(), await openFs(t), store]) {
    for (const [size, chunk] of [[0, 10], [1, 10], [999, 7], [1000, 1000], [1001, 333], [2000, 5000], [10_000, 1024]] as const) {
      const bytes = randomBytes(size)
      const intents = notedIntents()
      const { etag } = await putLarge(each, intents, 'k', pieces(bytes, chunk), { size, contentType: 'text/x', partBytes: 1000, createOnly: true })
      t.match(await each.head('k'), { size, etag })
      t.ok(bytes.equals(await collect((await each.open('k')).body)), `${each.name}: ${size} bytes in chunks of ${chunk}`)
      t.same(intents.log, ['record', 'setUploadId', 'remove'])
      await each.delete('k')
      await leavesNothing(t, each, intents)
    }
  }
  const parts = stub.requests.filter(({ operation, query }) => operation === 'UploadPart' && query.get('partNumber') === '10').map(({ received }) => received)
  t.same(parts, [1000], 'ten parts of 1000 bytes')
})

t.test('on MinIO 12 MiB go up in parts of 5 MiB', async t => {
  const minio = await minioOrSkip(t)
  if (!minio) return
  const store = await openMinio(t, minio)
  const bytes = randomBytes(12 * MIB)
  const intents = notedIntents()
  await putLarge(store, intents, 'k', pieces(bytes, 65_536), { size: bytes.length, partBytes: 5 * MIB, createOnly: true })
  const hash = createHash('sha256')
  for await (const chunk of (await store.open('k')).body) hash.update(chunk as Buffer)
  t.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'))
  await t.rejects(putLarge(store, intents, 'k', pieces(bytes, 65_536), { size: bytes.length, partBytes: 5 * MIB, createOnly: true }), ObjectAlreadyExists)
  t.same(await store.listMultiparts('k'), [])
  t.equal(intents.open.size, 0)
})

t.test('cancelled while the upload is being created: it ends at once, and the upload goes when it is there', async t => {
  const memory = await openMemory()
  const asked = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  const slow: ObjectStore = { ...memory, createMultipart: async (...args) => {
    asked.resolve()
    await answer.promise
    return await memory.createMultipart(...args)
  } }
  const intents = notedIntents()
  const stop = new AbortController()
  const putting = putLarge(slow, intents, 'k', pieces(randomBytes(3000), 1000), { size: 3000, partBytes: 1000, signal: stop.signal })
  await asked.promise
  stop.abort(new Error('cancelled'))
  await soon(t.rejects(putting, { message: 'cancelled' }))
  t.equal(intents.open.size, 1, 'until it is known')
  answer.resolve()
  await eventually(() => assert.equal(intents.open.size, 0))
  await leavesNothing(t, memory, intents)
})

t.test('the body is read no faster than the store takes it', async t => {
  const { stub, store } = await openStub(t)
  let produced = 0
  const body = new Readable({
    read() {
      produced += 64 * 1024
      this.push(Buffer.alloc(64 * 1024))
    }
  })
  const controller = new AbortController()
  stub.fault({ operation: 'UploadPart', when: ({ query }) => query.get('partNumber') === '2' }, { kind: 'stall-body', afterBytes: 1 })
  const put = putLarge(store, notedIntents(), 'k', body, { size: 1000 * MIB, partBytes: MIB, signal: controller.signal })
  await stub.seen({ operation: 'UploadPart', when: ({ query }) => query.get('partNumber') === '2' })
  await delay(300)
  const stalledAt = produced
  await delay(200)
  t.equal(produced, stalledAt, 'it stands still')
  t.ok(produced < 24 * MIB, `only buffers are full (${produced} bytes)`)
  controller.abort()
  await t.rejects(soon(put), ObjectStoreFailed)
})

t.test('a body that is too short, too long, or fails leaves nothing', async t => {
  const bodies: [string, () => Readable][] = [
    ['short', () => pieces(Buffer.alloc(2499), 100)],
    ['short at the end of a part', () => pieces(Buffer.alloc(2000), 100)],
    ['long', () => pieces(Buffer.alloc(2501), 100)],
    ['long after a moment', () => Readable.from((async function* () {
      yield Buffer.alloc(2500)
      await delay(30)
      yield Buffer.alloc(1)
    })(), { objectMode: false })],
    ['failing', () => Readable.from((async function* () {
      yield Buffer.alloc(1200)
      await delay(30)
      throw new Error('the client is gone')
    })(), { objectMode: false })]
  ]
  const { store } = await openStub(t)
  for (const each of [await openMemory(), await openFs(t), store]) {
    for (const [which, body] of bodies) {
      const intents = notedIntents()
      await t.rejects(soon(putLarge(each, intents, 'k', body(), { size: 2500, partBytes: 1000 })), ObjectBodyInvalid, `${each.name}: ${which}`)
      await leavesNothing(t, each, intents)
    }
  }
})

t.test('a body that is cancelled while it stalls leaves nothing, and is not destroyed', async t => {
  const { store } = await openStub(t)
  for (const each of [await openMemory(), await openFs(t), store]) {
    const intents = notedIntents()
    const body = new Readable({ read() {} })
    body.push(Buffer.alloc(1500))
    const controller = new AbortController()
    const put = putLarge(each, intents, 'k', body, { size: 2500, partBytes: 1000, signal: controller.signal })
    setTimeout(() => controller.abort(), 50)
    await t.rejects(soon(put), ObjectStoreFailed)
    t.equal(body.destroyed, false)
    await leavesNothing(t, each, intents)
  }
})

t.test('a store that fails at a part ends it at once, also while the body stalls', async t => {
  const { stub, store } = await openStub(t)
  const intents = notedIntents()
  const body = new Readable({ read() {} })
  body.push(Buffer.alloc(1500))
  stub.fault({ operation: 'UploadPart', when: ({ query }) => query.get('partNumber') === '2' }, { kind: 'answer', status: 503, code: 'SlowDown', afterBytes: 1 })
  await t.rejects(soon(putLarge(store, intents, 'k', body, { size: 2500, partBytes: 1000 })), { code: 'OBJECT_STORE_FAILED', cause: { name: 'SlowDown' } })
  await leavesNothing(t, store, intents)
})

t.test('a key that is taken is refused at the end, and what is there stays', async t => {
  const { stub, store } = await openStub(t)
  const intents = notedIntents()
  await store.put('k', Buffer.from('first'), { size: 5 })
  await t.rejects(putLarge(store, intents, 'k', pieces(Buffer.alloc(2500), 100), { size: 2500, partBytes: 1000, createOnly: true }), ObjectAlreadyExists)
  t.equal(await text(store, 'k'), 'first')
  t.equal(stub.uploads.size, 0)
  t.equal(intents.open.size, 0)
})

t.test('an upload that could not be created leaves its intent for the sweeper', async t => {
  const { stub, store } = await openStub(t)
  const intents = notedIntents()
  stub.fault({ operation: 'CreateMultipartUpload' }, { kind: 'cut-answer' })
  await t.rejects(putLarge(store, intents, 'k', pieces(Buffer.alloc(2500), 100), { size: 2500, partBytes: 1000 }), ObjectStoreFailed)
  t.match([...intents.open.values()], [{ key: 'k', uploadId: null }])
  t.ok((await store.listMultiparts('k')).length > 0, 'which finds the upload by its key')
})
