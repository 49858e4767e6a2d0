import t from 'tap'
import { writeFile } from 'node:fs/promises'
import { encodeModel, type ElementType, type Graph } from '../../../scripts/onnx/model.ts'
import type { Datatype, WireTensor } from '../../../src/inference/port.ts'
import { identityOf, oneNode } from '../../support/graphs.ts'
import { sha256Of, startTestWorker, tensorsOf, wire } from '../../support/worker.ts'

const worker = await startTestWorker(t)

const bytesTensor = (...texts: (string | Buffer)[]) => new Uint8Array(Buffer.concat(texts.flatMap(text => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(Buffer.from(text as string).length)
  return [length, Buffer.from(text as string)]
})))

t.test('every datatype goes in and comes out as it was', async t => {
  for (const [type, datatype, data] of [
    ['float', 'FP32', new Float32Array([1.5, -2])], ['float16', 'FP16', new Float16Array([1.5, -2])], ['double', 'FP64', new Float64Array([1.5, -2])],
    ['uint8', 'UINT8', new Uint8Array([1, 255])], ['uint16', 'UINT16', new Uint16Array([1, 65535])], ['uint32', 'UINT32', new Uint32Array([1, 2 ** 32 - 1])], ['uint64', 'UINT64', new BigUint64Array([1n, 2n ** 64n - 1n])],
    ['int8', 'INT8', new Int8Array([1, -128])], ['int16', 'INT16', new Int16Array([1, -32768])], ['int32', 'INT32', new Int32Array([1, -(2 ** 31)])], ['int64', 'INT64', new BigInt64Array([1n, -(2n ** 63n)])],
    ['bool', 'BOOL', new Uint8Array([1, 0])], ['string', 'BYTES', bytesTensor('grün', '')]
  ] as [ElementType, Datatype, ArrayBufferView][]) {
    const model = await worker.model(identityOf(type, ['n']))
    const given = wire('x', datatype, [2], data)
    t.same(tensorsOf(await worker.run('tensor', model, [], { tensors: [given] })), [{ ...given, name: 'y' }], datatype)
  }
})

t.test('bytes that do not lie as their elements need it are taken all the same', async t => {
  const holder = new Uint8Array(9)
  holder.set(new Uint8Array(new Float32Array([1, 2]).buffer), 1)
  const [result] = tensorsOf(await worker.run('tensor', await worker.builtIn('identity'), [], { tensors: [{ name: 'x', datatype: 'FP32', shape: [2], data: holder.subarray(1) }] }))
  t.same(new Float32Array(result!.data.slice().buffer), new Float32Array([1, 2]))
})

t.test('inputs that do not fit are refused before the runtime sees them', async t => {
  const model = await worker.model(identityOf('float', ['n', 3]))
  const good = wire('x', 'FP32', [1, 3], new Float32Array(3))
  for (const [tensors, message] of [
    [[], /input "x" is missing/], [[good, good], /there twice/], [[{ ...good, name: 'z' }], /"z" is no input/], [[{ ...good, datatype: 'INT32' }], /is INT32, but the model takes FP32/],
    [[{ ...good, shape: [3] }], /has shape \[3\], but the model takes \[-1, 3\]/], [[{ ...good, shape: [1, 4] }], /has shape \[1, 4\]/],
    [[{ ...good, shape: [2, 3] }], /has 12 bytes of data, but 6 elements/], [[{ ...good, data: new Uint8Array(11) }], /has 11 bytes of data/],
    [[{ ...good, shape: [2 ** 31, 3] }], /dimension/]
  ] as [WireTensor[], RegExp][]) {
    t.match(await worker.run('tensor', model, [], { tensors }), { type: 'failed', code: 'invalid_input', retryable: false, message })
  }
  const text = await worker.model(identityOf('string', ['n']))
  t.match(await worker.run('tensor', text, [], { tensors: [wire('x', 'BYTES', [1], bytesTensor(Buffer.from([0xff, 0xfe])))] }), { code: 'invalid_input', message: /no UTF-8 text at 0/ })
  const flags = await worker.model(identityOf('bool', ['n']))
  t.match(await worker.run('tensor', flags, [], { tensors: [wire('x', 'BOOL', [1], new Uint8Array([2]))] }), { code: 'invalid_input', message: /neither 0 nor 1/ })
})

t.test('NaN and infinity pass as binary data, and empty tensors and scalars too', async t => {
  const model = await worker.builtIn('identity')
  for (const [shape, values] of [[[3], [Number.NaN, Infinity, -Infinity]], [[0, 3], []], [[], [7]], [[1, 1, 1, 1, 1, 1], [7]]] as const) {
    const given = wire('x', 'FP32', [...shape], new Float32Array(values))
    t.same(tensorsOf(await worker.run('tensor', model, [], { tensors: [given] })), [{ ...given, name: 'y' }])
  }
})

const two: Graph = {
  name: 'two', doc: '', inputs: [{ name: 'a', type: 'float', shape: ['n'] }, { name: 'b', type: 'float', shape: ['n'] }], outputs: [{ name: 'sum', type: 'float', shape: ['n'] }, { name: 'product', type: 'float', shape: ['n'] }],
  nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['sum'] }, { op: 'Mul', inputs: ['a', 'b'], outputs: ['product'] }]
}

