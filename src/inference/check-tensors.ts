/** Holds the tensors of a request against what a model says of its inputs and outputs, before a worker is asked. */
import { InferenceFailed, type ModelSignature, type TensorMetadata, type WireTensor } from './port.ts'

/** @throws InferenceFailed invalid_input that names the tensor, and what was expected */
export function checkInputs(signature: ModelSignature, tensors: readonly WireTensor[], maxTensorBytes = Number.POSITIVE_INFINITY): void {
  const given = new Map<string, WireTensor>()
  for (const tensor of tensors) {
    if (given.has(tensor.name)) throw invalid(`input "${tensor.name}" is there twice`)
    given.set(tensor.name, tensor)
    checkInput(signature.inputs, tensor, maxTensorBytes)
  }
  const missing = signature.inputs.filter(({ name }) => !given.has(name))
  if (missing.length > 0) throw invalid(`input ${missing.map(({ name }) => `"${name}"`).join(', ')} is missing`)
}

function checkInput(expected: readonly TensorMetadata[], { name, datatype, shape, data }: WireTensor, maxTensorBytes: number): void {
  const input = expected.find(each => each.name === name)
  if (input === undefined) throw invalid(`"${name}" is no input of this model: it has ${namesOf(expected)}`)
  if (input.datatype !== datatype) throw invalid(`input "${name}" is ${datatype}, but the model takes ${input.datatype}`)
  if (!shapeFits(input.shape, shape)) throw invalid(`input "${name}" has shape [${shape.join(', ')}], but the model takes [${input.shape.join(', ')}]`)
  if (data.length > maxTensorBytes) throw invalid(`input "${name}" has ${data.length} bytes, but this model takes at most ${maxTensorBytes}`)
}

/** Graphs without a shape say the same as those of a scalar: there the runtime decides. */
export function shapeFits(expected: readonly number[], shape: readonly number[]): boolean {
  if (expected.length === 0) return true
  return expected.length === shape.length && expected.every((dimension, index) => dimension < 0 || dimension === shape[index])
}

/** @throws InferenceFailed invalid_input */
export function checkOutputs(signature: ModelSignature, names: readonly string[]): void {
  for (const [index, name] of names.entries()) {
    if (!signature.outputs.some(output => output.name === name)) throw invalid(`"${name}" is no output of this model: it has ${namesOf(signature.outputs)}`)
    if (names.indexOf(name) !== index) throw invalid(`output "${name}" is asked for twice`)
  }
}

function namesOf(tensors: readonly TensorMetadata[]): string {
  return tensors.map(({ name }) => `"${name}"`).join(', ')
}

function invalid(message: string): InferenceFailed {
  return new InferenceFailed('invalid_input', message)
}
