/** What a store can do to us, on a real socket. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import {
  BucketNotFound, ObjectAlreadyExists, ObjectBodyInvalid, ObjectNotFound, ObjectPreconditionFailed, ObjectStoreFailed
} from '../../src/objects/port.ts'
import { collect, pieces, text } from '../contract/object-store.ts'
import { openStub } from '../support/object-stores.ts'
import type { S3Stub } from '../support/s3-stub.ts'

const MIB = 1024 * 1024

/** A body that never ends by itself. */
function endless(): Readable {
  return new Readable({ read() { this.push(Buffer.alloc(64 * 1024)) } })
}

async function soon<T>(promise: Promise<T>, ms = 3000): Promise<T> {
  return await Promise.race([promise, delay(ms, undefined, { ref: false }).then(() => { throw new Error(`not within ${ms} ms`) })])
}

async function noConnections(stub: S3Stub): Promise<void> {
  for (let tries = 0; await stub.connections() > 0; tries++) {
    if (tries === 100) throw new Error('connections stay open')
    await delay(20)
  }
}

t.test('a store that answers 503 in the middle of a body fails the put at once, and the body is let go of, not read to its end', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'PutObject' }, { kind: 'answer', status: 503, code: 'SlowDown', afterBytes: 300_000 })
  const body = endless()
  await t.rejects(soon(store.put('k', body, { size: 1000 * MIB })), { code: 'OBJECT_STORE_FAILED', cause: { name: 'SlowDown', status: 503 } })
  t.equal(body.destroyed, false, 'the body is the caller\'s')
  t.equal(stub.requests.length, 1, 'a streamed body is not sent twice')
  await noConnections(stub)
})

t.test('a connection on which a body was refused and left unread is not used again', async t => {
  const { stub, store } = await openStub(t, { maxSockets: 1 })
  // late enough that the client has handed all of it to the socket, where most of it stays
  stub.fault({ operation: 'PutObject' }, { kind: 'answer', status: 412, code: 'PreconditionFailed', afterBytes: 1, afterMs: 50 })
  await t.rejects(soon(store.put('k', pieces(Buffer.alloc(400_000), 10_000), { size: 400_000, createOnly: true })), ObjectAlreadyExists)
  t.equal(await soon(store.head('k')), undefined)
})

t.test('a store that cuts the socket in the middle of a body fails the put', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'PutObject' }, { kind: 'cut', afterBytes: 300_000 })
  await t.rejects(soon(store.put('k', endless(), { size: 1000 * MIB })), ObjectStoreFailed)
  t.equal(stub.requests.length, 1)
})

t.test('a store that takes a body and never answers is given up after the time limit, which counts from the end of the body', async t => {
  const { stub, store } = await openStub(t, { timeouts: { answerMs: 150 } })
  const slow = Readable.from((async function* () {
    for (let n = 0; n < 5; n++) {
      yield Buffer.alloc(1000)
      await delay(80)
    }
  })(), { objectMode: false })
  await store.put('slow', slow, { size: 5000 })
  t.equal((await store.head('slow'))?.size, 5000, 'a body may take longer than the limit')
  stub.fault({ operation: 'PutObject' }, { kind: 'stall-answer' })
  await t.rejects(soon(store.put('k', pieces(Buffer.alloc(5000), 1000), { size: 5000 })), { code: 'OBJECT_STORE_FAILED', cause: /no answer within 150 ms/ })
})

t.test('a store that stops taking the body ends when the caller gives up, and its socket is closed', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'PutObject' }, { kind: 'stall-body', afterBytes: 100_000 })
  const controller = new AbortController()
  const put = store.put('k', endless(), { size: 1000 * MIB, signal: controller.signal })
  setTimeout(() => controller.abort(new Error('enough')), 100)
  await t.rejects(soon(put), { code: 'OBJECT_STORE_FAILED', cause: { message: 'enough' } })
  await noConnections(stub)
})

t.test('a store that stops taking the end of a body is given up after the time limit', async t => {
  const { stub, store } = await openStub(t, { timeouts: { answerMs: 150 } })
  stub.fault({ operation: 'PutObject' }, { kind: 'stall-body', afterBytes: 1000 })
  await t.rejects(soon(store.put('k', pieces(Buffer.alloc(200_000), 50_000), { size: 200_000 })), ObjectStoreFailed)
})

