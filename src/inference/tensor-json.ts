/**
 * Tensors as JSON has them in the Open Inference Protocol v2 (`{ name, shape, datatype, data }`), to and from their raw
 * little-endian bytes. `data` is flat in row-major order, or nested as `shape` says.
 *
 * JSON has no NaN, no infinity, and its numbers lose whole ones beyond 2^53: the first two are refused both ways, the last
 * are kept exact.
 */
import { InferenceFailed, type Datatype, type WireTensor } from './port.ts'
import { TENSOR_DIMENSION_MAX, TENSOR_JSON_SLICE_ELEMENTS, TENSOR_RANK_MAX } from '../limits.ts'

export interface JsonTensor { name: string, shape: readonly number[], datatype: Datatype, data: unknown }

type Numbers = Uint8Array | Uint16Array | Uint32Array | Int8Array | Int16Array | Int32Array | Float16Array | Float32Array | Float64Array
type BigNumbers = BigInt64Array | BigUint64Array

interface Whole { readonly kind: 'whole', readonly bytes: number, readonly min: number, readonly max: number, readonly array: (buffer: ArrayBuffer) => Numbers }
interface Big { readonly kind: 'big', readonly bytes: 8, readonly min: bigint, readonly max: bigint, readonly array: (buffer: ArrayBuffer) => BigNumbers }
interface Real { readonly kind: 'real', readonly bytes: number, readonly array: (buffer: ArrayBuffer) => Numbers }
type ElementType = Whole | Big | Real | { readonly kind: 'bool', readonly bytes: 1 } | { readonly kind: 'bytes', readonly bytes: null }

/** Every datatype, described once. */
const elementTypes: Record<Datatype, ElementType> = {
  BOOL: { kind: 'bool', bytes: 1 },
  UINT8: { kind: 'whole', bytes: 1, min: 0, max: 2 ** 8 - 1, array: buffer => new Uint8Array(buffer) },
  UINT16: { kind: 'whole', bytes: 2, min: 0, max: 2 ** 16 - 1, array: buffer => new Uint16Array(buffer) },
  UINT32: { kind: 'whole', bytes: 4, min: 0, max: 2 ** 32 - 1, array: buffer => new Uint32Array(buffer) },
  UINT64: { kind: 'big', bytes: 8, min: 0n, max: 2n ** 64n - 1n, array: buffer => new BigUint64Array(buffer) },
  INT8: { kind: 'whole', bytes: 1, min: -(2 ** 7), max: 2 ** 7 - 1, array: buffer => new Int8Array(buffer) },
  INT16: { kind: 'whole', bytes: 2, min: -(2 ** 15), max: 2 ** 15 - 1, array: buffer => new Int16Array(buffer) },
  INT32: { kind: 'whole', bytes: 4, min: -(2 ** 31), max: 2 ** 31 - 1, array: buffer => new Int32Array(buffer) },
  INT64: { kind: 'big', bytes: 8, min: -(2n ** 63n), max: 2n ** 63n - 1n, array: buffer => new BigInt64Array(buffer) },
  FP16: { kind: 'real', bytes: 2, array: buffer => new Float16Array(buffer) },
  FP32: { kind: 'real', bytes: 4, array: buffer => new Float32Array(buffer) },
  FP64: { kind: 'real', bytes: 8, array: buffer => new Float64Array(buffer) },
  BYTES: { kind: 'bytes', bytes: null }
}

export const DATATYPES = Object.keys(elementTypes) as Datatype[]

/** Bytes of one element; null where elements differ in length. */
export function elementBytes(datatype: Datatype): number | null {
  return elementTypes[datatype].bytes
}

/** @throws InferenceFailed invalid_input where the shape is none, or larger than any tensor may be */
export function elementCount(name: string, shape: readonly number[]): number {
  if (shape.length > TENSOR_RANK_MAX) throw refused(name, `has more than ${TENSOR_RANK_MAX} dimensions`)
  let count = 1
  for (const dimension of shape) {
    if (!Number.isInteger(dimension) || dimension < 0 || dimension > TENSOR_DIMENSION_MAX) throw refused(name, `has a dimension of ${String(dimension)}: they are whole numbers from 0 to ${TENSOR_DIMENSION_MAX}`)
    count *= dimension
  }
  if (!Number.isSafeInteger(count)) throw refused(name, 'has more elements than any tensor can')
  return count
}

