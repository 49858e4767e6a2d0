import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { stagingKey } from '../../src/objects/keys.ts'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { startOverStub } from '../support/over-stub.ts'
import { eventually } from '../support/raw-client.ts'
import type { S3Stub } from '../support/s3-stub.ts'
import { startApp } from '../support/start-app.ts'

const bytes = randomBytes(100_000)

function prepare(stub: S3Stub): void {
  stub.fault({ operation: 'PutObject', header: 'if-none-match' }, { kind: 'ignore-headers', names: ['if-none-match'] })
}

t.test('bytes that lie under an upload id already are not touched by an upload of that id', async t => {
  const uploadId = randomUUID()
  const key = stagingKey(uploadId, 'object')
  for (const [name, start] of [['files', () => startApp(t)], ['a store that ignores conditions', async () => {
    const over = await startOverStub(t, {}, { prepare })
    return over.app
  }]] as const) {
    const app = await start()
    const store = openObjectStore(app.config)
    t.teardown(() => store.close())
    await store.put(key, Buffer.from('of somebody else'), { size: 16 })
    t.match(await app.upload(bytes, { uploadId }), { status: 409, body: { code: 'UPLOAD_ID_IN_USE' } }, name)
    const { body } = await store.open(key)
    t.equal(Buffer.concat(await body.toArray()).toString(), 'of somebody else', name)
  }
})

t.test('an upload whose clean-up fails is failed all the same', async t => {
  const over = await startOverStub(t)
  const uploadId = randomUUID()
  over.stub.fault({ operation: 'PutObject', key: /_staging/ }, { kind: 'cut-answer' })
  over.stub.fault({ operation: 'DeleteObject' }, { kind: 'answer', status: 500, code: 'InternalError' })
  t.match(await over.app.upload(bytes, { uploadId }), { status: 500, body: { code: 'S3_PUT_FAILED' } })
  const records = openRecordStore(over.app.config)
  t.teardown(() => records.close())
  await eventually(async () => { assert.equal((await records.uploads.get(uploadId))?.status, 'failed') })
})
