/**
 * ONNX models as plain descriptions, and their bytes. The numbers are those of onnx.proto3 (IR version 8, opset 17), which
 * every ONNX Runtime since 1.12 reads.
 */
import { bytes, float, integer, message, string, type Field } from './protobuf.ts'

const IR_VERSION = 8
const OPSET = 17
const PRODUCER = 'penstock'

const ELEMENT_TYPES = {
  float: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, string: 8, bool: 9, float16: 10, double: 11, uint32: 12, uint64: 13
} as const
const ATTRIBUTE_TYPES = { float: 1, int: 2, string: 3, ints: 7 } as const

export type ElementType = keyof typeof ELEMENT_TYPES

/** `shape`: a number is fixed, a text is the name of a free dimension; without it any rank. */
export interface Value { name: string, type: ElementType, shape?: readonly (number | string)[] }
/** `data` are float32, or int64 where they are bigint. */
export interface Constant { name: string, shape: readonly number[], data: readonly number[] | readonly bigint[] }
/** A plain number is an int. */
export type Attribute = number | string | readonly number[] | { float: number }
export interface Node { op: string, inputs: readonly string[], outputs: readonly string[], attributes?: Readonly<Record<string, Attribute>> }
export interface Graph {
  name: string
  doc: string
  inputs: readonly Value[]
  outputs: readonly Value[]
  nodes: readonly Node[]
  constants?: readonly Constant[]
}

/** The bytes of a model file. The same graph gives the same bytes. */
export function encodeModel(graph: Graph): Uint8Array {
  return Buffer.concat([
    integer(1, IR_VERSION),
    string(2, PRODUCER),
    message(7, encodeGraph(graph)),
    message(8, [string(1, ''), integer(2, OPSET)])
  ])
}

function encodeGraph({ name, doc, inputs, outputs, nodes, constants = [] }: Graph): Field[] {
  return [
    ...nodes.map((node, index) => message(1, encodeNode(node, index))),
    string(2, name),
    ...constants.map(constant => message(5, encodeTensor(constant))),
    string(10, doc),
    ...inputs.map(input => message(11, encodeValue(input))),
    ...outputs.map(output => message(12, encodeValue(output)))
  ]
}

function encodeNode({ op, inputs, outputs, attributes = {} }: Node, index: number): Field[] {
  return [
    ...inputs.map(input => string(1, input)),
    ...outputs.map(output => string(2, output)),
    string(3, `${op}_${index}`),
    string(4, op),
    ...Object.entries(attributes).map(([name, value]) => message(5, [string(1, name), ...encodeAttribute(value)]))
  ]
}

function encodeAttribute(value: Attribute): Field[] {
  if (typeof value === 'number') return [integer(3, value), integer(20, ATTRIBUTE_TYPES.int)]
  if (typeof value === 'string') return [string(4, value), integer(20, ATTRIBUTE_TYPES.string)]
  if ('float' in value) return [float(2, value.float), integer(20, ATTRIBUTE_TYPES.float)]
  return [...value.map(each => integer(8, each)), integer(20, ATTRIBUTE_TYPES.ints)]
}

function encodeTensor({ name, shape, data }: Constant): Field[] {
  const whole = typeof data[0] === 'bigint'
  return [
    ...shape.map(dimension => integer(1, dimension)),
    integer(2, whole ? ELEMENT_TYPES.int64 : ELEMENT_TYPES.float),
    string(8, name),
    bytes(9, littleEndian(data))
  ]
}

/** Whatever this machine's own order is. */
function littleEndian(data: readonly number[] | readonly bigint[]): Uint8Array {
  const each = typeof data[0] === 'bigint' ? 8 : 4
  const view = new DataView(new ArrayBuffer(data.length * each))
  for (const [index, value] of data.entries()) {
    if (typeof value === 'bigint') view.setBigInt64(index * each, value, true)
    else view.setFloat32(index * each, value, true)
  }
  return new Uint8Array(view.buffer)
}

function encodeValue({ name, type, shape }: Value): Field[] {
  const dimensions = shape?.map(dimension => message(1, [typeof dimension === 'number' ? integer(1, dimension) : string(2, dimension)]))
  const tensor = [integer(1, ELEMENT_TYPES[type]), ...(dimensions === undefined ? [] : [message(2, dimensions)])]
  return [string(1, name), message(2, [message(1, tensor)])]
}
