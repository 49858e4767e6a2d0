import t from 'tap'
import { decodeTensors, encodeTensors, TENSOR_FRAMES } from '../../../src/inference/tensor-frames.ts'
import { identityOf, oneNode } from '../../support/graphs.ts'
import { resultsOf, startTestWorker } from '../../support/worker.ts'

const worker = await startTestWorker(t)
const request = (inputs: unknown, more: object = {}): string => JSON.stringify({ inputs, ...more })
const x = (more: object = {}): object => ({ name: 'x', shape: [2], datatype: 'FP32', data: [1, 2.5], ...more })

t.test('tensors go through the model, and the result is a response of the protocol', async t => {
  const model = await worker.builtIn('identity')
  for (const [given, outputs] of [
    [request([x()]), [{ name: 'y', datatype: 'FP32', shape: [2], data: [1, 2.5] }]],
    [request([x({ shape: [1, 2, 1], data: [[[1], [2]]] })]), [{ name: 'y', datatype: 'FP32', shape: [1, 2, 1], data: [1, 2] }]],
    [request([x()], { outputs: [{ name: 'y' }], parameters: {} }), [{ name: 'y', datatype: 'FP32', shape: [2], data: [1, 2.5] }]]
  ] as const) {
    const [result] = resultsOf(await worker.run('tensor', model, [await worker.put(given, 'application/json')]))
    t.match(result, { name: 'output.json', filename: 'output.json', contentType: 'application/json' })
    t.same(JSON.parse((await worker.read(result!)).toString()), { model_name: 'identity', model_version: '1', outputs })
  }
})

t.test('tensors byte for byte are answered in kind, also what JSON cannot say', async t => {
  const model = await worker.model(oneNode('Log', { type: 'float', shape: ['n'] }))
  const given = encodeTensors([{ name: 'x', datatype: 'FP32', shape: [3], data: new Uint8Array(new Float32Array([1, 0, Number.NaN]).buffer) }])
  const [result] = resultsOf(await worker.run('tensor', model, [await worker.put(given, TENSOR_FRAMES)]))
  t.match(result, { name: 'output.tensors', contentType: TENSOR_FRAMES })
  const [output] = decodeTensors(await worker.read(result!))
  t.match(output, { datatype: 'FP32', shape: [3] })
  t.same([...new Float32Array(new Uint8Array(output!.data).buffer)], [0, Number.NEGATIVE_INFINITY, Number.NaN])
  t.match(await worker.run('tensor', model, [await worker.put(given.subarray(0, -1), TENSOR_FRAMES)]), { type: 'failed', code: 'invalid_input', retryable: false })
})

t.test('whole numbers of 64 bits stay exact', async t => {
  const model = await worker.model(identityOf('int64', ['n']))
  const [result] = resultsOf(await worker.run('tensor', model, [await worker.put('{"inputs":[{"name":"x","shape":[2],"datatype":"INT64","data":[9007199254740993,-9223372036854775808]}]}')]))
  t.match((await worker.read(result!)).toString(), '"data":[9007199254740993,-9223372036854775808]')
})

t.test('what is no request, or does not fit the model, is named', async t => {
  const model = await worker.builtIn('identity')
  const before = await worker.staged()
  for (const [given, message] of [
    ['', /^the input is empty/], ['{', /^the input is not valid JSON$/], ['[]', /^the input is no \{ "inputs"/], ['{}', /inputs/], [request([]), /inputs/], [request({}), /inputs/],
    ['{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', /NaN/],
    [request([x({ datatype: 'FP31' })]), /inputs.0.datatype/], [request([x({ shape: [3] })]), /has 2 elements, but its shape \[3\] holds 3/],
    [request([x({ data: ['a', 'b'] })]), /a finite number that FP32 holds/], [request([x({ name: 'z' })]), /"z" is no input of this model: it has "x"/],
    [request([x({ datatype: 'FP64' })]), /input "x" is FP64, but the model takes FP32/], [request([x(), x()]), /there twice/],
    [request([x({ shape: [-1] })]), /dimension of -1/], [request([x()], { outputs: [{ name: 'z' }] }), /"z" is no output/]
  ] as const) {
    t.match(await worker.run('tensor', model, [await worker.put(given)]), { type: 'failed', code: 'invalid_input', retryable: false, message }, given.slice(0, 60))
  }
  t.same(await worker.staged(), before)
})

t.test('an output that JSON cannot say fails the run', async t => {
  const model = await worker.model(oneNode('Log', { type: 'float', shape: ['n'] }))
  for (const value of [0, -1]) t.match(await worker.run('tensor', model, [await worker.put(request([x({ data: [1, value] })]))]), { code: 'invalid_input', message: /NaN or infinity/ })
})

t.test('tensors over the manifest\'s limit are refused', async t => {
  const model = await worker.builtIn('identity')
  const small = { ...model, manifest: { ...model.manifest as object, limits: { maxTensorBytes: 8 } } }
  t.match(await worker.run('tensor', small, [await worker.put(request([x({ shape: [3], data: [1, 2, 3] })]))]), { code: 'invalid_input', message: /12 bytes, but this model takes at most 8/ })
  t.match(await worker.run('tensor', small, [await worker.put(request([x()]))]), { type: 'done' })
})