t.test('only the outputs that are asked for come, in that order; all without', async t => {
  const model = await worker.model(two)
  const tensors = [wire('b', 'FP32', [2], new Float32Array([3, 4])), wire('a', 'FP32', [2], new Float32Array([1, 2]))]
  const names = async (outputs?: string[]) => tensorsOf(await worker.run('tensor', model, [], { tensors, ...(outputs && { outputs }) })).map(({ name, data }) => [name, ...new Float32Array(data.slice().buffer)])
  t.same(await names(), [['sum', 4, 6], ['product', 3, 8]])
  t.same(await names(['product']), [['product', 3, 8]])
  t.same(await names(['product', 'sum']), [['product', 3, 8], ['sum', 4, 6]])
  t.match(await worker.run('tensor', model, [], { tensors, outputs: ['difference'] }), { code: 'invalid_input', message: /"difference" is no output/ })
})

t.test('what the runtime refuses of an input is told in its words, without a path', async t => {
  const reshape = oneNode('Reshape', { type: 'float', shape: ['n'] }, { type: 'float', shape: [2, 3] }, { constants: [{ name: 'shape', shape: [2], data: [2n, 3n] }] })
  const answer = await worker.run('tensor', await worker.model(reshape), [], { tensors: [wire('x', 'FP32', [5], new Float32Array(5))] })
  t.match(answer, { type: 'failed', code: 'invalid_input', message: /reshape/i })
  t.notMatch(answer, { message: /onnxruntime_src/ })
  t.match(await worker.run('tensor', await worker.model(two), [], { tensors: [wire('a', 'FP32', [2], new Float32Array(2)), wire('b', 'FP32', [3], new Float32Array(3))] }), { type: 'failed', code: 'invalid_input' })
})

t.test('of more models than it may hold the least recently used is released, and comes back', async t => {
  const models = await Promise.all(['one', 'two', 'three'].map(doc => worker.model({ ...identityOf('float', ['n']), doc })))
  const tensors = [wire('x', 'FP32', [1], new Float32Array(1))]
  for (const round of [0, 1, 2, 0, 2, 1]) t.match(await worker.run('tensor', models[round]!, [], { tensors }), { type: 'done' })
})

async function check(graph: Graph | Uint8Array, manifest: object) {
  const { key, sha256, size } = await worker.model(graph)
  return await worker.order({ type: 'check', id: `check ${sha256}`, key, sha256, size, manifest: { name: 'm', version: 1, ...manifest } })
}

t.test('a check tells what the file says of itself, and whether the manifest goes with it', async t => {
  t.match(await check(two, { task: 'tensor' }), {
    type: 'done', sha256: null, results: [],
    signature: { inputs: [{ name: 'a', datatype: 'FP32', shape: [-1] }, { name: 'b' }], outputs: [{ name: 'sum' }, { name: 'product' }] }
  })
  const image = identityOf('float', ['n', 3, 'h', 'w'])
  t.match(await check(image, { task: 'image-to-image' }), { type: 'done' })
  for (const [graph, manifest, message] of [
    [two, { task: 'image-to-image' }, /the model has 2 inputs: the manifest must name one/], [image, { task: 'image-to-image', input: { name: 'z' } }, /no input "z"/],
    [image, { task: 'image-to-image', input: { channels: 1 } }, /no NCHW of 1 channels/], [image, { task: 'image-to-image', input: { dtype: 'uint8' } }, /is FP32, and not uint8/],
    [image, { task: 'embedding', output: { name: 'z' } }, /no output "z"/], [identityOf('int64', ['n', 3, 'h', 'w']), { task: 'image-to-image' }, /is INT64: images are FP32, FP16, UINT8/],
    [identityOf('float', [4, 3, 'h', 'w']), { task: 'image-to-image' }, /takes 4 images at once/], [identityOf('float', ['n', 3]), { task: 'image-classification' }, /an image has four dimensions/],
    [identityOf('float', ['n', 3, 4096, 4096]), { task: 'image-to-image', limits: { maxTensorBytes: 1000 } }, /201326592 bytes and more than 1000/]
  ] as const) t.match(await check(graph, manifest), { type: 'failed', code: 'invalid_model', message }, String(message))
})

t.test('a model of this machine is hashed, loaded, and staged unless its hash is known', async t => {
  const file = `${worker.folder}/import.onnx`
  const bytes = encodeModel(two)
  await writeFile(file, bytes)
  const answer = await worker.order({ type: 'import', id: 'i1', file, known: [] })
  t.match(answer, { type: 'done', sha256: sha256Of(bytes), size: bytes.length, signature: { inputs: [{ name: 'a' }, { name: 'b' }] }, results: [{ sha256: sha256Of(bytes), size: bytes.length, filename: 'model.onnx' }] })
  if (answer.type === 'done') t.ok((await worker.read(answer.results[0]!)).equals(bytes))
  t.match(await worker.order({ type: 'import', id: 'i2', file, known: [sha256Of(bytes)] }), { type: 'done', results: { length: 0 }, sha256: sha256Of(bytes) })
  t.match(await worker.order({ type: 'import', id: 'i3', file: `${file}.not`, known: [] }), { type: 'failed', code: 'invalid_model', message: 'there is no such file' })
  await writeFile(file, 'nonsense')
  t.match(await worker.order({ type: 'import', id: 'i4', file, known: [] }), { type: 'failed', code: 'invalid_model' })
})
