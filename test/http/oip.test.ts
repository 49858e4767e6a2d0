import t from 'tap'
import type { Test } from 'tap'
import { gunzipSync, gzipSync, deflateSync, inflateSync } from 'node:zlib'
import { PenstockError } from '../../src/errors.ts'
import { oipRoutes } from '../../src/http/routes/oip.ts'
import { requireAdmin, requireCaller } from '../../src/identity/guards.ts'
import { InferenceFailed, type InferencePool, type RunRequest } from '../../src/inference/port.ts'
import { inferOnPool, type Infer } from '../../src/models/infer.ts'
import type { ModelRecord } from '../../src/records/jobs-port.ts'
import { modelRow, modelRows } from '../support/model-rows.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

const ADMIN = { 'x-alga-admin': 'true' }
const floats = (...values: number[]): Buffer => Buffer.from(new Float32Array(values).buffer)
const x = { name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2.5] }

/** y = x, as a pool with workers would do it. */
const identity: Infer = async ({ tensors, model }) => {
  const { outputs } = model.signature as { outputs: { name: string }[] }
  return tensors.map((tensor, index) => ({ ...tensor, name: outputs[index]!.name }))
}

interface Options { infer?: Infer, rows?: ModelRecord[], maxBytes?: number, env?: Record<string, string>, ready?: Edge['health']['ready'] }

async function start(t: Test, { infer = identity, rows = [modelRow()], maxBytes = 100_000, env = {}, ready }: Options = {}) {
  const health = { stopping: false, ready: ready ?? (async () => ({ ready: true, reasons: [] })) }
  const edge = await startEdge(t, {
    env,
    routes: [async (app, { config }) => {
      await app.register(oipRoutes, {
        models: modelRows(rows), infer, health, version: '0.1.0', inferMaxBytes: maxBytes,
        guards: { read: requireCaller(), infer: requireCaller(), admin: requireAdmin(config) }
      })
    }]
  })
  const post = (path: string, body?: string | Buffer, headers: Record<string, string> = {}) => fetch(`${edge.url}${path}`, { method: 'POST', headers, ...(body !== undefined && { body: body as NonNullable<RequestInit['body']> }) })
  const inferNow = async (request: unknown, headers: Record<string, string> = {}, path = '/v2/models/identity/infer') => {
    const answer = await post(path, typeof request === 'string' || Buffer.isBuffer(request) ? request : JSON.stringify(request), headers)
    const bytes = Buffer.from(await answer.arrayBuffer())
    const length = Number(answer.headers.get('inference-header-content-length') ?? bytes.length)
    return { status: answer.status, headers: answer.headers, json: JSON.parse(bytes.subarray(0, length).toString()), binary: bytes.subarray(length) }
  }
  return { ...edge, post, infer: inferNow, get: (path: string, headers = {}) => fetch(`${edge.url}${path}`, { headers }) }
}

/** An input of two floats that says it is so long. */
const ofSize = (bytes: number) => ({ inputs: [{ name: 'x', shape: [1, 2], datatype: 'FP32', parameters: { binary_data_size: bytes } }] })
const indexed = (version: string, state = 'READY') => ({ name: 'identity', version, state, reason: state === 'READY' ? '' : 'unloaded' })

/** JSON and what stands behind it, with the header that says where. */
function binaryBody(request: object, ...data: Uint8Array[]): [body: Buffer, headers: Record<string, string>] {
  const json = Buffer.from(JSON.stringify(request))
  return [Buffer.concat([json, ...data]), { 'inference-header-content-length': String(json.length), 'content-type': 'application/octet-stream' }]
}

t.test('the server says what it is, and whether it is there', async t => {
  let ready = true
  const { get, health: _, ...edge } = await start(t, { ready: async () => ({ ready, reasons: [] }) })
  t.same(await (await get('/v2')).json(), { name: 'penstock', version: '0.1.0', extensions: ['binary_tensor_data', 'model_repository'] })
  t.same(await (await get('/v2/health/live')).json(), { live: true })
  const answers = [await get('/v2/health/ready')]
  ready = false
  answers.push(await get('/v2/health/ready'))
  t.same(await Promise.all(answers.map(async each => [each.status, await each.json()])), [[200, { ready: true }], [503, { ready: false }]])
  t.ok(edge.url)
})

