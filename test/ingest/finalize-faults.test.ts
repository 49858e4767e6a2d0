import t from 'tap'
import { createHash, randomBytes } from 'node:crypto'
import { bundleBytes } from '../support/bundles.ts'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { goesOn, isFailure, startOverStub } from '../support/over-stub.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import type { S3Stub } from '../support/s3-stub.ts'
import type { StartedApp } from '../support/start-app.ts'
import { sweepNow } from '../support/sweep-now.ts'

const canonical = /^sha256\/[0-9a-f]{64}\/object$/

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function uploaded(app: StartedApp, bytes: Uint8Array, query: Record<string, string> = {}): Promise<string> {
  const { status, body } = await app.upload(bytes, query)
  if (status !== 200) throw new Error(`the upload was answered ${status}`)
  return body.upload.key as string
}

/** What the store does: it takes conditions on creating and ignores them. */
function ignoresCreateOnly(stub: S3Stub, operation: 'PutObject' | 'CopyObject' | 'CompleteMultipartUpload'): void {
  stub.fault({ operation, header: 'if-none-match' }, { kind: 'ignore-headers', names: ['if-none-match', 'x-amz-copy-source-if-match'] })
}

t.test('HEAD that fails is told as such, and finalize succeeds when it works again', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = over.stub.fault({ operation: 'HeadObject', key }, { kind: 'answer', status: 500, code: 'InternalError' })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'S3_HEAD_FAILED')
  undo()
  const { status, body } = await over.app.post('/finalize', { key })
  t.match([status, body], [200, { deduplicated: false }])
  await goesOn(t, over, [body.canonicalKey])
})

t.test('reading back that breaks off is told as such, and nothing is recorded', async t => {
  const over = await startOverStub(t, { FINALIZE_REHASH: 'always' })
  const bytes = randomBytes(500_000)
  const key = await uploaded(over.app, bytes)
  const undo = over.stub.fault({ operation: 'GetObject', key }, { kind: 'cut-download', afterBytes: 100_000 })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'S3_GET_FAILED')
  t.same(await keysOf(over.app), [key])
  undo()
  const { status, body } = await over.app.post('/finalize', { key })
  t.match([status, body], [200, { contentHash: digest(bytes) }])
  await goesOn(t, over, [body.canonicalKey])
})

t.test('a copy that answers 200 with an error in its body has failed; nothing is recorded, and a retry succeeds', async t => {
  const over = await startOverStub(t)
  const bytes = randomBytes(1000)
  const key = await uploaded(over.app, bytes)
  const undo = over.stub.fault({ operation: 'CopyObject', key: canonical }, { kind: 'error-in-200', code: 'InternalError' })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'COPY_FAILED')
  t.same(await keysOf(over.app), [key])
  isFailure(t, await over.app.post('/finalize', { key: `sha256/${digest(bytes)}/object` }), 400, 'STAGING_NOT_FOUND')
  undo()
  const { status, body } = await over.app.post('/finalize', { key })
  t.match([status, body], [200, { deduplicated: false, canonicalKey: `sha256/${digest(bytes)}/object` }])
  await goesOn(t, over, [body.canonicalKey])
})

t.test('where copies are made as multipart uploads, a complete that answers 200 with an error leaves no upload', async t => {
  const over = await startOverStub(t, {}, { prepare: stub => ignoresCreateOnly(stub, 'CopyObject') })
  t.match(over.app.logged('objects.probe.done'), [{ createOnlyCopy: 'multipart' }])
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = over.stub.fault({ operation: 'CompleteMultipartUpload', key: canonical }, { kind: 'error-in-200', code: 'InternalError' })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'COPY_FAILED')
  t.same(await keysOf(over.app), [key])
  t.equal(over.stub.uploads.size, 0)
  undo()
  const { status, body } = await over.app.post('/finalize', { key })
  t.equal(status, 200)
  await goesOn(t, over, [body.canonicalKey])
})

t.test('a multipart upload that could not be aborted either is found by the sweeper', async t => {
  const over = await startOverStub(t, {}, { prepare: stub => ignoresCreateOnly(stub, 'CopyObject') })
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = [
    over.stub.fault({ operation: 'UploadPartCopy', key: canonical }, { kind: 'answer', status: 500, code: 'InternalError' }),
    over.stub.fault({ operation: 'AbortMultipartUpload', key: canonical }, { kind: 'answer', status: 500, code: 'InternalError' })
  ]
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'COPY_FAILED')
  t.equal(over.stub.uploads.size, 1)
  for (const end of undo) end()
  await sweepNow(over.app)
  t.equal(over.stub.uploads.size, 0)
  await nothingLeft(over.app)
})