/** Parses JSON; whole numbers beyond 2^53 become bigint where 64-bit tensors may need them exact. @throws SyntaxError */
export function parseTensorJson(text: string): unknown {
  if (!text.includes('INT64') || !/\d{16}/.test(text)) return JSON.parse(text)
  return JSON.parse(text, exactNumber)
}

function exactNumber(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  return context?.source !== undefined && /^-?\d+$/.test(context.source) ? BigInt(context.source) : value
}

/** @throws InferenceFailed invalid_input that names the tensor and what is wrong with it */
export function tensorOfJson({ name, shape, datatype, data }: JsonTensor): WireTensor {
  const count = elementCount(name, shape)
  const flat = flatten(name, shape, count, data)
  return { name, datatype, shape: [...shape], data: encode(name, datatype, flat) }
}

function flatten(name: string, shape: readonly number[], count: number, data: unknown): readonly unknown[] {
  if (!Array.isArray(data)) throw refused(name, 'has no data: it must be an array, flat or nested as the shape says')
  const flat: readonly unknown[] = data.some(Array.isArray) ? flattenNested(name, shape, data) : data
  if (flat.length !== count) throw refused(name, `has ${flat.length} elements, but its shape [${shape.join(', ')}] holds ${count}`)
  return flat
}

function flattenNested(name: string, shape: readonly number[], data: readonly unknown[]): readonly unknown[] {
  let level = data
  for (const [depth, dimension] of shape.entries()) {
    const last = depth === shape.length - 1
    if (depth === 0 && level.length !== dimension) throw unlikeShape(name, shape)
    if (last) return level
    if (!level.every(each => Array.isArray(each) && each.length === shape[depth + 1])) throw unlikeShape(name, shape)
    level = level.flat(1)
  }
  throw unlikeShape(name, shape)
}

function unlikeShape(name: string, shape: readonly number[]): InferenceFailed {
  return refused(name, `is not nested as its shape [${shape.join(', ')}] says`)
}

function encode(name: string, datatype: Datatype, data: readonly unknown[]): Uint8Array {
  const type = elementTypes[datatype]
  if (type.kind === 'bytes') return encodeStrings(name, data)
  const bytes = new Uint8Array(data.length * type.bytes)
  switch (type.kind) {
    case 'bool': fillBooleans(name, bytes, data); break
    case 'whole': fillWhole(name, datatype, type, bytes, data); break
    case 'big': fillBig(name, datatype, type, bytes, data); break
    case 'real': fillReal(name, datatype, type, bytes, data); break
  }
  return bytes
}

function fillBooleans(name: string, bytes: Uint8Array, data: readonly unknown[]): void {
  for (const [index, value] of data.entries()) {
    if (value !== true && value !== false && value !== 0 && value !== 1) throw wrongElement(name, index, value, 'true or false')
    bytes[index] = Number(value)
  }
}

function fillWhole(name: string, datatype: Datatype, type: Whole, bytes: Uint8Array<ArrayBuffer>, data: readonly unknown[]): void {
  const array = type.array(bytes.buffer)
  for (let index = 0; index < data.length; index++) {
    const value = data[index]
    if (!Number.isInteger(value) || (value as number) < type.min || (value as number) > type.max) throw wrongElement(name, index, value, `a whole number that ${datatype} holds`)
    array[index] = value as number
  }
}

function fillBig(name: string, datatype: Datatype, type: Big, bytes: Uint8Array<ArrayBuffer>, data: readonly unknown[]): void {
  const array = type.array(bytes.buffer)
  for (let index = 0; index < data.length; index++) {
    const value = data[index]
    const exact = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : undefined
    if (exact === undefined || exact < type.min || exact > type.max) throw wrongElement(name, index, value, `a whole number that ${datatype} holds`)
    array[index] = exact
  }
}

function fillReal(name: string, datatype: Datatype, type: Real, bytes: Uint8Array<ArrayBuffer>, data: readonly unknown[]): void {
  const array = type.array(bytes.buffer)
  for (let index = 0; index < data.length; index++) {
    const value = data[index]
    if (typeof value === 'number' || typeof value === 'bigint') array[index] = Number(value)
    // also what is too large for the type, which became infinite
    if ((typeof value !== 'number' && typeof value !== 'bigint') || !Number.isFinite(array[index])) throw wrongElement(name, index, value, `a finite number that ${datatype} holds`)
  }
}

function encodeStrings(name: string, data: readonly unknown[]): Uint8Array {
  const parts = data.flatMap((value, index) => {
    if (typeof value !== 'string') throw wrongElement(name, index, value, 'a string')
    const text = Buffer.from(value)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(text.length)
    return [length, text]
  })
  return Buffer.concat(parts)
}