t.test('models say what they are: the named version, or the highest that is loaded', async t => {
  const rows = [modelRow({ version: '10', loaded: false }), modelRow({ version: '2' }), modelRow({ version: '1' })]
  const { get } = await start(t, { rows })
  for (const path of ['/v2/models/identity', '/v2/models/identity/versions/1']) {
    t.same(await (await get(path)).json(), {
      name: 'identity', versions: ['1', '2'], platform: 'onnx_onnxv1',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }], outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }],
      properties: { task: 'tensor', params: { type: 'object', properties: {}, additionalProperties: false } }
    }, path)
    t.same(await (await get(`${path}/ready`)).json(), { name: 'identity', ready: true }, path)
  }
  for (const path of ['/v2/models/identity/versions/10', '/v2/models/identity/versions/10/ready', '/v2/models/identity/versions/3', '/v2/models/other/ready']) {
    const answer = await get(path)
    t.equal(answer.status, 404, path)
    t.match(await answer.json(), { error: /^model "(identity|other)".* is not (here|loaded)/ }, path)
  }
})

t.test('tensors go in and out as JSON, flat or nested, with the id of the request', async t => {
  const { infer } = await start(t)
  const answer = await infer({ id: 'a-1', inputs: [x] }, { 'content-type': 'application/json' })
  t.equal(answer.status, 200)
  t.match(answer.headers.get('content-type'), /^application\/json/)
  t.same(answer.json, { model_name: 'identity', model_version: '1', id: 'a-1', outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [1, 2.5] }] })
  const nested = await infer({ inputs: [{ ...x, shape: [2, 2], data: [[1, 2], [3, 4]] }] })
  t.same(nested.json, { model_name: 'identity', model_version: '1', outputs: [{ name: 'y', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4] }] }, 'no Content-Type, no id')
  t.equal((await infer({ inputs: [x] }, {}, '/v2/models/identity/versions/1/infer')).status, 200)
})

t.test('tensors go in and out as binary data, each as it is asked for', async t => {
  const signature = {
    inputs: [{ name: 'a', datatype: 'FP32', shape: [-1] }, { name: 'b', datatype: 'BYTES', shape: [-1] }, { name: 'c', datatype: 'INT64', shape: [-1] }],
    outputs: [{ name: 'p', datatype: 'FP32', shape: [-1] }, { name: 'q', datatype: 'BYTES', shape: [-1] }, { name: 'r', datatype: 'INT64', shape: [-1] }]
  }
  const { infer } = await start(t, { rows: [modelRow({ signature })] })
  const texts = Buffer.from('0200000068690100000021', 'hex')
  const inputs = [
    { name: 'a', shape: [3], datatype: 'FP32', parameters: { binary_data_size: 12 } },
    { name: 'b', shape: [2], datatype: 'BYTES', parameters: { binary_data_size: texts.length } },
    { name: 'c', shape: [1], datatype: 'INT64', data: [7] }
  ]
  const all = await infer(...binaryBody({ inputs, parameters: { binary_data_output: true } }, floats(1, Number.NaN, 3), texts))
  t.equal(all.status, 200)
  t.equal(all.headers.get('content-type'), 'application/octet-stream')
  t.same(all.json.outputs, [
    { name: 'p', datatype: 'FP32', shape: [3], parameters: { binary_data_size: 12 } },
    { name: 'q', datatype: 'BYTES', shape: [2], parameters: { binary_data_size: texts.length } },
    { name: 'r', datatype: 'INT64', shape: [1], parameters: { binary_data_size: 8 } }
  ])
  t.same(all.binary, Buffer.concat([floats(1, Number.NaN, 3), texts, Buffer.from('0700000000000000', 'hex')]), 'NaN is a value as any other there')

  const mixed = await infer(...binaryBody({
    inputs, outputs: [{ name: 'p', parameters: { binary_data: true } }, { name: 'q' }, { name: 'r', parameters: { binary_data: false } }]
  }, floats(1, 2, 3), texts))
  t.same(mixed.json.outputs, [
    { name: 'p', datatype: 'FP32', shape: [3], parameters: { binary_data_size: 12 } },
    { name: 'q', datatype: 'BYTES', shape: [2], data: ['hi', '!'] }, { name: 'r', datatype: 'INT64', shape: [1], data: [7] }
  ])
  t.same(mixed.binary, floats(1, 2, 3))

  const unsaid = await infer(...binaryBody({ inputs }, floats(1, Number.NaN, 3), texts))
  t.same([unsaid.status, unsaid.json], [400, { error: 'tensor "p" holds NaN or infinity, which JSON cannot say: it has to be binary data' }])
})

