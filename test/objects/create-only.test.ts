import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { copyOnce, putOnce } from '../../src/objects/create-only.ts'
import { ObjectNotFound, ObjectPreconditionFailed, ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import type { CreateOnlyCopy, StoreAbilities } from '../../src/objects/probe.ts'
import { collect, keysOf, text } from '../contract/object-store.ts'
import { notedIntents } from '../support/intents.ts'
import { minioOrSkip } from '../support/minio.ts'
import { openFs, openMemory, openMinio, openStub } from '../support/object-stores.ts'

const WAYS: CreateOnlyCopy[] = ['copy', 'multipart', 'head-then-copy']

function able(createOnlyCopy: CreateOnlyCopy, others: Partial<StoreAbilities> = {}): StoreAbilities {
  return { createOnlyPut: true, sourceCondition: true, createOnlyCopy, ...others }
}

/** A source of three bytes, and what copyOnce needs to copy it. */
async function prepare(store: ObjectStore, bytes = Buffer.from('one')) {
  const { etag } = await store.put('from/x', bytes, { size: bytes.length })
  const intents = notedIntents()
  return { intents, copy: { source: 'from/x', target: 'to/x', sourceETag: etag, size: bytes.length, contentType: 'text/x', intents } }
}

async function copiesOnce(t: Test, store: ObjectStore, abilities: StoreAbilities): Promise<void> {
  const { intents, copy } = await prepare(store)
  t.same(await copyOnce(store, abilities, copy), { created: true })
  t.equal(await text(store, 'to/x'), 'one')
  t.same(await copyOnce(store, abilities, copy), { created: false })
  const other = await store.put('from/y', Buffer.from('other'), { size: 5 })
  t.same(await copyOnce(store, abilities, { ...copy, source: 'from/y', sourceETag: other.etag, size: 5 }), { created: false })
  t.equal(await text(store, 'to/x'), 'one', 'what was there first stays')
  await t.rejects(copyOnce(store, abilities, { ...copy, target: 'new', sourceETag: other.etag }), ObjectPreconditionFailed)
  await t.rejects(copyOnce(store, abilities, { ...copy, target: 'new', source: 'no/such' }), ObjectNotFound)
  t.equal(await store.head('new'), undefined)
  t.equal(intents.open.size, 0)
  for (const key of ['to/x', 'new']) t.same(await store.listMultiparts(key), [], 'no upload is left')
}

for (const way of WAYS) {
  t.test(`${way}: the first copy creates, a second finds it there, on every store`, async t => {
    const { stub, store } = await openStub(t)
    for (const each of [await openMemory(), await openFs(t), store]) await copiesOnce(t, each, able(way))
    t.notOk(stub.requests.some(({ operation, sent }) => operation === 'GetObject' && sent > 5), 'no object bytes pass through')
  })

  t.test(`${way}: a store that does not bind the copy to the ETag is looked at before and after`, async t => {
    const { stub, store } = await openStub(t)
    stub.fault({}, { kind: 'ignore-headers', names: ['x-amz-copy-source-if-match'] })
    await copiesOnce(t, store, able(way, { sourceCondition: false }))
  })
}

t.test('on MinIO the way that the probe finds copies once', async t => {
  const minio = await minioOrSkip(t)
  if (!minio) return
  await copiesOnce(t, await openMinio(t, minio), able('multipart'))
})

for (const way of ['copy', 'multipart'] as const) {
  t.test(`${way}: of twenty at once exactly one creates`, async t => {
    const { stub, store } = await openStub(t)
    const { intents, copy } = await prepare(store)
    const results = await Promise.all(Array.from({ length: 20 }, () => copyOnce(store, able(way), copy)))
    t.equal(results.filter(({ created }) => created).length, 1)
    t.equal(intents.open.size, 0)
    t.equal(stub.uploads.size, 0)
  })
}

t.test('head-then-copy: twenty at once all end well, and the object is there', async t => {
  const { store } = await openStub(t)
  const { copy } = await prepare(store)
  const results = await Promise.all(Array.from({ length: 20 }, () => copyOnce(store, able('head-then-copy'), copy)))
  t.ok(results.some(({ created }) => created))
  t.equal(await text(store, 'to/x'), 'one')
})

t.test('a source over the limit of one request is copied by ranges, whatever the way', async t => {
  const bytes = randomBytes(2501)
  for (const way of WAYS) {
    const { stub, store } = await openStub(t)
    const { intents, copy } = await prepare(store, bytes)
    t.same(await copyOnce(store, able(way), { ...copy, partBytes: 1000 }), { created: true })
    t.ok(bytes.equals(await collect((await store.open('to/x')).body)))
    t.same(stub.requests.filter(({ operation }) => operation === 'UploadPartCopy').map(({ headers }) => headers['x-amz-copy-source-range']), [
      'bytes=0-999', 'bytes=1000-1999', 'bytes=2000-2500'
    ])
    t.same(await copyOnce(store, able(way), { ...copy, partBytes: 1000 }), { created: false })
    t.equal(stub.uploads.size, 0)
    t.same(intents.open.size, 0)
    t.equal(stub.objects.get('to/x')?.contentType, 'text/x')
  }
})

t.test('an empty object can be copied in every way', async t => {
  for (const way of WAYS) {
    const { store } = await openStub(t)
    const { copy } = await prepare(store, Buffer.alloc(0))
    t.same(await copyOnce(store, able(way), copy), { created: true })
    t.match(await store.head('to/x'), { size: 0 })
  }
})

t.test('the intent is recorded before the upload is created, and removed after it has ended', async t => {
  const { stub, store } = await openStub(t)
  const { intents, copy } = await prepare(store)
  stub.fault({ operation: 'CreateMultipartUpload' }, { kind: 'before', run: () => { t.same(intents.log, ['record']) } })
  stub.fault({ operation: 'UploadPartCopy' }, { kind: 'before', run: () => { t.same([...intents.open.values()].map(({ key, uploadId }) => [key, uploadId]), [['to/x', [...stub.uploads.keys()][0]]]) } })
  await copyOnce(store, able('multipart'), copy)
  t.same(intents.log, ['record', 'setUploadId', 'remove'])
})

t.test('a copy that fails in the middle aborts its upload; where that fails too, the intent stays for the sweeper', async t => {
  const { stub, store } = await openStub(t)
  const { intents, copy } = await prepare(store)
  stub.fault({ operation: 'UploadPartCopy' }, { kind: 'answer', status: 500, code: 'InternalError' })
  await t.rejects(copyOnce(store, able('multipart'), copy), ObjectStoreFailed)
  t.equal(stub.uploads.size, 0)
  t.equal(intents.open.size, 0)
  stub.fault({ operation: 'AbortMultipartUpload' }, { kind: 'answer', status: 500, code: 'InternalError' })
  await t.rejects(copyOnce(store, able('multipart'), copy), ObjectStoreFailed)
  t.same([...intents.open.values()].map(({ uploadId }) => uploadId), [...stub.uploads.keys()])
})

t.test('a completion whose answer was lost is found to have happened', async t => {
  const { stub, store } = await openStub(t)
  const { intents, copy } = await prepare(store)
  stub.fault({ operation: 'CompleteMultipartUpload', nth: 1 }, { kind: 'cut-answer' })
  t.same(await copyOnce(store, able('multipart'), copy), { created: false })
  t.equal(await text(store, 'to/x'), 'one')
  t.equal(intents.open.size, 0)
})

t.test('an upload that a server dropped over a conflict is begun again', async t => {
  const { stub, store } = await openStub(t)
  const { intents, copy } = await prepare(store)
  stub.fault({ operation: 'CompleteMultipartUpload', nth: 1 }, { kind: 'answer', status: 404, code: 'NoSuchUpload' })
  t.same(await copyOnce(store, able('multipart'), copy), { created: true })
  t.equal(intents.open.size, 0)
  t.equal(stub.uploads.size, 0)
})

t.test('a copy that is cancelled leaves no upload', async t => {
  const { stub, store } = await openStub(t)
  const { intents, copy } = await prepare(store)
  const controller = new AbortController()
  stub.fault({ operation: 'UploadPartCopy' }, { kind: 'before', run: () => controller.abort() })
  await t.rejects(copyOnce(store, able('multipart'), { ...copy, signal: controller.signal }), ObjectStoreFailed)
  t.equal(stub.uploads.size, 0)
  t.equal(intents.open.size, 0)
  t.same(await keysOf(store), ['from/x'])
})

t.test('a source that changes while it is copied, on a store that does not bind it, does not stay as the copy', async t => {
  const { stub, store } = await openStub(t)
  const { copy } = await prepare(store)
  stub.fault({ operation: 'CopyObject' }, { kind: 'before', run: async () => { await store.put('from/x', Buffer.from('two'), { size: 3 }) } })
  await t.rejects(copyOnce(store, able('head-then-copy', { sourceCondition: false }), copy), ObjectPreconditionFailed)
  t.equal(await store.head('to/x'), undefined)
})

t.test('a source that changes just after it was copied fails the copy, and the right bytes stay', async t => {
  const { stub, store } = await openStub(t)
  const { copy } = await prepare(store)
  stub.fault({ operation: 'HeadObject', key: 'from/x', nth: 2 }, { kind: 'before', run: async () => { await store.put('from/x', Buffer.from('two'), { size: 3 }) } })
  await t.rejects(copyOnce(store, able('head-then-copy', { sourceCondition: false }), copy), ObjectPreconditionFailed)
  t.equal(await text(store, 'to/x'), 'one')
})

t.test('conditions that a store refuses are not sent to it', async t => {
  const { stub, store } = await openStub(t)
  for (const header of ['if-none-match', 'x-amz-copy-source-if-match']) stub.fault({ header }, { kind: 'answer', status: 501, code: 'NotImplemented' })
  const abilities = { createOnlyPut: false, sourceCondition: false, createOnlyCopy: 'head-then-copy' } as const
  const { copy } = await prepare(store)
  t.same(await copyOnce(store, abilities, copy), { created: true })
  t.same(await putOnce(store, abilities, 'manifest', Buffer.from('{}')), { created: true })
})

t.test('a small object is put once', async t => {
  const { stub, store } = await openStub(t)
  for (const each of [await openMemory(), await openFs(t), store]) {
    for (const createOnlyPut of [true, false]) {
      const key = `manifest-${createOnlyPut}`
      t.same(await putOnce(each, able('copy', { createOnlyPut }), key, Buffer.from('{}'), { contentType: 'application/json', cacheControl: 'immutable' }), { created: true })
      t.same(await putOnce(each, able('copy', { createOnlyPut }), key, Buffer.from('[1]')), { created: false })
      t.equal(await text(each, key), '{}')
    }
  }
  t.match(stub.objects.get('manifest-true'), { contentType: 'application/json', cacheControl: 'immutable' })
})
