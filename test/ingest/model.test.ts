import t from 'tap'
import type { Test } from 'tap'
import { randomUUID } from 'node:crypto'
import pLimit from 'p-limit'
import { readConfig } from '../../src/config.ts'
import { localAdmin } from '../../src/identity/credentials.ts'
import { InferenceFailed, type InferencePool } from '../../src/inference/port.ts'
import type { IngestContext } from '../../src/ingest/context.ts'
import { finalizeUpload, type FinalizeRequest } from '../../src/ingest/finalize.ts'
import { profilesOf } from '../../src/ingest/profiles.ts'
import { runningUploads } from '../../src/ingest/running.ts'
import { createSlots } from '../../src/ingest/slots.ts'
import { canonicalKey, manifestKey, stagingKey } from '../../src/objects/keys.ts'
import { digest, modelStores, scriptedImport } from '../support/model-stores.ts'
import { SIGNATURE } from '../support/model-rows.ts'

async function start(t: Test, checkModel?: InferencePool['checkModel']) {
  const stores = await modelStores(t)
  const { store, records } = stores
  await stores.readiness.ensure()
  const config = readConfig({})
  const running = runningUploads(records.uploads, () => {})
  t.teardown(() => running.close())
  const context: IngestContext = {
    config, store, records, running, readiness: stores.readiness, profiles: profilesOf(config), slots: createSlots(4, 1),
    spareParts: [], manifestReaders: pLimit(1), trust: undefined, checkModel: checkModel ?? scriptedImport(stores).pool.checkModel
  }
  return {
    ...stores,
    async stage(bytes: string): Promise<string> {
      const key = stagingKey(randomUUID(), 'model.onnx')
      await store.put(key, Buffer.from(bytes), { size: Buffer.byteLength(bytes) })
      return key
    },
    finalize: (request: FinalizeRequest) => finalizeUpload(context, request, { principal: localAdmin, log: stores.log })
  }
}

const manifest = (more: object = {}): string => JSON.stringify({ name: 'sharpen', version: 1, task: 'image-to-image', ...more })

t.test('a model is loaded, and is then an object with a manifest and a row; asked again, the answer is the same', async t => {
  const { stage, finalize, records, keys, json } = await start(t)
  const key = await stage('weights')
  const sha256 = digest('weights')
  const answer = await finalize({ key, manifestJson: manifest() })
  t.same(answer, {
    contentHash: sha256, canonicalKey: canonicalKey(sha256, 'model.onnx'), size: 7, contentType: 'application/octet-stream', deduplicated: false,
    model: { name: 'sharpen', version: '1' }, manifestKey: manifestKey(sha256)
  })
  t.match(await records.models.find('sharpen'), { version: '1', task: 'image-to-image', sha256, size: 7, manifest: { version: 1 }, signature: SIGNATURE, loaded: true })
  t.same(await keys(), [manifestKey(sha256), canonicalKey(sha256, 'model.onnx')].toSorted(), 'staging is empty')
  t.same(await json(manifestKey(sha256)), JSON.parse(manifest()))
  t.same(await finalize({ key, manifestJson: manifest() }), answer)
})

t.test('without a manifest, or with one that is not right, nothing is loaded or kept', async t => {
  let loads = 0
  const { stage, finalize, keys } = await start(t, async () => {
    loads += 1
    return SIGNATURE
  })
  const key = await stage('weights')
  for (const manifestJson of [undefined, '', ' ']) await t.rejects(finalize({ key, ...(manifestJson !== undefined && { manifestJson }) }), { code: 'MANIFEST_REQUIRED' })
  for (const [manifestJson, issues] of [
    ['{', [{ path: '', message: /^must be JSON/ }]], ['[]', [{ path: '', message: 'must be object' }]], ['{}', [{ path: 'name' }, { path: 'version' }, { path: 'task' }]],
    [manifest({ version: '1.2' }), [{ path: 'version', message: 'must be a whole number from 1, or X.Y.Z' }]],
    [manifest({ input: { layout: 'CHW' } }), [{ path: 'input.layout', message: 'must be one of NCHW, NHWC' }]],
    [manifest({ colour: 1 }), [{ path: 'colour', message: 'is no key of a manifest' }]],
    [manifest({ description: 'x'.repeat(2_000_000) }), [{ path: '', message: 'must be at most 1048576 bytes' }]]
  ] as const) {
    await t.rejects(finalize({ key, manifestJson }), { code: 'INVALID_MANIFEST', details: { issues } }, manifestJson.slice(0, 40))
  }
  t.equal(loads, 0)
  t.same(await keys(), [key], 'it stays staged, to be finalized with a better one')
})