t.test('bodies may be compressed, and so are answers where that is accepted', async t => {
  const { infer } = await start(t)
  const many = { inputs: [{ ...x, shape: [1000, 2], data: Array.from({ length: 2000 }, () => 1) }] }
  for (const [coding, compress, decompress] of [['gzip', gzipSync, gunzipSync], ['deflate', deflateSync, inflateSync]] as const) {
    const { status, headers, json } = await infer(compress(JSON.stringify(many)), { 'content-encoding': coding, 'accept-encoding': coding })
    t.same([status, headers.get('content-encoding'), json.outputs[0].data.length], [200, coding, 2000], `${coding}: undone by the client`)
    t.ok(decompress)
  }
  const [body, length] = binaryBody({ inputs: [{ name: 'x', shape: [1000, 2], datatype: 'FP32', parameters: { binary_data_size: 8000 } }], parameters: { binary_data_output: true } }, new Uint8Array(8000))
  const answer = await infer(gzipSync(body), { ...length, 'content-encoding': 'gzip', 'accept-encoding': 'gzip' })
  t.same([answer.status, answer.headers.get('content-encoding'), answer.binary.length], [200, 'gzip', 8000], 'the lengths are those without the coding')
  const plain = await infer(many, { 'accept-encoding': 'gzip;q=0, br' })
  t.same([plain.status, plain.headers.get('content-encoding')], [200, null])
  t.equal((await infer({ inputs: [x] }, { 'accept-encoding': 'gzip' })).headers.get('content-encoding'), null, 'not worth it')
})

t.test('a compressed body that is broken, unknown or a bomb is refused', async t => {
  const { infer } = await start(t, { maxBytes: 10_000 })
  const request = JSON.stringify({ inputs: [x] })
  const bomb = gzipSync(Buffer.concat([Buffer.from(request), Buffer.alloc(20_000_000, ' ')]))
  t.ok(bomb.length > 10_000)
  for (const [body, coding, status, message] of [
    [Buffer.from(request), 'gzip', 400, 'body is not valid gzip'],
    [gzipSync(request).subarray(0, -10), 'gzip', 400, 'body is not valid gzip'],
    [gzipSync(request), 'deflate', 400, 'body is not valid deflate'],
    [gzipSync(request), 'br', 415, 'this content coding is not supported here: gzip and deflate are'],
    [gzipSync(Buffer.alloc(1_000_000)), 'gzip', 413, 'the body is over the limit of 10000 bytes'],
    [bomb, 'gzip', 413, 'the body is over the limit of 10000 bytes']
  ] as const) {
    const answer = await infer(body, { 'content-encoding': coding })
    t.same([answer.status, answer.json], [status, { error: message }], `${coding} ${status}`)
  }
})

