/**
 * Bodies of an inference at another server, written and read: JSON, or JSON and behind it the data of the tensors that have a
 * `binary_data_size`, in their order (the binary tensor data extension). The header says how long the JSON is then.
 *
 * What a server answers is held against itself, against the model, and against what was asked.
 */
import { Type, type Static } from 'typebox'
import { Check } from 'typebox/value'
import { TENSORS_MAX } from '../../limits.ts'
import { shapeFits } from '../check-tensors.ts'
import { InferenceFailed, type ModelSignature, type WireTensor } from '../port.ts'
import { DATATYPES, elementBytes, jsonOfTensor, parseTensorJson, tensorOfBytes, tensorOfJson } from '../tensor-json.ts'
import { serverFailed } from './failures.ts'

export const JSON_LENGTH = 'inference-header-content-length'
/** Elements of any type lie where they can be read when the first of them lies at a multiple of this. */
const ALIGNMENT_BYTES = 8

export interface RequestBody { headers: Record<string, string>, pieces: Uint8Array[] }

export function binaryRequest(inputs: readonly WireTensor[], outputs: readonly string[]): RequestBody {
  const head = Buffer.from(JSON.stringify({
    inputs: inputs.map(({ name, shape, datatype, data }) => ({ name, shape, datatype, parameters: { binary_data_size: data.length } })),
    outputs: outputs.map(name => ({ name, parameters: { binary_data: true } }))
  }))
  const pieces = [head, ...inputs.map(({ data }) => data)]
  return { headers: { 'content-type': 'application/octet-stream', [JSON_LENGTH]: String(head.length), 'content-length': lengthOf(pieces) }, pieces }
}

/** @throws InferenceFailed invalid_input for what JSON cannot say */
export function jsonRequest(inputs: readonly WireTensor[], outputs: readonly string[]): RequestBody {
  const asked = JSON.stringify(outputs.map(name => ({ name })))
  const pieces = [Buffer.from(`{"inputs":[${inputs.map(jsonOfTensor).join(',')}],"outputs":${asked}}`)]
  return { headers: { 'content-type': 'application/json', 'content-length': lengthOf(pieces) }, pieces }
}

function lengthOf(pieces: readonly Uint8Array[]): string {
  return String(pieces.reduce((sum, { length }) => sum + length, 0))
}

/** Bytes of JSON in an answer; undefined: all of them. @throws InferenceFailed node_failed */
export function jsonLength(headers: Readonly<Record<string, unknown>>): number | undefined {
  const text = headers[JSON_LENGTH]
  if (text === undefined) return undefined
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text)) throw serverFailed(`sends ${JSON_LENGTH} as no number`)
  return Number(text)
}

/** How far into its memory an answer has to begin, for its binary data to lie where they can be read. */
export function offsetFor(jsonBytes: number | undefined): number {
  return jsonBytes === undefined ? 0 : (ALIGNMENT_BYTES - jsonBytes % ALIGNMENT_BYTES) % ALIGNMENT_BYTES
}

const Answer = Type.Object({
  outputs: Type.Array(Type.Object({
    name: Type.String(), datatype: Type.Enum(DATATYPES), shape: Type.Array(Type.Integer()),
    parameters: Type.Optional(Type.Object({ binary_data_size: Type.Optional(Type.Integer({ minimum: 0 })) })),
    data: Type.Optional(Type.Unknown())
  }), { maxItems: TENSORS_MAX })
})
type Output = Static<typeof Answer>['outputs'][number]

/** The outputs that were asked for, in that order; their data may be views of `body`. @throws InferenceFailed node_failed, or invalid_model for what the model gave */
export function readAnswer(body: Buffer, jsonBytes: number | undefined, { outputs: expected }: ModelSignature, asked: readonly string[]): WireTensor[] {
  if (jsonBytes !== undefined && jsonBytes > body.length) throw serverFailed('gave an answer that ends within its JSON')
  const binaryFrom = jsonBytes ?? body.length
  const answer = parse(body.toString('utf8', 0, binaryFrom))
  if (!Check(Answer, answer)) throw serverFailed('gave an answer that the protocol does not have')
  const given = new Map(tensorsOf(answer.outputs, body, binaryFrom).map(tensor => [tensor.name, tensor]))
  return asked.map(name => {
    const tensor = given.get(name)
    const declared = expected.find(each => each.name === name)
    if (tensor === undefined || declared === undefined) throw serverFailed(`gave no output "${name}"`)
    if (tensor.datatype !== declared.datatype) throw serverFailed(`gave "${name}" as ${tensor.datatype}, and not as the ${declared.datatype} that it declares`)
    if (!shapeFits(declared.shape, tensor.shape)) throw serverFailed(`gave "${name}" with the shape [${tensor.shape.join(', ')}], and not with the [${declared.shape.join(', ')}] that it declares`)
    return tensor
  })
}

function parse(text: string): unknown {
  try {
    return parseTensorJson(text)
  } catch (cause) {
    // Python writes NaN and Infinity, which are none
    if (/[[,:]\s*-?(NaN|Infinity)\b/.test(text)) throw new InferenceFailed('invalid_model', 'the model gave NaN or infinity, which JSON cannot say', { cause })
    throw serverFailed('gave an answer that is no JSON', { cause })
  }
}

function tensorsOf(outputs: readonly Output[], body: Buffer, binaryFrom: number): WireTensor[] {
  let offset = binaryFrom
  const tensors = outputs.map(output => {
    const size = output.parameters?.binary_data_size
    if (size === undefined) return believed(() => tensorOfJson({ ...output, data: output.data }))
    if (size > body.length - offset) throw serverFailed(`gave fewer bytes for "${output.name}" than it said`)
    const { name, datatype, shape } = output
    return believed(() => tensorOfBytes({ name, datatype, shape, data: aligned(body.subarray(offset, offset += size), elementBytes(datatype)) }))
  })
  if (offset !== body.length) throw serverFailed(`gave ${body.length - offset} bytes that belong to no output`)
  return tensors
}

/** The same, where its elements can be read. */
function aligned(data: Uint8Array, each: number | null): Uint8Array {
  return each === null || data.byteOffset % each === 0 ? data : new Uint8Array(data)
}

/** What is wrong with a tensor here is wrong with the answer, not with the input. */
function believed(make: () => WireTensor): WireTensor {
  try {
    return make()
  } catch (error) {
    throw error instanceof InferenceFailed ? serverFailed(`gave an answer that is not right: ${error.message}`, { cause: error }) : error
  }
}
