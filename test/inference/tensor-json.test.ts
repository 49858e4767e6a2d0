import t from 'tap'
import { DATATYPES, elementsOfBytes, jsonOfTensor, parseTensorJson, tensorOfBytes, tensorOfJson, type JsonTensor } from '../../src/inference/tensor-json.ts'
import { InferenceFailed, type Datatype } from '../../src/inference/port.ts'

const tensor = (datatype: Datatype, shape: number[], data: unknown): JsonTensor => ({ name: 'x', datatype, shape, data })
const bytes = (datatype: Datatype, shape: number[], hex: string) => () => tensorOfBytes({ name: 'x', datatype, shape, data: Buffer.from(hex, 'hex') })
const refusal = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof InferenceFailed && error.code === 'invalid_input') return error.message
    throw error
  }
  return 'nothing was thrown'
}

t.test('every datatype goes to its little-endian bytes and back', async t => {
  const samples: Record<Datatype, [data: unknown[], hex: string]> = {
    BOOL: [[true, false], '0100'],
    UINT8: [[0, 255], '00ff'], UINT16: [[1, 65535], '0100ffff'], UINT32: [[1, 4294967295], '01000000ffffffff'],
    UINT64: [[1, 2], '01000000000000000200000000000000'],
    INT8: [[-128, 127], '807f'], INT16: [[-2, 256], 'feff0001'], INT32: [[-1, 65536], 'ffffffff00000100'],
    INT64: [[-1, 1], 'ffffffffffffffff0100000000000000'],
    FP16: [[1, -2.5], '003c00c1'], FP32: [[1, -2.5], '0000803f000020c0'], FP64: [[1, -2.5], '000000000000f03f00000000000004c0'],
    BYTES: [['hi', 'é'], '02000000686902000000c3a9']
  }
  t.same(Object.keys(samples).toSorted(), DATATYPES.toSorted(), 'all of them')
  for (const datatype of DATATYPES) {
    const [data, hex] = samples[datatype]
    const wire = tensorOfJson(tensor(datatype, [2], data))
    t.equal(Buffer.from(wire.data).toString('hex'), hex, datatype)
    t.same(JSON.parse(jsonOfTensor(wire)), { name: 'x', datatype, shape: [2], data }, datatype)
    t.equal(tensorOfBytes(wire), wire, `${datatype}: its bytes fit its shape`)
  }
})

t.test('bytes that begin anywhere in a larger buffer are read as they are', async t => {
  const buffer = Buffer.from('ff0000803f000020c0', 'hex').subarray(1)
  t.match(jsonOfTensor({ name: 'y', datatype: 'FP32', shape: [2], data: buffer }), /"data":\[1,-2.5\]/)
})

t.test('data may be nested as the shape says, and not otherwise', async t => {
  t.same([...tensorOfJson(tensor('UINT8', [2, 1, 3], [[[1, 2, 3]], [[4, 5, 6]]])).data], [1, 2, 3, 4, 5, 6])
  t.same([...tensorOfJson(tensor('UINT8', [2, 0], [[], []])).data], [])
  t.same([...tensorOfJson(tensor('UINT8', [], [7])).data], [7], 'a scalar')
  for (const [shape, data] of [
    [[2, 3], [[1, 2, 3]]], [[2, 3], [[1, 2], [3, 4], [5, 6]]], [[2, 3], [[1, 2, 3], [4, 5]]], [[2, 3], [[1, 2, 3], 4]], [[], [[1]]], [[3, 2], [[1, 2, 3], [4, 5, 6]]]
  ] as const) {
    t.equal(refusal(() => tensorOfJson(tensor('UINT8', [...shape], data))), `tensor "x" is not nested as its shape [${shape.join(', ')}] says`, JSON.stringify(data))
  }
  t.equal(refusal(() => tensorOfJson(tensor('UINT8', [2], [[1], [2]]))), 'tensor "x" has an array as element 0, which must be a whole number that UINT8 holds', 'too deep')
})