t.test('what does not fit is refused with what was expected, before anything runs', async t => {
  const { infer } = await start(t, { infer: async () => { throw new Error('it ran') } })
  const two = { inputs: [x, x] }
  for (const [request, message] of [
    [{ inputs: [{ ...x, datatype: 'FP64' }] }, 'input "x" is FP64, but the model takes FP32'],
    [{ inputs: [{ ...x, datatype: 'BF16' }] }, 'inputs.0.datatype must be one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES'],
    [{ inputs: [{ ...x, shape: [2] }] }, 'input "x" has shape [2], but the model takes [-1, 2]'],
    [{ inputs: [{ ...x, shape: [2, 1] }] }, 'input "x" has shape [2, 1], but the model takes [-1, 2]'],
    [{ inputs: [{ ...x, shape: [2, 2] }] }, 'tensor "x" has 2 elements, but its shape [2, 2] holds 4'],
    [{ inputs: [{ ...x, shape: [-1, 2] }] }, 'tensor "x" has a dimension of -1: they are whole numbers from 0 to 2147483647'],
    [{ inputs: [{ ...x, shape: '1' }] }, 'inputs.0.shape must be array'],
    [{ inputs: [{ ...x, data: [1, 'NaN'] }] }, 'tensor "x" has "NaN" as element 1, which must be a finite number that FP32 holds'],
    [{ inputs: [{ ...x, data: [1, null] }] }, 'tensor "x" has null as element 1, which must be a finite number that FP32 holds'],
    [{ inputs: [{ ...x, data: undefined }] }, 'tensor "x" has no data: it must be an array, flat or nested as the shape says'],
    [{ inputs: [{ ...x, name: 'z' }] }, '"z" is no input of this model: it has "x"'],
    [two, 'input "x" is there twice'],
    [{ inputs: [] }, 'inputs must NOT have fewer than 1 items'],
    [{}, 'inputs is required'],
    [{ inputs: [x], outputs: [{ name: 'z' }] }, '"z" is no output of this model: it has "y"'],
    [{ inputs: [x], outputs: [{ name: 'y' }, { name: 'y' }] }, 'output "y" is asked for twice'],
    [{ inputs: [x], outputs: [{ name: 'y', parameters: { classification: 3 } }] }, 'classification of output "y" is not supported here'],
    [{ inputs: [{ ...x, parameters: { shared_memory_region: 'r' } }] }, 'input "x" lies in shared memory, which is not supported here'],
    [{ inputs: [{ ...x, parameters: { binary_data_size: 8 } }] }, 'input "x" has data and a binary_data_size'],
    [{ inputs: [x], parameters: { binary_data_output: 'yes' } }, 'parameters.binary_data_output must be boolean'],
    ['{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,NaN]}]}', 'body is not valid JSON: it has no NaN and no infinity; send such tensors as binary data'],
    ['{"inputs":', 'body is not valid JSON'],
    ['[1]', 'body must be object'],
    ['['.repeat(50_000), 'body is not valid JSON'],
    [`{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":${'['.repeat(40_000)}${']'.repeat(40_000)}}]}`, 'tensor "x" is not nested as its shape [1, 2] says'],
    ['', 'body must be object']
  ] as const) {
    const answer = await infer(request)
    t.same([answer.status, answer.json], [400, { error: message }], message)
  }
})

t.test('a missing input is named', async t => {
  const inputs = ['x', 'v', 'w'].map(name => ({ name, datatype: 'FP32', shape: [-1, 2] }))
  const { infer } = await start(t, { rows: [modelRow({ signature: { inputs, outputs: [] } })] })
  t.same((await infer({ inputs: [x] })).json, { error: 'input "v", "w" is missing' })
})

t.test('lengths of binary data are held against the body', async t => {
  const { infer } = await start(t)
  for (const [size, data, message] of [
    [8, floats(1), 'the body ends before the 8 bytes of input "x"'],
    [8, floats(1, 2, 3), '4 bytes of the body belong to no input'],
    [4, floats(1), 'tensor "x" has 4 bytes of data, but 2 elements of FP32 by its shape [1, 2]'],
    [-8, floats(1, 2), 'inputs.0.parameters.binary_data_size must be >= 0']
  ] as const) {
    const answer = await infer(...binaryBody(ofSize(size), data))
    t.same([answer.status, answer.json], [400, { error: message }], message)
  }
  for (const [length, message] of [['x', 'must be a whole number'], ['-1', 'must be a whole number'], ['1e2', 'must be a whole number'], ['100000', 'is larger than the body']] as const) {
    const answer = await infer(binaryBody(ofSize(8), floats(1, 2))[0], { 'inference-header-content-length': length })
    t.same([answer.status, answer.json], [400, { error: `inference-header-content-length ${message}` }], length)
  }
})

t.test('large tensors of JSON come back whole', async t => {
  const { infer } = await start(t, { maxBytes: 10_000_000 })
  const data = Array.from({ length: 100_000 }, (_, index) => index / 8)
  const answer = await infer({ inputs: [{ ...x, shape: [50_000, 2], data }] })
  t.same(answer.json.outputs[0].data, data)
  t.same((await infer({ inputs: [{ ...x, shape: [0, 2], data: [] }] })).json.outputs[0], { name: 'y', datatype: 'FP32', shape: [0, 2], data: [] }, 'and those without elements')
})

