/**
 * Tensors in, tensors out, as JSON of the Open Inference Protocol v2: the input is `{ inputs: [...], outputs?: [...] }`, the
 * result `output.json` its response. NaN and infinity in an output fail the run, since JSON cannot say them.
 *
 * An input of tensors byte for byte (tensor-frames.ts) is answered in kind, with `output.tensors`.
 */
import { Type, type Static } from 'typebox'
import { Check, Errors } from 'typebox/value'
import { TENSOR_JSON_MAX_BYTES, TENSORS_MAX } from '../../limits.ts'
import { InferenceFailed, type StagedResult, type WireTensor } from '../port.ts'
import type { Task, TaskContext } from '../task.ts'
import { decodeTensors, encodeTensors, TENSOR_FRAMES } from '../tensor-frames.ts'
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
    const input = theInput(context, 'tensors as JSON')
    const bytes = await context.read(input, TENSOR_JSON_MAX_BYTES)
    if (input.contentType === TENSOR_FRAMES) return [await runExactly(context, bytes)]
    const { id, inputs, outputs = [] } = parse(bytes)
    const session = await context.session()
    const results = await session.run(inputs.map(tensorOfJson), outputs.length === 0 ? undefined : outputs.map(({ name }) => name))
    assertWritable(results)
    const { name, version } = context.model
    const head = JSON.stringify({ model_name: name, model_version: version, ...(id !== undefined && { id }) }).slice(0, -1)
    const text = `${head},"outputs":[${results.map(jsonOfTensor).join(',')}]}\n`
    return [await context.write({ name: 'output.json', filename: 'output.json', contentType: 'application/json' }, Buffer.from(text))]
  }
}

async function runExactly(context: TaskContext, bytes: Buffer): Promise<StagedResult> {
  const session = await context.session()
  const results = encodeTensors(await session.run(decodeTensors(bytes)))
  if (results.length > TENSOR_JSON_MAX_BYTES) throw new InferenceFailed('invalid_input', `the outputs have ${results.length} bytes, more than the ${TENSOR_JSON_MAX_BYTES} that are kept`)
  return await context.write({ name: 'output.tensors', filename: 'output.tensors', contentType: TENSOR_FRAMES }, results)
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