t.test('a body that fails while the store waits for it ends the request at once', async t => {
  const { stub, store } = await openStub(t)
  const body = new Readable({ read() {} })
  body.push(Buffer.alloc(1000))
  const put = store.put('k', body, { size: 5000 })
  await stub.seen({ operation: 'PutObject' })
  body.on('error', () => {})
  body.destroy(new Error('the client is gone'))
  await t.rejects(soon(put), { code: 'OBJECT_BODY_INVALID', cause: { message: 'the client is gone' } })
  await noConnections(stub)
  t.equal(stub.objects.size, 0)
})

t.test('a body that is too long is refused before the store has its last byte', async t => {
  const { stub, store } = await openStub(t)
  const body = Readable.from((async function* () {
    yield Buffer.alloc(1000)
    await delay(50)
    yield Buffer.alloc(1)
  })(), { objectMode: false })
  await t.rejects(store.put('k', body, { size: 1000 }), ObjectBodyInvalid)
  t.equal(stub.requests[0]?.received ?? 0, 0)
})

t.test('a body goes out with its length and its checksum, in one piece, and without Expect', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', pieces(Buffer.alloc(3 * MIB), 100_000), { size: 3 * MIB, contentType: 'text/x', cacheControl: 'no-store', createOnly: true })
  const { headers } = stub.requests[0]!
  t.match(headers, { 'content-length': String(3 * MIB), 'content-type': 'text/x', 'cache-control': 'no-store', 'if-none-match': '*' })
  for (const name of ['expect', 'transfer-encoding', 'content-encoding', 'x-amz-trailer', 'x-amz-checksum-crc32']) t.notOk(name in headers, name)
  t.match(stub.objects.get('k'), { contentType: 'text/x', cacheControl: 'no-store' })
})

t.test('connections are kept and used again', async t => {
  const { stub, store } = await openStub(t)
  for (let n = 0; n < 10; n++) {
    await store.put('k', pieces(Buffer.alloc(100_000), 10_000), { size: 100_000 })
    await collect((await store.open('k')).body)
    await store.head('no/such')
  }
  t.equal(await stub.connections(), 1)
})

t.test('requests without a body are tried again', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', Buffer.from('bytes'), { size: 5 })
  stub.fault({ nth: 1 }, { kind: 'answer', status: 503, code: 'SlowDown' })
  t.match(await store.head('k'), { size: 5 })
  stub.fault({ nth: 1 }, { kind: 'cut', afterBytes: 0 })
  t.equal(await text(store, 'k'), 'bytes')
  stub.fault({ operation: 'PutObject', nth: 1 }, { kind: 'answer', status: 503, code: 'SlowDown' })
  await store.put('bytes', Buffer.from('bytes'), { size: 5 })
})

t.test('a store that never answers is given up within the time limit', async t => {
  const { stub, store } = await openStub(t, { timeouts: { requestMs: 150, copyMs: 150 } })
  await store.put('k', Buffer.from('bytes'), { size: 5 })
  stub.fault({}, { kind: 'stall-answer' })
  for (const attempt of [() => store.head('k'), () => store.open('k'), () => store.delete('k'), () => store.check(), () => store.copy('k', 'l'), () => store.listMultiparts('k')]) {
    await t.rejects(soon<unknown>(attempt()), { code: 'OBJECT_STORE_FAILED', cause: /no answer/ })
  }
  await noConnections(stub)
})

t.test('whoever is on call is told whether the store took too long or its caller gave up', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: 'HeadBucket' }, { kind: 'stall-answer' })
  for (const ask of [store.check, store.createBucket]) await t.rejects(ask(AbortSignal.timeout(50)), { message: 'no answer in the time that it was given', cause: { name: 'TimeoutError' } })
  await t.rejects(store.check(AbortSignal.abort(new Error('gone'))), { message: 'the caller cancelled this', cause: { message: 'gone' } })
})

t.test('a download that is cut fails, and does not look as if it had ended', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', Buffer.alloc(MIB), { size: MIB })
  stub.fault({ operation: 'GetObject' }, { kind: 'cut-download', afterBytes: 300_000 })
  await t.rejects(soon(store.open('k').then(({ body }) => collect(body))))
})

t.test('a download that brings nothing more fails; one whose reader is slow does not', async t => {
  const { stub, store } = await openStub(t, { timeouts: { stallMs: 80 } })
  await store.put('k', Buffer.alloc(2 * MIB), { size: 2 * MIB })
  const { body } = await store.open('k')
  await delay(400)
  t.equal((await collect(body)).length, 2 * MIB)
  stub.fault({ operation: 'GetObject' }, { kind: 'stall-download', afterBytes: 300_000 })
  await t.rejects(soon(store.open('k').then(opened => collect(opened.body))), ObjectStoreFailed)
})