t.test('limits: of a body, of the outputs, of what the manifest allows', async t => {
  const { infer } = await start(t, { maxBytes: 1000, rows: [modelRow(), modelRow({ name: 'tight', manifest: { limits: { maxTensorBytes: 8 } } })], infer: async ({ tensors }) => [{ ...tensors[0]!, name: 'y', shape: [200, 2], data: new Uint8Array(1600) }] })
  t.same(await infer('x'.repeat(1001)).then(({ status, json }) => [status, json]), [413, { error: 'the body is over the limit of 1000 bytes' }])
  t.same(await infer({ inputs: [x] }).then(({ status, json }) => [status, json]), [413, { error: 'the outputs have 1600 bytes, and at most 1000 are answered here: run it as a job' }])
  const large = await infer({ inputs: [{ ...x, shape: [2, 2], data: [1, 2, 3, 4] }] }, {}, '/v2/models/tight/infer')
  t.same([large.status, large.json], [400, { error: 'input "x" has 16 bytes, but this model takes at most 8' }])
})

t.test('failures of the pool are what the contract says', async t => {
  let failure: unknown
  const { infer } = await start(t, { infer: inferOnPool({ run: async () => { throw failure } }, { timeoutMs: 10_000 }) })
  for (const [thrown, status, text, retry] of [
    [new InferenceFailed('busy', 'all busy'), 429, 'all workers are busy, try again later', '1'],
    [new InferenceFailed('timeout', 'too slow'), 504, 'the model did not answer in time', null],
    [new InferenceFailed('invalid_input', 'it has no such axis'), 400, 'it has no such axis', null],
    [new InferenceFailed('invalid_model', 'it does not load'), 400, 'it does not load', null],
    [new InferenceFailed('worker_lost', 'SIGSEGV'), 503, 'the service is busy, try again later', '1'],
    [new InferenceFailed('shutdown', 'it stops'), 503, 'the service is busy, try again later', '1'],
    [new InferenceFailed('storage_failed', 'http://10.0.0.1 refused'), 502, 'object storage failed', null],
    [new InferenceFailed('internal_error', 'secret'), 500, 'something went wrong here', null],
    [new PenstockError('MODEL_NOT_FOUND'), 404, 'there is no such model', null],
    [new Error('secret'), 500, 'something went wrong here', null]
  ] as const) {
    failure = thrown
    const answer = await infer({ inputs: [x] })
    t.same([answer.status, answer.json, answer.headers.get('retry-after')], [status, { error: text }, retry], thrown.message)
  }
})

t.test('the pool gets the tensors, and is told when the client is gone or time is over', async t => {
  const asked: RunRequest[] = []
  const ends = Promise.withResolvers<string>()
  const pool: Pick<InferencePool, 'run'> = {
    async run(request, { signal, timeoutMs }) {
      asked.push(request)
      return await new Promise((_done, fail) => signal!.addEventListener('abort', () => {
        ends.resolve(`aborted of ${timeoutMs}`)
        fail(new InferenceFailed('cancelled', 'cancelled'))
      }))
    }
  }
  const patient = await start(t, { infer: inferOnPool(pool, { timeoutMs: 60_000 }) })
  const client = new AbortController()
  const call = fetch(`${patient.url}/v2/models/identity/infer`, { method: 'POST', body: JSON.stringify({ inputs: [x], outputs: [{ name: 'y' }] }), signal: client.signal })
  while (asked.length === 0) await new Promise(done => { setTimeout(done, 5) })
  client.abort()
  await t.rejects(call)
  t.equal(await ends.promise, 'aborted of 60000')
  t.match(asked, [{ task: 'tensor', model: { name: 'identity', version: '1', key: /model\.onnx$/ }, inputs: [], tensors: [{ name: 'x', shape: [1, 2] }], outputs: ['y'] }])

  const hasty = await start(t, { infer: inferOnPool(pool, { timeoutMs: 30 }) })
  const answer = await hasty.infer({ inputs: [x] })
  t.same([answer.status, answer.json], [504, { error: 'the model did not answer in time' }])
})