t.test('a file that does not load is refused with the runtime\'s reason, and stays staged', async t => {
  const { stage, finalize, keys, records } = await start(t)
  const key = await stage('bad bytes')
  await t.rejects(finalize({ key, manifestJson: manifest() }), { code: 'INVALID_MODEL', message: 'the model does not load: protobuf parsing failed' })
  t.same(await keys(), [key])
  t.same(await records.models.list(), [])
})

t.test('what is no fault of the model is not said to be one', async t => {
  let thrown: unknown
  const { stage, finalize, keys } = await start(t, async () => { throw thrown })
  const key = await stage('weights')
  for (const [code, expected] of [['worker_lost', 'SERVICE_BUSY'], ['busy', 'SERVICE_BUSY'], ['shutdown', 'SERVICE_BUSY'], ['resource_exhausted', 'SERVICE_BUSY'], ['storage_failed', 'S3_GET_FAILED'], ['timeout', 'INVALID_MODEL']] as const) {
    thrown = new InferenceFailed(code, 'why')
    await t.rejects(finalize({ key, manifestJson: manifest() }), { code: expected }, code)
  }
  thrown = new TypeError('a fault of ours')
  await t.rejects(finalize({ key, manifestJson: manifest() }), thrown as TypeError)
  t.same(await keys(), [key])
})

t.test('a version that is taken is refused for other bytes, before they are loaded, and repeated for the same', async t => {
  const loads: string[] = []
  const { stage, finalize, keys, records } = await start(t, async ({ sha256 }) => {
    loads.push(sha256)
    return SIGNATURE
  })
  await finalize({ key: await stage('first'), manifestJson: manifest() })
  const other = await stage('second')
  await t.rejects(finalize({ key: other, manifestJson: manifest() }), { code: 'MODEL_VERSION_EXISTS', details: { content_hash: digest('first') } })
  await t.rejects(finalize({ key: other, manifestJson: manifest({ version: '1' }) }), { code: 'MODEL_VERSION_EXISTS' }, '1 and "1" are one version')
  t.same(loads, [digest('first')])
  t.match(await finalize({ key: await stage('first'), manifestJson: manifest() }), { deduplicated: true, model: { name: 'sharpen', version: '1' } })
  t.match(await finalize({ key: other, manifestJson: manifest({ version: 2 }) }), { model: { version: '2' } })
  t.equal((await records.models.list()).length, 2)
  t.equal((await keys()).length, 4)
})

t.test('of two finalizes that race for one version with other bytes one wins, and the other is told', async t => {
  const { stage, finalize, records } = await start(t)
  const staged = await Promise.all(['first', 'second'].map(stage))
  const outcomes = await Promise.allSettled(staged.map(key => finalize({ key, manifestJson: manifest() })))
  t.same(outcomes.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
  t.match(outcomes.find(({ status }) => status === 'rejected'), { reason: { code: 'MODEL_VERSION_EXISTS' } })
  t.equal((await records.models.list()).length, 1)
})

t.test('the manifest object is that of the first model with these bytes', async t => {
  const { stage, finalize, json } = await start(t)
  await finalize({ key: await stage('same'), manifestJson: manifest() })
  await finalize({ key: await stage('same'), manifestJson: manifest({ name: 'other' }) })
  t.match(await json(manifestKey(digest('same'))), { name: 'sharpen' })
})
