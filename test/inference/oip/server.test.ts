/** A worker over an inference server that does as agreed, and over one that does not. */
import t from 'tap'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { askReady } from '../../../src/inference/oip/server.ts'
import { OIP_ANSWER_MAX_BYTES } from '../../../src/limits.ts'
import { identityOf } from '../../support/graphs.ts'
import { eventually } from '../../support/raw-client.ts'
import { binary, FACTS, json, JSON_LENGTH, MODEL, startInferServer, type Answer, type Script } from '../../support/scripted-infer-server.ts'
import { resultsOf, startTestWorker, tensorsOf, wire, type TestWorker } from '../../support/worker.ts'

const TOKEN = 'a-token-of-the-server'
const numbers = Float32Array.from([1, 2.5, -3])
const x = wire('x', 'FP32', [3], numbers)
const bytesOf = (array: ArrayBufferView): Buffer => Buffer.from(array.buffer, array.byteOffset, array.byteLength)
const y = (more: object = {}): object => ({ name: 'y', datatype: 'FP32', shape: [3], parameters: { binary_data_size: 12 }, ...more })

async function start(t: Test, script: Script = {}, token: string | null = null) {
  const server = await startInferServer(t, script, token)
  const worker = await startTestWorker(t, { infer: server.address })
  const model = await worker.model(identityOf('float', ['n']))
  return { server, worker, model, infer: () => worker.run('tensor', model, [], { tensors: [x] }) }
}

/** A worker that tells of a failure, and then does the next run as if nothing had been. */
async function failsWith(t: Test, script: Script, expected: object, token: string | null = null): Promise<void> {
  const { server, infer } = await start(t, script, token)
  t.match(await infer(), { type: 'failed', ...expected })
  for (const each of Object.keys(script) as (keyof Script)[]) delete server.script[each]
  const fine = await startInferServer(t)
  Object.assign(server.script, { ...fine.script, ...server.script })
  t.same([...tensorsOf(await infer())[0]!.data], [...bytesOf(numbers)])
  await eventually(() => { if (server.connections.open > 1) throw new Error(`${server.connections.open} connections are open`) })
}

t.test('tensors go there byte for byte, to the model of this name and version, with the token', async t => {
  const { server, worker, infer } = await start(t, {}, TOKEN)
  t.match(worker.said[0], { type: 'ready', execution: { provider: 'remote', device: 'played', worker: '1.1' }, note: null })
  const [output] = tensorsOf(await infer())
  t.match(output, { name: 'y', datatype: 'FP32', shape: [3] })
  t.same([...output!.data], [...bytesOf(numbers)])
  t.match(worker.said.find(({ type }) => type === 'started'), { execution: { provider: 'remote', device: 'played' } })

  t.same(server.asked.map(({ method, path }) => `${method} ${path}`), ['GET /v2', 'GET /v2/models/model/versions/1', 'GET /v2/models/model/versions/1/ready', 'POST /v2/models/model/versions/1/infer'])
  t.ok(server.asked.every(({ headers }) => headers.authorization === `Bearer ${TOKEN}` && headers['accept-encoding'] === 'identity'))
  const [{ headers, body }] = server.of('/infer') as [(typeof server.asked)[number]]
  const head = Number(headers[JSON_LENGTH])
  t.match(headers, { 'content-type': 'application/octet-stream', 'content-length': String(head + 12) })
  t.same(JSON.parse(body.toString('utf8', 0, head)), {
    inputs: [{ name: 'x', shape: [3], datatype: 'FP32', parameters: { binary_data_size: 12 } }], outputs: [{ name: 'y', parameters: { binary_data: true } }]
  })
  t.same(body.subarray(head), bytesOf(numbers))

  await infer()
  t.equal(server.asked.length, 5, 'what it and the model are is known by now')
  t.equal(server.connections.opened, 1, 'over one connection')
  t.notOk(JSON.stringify(worker.said).includes(TOKEN))
})