t.test('an error in the body of a 200 is an error', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', Buffer.from('bytes'), { size: 5 })
  stub.fault({ operation: ['CopyObject', 'UploadPartCopy', 'CompleteMultipartUpload'] }, { kind: 'error-in-200', code: 'InternalError' })
  await t.rejects(store.copy('k', 'l'), { code: 'OBJECT_STORE_FAILED', cause: { name: 'InternalError' } })
  const upload = { key: 'l', ...await store.createMultipart('l') }
  await t.rejects(store.copyPart(upload, 1, 'k'), { cause: { name: 'InternalError' } })
  const part = await store.putPart(upload, 1, Buffer.from('x'), { size: 1 })
  await t.rejects(store.completeMultipart(upload, [part]), { cause: { name: 'InternalError' } })
  t.notOk(stub.objects.has('l'))
})

t.test('an answer without an ETag is followed by HEAD', async t => {
  const { stub, store } = await openStub(t)
  stub.fault({ operation: ['PutObject', 'CopyObject', 'CompleteMultipartUpload'] }, { kind: 'no-etag' })
  const { etag } = await store.put('k', Buffer.from('bytes'), { size: 5 })
  t.equal(etag, stub.objects.get('k')?.etag)
  t.equal((await store.copy('k', 'l')).etag, stub.objects.get('l')?.etag)
  const upload = { key: 'm', ...await store.createMultipart('m') }
  const { etag: completed } = await store.completeMultipart(upload, [await store.putPart(upload, 1, Buffer.from('x'), { size: 1 })])
  t.equal(completed, stub.objects.get('m')?.etag)
})

t.test('a store that ignores conditions on reading is found out', async t => {
  const { stub, store } = await openStub(t)
  const { etag } = await store.put('k', Buffer.from('one'), { size: 3 })
  await store.put('k', Buffer.from('two'), { size: 3 })
  stub.fault({ operation: 'GetObject' }, { kind: 'ignore-headers', names: ['if-match', 'range'] })
  await t.rejects(store.open('k', { ifMatch: etag }), ObjectPreconditionFailed)
  await t.rejects(store.open('k', { range: { start: 1, end: 1 } }), ObjectStoreFailed)
})

t.test('a refused copy with two conditions says which one failed', async t => {
  const { stub, store } = await openStub(t)
  const { etag } = await store.put('from', Buffer.from('one'), { size: 3 })
  stub.fault({ operation: 'CopyObject' }, { kind: 'answer', status: 412, code: 'PreconditionFailed' })
  await t.rejects(store.copy('from', 'to', { createOnly: true, sourceETag: etag }), ObjectAlreadyExists)
  await t.rejects(store.copy('from', 'to', { createOnly: true }), ObjectAlreadyExists)
  await t.rejects(store.copy('from', 'to', { createOnly: true, sourceETag: 'other' }), ObjectPreconditionFailed)
  await t.rejects(store.copy('gone', 'to', { createOnly: true, sourceETag: etag }), ObjectNotFound)
})