t.test('the repository is listed by callers, and changed by administrators', async t => {
  const { post, infer } = await start(t, { env: { ADMIN_TOKEN: 'a-token-of-the-admin', TRUST_ADMIN_HEADER: 'true' }, rows: [modelRow({ version: '2' }), modelRow()] })
  const index = async (body?: string) => (await post('/v2/repository/index', body, ADMIN)).json()
  t.same(await index(), [indexed('2'), indexed('1')], 'without a body, as Triton\'s client asks')
  t.equal((await post('/v2/repository/index')).status, 401)
  t.same([(await post('/v2/repository/models/identity/unload', '{}', { authorization: 'Bearer x' })).status], [401])

  const one = await post('/v2/repository/models/identity/unload', '{"parameters":{"version":"2"}}', ADMIN)
  t.same([one.status, await one.json()], [200, {}])
  t.same(await index(), [indexed('2', 'UNAVAILABLE'), indexed('1')])
  t.same(await index('{"ready":true}'), [indexed('1')])
  t.equal((await infer({ inputs: [x] }, ADMIN)).json.model_version, '1', 'the highest that is loaded')
  t.equal((await post('/v2/repository/models/identity/unload', '{"parameters":{"unload_dependents":false}}', ADMIN)).status, 200)
  t.match(await infer({ inputs: [x] }, ADMIN), { status: 404, json: { error: 'model "identity" is not here, or not loaded' } })
  t.equal((await post('/v2/repository/models/identity/load', undefined, ADMIN)).status, 200)
  t.same(await index(), [indexed('2'), indexed('1')])

  const unknown = await post('/v2/repository/models/other/load', '{}', ADMIN)
  t.same([unknown.status, await unknown.json()], [404, { error: 'there is no model "other"' }])
  const config = await post('/v2/repository/models/identity/load', '{"parameters":{"config":"{}"}}', ADMIN)
  t.same([config.status, await config.json()], [400, { error: 'the parameter config is not supported here: a model is uploaded and finalized' }])
})

t.test('the developer may look and run, but not load', async t => {
  const { post, infer } = await start(t)
  t.equal((await infer({ inputs: [x] })).status, 200)
  const answer = await post('/v2/repository/models/identity/unload', '{}')
  t.same([answer.status, await answer.json()], [403, { error: 'the credential lacks a required scope' }])
})

t.test('everything under /v2 speaks the protocol\'s errors: unknown paths, other methods, missing credentials', async t => {
  const { url, get, infer } = await start(t, { env: { ADMIN_TOKEN: 'a-token-of-the-admin' } })
  for (const [answer, status, text] of [
    [await get('/v2/systemsharedmemory/status', ADMIN), 404, 'there is no such route'],
    [await fetch(`${url}/v2/models/identity`, { method: 'DELETE' }), 405, 'this path does not take this method'],
    [await get('/v2/models/identity'), 401, 'a credential is required']
  ] as const) t.same([answer.status, await answer.json()], [status, { error: text }], text)
  t.same(await infer({ inputs: [x] }).then(({ status, json }) => [status, json]), [401, { error: 'a credential is required' }])
  t.match(await (await get('/elsewhere')).json(), { error: { code: 'not_found' } }, 'elsewhere nothing changes')
})

t.test('requests are counted where that is asked for', async t => {
  const { infer } = await start(t, { env: { INFER_RATE_LIMIT_MAX: '1' } })
  const statuses = [await infer({ inputs: [x] }), await infer({ inputs: [x] })]
  t.same(statuses.map(({ status }) => status), [200, 429])
  t.same(statuses[1]?.json, { error: 'too many requests' })
})

t.test('the documentation has the routes, with errors as they leave', async t => {
  const { app } = await start(t)
  const { paths } = (await app.inject('/openapi.json')).json<{ paths: Record<string, Record<string, { responses: Record<string, { content: object }> }>> }>()
  t.same(Object.keys(paths).filter(path => path.startsWith('/v2')).toSorted(), [
    '/v2', '/v2/health/live', '/v2/health/ready', '/v2/models/{name}', '/v2/models/{name}/infer', '/v2/models/{name}/ready', '/v2/models/{name}/versions/{version}',
    '/v2/models/{name}/versions/{version}/infer', '/v2/models/{name}/versions/{version}/ready', '/v2/repository/index',
    '/v2/repository/models/{name}/load', '/v2/repository/models/{name}/unload'
  ])
  const { responses } = paths['/v2/models/{name}/infer']!.post!
  t.same(Object.keys(responses), ['200', '400', '401', '403', '404', '408', '413', '415', '429', '500', '501', '502', '503', '504'])
  t.match(responses['504']?.content, { 'application/json': { schema: { $ref: '#/components/schemas/OipError' }, examples: { INFERENCE_TIMEOUT: { value: { error: 'the model did not answer in time' } } } } })
})