t.test('a server without the extension gets JSON, and answers with it', async t => {
  for (const extensions of [undefined, [], ['model_repository']]) {
    const { server, infer } = await start(t, { server: json(200, { ...FACTS, extensions }) })
    t.same([...tensorsOf(await infer())[0]!.data], [...bytesOf(numbers)])
    const [{ headers, body }] = server.of('/infer') as [(typeof server.asked)[number]]
    t.equal(headers['content-type'], 'application/json')
    t.notOk(headers[JSON_LENGTH])
    t.same(JSON.parse(body.toString()), { inputs: [{ name: 'x', datatype: 'FP32', shape: [3], data: [1, 2.5, -3] }], outputs: [{ name: 'y' }] })
  }
})

t.test('what JSON cannot say is not sent, and not taken', async t => {
  const plain = json(200, { name: 'plain' })
  const { worker, model, server } = await start(t, { server: plain })
  const tensors = [wire('x', 'FP32', [1], Float32Array.of(Number.NaN))]
  t.match(await worker.run('tensor', model, [], { tensors }), { code: 'invalid_input', message: /holds NaN/, retryable: false })
  t.same(server.of('/infer'), [])
  await failsWith(t, { server: plain, infer: json(200, '{"outputs":[{"name":"y","datatype":"FP32","shape":[3],"data":[1, NaN, -Infinity]}]}') }, { code: 'invalid_model', message: 'the model gave NaN or infinity, which JSON cannot say', retryable: false })
})

t.test('any type, also those that have no length of their own, and several outputs in any order lie where they can be read', async t => {
  const outputs = [
    { name: 'b', datatype: 'BYTES', shape: [2] }, { name: 'u', datatype: 'UINT8', shape: [3] }, { name: 'i', datatype: 'INT64', shape: [2] }, { name: 'd', datatype: 'FP64', shape: [-1] }, { name: 'y', datatype: 'FP32', shape: [-1] }
  ]
  const data = [Buffer.from('\u0002\0\0\0hi\0\0\0\0', 'latin1'), Buffer.from([1, 2, 3]), bytesOf(BigInt64Array.of(-1n, 2n ** 60n)), bytesOf(Float64Array.of(0.1)), bytesOf(numbers)]
  const sent = outputs.map((output, at) => ({ ...output, shape: output.name === 'd' ? [1] : output.name === 'y' ? [3] : output.shape, parameters: { binary_data_size: data[at]!.length } }))
  const { worker, model } = await start(t, { model: json(200, { ...MODEL, outputs }), infer: binary(sent.toReversed(), Buffer.concat(data.toReversed())) })
  const got = tensorsOf(await worker.run('tensor', model, [], { tensors: [x] }))
  t.same(got.map(({ name }) => name), ['b', 'u', 'i', 'd', 'y'])
  t.same(got.map(tensor => Buffer.from(tensor.data)), data)
  const [only] = tensorsOf(await worker.run('tensor', model, [], { tensors: [x], outputs: ['i'] }))
  t.same(only?.name, 'i')
})

t.test('tensors that do not fit the model there are not sent', async t => {
  const { worker, model, server } = await start(t)
  for (const [tensors, message] of [
    [[wire('x', 'FP64', [1], Float64Array.of(1))], /is FP64, but the model takes FP32/],
    [[wire('z', 'FP32', [1], Float32Array.of(1))], /"z" is no input/],
    [[wire('x', 'FP32', [1, 1], Float32Array.of(1))], /has shape \[1, 1\], but the model takes \[-1\]/]
  ] as const) t.match(await worker.run('tensor', model, [], { tensors: [...tensors] }), { code: 'invalid_input', message, retryable: false })
  t.match(await worker.run('tensor', model, [], { tensors: [x], outputs: ['q'] }), { code: 'invalid_input', message: /"q" is no output/ })
  const limited = await worker.model(identityOf('float', ['n']), { limits: { maxTensorBytes: 8 } })
  t.match(await worker.run('tensor', limited, [], { tensors: [x] }), { code: 'invalid_input', message: /at most 8/ })
  t.same(server.of('/infer'), [])
})