t.test('a canonical object that cannot be confirmed is not recorded; the retry finds it there', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = over.stub.fault({ operation: 'HeadObject', key: canonical }, { kind: 'answer', status: 500, code: 'InternalError' })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'CANONICAL_MISSING')
  undo()
  const lies = over.stub.fault({ operation: 'HeadObject', key: canonical }, { kind: 'answer', status: 404, code: 'NotFound' })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'CANONICAL_MISSING')
  lies()
  const { status, body } = await over.app.post('/finalize', { key })
  t.match([status, body], [200, { deduplicated: true }])
  await goesOn(t, over, [body.canonicalKey])
})

t.test('a manifest that cannot be stored fails finalize, and a retry succeeds', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, await bundleBytes(), { filename: 'a.tar.zst' })
  const undo = over.stub.fault({ operation: 'PutObject', key: /manifest\.json$/ }, { kind: 'answer', status: 500, code: 'InternalError' })
  isFailure(t, await over.app.post('/finalize', { key }), 500, 'MANIFEST_STORE_FAILED')
  t.match(await (await fetch(`${over.app.url}/extensions`)).json(), { items: [] }, 'nothing is recorded')
  undo()
  const { status, body } = await over.app.post('/finalize', { key })
  t.match([status, body], [200, { version: { version: '1.2.3' } }])
  await goesOn(t, over, [body.canonicalKey, body.manifestKey])
})

const manifestOf = (version: string): string => JSON.stringify({ name: 'demo', version, runtime: 'node@24' })

t.test('a manifest whose version was never recorded gives way to that of the first version with these bytes', async t => {
  const over = await startOverStub(t)
  const bytes = await bundleBytes()
  const key = await uploaded(over.app, bytes, { filename: 'a.tar.zst' })
  const aborted = over.stub.fault({ operation: 'PutObject', key: /manifest\.json$/ }, { kind: 'before', run: async () => { await over.app.post('/abort', { key }) } })
  isFailure(t, await over.app.post('/finalize', { key, manifestJson: manifestOf('1.0.0') }), 400, 'STAGING_NOT_FOUND')
  aborted()
  const stored = (): unknown => JSON.parse(over.stub.objects.get(`sha256/${digest(bytes)}/manifest.json`)!.bytes.toString())
  t.match(stored(), { version: '1.0.0' }, 'what it left')
  const answers = []
  for (const version of ['1.0.1', '1.0.2']) {
    answers.push(await over.app.post('/finalize', { key: await uploaded(over.app, bytes, { filename: 'a.tar.zst' }), manifestJson: manifestOf(version) }))
    t.match(stored(), { version: '1.0.1' })
  }
  t.same(answers.map(answer => answer.status), [200, 200])
  await goesOn(t, over, [answers[0]!.body.canonicalKey, answers[0]!.body.manifestKey])
})

t.test('a manifest object that cannot be compared does not undo the version, and is named in the log', async t => {
  const over = await startOverStub(t)
  const bytes = await bundleBytes()
  const versions = ['1.0.0', '1.0.1']
  const undo = over.stub.fault({ operation: 'GetObject', key: /manifest\.json$/ }, { kind: 'answer', status: 500, code: 'InternalError' })
  for (const version of versions) {
    const { status } = await over.app.post('/finalize', { key: await uploaded(over.app, bytes, { filename: 'a.tar.zst' }), manifestJson: manifestOf(version) })
    t.equal(status, 200)
  }
  undo()
  t.match(over.app.logged('ingest.finalize.manifest_left'), [{ key: `sha256/${digest(bytes)}/manifest.json` }])
  await goesOn(t, over, [`sha256/${digest(bytes)}/bundle.tar.zst`, `sha256/${digest(bytes)}/manifest.json`])
})

t.test('staging that cannot be deleted does not fail finalize, and is swept', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = over.stub.fault({ operation: 'DeleteObject', key }, { kind: 'answer', status: 500, code: 'InternalError' })
  const { status, body } = await over.app.post('/finalize', { key })
  t.equal(status, 200)
  t.match(over.app.logged('ingest.finalize.staging_left'), [{ key }])
  isFailure(t, await over.app.post('/abort', { key }), 500, 'S3_DELETE_FAILED')
  undo()
  t.same((await keysOf(over.app)).toSorted(), [key, body.canonicalKey].toSorted())
  t.same((await over.app.post('/finalize', { key })).body, body, 'finalizing again gives the same answer')
  await sweepNow(over.app)
  await goesOn(t, over, [body.canonicalKey])
})