t.test('a conflict with another conditional write is tried again, a bounded number of times', async t => {
  const { stub, store } = await openStub(t)
  await store.put('from', Buffer.from('one'), { size: 3 })
  for (const operation of ['CopyObject', 'PutObject'] as const) {
    for (const nth of [1, 1, 1]) stub.fault({ operation, nth }, { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' })
  }
  await store.copy('from', 'to', { createOnly: true })
  await store.put('bytes', Buffer.from('x'), { size: 1, createOnly: true })
  stub.fault({ operation: 'CopyObject' }, { kind: 'answer', status: 409, code: 'ConditionalRequestConflict' })
  await t.rejects(soon(store.copy('from', 'to', { createOnly: true }), 5000), { code: 'OBJECT_STORE_FAILED', cause: { name: 'ConditionalRequestConflict' } })
})

t.test('a source over the limit of one copy is copied by ranges, and no byte passes here', async t => {
  const { stub, store } = await openStub(t, { copyMaxBytes: 400 })
  const bytes = Buffer.from(Array.from({ length: 1001 }, (_, index) => index % 256))
  const { etag } = await store.put('from', bytes, { size: bytes.length })
  stub.fault({ operation: 'CopyObject' }, { kind: 'answer', status: 400, code: 'InvalidRequest' })
  const seen = stub.requests.length
  await store.copy('from', 'to', { sourceETag: etag, createOnly: true, contentType: 'text/x' })
  t.ok(bytes.equals(stub.objects.get('to')!.bytes))
  t.equal(stub.objects.get('to')!.contentType, 'text/x')
  t.equal(stub.requests.slice(seen).filter(({ operation }) => operation === 'UploadPartCopy').length, 3)
  t.notOk(stub.requests.slice(seen).some(({ operation }) => operation === 'GetObject' || operation === 'UploadPart' || operation === 'PutObject'))
  await t.rejects(store.copy('from', 'to', { createOnly: true }), ObjectAlreadyExists)
  t.equal(stub.uploads.size, 0, 'an upload that is refused is aborted')
})

t.test('a bucket that is not there is said to be so, and can be made', async t => {
  const { store } = await openStub(t, {}, { bucketExists: false })
  await t.rejects(store.check(), BucketNotFound)
  await t.rejects(store.put('k', Buffer.from('x'), { size: 1 }), BucketNotFound)
  await t.rejects(store.put('k', pieces(Buffer.from('x'), 1), { size: 1 }), BucketNotFound)
  await store.createBucket()
  await store.createBucket()
  await store.check()
})

t.test('a bucket of somebody else is not taken for ours', async t => {
  const { stub, store } = await openStub(t, {}, { bucketExists: false })
  stub.fault({ operation: 'CreateBucket' }, { kind: 'answer', status: 409, code: 'BucketAlreadyExists' })
  await t.rejects(store.createBucket(), BucketNotFound)
})

t.test('a server that is not there, and one that does not speak S3, are store failures', async t => {
  const server = createServer((_, response) => response.end('hello')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { store } = await openStub(t, { endpoint })
  const listing = async (): Promise<void> => { for await (const _ of store.list('')); }
  await t.rejects(soon(store.head('k')), ObjectStoreFailed)
  await t.rejects(soon(store.copy('k', 'l')), ObjectStoreFailed)
  const closed = once(server, 'close')
  server.close().closeAllConnections()
  await closed
  await t.rejects(soon(store.check()), { code: 'OBJECT_STORE_FAILED', cause: { code: 'ECONNREFUSED' } })
  await t.rejects(soon(store.put('k', endless(), { size: 1000 * MIB })), { code: 'OBJECT_STORE_FAILED', cause: { code: 'ECONNREFUSED' } })
  await t.rejects(soon(listing()), ObjectStoreFailed)
})

t.test('errors carry no key, secret or signature, whatever the server says', async t => {
  const { stub, store } = await openStub(t, { accessKeyId: 'AKIAVERYSECRET', secretAccessKey: 'the-secret-itself' })
  stub.fault({}, { kind: 'answer', status: 403, code: 'SignatureDoesNotMatch AKIAVERYSECRET the-secret-itself' })
  const errors = await Promise.all([
    store.head('k'), store.open('k'), store.put('k', Buffer.from('x'), { size: 1 }), store.copy('k', 'l')
  ].map(attempt => attempt.then(() => undefined, (error: Error) => error)))
  for (const error of errors) {
    t.type(error, ObjectStoreFailed)
    const all = [error!.message, error!.stack, JSON.stringify(error), JSON.stringify(error!.cause), String(error!.cause), (error!.cause as Error).stack].join()
    t.notMatch(all, /AKIAVERYSECRET|the-secret-itself|Signature=/)
  }
})

t.test('more requests than connections wait for one, and none of them fails because it waited', async t => {
  const { stub, store } = await openStub(t, { maxSockets: 2 })
  stub.fault({ operation: 'PutObject' }, { kind: 'delay', ms: 50 })
  await Promise.all(Array.from({ length: 12 }, (_, n) => store.put(`k/${n}`, pieces(Buffer.alloc(1000), 100), { size: 1000 })))
  t.equal(stub.objects.size, 12)
  t.equal(await stub.connections(), 2)
})

t.test('an object whose age the store does not tell is taken for new, which nobody removes', async t => {
  const { stub, store } = await openStub(t)
  await store.put('k', Buffer.from('x'), { size: 1 })
  stub.fault({}, { kind: 'no-last-modified' })
  const before = Date.now()
  const [listed] = await Array.fromAsync(store.list(''))
  t.ok(listed!.lastModified.getTime() >= before)
  t.ok((await store.head('k'))!.lastModified.getTime() >= before)
})