t.test('element counts, ranges and kinds of values are checked, and what is wrong is said', async t => {
  for (const [datatype, shape, data, message] of [
    ['FP32', [3], [1, 2], 'has 2 elements, but its shape [3] holds 3'],
    ['FP32', [1], undefined, 'has no data: it must be an array, flat or nested as the shape says'],
    ['FP32', [1], 'abc', 'has no data: it must be an array, flat or nested as the shape says'],
    ['FP32', [1], ['NaN'], 'has "NaN" as element 0, which must be a finite number that FP32 holds'],
    ['FP32', [1], [null], 'has null as element 0, which must be a finite number that FP32 holds'],
    ['FP32', [1], [1e39], 'has 1e+39 as element 0, which must be a finite number that FP32 holds'],
    ['FP16', [1], [70000], 'has 70000 as element 0, which must be a finite number that FP16 holds'],
    ['FP64', [1], JSON.parse('[1e999]'), 'has Infinity as element 0, which must be a finite number that FP64 holds'],
    ['UINT8', [2], [1, 256], 'has 256 as element 1, which must be a whole number that UINT8 holds'],
    ['INT32', [1], [1.5], 'has 1.5 as element 0, which must be a whole number that INT32 holds'],
    ['INT32', [1], ['1'], 'has "1" as element 0, which must be a whole number that INT32 holds'],
    ['UINT64', [1], [-1], 'has -1 as element 0, which must be a whole number that UINT64 holds'],
    ['INT64', [1], [2 ** 60], 'has 1152921504606847000 as element 0, which must be a whole number that INT64 holds'],
    ['BOOL', [1], [2], 'has 2 as element 0, which must be true or false'],
    ['BYTES', [1], [{ a: 1 }], 'has an object as element 0, which must be a string'],
    ['FP32', [-1], [1], 'has a dimension of -1: they are whole numbers from 0 to 2147483647'],
    ['FP32', [1.5], [1], 'has a dimension of 1.5: they are whole numbers from 0 to 2147483647'],
    ['FP32', [2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1], [], 'has more elements than any tensor can'],
    ['FP32', Array.from({ length: 17 }, () => 1), [1], 'has more than 16 dimensions']
  ] as const) {
    t.equal(refusal(() => tensorOfJson(tensor(datatype, [...shape], data))), `tensor "x" ${message}`, message)
  }
})

t.test('64-bit whole numbers stay exact, in and out', async t => {
  const text = '{"datatype":"INT64","data":[9223372036854775807,-9223372036854775808,1]}'
  const { data } = parseTensorJson(text) as { data: unknown[] }
  const wire = tensorOfJson(tensor('INT64', [3], data))
  t.match(jsonOfTensor(wire), '"data":[9223372036854775807,-9223372036854775808,1]')
  const beyond = parseTensorJson('{"datatype":"INT64","data":[9223372036854775808]}') as { data: unknown[] }
  t.match(refusal(() => tensorOfJson(tensor('INT64', [1], beyond.data))), 'has 9223372036854775808 as element 0')
  t.same(parseTensorJson('{"datatype":"FP64","data":[12345678901234567890]}'), { datatype: 'FP64', data: [Number('12345678901234567890')] }, 'others are plain numbers')
})

t.test('what JSON cannot say is refused on the way out', async t => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const data = new Uint8Array(new Float32Array([1, value]).buffer)
    t.equal(refusal(() => jsonOfTensor({ name: 'y', datatype: 'FP32', shape: [2], data })), 'tensor "y" holds NaN or infinity, which JSON cannot say: it has to be binary data')
  }
  t.equal(refusal(() => jsonOfTensor({ name: 'y', datatype: 'BYTES', shape: [1], data: Buffer.from('02000000ffff', 'hex') })), 'tensor "y" is no text at 0: it has to be binary data')
})

t.test('raw bytes are held against datatype and shape', async t => {
  t.match(refusal(bytes('FP32', [2], '00000000')), 'has 4 bytes of data, but 2 elements of FP32 by its shape [2]')
  t.match(refusal(bytes('FP32', [1], '000000')), 'has 3 bytes of data')
  t.match(refusal(bytes('BYTES', [2], '0100000061')), 'has 5 bytes of data, but 2 elements of BYTES')
  t.match(refusal(bytes('BYTES', [1], 'ffffffff61')), 'holds an element that is longer than the data')
  t.match(refusal(bytes('BYTES', [1], '0100')), 'holds an element that is longer than the data')
  t.match(refusal(bytes('BOOL', [2], '0102')), 'holds bytes that are neither 0 nor 1')
  t.same([...elementsOfBytes('x', Buffer.from('000000000100000061', 'hex'))].map(each => each.length), [0, 1])
})
