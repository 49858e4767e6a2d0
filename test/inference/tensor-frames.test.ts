import t from 'tap'
import type { WireTensor } from '../../src/inference/port.ts'
import { decodeTensors, encodeTensors } from '../../src/inference/tensor-frames.ts'

const bytesOf = (...numbers: number[]): Uint8Array => new Uint8Array(new Float32Array(numbers).buffer)
const plain = (tensors: WireTensor[]) => tensors.map(({ data, ...rest }) => ({ ...rest, data: [...data] }))

t.test('tensors come back byte for byte, also what JSON cannot say', async t => {
  const tensors: WireTensor[] = [
    { name: 'x', datatype: 'FP32', shape: [3], data: bytesOf(Number.NaN, Number.POSITIVE_INFINITY, -0) },
    { name: 'none', datatype: 'INT64', shape: [0, 4], data: new Uint8Array(0) },
    { name: 'ü "text"', datatype: 'BYTES', shape: [1], data: new Uint8Array([2, 0, 0, 0, 255, 254]) }
  ]
  t.same(plain(decodeTensors(encodeTensors(tensors))), plain(tensors))
  t.same(decodeTensors(encodeTensors([])), [])
})

t.test('an object that is cut off, too long, or says what is not so, is refused', async t => {
  const whole = encodeTensors([{ name: 'x', datatype: 'FP32', shape: [2], data: bytesOf(1, 2) }])
  const heads = ['{', '[]', '{"tensors":{}}', '{"tensors":[{"name":"x","datatype":"FP31","shape":[1],"bytes":4}]}', '{"tensors":[{"name":"x","datatype":"FP32","shape":[2],"bytes":4}]}', '{"tensors":[{"name":"x","datatype":"FP32","shape":[-1],"bytes":0}]}', '{"tensors":[{"name":"x","datatype":"FP32","shape":[1],"bytes":-4}]}']
  const withHead = (head: string): Buffer => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(head.length)
    return Buffer.concat([length, Buffer.from(head), Buffer.from(bytesOf(1))])
  }
  const lying = Buffer.from(whole)
  lying.writeUInt32LE(2 ** 32 - 1)
  for (const bytes of [Buffer.alloc(0), whole.subarray(0, 3), whole.subarray(0, 20), whole.subarray(0, -1), Buffer.concat([whole, Buffer.alloc(1)]), lying, ...heads.map(withHead)]) {
    t.throws(() => decodeTensors(bytes), { code: 'invalid_input' }, bytes.toString('latin1').slice(0, 80))
  }
})
