import t, { type Test } from 'tap'
import { PROBE_WRITERS } from '../../src/limits.ts'
import { ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import { probeStore } from '../../src/objects/probe.ts'
import { keysOf } from '../contract/object-store.ts'
import { notedIntents } from '../support/intents.ts'
import { minioOrSkip } from '../support/minio.ts'
import { openFs, openMemory, openMinio, openStub } from '../support/object-stores.ts'

const ALL = { createOnlyPut: true, sourceCondition: true, createOnlyCopy: 'copy' }

async function leavesNothing(t: Test, store: ObjectStore): Promise<void> {
  t.same(await keysOf(store), [])
}

t.test('memory and fs enforce everything', async t => {
  for (const store of [await openMemory(), await openFs(t)]) {
    t.same(await probeStore(store, notedIntents()), ALL, store.name)
    await leavesNothing(t, store)
  }
})

t.test('a server that enforces everything is believed', async t => {
  const { stub, store } = await openStub(t)
  t.same(await probeStore(store, notedIntents()), ALL)
  await leavesNothing(t, store)
  t.equal(stub.uploads.size, 0)
})

t.test('a server that ignores If-None-Match on copies is copied on by multipart', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'CopyObject' }, { kind: 'ignore-headers', names: ['if-none-match'] })
  t.same(await probeStore(store, notedIntents()), { ...ALL, createOnlyCopy: 'multipart' })
  await leavesNothing(t, store)
  t.equal(stub.uploads.size, 0)
})

t.test('a server that takes every condition and ignores it is found out', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({}, { kind: 'ignore-headers', names: ['if-none-match', 'x-amz-copy-source-if-match'] })
  t.same(await probeStore(store, notedIntents()), { createOnlyPut: false, sourceCondition: false, createOnlyCopy: 'head-then-copy' })
  await leavesNothing(t, store)
  t.equal(stub.uploads.size, 0)
})

t.test('a server that ignores a condition only now and then is not believed', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'PutObject', header: 'if-none-match', nth: 20 }, { kind: 'ignore-headers', names: ['if-none-match'] })
  t.match(await probeStore(store, notedIntents()), { createOnlyPut: false, createOnlyCopy: 'copy' })
})

t.test('a server that refuses conditions as not implemented is not asked to enforce them', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ header: 'if-none-match' }, { kind: 'answer', status: 501, code: 'NotImplemented' })
  t.same(await probeStore(store, notedIntents()), { createOnlyPut: false, sourceCondition: true, createOnlyCopy: 'head-then-copy' })
  await leavesNothing(t, store)
})

t.test('a server that ignores the ETag of the source of a part is found out', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'UploadPartCopy' }, { kind: 'ignore-headers', names: ['x-amz-copy-source-if-match'] })
  t.match(await probeStore(store, notedIntents()), { sourceCondition: false })
})

t.test('a server that breaks during the probe is an error, not an answer, and nothing is left', async t => {
  const { stub, store } = await openStub(t)
  const undo = stub.fault({ operation: 'CopyObject', when: request => 'if-none-match' in request.headers }, { kind: 'answer', status: 503, code: 'SlowDown' })
  await t.rejects(probeStore(store, notedIntents()), ObjectStoreFailed)
  undo()
  await leavesNothing(t, store)
  t.equal(stub.uploads.size, 0)
})

t.test('a probe that is cancelled removes what it wrote', async t => {
  const { stub, store } = await openStub(t)
  const controller = new AbortController()
  stub.fault({ operation: 'CopyObject', nth: 1 }, { kind: 'before', run: () => controller.abort() })
  await t.rejects(probeStore(store, notedIntents(), controller.signal), ObjectStoreFailed)
  await leavesNothing(t, store)
})

t.test('every multipart upload of the probe is recorded before it is begun, and forgotten when it is gone', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'CopyObject' }, { kind: 'ignore-headers', names: ['if-none-match'] })
  const intents = notedIntents()
  const begun: string[][] = []
  stub.fault({ operation: 'CreateMultipartUpload' }, { kind: 'before', run: () => void begun.push([...intents.open.values()].map(({ key }) => key)) })
  await probeStore(store, intents)
  const asked = stub.requests.filter(request => request.operation === 'CreateMultipartUpload').map(({ key }) => key)
  t.ok(asked.length > PROBE_WRITERS)
  t.ok(asked.every((key, index) => begun[index]!.includes(key)))
  t.equal(intents.open.size, 0)
  t.equal(stub.uploads.size, 0)
})

t.test('the upload of a probe that died is found by its record', async t => {
  const { stub, store } = await openStub(t)
  const intents = notedIntents()
  stub.fault({ operation: 'UploadPartCopy' }, { kind: 'answer', status: 500, code: 'InternalError' })
  stub.fault({ operation: 'AbortMultipartUpload' }, { kind: 'answer', status: 500, code: 'InternalError' })
  await t.rejects(probeStore(store, intents), ObjectStoreFailed)
  t.same([...intents.open.values()].map(({ key, uploadId }) => [key, uploadId]), [...stub.uploads].map(([uploadId, { key }]) => [key, uploadId]))
  t.equal(stub.uploads.size, 1)
})

t.test('MinIO enforces puts and completions, and ignores the condition on CopyObject', async t => {
  const minio = await minioOrSkip(t)
  if (!minio) return
  const store = await openMinio(t, minio)
  t.same(await probeStore(store, notedIntents()), { ...ALL, createOnlyCopy: 'multipart' })
  await leavesNothing(t, store)
})
