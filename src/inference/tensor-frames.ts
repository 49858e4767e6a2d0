/**
 * Tensors as one object, byte for byte, where JSON will not do: it has no NaN and no infinity. The bytes are those of a body
 * of the binary tensor data extension, with the length of its JSON in front:
 *
 *   4 bytes   length of the JSON, little-endian
 *   JSON      { "tensors": [{ name, datatype, shape, bytes }] }
 *   data      of each tensor, in that order
 */
import { Type } from 'typebox'
import { Check } from 'typebox/value'
import { TENSORS_MAX } from '../limits.ts'
import { InferenceFailed, type WireTensor } from './port.ts'
import { DATATYPES, tensorOfBytes } from './tensor-json.ts'

/** Content type of such an object. */
export const TENSOR_FRAMES = 'application/vnd.penstock.tensors'

const LENGTH_BYTES = 4
const Head = Type.Object({
  tensors: Type.Array(Type.Object({
    name: Type.String({ minLength: 1, maxLength: 255 }), datatype: Type.Enum(DATATYPES), shape: Type.Array(Type.Integer()), bytes: Type.Integer({ minimum: 0 })
  }), { maxItems: TENSORS_MAX })
})

export function encodeTensors(tensors: readonly WireTensor[]): Buffer {
  const head = Buffer.from(JSON.stringify({ tensors: tensors.map(({ name, datatype, shape, data }) => ({ name, datatype, shape, bytes: data.length })) }))
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32LE(head.length)
  return Buffer.concat([length, head, ...tensors.map(({ data }) => data)])
}

/** The data are views of `bytes`. @throws InferenceFailed invalid_input */
export function decodeTensors(bytes: Buffer): WireTensor[] {
  const headBytes = bytes.length < LENGTH_BYTES ? Number.POSITIVE_INFINITY : bytes.readUInt32LE()
  let offset = LENGTH_BYTES + headBytes
  if (offset > bytes.length) throw broken('ends within their description')
  const head = parse(bytes.toString('utf8', LENGTH_BYTES, offset))
  if (!Check(Head, head)) throw broken('has none that can be read')
  const tensors = head.tensors.map(({ bytes: size, ...tensor }) => tensorOfBytes({ ...tensor, data: bytes.subarray(offset, offset += size) }))
  if (offset !== bytes.length) throw broken('is not as long as they say')
  return tensors
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw broken('has none that can be read', cause)
  }
}

function broken(what: string, cause?: unknown): InferenceFailed {
  return new InferenceFailed('invalid_input', `the object of tensors ${what}`, { cause })
}
