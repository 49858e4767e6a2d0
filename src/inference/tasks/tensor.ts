/**
 * Tensors in, tensors out, as JSON of the Open Inference Protocol v2: the input is `{ inputs: [...], outputs?: [...] }`, the
 * result `output.json` its response. NaN and infinity in an output fail the run, since JSON cannot say them.
 */
import { Type, type Static } from 'typebox'
import { Check, Errors } from 'typebox/value'
import { TENSOR_JSON_MAX_BYTES, TENSORS_MAX } from '../../limits.ts'
import { InferenceFailed, type WireTensor } from '../port.ts'
import type { Task } from '../task.ts'
import { DATATYPES, elementBytes, jsonOfTensor, parseTensorJson, tensorOfJson } from '../tensor-json.ts'
import { theInput } from './inputs.ts'

const Name = Type.String({ minLength: 1, maxLength: 255 })
/** What it holds beyond this is passed over, as the protocol asks. */
const Request = Type.Object({
  id: Type.Optional(Type.String({ maxLength: 255 })),
  inputs: Type.Array(Type.Object({ name: Name, shape: Type.Array(Type.Integer()), datatype: Type.Enum(DATATYPES), data: Type.Unknown() }), { minItems: 1, maxItems: TENSORS_MAX }),
  outputs: Type.Optional(Type.Array(Type.Object({ name: Name }), { maxItems: TENSORS_MAX }))
})

export const tensor: Task = {
  name: 'tensor',
  input: 'tensors',
  params: Type.Object({}, { additionalProperties: false }),
  async run(context) {
    const { id, inputs, outputs = [] } = parse(await context.read(theInput(context, 'tensors as JSON'), TENSOR_JSON_MAX_BYTES))
    const session = await context.session()
    const results = await session.run(inputs.map(tensorOfJson), outputs.length === 0 ? undefined : outputs.map(({ name }) => name))
    assertWritable(results)
    const { name, version } = context.model
    const head = JSON.stringify({ model_name: name, model_version: version, ...(id !== undefined && { id }) }).slice(0, -1)
    const text = `${head},"outputs":[${results.map(jsonOfTensor).join(',')}]}\n`
    return [await context.write({ name: 'output.json', filename: 'output.json', contentType: 'application/json' }, Buffer.from(text))]
  }
}

function parse(bytes: Buffer): Static<typeof Request> {
  const value = parseJson(bytes)
  if (Check(Request, value)) return value
  const [first] = Errors(Request, value)
  throw new InferenceFailed('invalid_input', `the input is no { "inputs": [...] } of the Open Inference Protocol: ${first?.instancePath.slice(1).replaceAll('/', '.') || 'it'} ${first?.message ?? ''}`)
}

function parseJson(bytes: Buffer): unknown {
  const text = bytes.toString()
  try {
    return parseTensorJson(text)
  } catch (cause) {
    throw new InferenceFailed('invalid_input', `the input is not valid JSON${/\b(NaN|Infinity)\b/.test(text) ? ': it has no NaN and no infinity' : ''}`, { cause })
  }
}

/** As text a number takes more than its bytes. */
function assertWritable(results: readonly WireTensor[]): void {
  const numbers = results.reduce((sum, { datatype, data }) => sum + data.length / (elementBytes(datatype) ?? 1), 0)
  if (numbers * 4 > TENSOR_JSON_MAX_BYTES) throw new InferenceFailed('invalid_input', `the outputs hold ${numbers} numbers, too many to be written as JSON`)
}
