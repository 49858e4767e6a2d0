/** Tensors between their raw bytes and what ONNX Runtime takes and gives. */
import { Tensor } from 'onnxruntime-node'
import { InferenceFailed, type Datatype, type WireTensor } from '../port.ts'
import { elementsOfBytes, tensorOfBytes } from '../tensor-json.ts'

type OrtType = Tensor.Type
type Numbers = Uint8Array | Uint16Array | Uint32Array | BigUint64Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Float16Array | Float32Array | Float64Array
type View = (buffer: ArrayBufferLike, offset: number, length: number) => Numbers

interface ElementType { readonly ort: OrtType, readonly bytes: number, readonly view: View }

/** BYTES are strings, and not here. */
const elementTypes: Readonly<Record<Exclude<Datatype, 'BYTES'>, ElementType>> = {
  BOOL: { ort: 'bool', bytes: 1, view: (...place) => new Uint8Array(...place) },
  UINT8: { ort: 'uint8', bytes: 1, view: (...place) => new Uint8Array(...place) },
  UINT16: { ort: 'uint16', bytes: 2, view: (...place) => new Uint16Array(...place) },
  UINT32: { ort: 'uint32', bytes: 4, view: (...place) => new Uint32Array(...place) },
  UINT64: { ort: 'uint64', bytes: 8, view: (...place) => new BigUint64Array(...place) },
  INT8: { ort: 'int8', bytes: 1, view: (...place) => new Int8Array(...place) },
  INT16: { ort: 'int16', bytes: 2, view: (...place) => new Int16Array(...place) },
  INT32: { ort: 'int32', bytes: 4, view: (...place) => new Int32Array(...place) },
  INT64: { ort: 'int64', bytes: 8, view: (...place) => new BigInt64Array(...place) },
  FP16: { ort: 'float16', bytes: 2, view: (...place) => new Float16Array(...place) },
  FP32: { ort: 'float32', bytes: 4, view: (...place) => new Float32Array(...place) },
  FP64: { ort: 'float64', bytes: 8, view: (...place) => new Float64Array(...place) }
}

const datatypes = new Map<string, Datatype>([
  ['string', 'BYTES'], ...Object.entries(elementTypes).map(([datatype, { ort }]) => [ort, datatype as Datatype] as const)
])

/** Undefined: a type that is not served. */
export function datatypeOf(ort: string): Datatype | undefined {
  return datatypes.get(ort)
}

/** Without a copy where the bytes lie as the elements need it. @throws InferenceFailed invalid_input where data and shape do not go together */
export function toOrt(tensor: WireTensor): Tensor {
  const { name, datatype, shape, data } = tensorOfBytes(tensor)
  if (datatype === 'BYTES') return new Tensor('string', texts(name, data), shape)
  const { ort, bytes, view } = elementTypes[datatype]
  const { buffer, byteOffset } = data.byteOffset % bytes === 0 ? data : new Uint8Array(data)
  const made = new Tensor(ort, view(buffer, byteOffset, data.length / bytes) as Float32Array, shape)
  if (datatype === 'FP16') holdBits(made, new Uint16Array(buffer, byteOffset, data.length / bytes))
  return made
}

/** The library turns halves into a Float16Array wherever there is one, which its native part (1.30) takes for empty: it knows them as uint16. */
function holdBits(tensor: Tensor, bits: Uint16Array): void {
  Object.defineProperty(tensor, 'cpuData', { value: bits })
}

/** ONNX has texts where the protocol has bytes. */
function texts(name: string, data: Uint8Array): string[] {
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  return [...elementsOfBytes(name, data)].map((bytes, index) => {
    try {
      return utf8.decode(bytes)
    } catch {
      throw new InferenceFailed('invalid_input', `tensor "${name}" is no UTF-8 text at ${index}, which is all that ONNX has for BYTES`)
    }
  })
}

export function fromOrt(name: string, tensor: Tensor): WireTensor {
  const datatype = datatypeOf(tensor.type)
  if (datatype === undefined) throw new InferenceFailed('invalid_model', `output "${name}" is ${tensor.type}, which is not served`)
  return { name, datatype, shape: [...tensor.dims], data: datatype === 'BYTES' ? bytesOf(tensor.data as string[]) : rawBytes(tensor.data as Numbers) }
}

function rawBytes({ buffer, byteOffset, byteLength }: Numbers): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function bytesOf(strings: readonly string[]): Uint8Array {
  return Buffer.concat(strings.flatMap(each => {
    const text = Buffer.from(each)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(text.length)
    return [length, text]
  }))
}
