/** An image as a vector: `embedding.json` `{ embedding: [...], dim }`. `normalize: true` brings it to length 1. */
import { Type } from 'typebox'
import type { Task } from '../task.ts'
import { imageSpec } from './image-tensor.ts'
import { jsonBytes, param } from './inputs.ts'
import { numbersOutput, runForNumbers } from './output-numbers.ts'
import { Fit, resizedImage } from './resized-image.ts'

export const embedding: Task = {
  name: 'embedding',
  input: 'image',
  params: Type.Object({
    normalize: Type.Optional(Type.Boolean({ default: false, description: 'bring it to length 1' })),
    fit: Type.Optional(Fit)
  }, { additionalProperties: false }),
  checkModel(signature, manifest) {
    imageSpec('input', manifest, signature.inputs)
    numbersOutput(signature, manifest)
  },
  async run(context) {
    const session = await context.session()
    const image = await resizedImage(context, session, param(context, 'fit', 'fill'))
    context.signal.throwIfAborted()
    const numbers = await runForNumbers(session, image, context.manifest())
    const vector = param(context, 'normalize', false) ? normalized(numbers) : numbers
    return [await context.write({ name: 'embedding.json', filename: 'embedding.json', contentType: 'application/json' }, jsonBytes({ embedding: vector, dim: vector.length }))]
  }
}

/** A vector without length stays as it is. */
function normalized(numbers: readonly number[]): number[] {
  const length = Math.sqrt(numbers.reduce((sum, number) => sum + number * number, 0))
  return length === 0 ? [...numbers] : numbers.map(number => number / length)
}