t.test('a file is loaded here to see whether it loads, also while nobody is there', async t => {
  const server = await startInferServer(t)
  await server.close()
  const worker = await startTestWorker(t, { infer: server.address })
  t.match(worker.said[0], { type: 'ready', execution: { provider: 'remote', device: 'inference server' }, note: 'the inference server cannot be reached' })
  const { key, sha256, size } = await worker.builtIn('identity')
  t.match(await worker.order({ type: 'check', id: '1', key, sha256, size, manifest: { name: 'm', version: 1, task: 'tensor' } }), { type: 'done', signature: { inputs: [{ name: 'x' }] } })
  const broken = await worker.model(Buffer.from('no model'))
  t.match(await worker.order({ type: 'check', id: '2', key: broken.key, sha256: broken.sha256, size: broken.size, manifest: broken.manifest }), { type: 'failed', code: 'invalid_model' })
  t.match(await worker.run('tensor', broken, [], { tensors: [x] }), { code: 'node_failed', message: 'the inference server cannot be reached', retryable: true })
})

const refusals: [what: string, script: Script, expected: object][] = [
  ['no such model', { model: json(404, { error: 'no model' }) }, { code: 'invalid_model', message: 'the inference server does not have model "model" version "1": no model', retryable: false }],
  ['a model that it does not know, as Triton says it', { model: json(400, { error: 'Request for unknown model' }) }, { code: 'invalid_model', retryable: false }],
  ['a model of a server that starts, and does not know it yet', { model: json(404, { error: 'no model' }), health: json(400, '') }, { code: 'node_failed', message: 'the inference server is not ready', retryable: true }],
  ['the model went meanwhile', { infer: json(404, { error: 'gone' }) }, { code: 'invalid_model', message: /does not have model "model" version "1": gone/, retryable: false }],
  ['a model that is loading', { ready: json(400, { error: 'loading' }) }, { code: 'node_failed', message: 'the inference server is not ready for model "model" version "1"', retryable: true }],
  ['bad tensors', { infer: json(400, { error: 'unexpected shape in /opt/models/a.plan:\nline' }) }, { code: 'invalid_input', message: 'the inference server refused the tensors: unexpected shape in … line', retryable: false }],
  ['tensors that are too large', { infer: json(413, '<html>') }, { code: 'invalid_input', message: 'the tensors are larger than the inference server takes', retryable: false }],
  ['busy', { infer: json(429, { error: 'later' }) }, { code: 'node_failed', message: 'the inference server is busy: later', retryable: true }],
  ['an error of its own', { infer: json(500, { error: 'cuda' }) }, { code: 'node_failed', message: 'the inference server answered 500: cuda', retryable: true }],
  ['a proxy before it', { infer: json(502, '<html>Bad Gateway</html>') }, { code: 'node_failed', message: 'the inference server answered 502', retryable: true }],
  ['unavailable from the start', { server: json(503, '') }, { code: 'node_failed', message: 'the inference server answered 503', retryable: true }],
  ['no protocol', { server: json(404, { error: 'what?' }) }, { code: 'node_failed', message: 'the inference server answered 404: what?', retryable: true }],
  ['an answer of another success', { infer: json(202, {}) }, { code: 'node_failed', message: 'the inference server answered 202', retryable: true }],
  ...(['server', 'model', 'ready', 'infer'] as const).map((where): [string, Script, object] =>
    [`redirected at ${where}`, { [where]: json(307, '', { location: 'http://127.0.0.1:1/' }) }, { code: 'node_failed', message: where === 'ready' ? /is not ready|elsewhere/ : 'the inference server sends us elsewhere, which is not followed', retryable: true }]),
  ...(['server', 'model', 'ready', 'infer'] as const).map((where): [string, Script, object] =>
    [`401 at ${where}`, { [where]: json(401, { error: 'no' }) }, { code: 'node_failed', message: 'the inference server wants a token', retryable: false }])
]
for (const [what, script, expected] of refusals) t.test(`refused: ${what}`, t => failsWith(t, script, expected))

t.test('refused: the token, which is not repeated whatever the server does with it', async t => {
  await failsWith(t, { infer: json(403, { error: `bad ${TOKEN}` }) }, { code: 'node_failed', message: 'the inference server does not take our token', retryable: false }, TOKEN)
  await failsWith(t, { infer: json(400, { error: `you sent Bearer ${TOKEN}` }) }, { code: 'invalid_input', message: 'the inference server refused the tensors: you sent Bearer …' }, TOKEN)
})