/** Text of the tensor as a JSON object, its data flat. @throws InferenceFailed invalid_input for what JSON cannot say */
export function jsonOfTensor(tensor: WireTensor): string {
  return [...jsonPartsOfTensor(tensor)].join('')
}

/** The same in parts that take a few milliseconds each, for whoever has others to serve meanwhile. */
export function* jsonPartsOfTensor({ name, datatype, shape, data }: WireTensor): Generator<string> {
  yield `${JSON.stringify({ name, datatype, shape }).slice(0, -1)},"data":[`
  let separator = ''
  for (const slice of slicesOf(name, datatype, data)) {
    yield `${separator}${elementsOf(name, datatype, slice)}`
    separator = ','
  }
  yield ']}'
}

/** Whole elements, and none at all of a tensor without elements. */
function* slicesOf(name: string, datatype: Datatype, data: Uint8Array): Generator<Uint8Array> {
  const each = elementBytes(datatype)
  // strings are of any length: they are short, or not for JSON
  if (each === null && data.length > 0) yield data
  if (each === null) return
  if (data.length % each !== 0) throw refused(name, `has ${data.length} bytes of data, which are no whole elements of ${datatype}`)
  const step = TENSOR_JSON_SLICE_ELEMENTS * each
  for (let offset = 0; offset < data.length; offset += step) yield data.subarray(offset, offset + step)
}

function elementsOf(name: string, datatype: Datatype, data: Uint8Array): string {
  const type = elementTypes[datatype]
  switch (type.kind) {
    case 'bytes': return decodeStrings(name, data).map(text => JSON.stringify(text)).join(',')
    case 'bool': return Array.from(data, value => value !== 0).join(',')
    case 'big': return type.array(aligned(data)).join(',')
    case 'whole': return type.array(aligned(data)).join(',')
    case 'real': {
      const array = type.array(aligned(data))
      if (!array.every(Number.isFinite)) throw refused(name, 'holds NaN or infinity, which JSON cannot say: it has to be binary data')
      return array.join(',')
    }
  }
}

/** A copy whose buffer begins with the first element, as typed arrays need it. */
function aligned(data: Uint8Array): ArrayBuffer {
  return new Uint8Array(data).buffer
}

function decodeStrings(name: string, data: Uint8Array): string[] {
  const texts = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  return [...elementsOfBytes(name, data)].map((bytes, index) => {
    try {
      return texts.decode(bytes)
    } catch {
      throw refused(name, `is no text at ${index}: it has to be binary data`)
    }
  })
}

/** The elements of a BYTES tensor. @throws InferenceFailed invalid_input where their lengths do not add up */
export function* elementsOfBytes(name: string, data: Uint8Array): Generator<Uint8Array> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  for (let offset = 0; offset < data.length;) {
    const end = offset + 4 <= data.length ? offset + 4 + view.getUint32(offset, true) : Number.POSITIVE_INFINITY
    if (end > data.length) throw refused(name, 'holds an element that is longer than the data')
    yield data.subarray(offset + 4, end)
    offset = end
  }
}

/** Checks raw bytes against datatype and shape. @throws InferenceFailed invalid_input */
export function tensorOfBytes(tensor: WireTensor): WireTensor {
  const { name, datatype, shape, data } = tensor
  const count = elementCount(name, shape)
  const each = elementBytes(datatype)
  const held = each === null ? [...elementsOfBytes(name, data)].length : data.length / each
  if (held !== count) throw refused(name, `has ${data.length} bytes of data, but ${count} elements of ${datatype} by its shape [${shape.join(', ')}]`)
  if (datatype === 'BOOL' && data.some(value => value > 1)) throw refused(name, 'holds bytes that are neither 0 nor 1')
  return tensor
}

const SHOWN_MAX_CHARACTERS = 40

function wrongElement(name: string, index: number, value: unknown, wanted: string): InferenceFailed {
  const shown = Array.isArray(value) ? 'an array' : typeof value === 'object' && value !== null ? 'an object' : typeof value === 'string' ? JSON.stringify(value) : String(value)
  return refused(name, `has ${shown.slice(0, SHOWN_MAX_CHARACTERS)} as element ${index}, which must be ${wanted}`)
}

function refused(name: string, what: string): InferenceFailed {
  return new InferenceFailed('invalid_input', `tensor "${name.slice(0, 255)}" ${what}`)
}
