/** The one output of a model as plain numbers: for results that are written as JSON. */
import { TENSOR_JSON_MAX_BYTES } from '../../limits.ts'
import type { ModelManifest } from '../manifest.ts'
import { InferenceFailed, type ModelSignature, type WireTensor } from '../port.ts'
import type { Session } from '../task.ts'

/** Name of the output that is shown: the manifest's, or the only one. @throws InferenceFailed invalid_model */
export function numbersOutput({ outputs }: ModelSignature, { output }: Pick<ModelManifest, 'output'>): string {
  const found = output?.name === undefined ? (outputs.length === 1 ? outputs[0] : undefined) : outputs.find(({ name }) => name === output.name)
  if (found === undefined) throw new InferenceFailed('invalid_model', output?.name === undefined ? `the model has ${outputs.length} outputs: the manifest must name one` : `the model has no output "${output.name}"`)
  if (found.datatype !== 'FP32' && found.datatype !== 'FP16' && found.datatype !== 'FP64') throw new InferenceFailed('invalid_model', `output "${found.name}" is ${found.datatype}, and no numbers with a fraction`)
  return found.name
}

/** Runs the model on one image. @throws InferenceFailed invalid_model where a number is NaN or infinite, which JSON cannot say */
export async function runForNumbers(session: Session, input: WireTensor, manifest: ModelManifest): Promise<number[]> {
  const [output] = await session.run([input], [numbersOutput(session.signature, manifest)])
  const { name, datatype, data, shape } = output!
  if (data.length === 0 || data.length > TENSOR_JSON_MAX_BYTES) throw new InferenceFailed('invalid_model', `the model gave "${name}" with the shape [${shape.join(', ')}], which is ${data.length === 0 ? 'nothing' : 'too much'} to be written as JSON`)
  const { buffer, byteOffset } = data
  const numbers = [...datatype === 'FP32' ? new Float32Array(buffer, byteOffset, data.length / 4) : datatype === 'FP16' ? new Float16Array(buffer, byteOffset, data.length / 2) : new Float64Array(buffer, byteOffset, data.length / 8)]
  const bad = numbers.findIndex(number => !Number.isFinite(number))
  if (bad >= 0) throw new InferenceFailed('invalid_model', `the model gave ${numbers[bad]} in "${name}" at ${bad}, which JSON cannot say`)
  return numbers
}