const raw = (text: string): Answer => response => {
  response.socket!.end(text)
}
const trickle: Answer = response => {
  response.writeHead(200, { 'content-type': 'application/json' })
  const write = (): void => { if (!response.destroyed) response.write(Buffer.alloc(1024 * 1024, 0x20), error => { if (error == null) setImmediate(write) }) }
  write()
}
const wrong: [what: string, script: Script, message: RegExp, retryable?: boolean][] = [
  ['rubbish in place of what it is', { server: json(200, 'hello') }, /no JSON/],
  ['a list in place of what it is', { server: json(200, []) }, /does not say what it is/],
  ['a name that is none', { server: json(200, { name: 7 }) }, /does not say what it is/],
  ['rubbish in place of a model', { model: json(200, '{') }, /no JSON/],
  ['a model without outputs', { model: json(200, { inputs: [], outputs: [] }) }, /does not say what model "model" version "1" takes and gives/],
  ['what it is without an end', { server: trickle }, /more than 1048576 bytes/, false],
  ['rubbish in place of an answer', { infer: json(200, '{"outputs":[') }, /no JSON/],
  ['an answer without outputs', { infer: json(200, {}) }, /that the protocol does not have/],
  ['an output that is no tensor', { infer: json(200, { outputs: [{ name: 'y' }] }) }, /that the protocol does not have/],
  ['a type that is none', { infer: json(200, { outputs: [y({ datatype: 'FP7' })] }) }, /that the protocol does not have/],
  ['an empty answer', { infer: json(200, '') }, /no JSON/],
  ['an output of another name', { infer: binary([y({ name: 'z' })], bytesOf(numbers)) }, /gave no output "y"/],
  ['another type', { infer: binary([y({ datatype: 'INT32' })], bytesOf(numbers)) }, /gave "y" as INT32, and not as the FP32/],
  ['another rank', { infer: binary([y({ shape: [3, 1] })], bytesOf(numbers)) }, /with the shape \[3, 1\], and not with the \[-1\]/],
  ['a shape of less than nothing', { infer: binary([y({ shape: [-3] })], bytesOf(numbers)) }, /has a dimension of -3/],
  ['a shape without an end', { infer: binary([y({ shape: [2 ** 40] })], bytesOf(numbers)) }, /has a dimension of/],
  ['a shape of more than there is', { infer: binary([y({ shape: [4] })], bytesOf(numbers)) }, /has 12 bytes of data, but 4 elements/],
  ['a size of more than there is', { infer: binary([y({ shape: [4], parameters: { binary_data_size: 16 } })], bytesOf(numbers)) }, /gave fewer bytes for "y" than it said/],
  ['a size of less than there is', { infer: binary([y({ shape: [2], parameters: { binary_data_size: 8 } })], bytesOf(numbers)) }, /gave 4 bytes that belong to no output/],
  ['a size that is negative', { infer: binary([y({ parameters: { binary_data_size: -4 } })], bytesOf(numbers)) }, /that the protocol does not have/],
  ['JSON that is longer than the answer', { infer: binary([y()], bytesOf(numbers), { [JSON_LENGTH]: '99999' }) }, /ends within its JSON/],
  ['JSON that is shorter than it says', { infer: binary([y()], bytesOf(numbers), { [JSON_LENGTH]: '5' }) }, /no JSON/],
  ['a length that is no number', { infer: binary([y()], bytesOf(numbers), { [JSON_LENGTH]: '-5' }) }, /as no number/],
  ['data that are not of the type', { infer: json(200, { outputs: [{ name: 'y', datatype: 'FP32', shape: [1], data: ['one'] }] }) }, /has "one" as element 0/],
  ['fewer data than the shape says', { infer: json(200, { outputs: [{ name: 'y', datatype: 'FP32', shape: [2], data: [1] }] }) }, /has 1 elements, but its shape \[2\] holds 2/],
  ['a compressed answer', { infer: json(200, 'x', { 'content-encoding': 'gzip' }) }, /compressed/],
  ['an answer that says that it is huge', { infer: response => { response.writeHead(200, { 'content-length': String(OIP_ANSWER_MAX_BYTES + 1) }).flushHeaders() } }, /more than 1073741824 bytes/, false],
  ['an answer that is cut', { infer: response => { response.writeHead(200, { 'content-length': '100' }).write('{"out', () => response.destroy()) } }, /broke off/],
  ['a chunked answer that is cut', { infer: response => { response.writeHead(200).write('{"out', () => response.destroy()) } }, /broke off/],
  ['no HTTP', { infer: raw('hello\r\n\r\n') }, /broke off/],
  ['a connection that ends without an answer', { infer: response => void response.socket!.destroy() }, /broke off/]
]
for (const [what, script, message, retryable = true] of wrong) t.test(`it gives ${what}`, t => failsWith(t, script, { code: 'node_failed', message, retryable }))

