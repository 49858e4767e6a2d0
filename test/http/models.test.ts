/** Models from upload to answer, over the whole service and its workers. */
import t from 'tap'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { keysOf } from '../support/nothing-left.ts'
import { ADMIN, startApp, type StartedApp } from '../support/start-app.ts'

const BUILT_IN = join(import.meta.dirname, '../../src/inference/models')
const WORKER = { ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu' }

async function staged(app: StartedApp, bytes: Uint8Array): Promise<string> {
  const { status, body } = await app.upload(bytes, { kind: 'model', filename: 'model.onnx' })
  if (status !== 200) throw new Error(`the upload was answered ${status}`)
  return body.upload.key as string
}

const manifest = (more: object = {}): string => JSON.stringify({ name: 'mine', version: 1, task: 'tensor', ...more })
const inputs = [{ name: 'x', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4.5] }]

t.test('a model is uploaded, finalized and run; the built-in ones are there from the start', async t => {
  const app = await startApp(t, WORKER)
  const index = await app.post('/v2/repository/index', {})
  t.ok(index.body.length >= 4 && index.body.every(({ state }: { state: string }) => state === 'READY'), 'built in')

  const bytes = await readFile(join(BUILT_IN, 'identity/1/model.onnx'))
  const key = await staged(app, bytes)
  const finalized = await app.post('/finalize', { key, manifestJson: manifest({ version: '1.2.0' }) })
  t.match(finalized, { status: 200, body: { model: { name: 'mine', version: '1.2.0' }, canonicalKey: /model\.onnx$/, manifestKey: /manifest\.json$/ } })
  const metadata = await (await fetch(`${app.url}/v2/models/mine`, { headers: ADMIN })).json() as { inputs: { name: string }[] }
  t.match(metadata, { name: 'mine', versions: ['1.2.0'], platform: 'onnx_onnxv1', inputs: [{ datatype: 'FP32' }] })
  const name = metadata.inputs[0]!.name
  const answer = await app.post('/v2/models/mine/infer', { id: '7', inputs: [{ ...inputs[0], name }] })
  t.match(answer, { status: 200, body: { id: '7', model_name: 'mine', model_version: '1.2.0', outputs: [{ datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4.5] }] } })
})

t.test('a file that is no model is refused with the reason of the runtime, and is not kept', async t => {
  const app = await startApp(t, WORKER)
  const before = await keysOf(app)
  const whole = await readFile(join(BUILT_IN, 'upscale-2x/1/model.onnx'))
  for (const [what, bytes] of [['text', Buffer.from('no model at all')], ['cut', whole.subarray(0, Math.floor(whole.length / 2))], ['zeros', Buffer.alloc(1000)]] as const) {
    const key = await staged(app, bytes)
    const { status, body } = await app.post('/finalize', { key, manifestJson: manifest() })
    t.match([status, body], [400, { code: 'INVALID_MODEL', error: /^the model does not load: .+/ }], what)
    t.notMatch(body.error, app.dataDir, `${what}: no path of ours`)
    await app.post('/abort', { key })
  }
  t.same(await keysOf(app), before)
})

t.test('a model that nobody knows, and input that does not fit, are said so', async t => {
  const app = await startApp(t, WORKER)
  t.match(await app.post('/v2/models/nobody/infer', { inputs }), { status: 404, body: { error: /nobody/ } })
  t.match(await app.post('/v2/models/identity/infer', { inputs: [{ ...inputs[0], datatype: 'INT8', data: [1, 2, 3, 4] }] }), { status: 400, body: { error: /^input "x" is INT8/ } })
})