t.test('a store that ignores every condition is found out, and changed staging is still never published', async t => {
  const over = await startOverStub(t, {}, {
    prepare(stub) {
      for (const operation of ['PutObject', 'CopyObject', 'CompleteMultipartUpload'] as const) ignoresCreateOnly(stub, operation)
      stub.fault({ header: 'x-amz-copy-source-if-match' }, { kind: 'ignore-headers', names: ['x-amz-copy-source-if-match'] })
    }
  })
  t.match(over.app.logged('objects.probe.done'), [{ createOnlyCopy: 'head-then-copy', createOnlyPut: false, sourceCondition: false }])
  const first = await uploaded(over.app, randomBytes(1000))
  const { body } = await over.app.post('/finalize', { key: first })
  t.match(body, { deduplicated: false })

  const key = await uploaded(over.app, randomBytes(1000))
  const change = (): void => { over.stub.objects.set(key, { ...over.stub.objects.get(key)!, bytes: randomBytes(1000), etag: 'f'.repeat(32) }) }
  const undo = over.stub.fault({ operation: 'CopyObject', key: canonical }, { kind: 'before', run: change })
  isFailure(t, await over.app.post('/finalize', { key }), 409, 'STAGING_CHANGED')
  t.same((await keysOf(over.app)).toSorted(), [key, body.canonicalKey].toSorted(), 'what was copied of it is gone again')
  undo()
  isFailure(t, await over.app.post('/finalize', { key }), 409, 'STAGING_CHANGED')
  t.equal((await over.app.post('/abort', { key })).status, 200)
  await goesOn(t, over, [body.canonicalKey])
})

t.test('staging that is overwritten between the look at it and the copy is never published', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  const change = (): void => { over.stub.objects.set(key, { ...over.stub.objects.get(key)!, bytes: randomBytes(1000), etag: 'f'.repeat(32) }) }
  const undo = over.stub.fault({ operation: 'CopyObject', key: canonical }, { kind: 'before', run: change })
  isFailure(t, await over.app.post('/finalize', { key }), 409, 'STAGING_CHANGED')
  t.same(await keysOf(over.app), [key])
  undo()
  t.equal((await over.app.post('/abort', { key })).status, 200)
  await goesOn(t, over)
})

t.test('staging that vanishes between the look at it and the copy is told as missing', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = over.stub.fault({ operation: 'CopyObject', key: canonical }, { kind: 'before', run: () => void over.stub.objects.delete(key) })
  isFailure(t, await over.app.post('/finalize', { key }), 400, 'STAGING_NOT_FOUND')
  undo()
  await goesOn(t, over)
})

t.test('finalize moves no byte of the object through the process', async t => {
  for (const prepare of [() => {}, (stub: S3Stub) => ignoresCreateOnly(stub, 'CopyObject')]) {
    const over = await startOverStub(t, {}, { prepare })
    const key = await uploaded(over.app, randomBytes(3_000_000))
    const before = over.stub.requests.length
    t.equal((await over.app.post('/finalize', { key })).status, 200)
    const requests = over.stub.requests.slice(before)
    t.ok(requests.some(each => each.operation === 'CopyObject' || each.operation === 'UploadPartCopy'))
    t.notOk(requests.some(each => each.operation === 'GetObject' || each.operation === 'PutObject' || each.operation === 'UploadPart'))
    const moved = requests.reduce((sum, each) => sum + each.received + (each.method === 'HEAD' ? 0 : each.sent), 0)
    t.ok(moved < 10_000, `${moved} bytes of requests and answers`)
  }
})

t.test('an object of another size under the same hash is a conflict, and is left alone', async t => {
  const over = await startOverStub(t)
  const bytes = randomBytes(1000)
  const key = await uploaded(over.app, bytes)
  const taken = `sha256/${digest(bytes)}/object`
  const there = { bytes: Buffer.from('shorter'), etag: 'e'.repeat(32), lastModified: new Date(), contentType: undefined, cacheControl: undefined }
  over.stub.objects.set(taken, there)
  const answer = await over.app.post('/finalize', { key })
  isFailure(t, answer, 409, 'OBJECT_EXISTS')
  t.same(answer.body.details, { key: taken })
  t.equal(over.stub.objects.get(taken), there)
  t.same((await keysOf(over.app)).toSorted(), [key, taken].toSorted())
})

t.test('a finalize whose client did not wait for the answer gives it to the retry', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  const undo = over.stub.fault({ operation: 'CopyObject', key: canonical }, { kind: 'delay', ms: 200 })
  const client = await rawClient(over.app.port)
  const body = JSON.stringify({ key })
  client.send(`POST /finalize HTTP/1.1\r\nhost: 127.0.0.1\r\nx-alga-admin: true\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
  await over.stub.seen({ operation: 'CopyObject', key: canonical })
  client.hangUp()
  const retried = await over.app.post('/finalize', { key })
  t.equal(retried.status, 200)
  undo()
  await eventually(() => { if (over.app.logged('ingest.finalize.success').length < 2) throw new Error('the first goes on') })
  t.same((await over.app.post('/finalize', { key })).body, retried.body)
  await goesOn(t, over, [retried.body.canonicalKey])
})

t.test('a copy whose answer was lost is found to be there', async t => {
  const over = await startOverStub(t)
  const key = await uploaded(over.app, randomBytes(1000))
  over.stub.fault({ operation: 'CopyObject', key: canonical, nth: 1 }, { kind: 'cut-answer' })
  const { status, body } = await over.app.post('/finalize', { key })
  t.equal(status, 200)
  await goesOn(t, over, [body.canonicalKey])
})