t.test('a type that is not served here is the model\'s fault', async t => {
  await failsWith(t, { model: json(200, { ...MODEL, outputs: [{ name: 'y', datatype: 'BF16', shape: [-1] }] }) }, { code: 'invalid_model', message: 'output "y" is BF16 at the inference server, which is not served', retryable: false })
})

t.test('a connection that the server has closed meanwhile is no failure', async t => {
  const { server, infer } = await start(t)
  tensorsOf(await infer())
  let first = true
  const { infer: well } = server.script
  server.script.infer = (response, request, body) => {
    if (first) response.socket!.resetAndDestroy()
    else return well!(response, request, body)
    first = false
  }
  t.same([...tensorsOf(await infer())[0]!.data], [...bytesOf(numbers)])
  t.equal(server.of('/infer').length, 3)
})

t.test('a slow server is waited for until the run is cancelled, and then let go of at once', async t => {
  const { server, worker, model } = await start(t, { infer: () => {} })
  const running = worker.run('tensor', model, [], { tensors: [x], id: 'slow' })
  await eventually(() => { if (server.of('/infer').length === 0) throw new Error('it was not asked yet') })
  worker.tell({ type: 'cancel', id: 'slow' })
  t.match(await running, { type: 'failed', code: 'cancelled' })
  await eventually(() => { if (server.connections.open > 0) throw new Error('the connection is open') })
})

t.test('one that takes connections and says nothing is given up', async t => {
  const mute = createServer(socket => socket.on('error', () => {}))
  mute.listen(0, '127.0.0.1')
  await once(mute, 'listening')
  t.teardown(() => { mute.close() })
  const address = { url: `http://127.0.0.1:${(mute.address() as AddressInfo).port}`, token: null }
  await t.rejects(askReady(address), { message: 'the inference server does not answer', retryable: true })
})

t.test('readiness, as any of them says it', async t => {
  const server = await startInferServer(t, {}, TOKEN)
  await askReady(server.address)
  t.match(server.of('/v2/health/ready')[0]?.headers, { authorization: `Bearer ${TOKEN}` })
  server.script.health = json(200, { ready: true })
  await askReady(server.address)
  for (const [answer, message] of [
    [json(200, { ready: false }), 'the inference server is not ready'], [json(503, { ready: false }), 'the inference server is not ready'],
    [json(400, ''), 'the inference server is not ready'], [json(500, ''), 'the inference server answered 500'], [json(401, ''), 'the inference server does not take our token'], [json(302, '', { location: '/' }), /elsewhere/]
  ] as const) {
    server.script.health = answer
    await t.rejects(askReady(server.address), { message })
  }
  await eventually(() => { if (server.connections.open > 0) throw new Error('a connection is open') })
  await server.close()
  await t.rejects(askReady(server.address), { message: 'the inference server cannot be reached' })
})

t.test('a command needs no inference server', async t => {
  const server = await startInferServer(t)
  await server.close()
  const execTasks = { tasks: [{ name: 'copy', argv: ['/bin/cp', '{input}', '{output}/copy'] }] }
  const worker: TestWorker = await startTestWorker(t, { infer: server.address, execTasks })
  const model = await worker.model(identityOf('float'), { task: 'exec' })
  const [copy] = resultsOf(await worker.run('exec', model, [await worker.put('bytes')], { params: { command: 'copy' } }))
  t.equal((await worker.read(copy!)).toString(), 'bytes')
  t.match(worker.said.find(({ type }) => type === 'started'), { execution: { provider: 'cpu' } })
})
