import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { SPARE_PARTS_MAX } from '../../src/limits.ts'
import { ObjectAlreadyExists, ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import { putUnknownLength } from '../../src/objects/put-unknown-length.ts'
import { collect, keysOf, text } from '../contract/object-store.ts'
import { notedIntents } from '../support/intents.ts'
import { minioOrSkip } from '../support/minio.ts'
import { openFs, openMemory, openMinio, openStub } from '../support/object-stores.ts'

const MIB = 1024 * 1024

async function* chunksOf(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
}

async function leavesNothing(t: Test, store: ObjectStore, intents: ReturnType<typeof notedIntents>): Promise<void> {
  t.same(await keysOf(store), [])
  t.same(await store.listMultiparts('k'), [])
  t.equal(intents.open.size, 0)
}

t.test('a body of any length becomes the object, whatever its chunks, on every store', async t => {
  const { stub, store } = await openStub(t)
  for (const each of [await openMemory(), await openFs(t), store]) {
    for (const [size, chunk] of [[0, 10], [1, 10], [999, 7], [1000, 1000], [1000, 333], [1001, 333], [2000, 1000], [2000, 5000], [10_000, 1024]] as const) {
      const bytes = randomBytes(size)
      const intents = notedIntents()
      const { etag, size: stored } = await putUnknownLength(each, intents, 'k', chunksOf(bytes, chunk), { maxBytes: 10_000, partBytes: 1000, contentType: 'text/x', createOnly: true })
      t.equal(stored, size)
      t.match(await each.head('k'), { size, etag })
      t.ok(bytes.equals(await collect((await each.open('k')).body)), `${each.name}: ${size} bytes in chunks of ${chunk}`)
      t.same(intents.log, each.putUnsized !== undefined || size <= 1000 ? [] : ['record', 'setUploadId', 'remove'], 'one part is one request')
      await each.delete('k')
      await leavesNothing(t, each, intents)
    }
  }
  t.same(stub.requests.filter(({ operation, query }) => operation === 'UploadPart' && query.get('partNumber') === '10').map(({ received }) => received), [1000], 'ten parts of 1000 bytes')
})

t.test('a part is used again when its body is stored, by one body at a time, and not where a body failed', async t => {
  const { store } = await openStub(t)
  const spareParts: Buffer[] = []
  const put = (key: string, body: AsyncIterable<Uint8Array>) => putUnknownLength(store, notedIntents(), key, body, { maxBytes: 10_000, partBytes: 1000, spareParts })
  const bodies = [2500, 10, 1999].map(size => randomBytes(size))
  for (const [at, bytes] of bodies.entries()) await put(`k${at}`, chunksOf(bytes, 300))
  t.equal(spareParts.length, 1, 'one after the other they took the same')
  await Promise.all(bodies.map((bytes, at) => put(`l${at}`, chunksOf(bytes, 300))))
  t.equal(new Set(spareParts).size, 3, 'at the same time each had its own')
  for (const prefix of ['k', 'l']) for (const [at, bytes] of bodies.entries()) t.ok(bytes.equals(await collect((await store.open(`${prefix}${at}`)).body)), `${prefix}${at}`)
  const [taken] = spareParts
  const failing = (async function* () {
    yield* chunksOf(Buffer.alloc(2500), 300)
    throw new Error('it broke off')
  })()
  await t.rejects(put('m', failing), { message: 'it broke off' })
  t.notOk(spareParts.includes(taken!), 'its part may still be on its way')
  await Promise.all(Array.from({ length: 10 }, (_, at) => put(`n${at}`, chunksOf(Buffer.alloc(10), 10))))
  t.equal(spareParts.length, SPARE_PARTS_MAX)
})

t.test('chunks without bytes are no end', async t => {
  const store = await openMemory()
  await putUnknownLength(store, notedIntents(), 'k', Readable.from([Buffer.alloc(0), Buffer.from('ab'), Buffer.alloc(0), Buffer.from('c'), Buffer.alloc(0)]), { maxBytes: 10, partBytes: 2 })
  t.equal(await text(store, 'k'), 'abc')
})

t.test('parts grow with the longest body there may be', async t => {
  const { stub, store } = await openStub(t)
  await putUnknownLength(store, notedIntents(), 'k', chunksOf(Buffer.alloc(250), 10), { maxBytes: 1_000_000, partBytes: 10 })
  t.same(stub.requests.filter(({ operation }) => operation === 'UploadPart').map(({ received }) => received), [100, 100, 50])
})

t.test('a body that fails leaves nothing, before and behind its first part', async t => {
  const { store } = await openStub(t)
  for (const each of [await openMemory(), await openFs(t), store]) {
    for (const size of [0, 500, 1000, 2500]) {
      const intents = notedIntents()
      const failing = (async function* () {
        yield* chunksOf(Buffer.alloc(size), 100)
        await delay(5)
        throw new Error('the client is gone')
      })()
      await t.rejects(putUnknownLength(each, intents, 'k', failing, { maxBytes: 10_000, partBytes: 1000 }), { message: 'the client is gone' })
      await leavesNothing(t, each, intents)
    }
  }
})

t.test('a store that fails at a part ends the body and leaves nothing; so does a cancel in the middle of one', async t => {
  const { stub, store } = await openStub(t)
  for (const fault of [{ kind: 'answer', status: 503, code: 'SlowDown' }, { kind: 'stall-body', afterBytes: 1 }] as const) {
    const intents = notedIntents()
    const controller = new AbortController()
    let ended = false
    const body = (async function* () {
      try {
        for (;;) yield Buffer.alloc(100)
      } finally {
        ended = true
      }
    })()
    stub.fault({ operation: 'UploadPart', when: ({ query }) => query.get('partNumber') === '2' }, fault)
    if (fault.kind === 'stall-body') setTimeout(() => controller.abort(), 100)
    await t.rejects(putUnknownLength(store, intents, 'k', body, { maxBytes: 1_000_000, partBytes: 1000, signal: controller.signal }), ObjectStoreFailed)
    t.ok(ended, 'nobody waits for the body any more')
    await leavesNothing(t, store, intents)
  }
})

t.test('the body is not read while a part is on its way', async t => {
  const { stub, store } = await openStub(t)
  let produced = 0
  const body = (async function* () {
    for (;;) {
      produced += 100
      yield Buffer.alloc(100)
    }
  })()
  const controller = new AbortController()
  stub.fault({ operation: 'UploadPart', when: ({ query }) => query.get('partNumber') === '2' }, { kind: 'stall-body', afterBytes: 1 })
  const put = putUnknownLength(store, notedIntents(), 'k', body, { maxBytes: 1_000_000, partBytes: 1000, signal: controller.signal })
  await stub.seen({ operation: 'UploadPart', when: ({ query }) => query.get('partNumber') === '2' })
  await delay(100)
  t.equal(produced, 2100, 'two parts, and the chunk that says there is more')
  controller.abort()
  await t.rejects(put, ObjectStoreFailed)
})

t.test('a key that is taken is refused, and what is there stays', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', Buffer.from('first'), { size: 5 })
  for (const size of [500, 2500]) {
    const intents = notedIntents()
    await t.rejects(putUnknownLength(store, intents, 'k', chunksOf(Buffer.alloc(size), 100), { maxBytes: 10_000, partBytes: 1000, createOnly: true }), ObjectAlreadyExists)
    t.equal(await text(store, 'k'), 'first')
    t.equal(stub.uploads.size, 0)
    t.equal(intents.open.size, 0)
  }
})

t.test('on MinIO 20 MiB go up in parts of 8 MiB', async t => {
  const minio = await minioOrSkip(t)
  if (!minio) return
  const store = await openMinio(t, minio)
  const bytes = randomBytes(20 * MIB)
  const intents = notedIntents()
  await putUnknownLength(store, intents, 'k', chunksOf(bytes, 65_536), { maxBytes: 100 * MIB, createOnly: true })
  t.ok(bytes.equals(await collect((await store.open('k')).body)))
  t.same(await store.listMultiparts('k'), [])
  t.equal(intents.open.size, 0)
})
