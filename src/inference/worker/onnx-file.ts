/**
 * Looks through an ONNX file before the runtime is let at it, since loading alone can already do harm: an initializer may
 * name any file of this machine as where its data are (external data), and may claim to be larger than memory.
 *
 * The file is protobuf: fields, each a tag and a value, some of which hold messages. Only those messages are entered that
 * can lead to a tensor or a node (onnx.proto3); every other field is skipped without being read, weights too. What is not well formed is
 * refused here, so that the runtime cannot see in it what was not seen here.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { MODEL_DEPTH_MAX, MODEL_FIELDS_MAX, MODEL_TENSOR_MAX_BYTES, TENSOR_RANK_MAX } from '../../limits.ts'
import { InferenceFailed } from '../port.ts'

/** Messages by the number of the field that holds them. */
const MESSAGES = {
  model: { 7: 'graph', 20: 'training', 25: 'function' },
  training: { 1: 'graph', 2: 'graph' },
  function: { 7: 'node', 11: 'attribute' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: {}
} as const satisfies Record<string, Record<number, string>>
type Message = keyof typeof MESSAGES

const NODE_OP_TYPE = 4
/** A node that holds a compiled model of some device, or the path of one. */
const OPERATORS_REFUSED = ['EPContext']
/** A sparse tensor is small in the file and large once it is loaded. */
const SPARSE_DIMS = 3
const TENSOR = { dims: 1, externalData: 13, dataLocation: 14 } as const
/** 4-bit elements are the smallest. */
const ELEMENTS_PER_BYTE_MAX = 2

/** A field: `value` of a varint, `start` and `end` of what has a length. */
interface Field { number: number, wireType: number, value: bigint, start: number, end: number }

/** @throws InferenceFailed invalid_model */
export function checkModelFile(path: string): void {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    if (size === 0) throw refused('the file is empty')
    walk({ reader: openReader(file, size), size, fields: 0 }, 'model', 0, size, 0)
  } finally {
    closeSync(file)
  }
}

interface Walk { reader: Reader, size: number, fields: number }

function walk(state: Walk, message: Message, start: number, end: number, depth: number): void {
  if (depth > MODEL_DEPTH_MAX) throw refused(`its messages are nested more than ${MODEL_DEPTH_MAX} deep`)
  let elements = 1
  for (let at = start; at < end;) {
    const field = readField(state, at, end)
    at = field.end
    if (message === 'tensor') elements = checkTensorField(state, field, elements)
    if (message === 'sparse' && field.number === SPARSE_DIMS) elements = countElements(state, field, elements, MODEL_TENSOR_MAX_BYTES)
    if (message === 'node' && field.number === NODE_OP_TYPE && field.wireType === 2) checkOperator(state, field)
    const inner = (MESSAGES[message] as Record<number, Message>)[field.number]
    if (inner !== undefined && field.wireType === 2) walk(state, inner, field.start, field.end, depth + 1)
  }
}

function readField(state: Walk, start: number, end: number): Field {
  state.fields += 1
  if (state.fields > MODEL_FIELDS_MAX) throw refused(`it has more than ${MODEL_FIELDS_MAX} fields`)
  const { reader } = state
  const tag = reader.varint(start, end)
  const wireType = Number(tag.value & 7n)
  const number = Number(tag.value >> 3n)
  if (number === 0) throw malformed('a field has no number')
  const field = { number, wireType, value: 0n, start: tag.next, end: tag.next }
  switch (wireType) {
    case 0: {
      const { value, next } = reader.varint(tag.next, end)
      return { ...field, value, end: next }
    }
    case 1: field.end += 8; break
    case 2: {
      const { value: length, next } = reader.varint(tag.next, end)
      if (length > BigInt(end - next)) throw malformed('the file ends in the middle of a field')
      return { ...field, start: next, end: next + Number(length) }
    }
    case 5: field.end += 4; break
    default: throw malformed(`a field has the wire type ${wireType}`)
  }
  if (field.end > end) throw malformed('the file ends in the middle of a field')
  return field
}

function checkOperator({ reader }: Walk, { start, end }: Field): void {
  const name = reader.text(start, Math.min(end, start + 64))
  if (OPERATORS_REFUSED.includes(name)) throw refused(`it has a node ${name}, which is not taken here`)
}

/** Returns the number of elements by the dimensions so far. */
function checkTensorField(state: Walk, field: Field, elements: number): number {
  switch (field.number) {
    case TENSOR.externalData: throw external()
    case TENSOR.dataLocation: {
      if (field.wireType !== 0 || field.value !== 0n) throw external()
      return elements
    }
    // what is no external data lies in the file
    case TENSOR.dims: return countElements(state, field, elements, state.size * ELEMENTS_PER_BYTE_MAX)
    default: return elements
  }
}

function countElements(state: Walk, field: Field, before: number, max: number): number {
  let count = before
  for (const dimension of dimensionsOf(state, field)) count *= Number(BigInt.asIntN(64, dimension))
  if (!(count >= 0 && count <= max)) throw refused(`a tensor in it claims ${count} elements, where at most ${max} can be`)
  return count
}

/** One, or several that are packed. */
function dimensionsOf({ reader }: Walk, { wireType, value, start, end }: Field): bigint[] {
  if (wireType === 0) return [value]
  if (wireType !== 2) return []
  const dimensions: bigint[] = []
  for (let at = start; at < end;) {
    const next = reader.varint(at, end)
    dimensions.push(next.value)
    at = next.next
    if (dimensions.length > TENSOR_RANK_MAX) throw refused(`a tensor in it has more than ${TENSOR_RANK_MAX} dimensions`)
  }
  return dimensions
}

interface Reader {
  varint(at: number, end: number): { value: bigint, next: number }
  text(start: number, end: number): string
}

const WINDOW_BYTES = 64 * 1024
const VARINT_MAX_BYTES = 10

/** Reads a file where it is asked to, a window at a time. */
function openReader(file: number, size: number): Reader {
  const window = Buffer.alloc(WINDOW_BYTES)
  let from = 0
  let to = 0

  function byte(at: number): number {
    if (at < from || at >= to) {
      from = at
      to = at + readSync(file, window, 0, Math.min(WINDOW_BYTES, size - at), at)
      if (to === from) throw malformed('the file became shorter')
    }
    return window[at - from]!
  }

  return {
    varint(at, end) {
      let value = 0n
      for (let index = 0; index < VARINT_MAX_BYTES; index += 1) {
        if (at + index >= end) throw malformed('the file ends in the middle of a field')
        const each = byte(at + index)
        value |= BigInt(each & 0x7f) << BigInt(index * 7)
        if (each < 0x80) return { value, next: at + index + 1 }
      }
      throw malformed('a number is too long')
    },
    text(start, end) {
      return Buffer.from(Array.from({ length: end - start }, (_, index) => byte(start + index))).toString()
    }
  }
}

function external(): InferenceFailed {
  return refused('it keeps data in other files (external data): a model has to be one file')
}

function malformed(what: string): InferenceFailed {
  return refused(`protobuf parsing failed: ${what}`)
}

function refused(message: string): InferenceFailed {
  return new InferenceFailed('invalid_model', message)
}
