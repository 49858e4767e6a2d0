/**
 * What is on an image: `classes.json` `{ classes: [{ label, index, score }] }`, best first. Scores are what the model gives;
 * `softmax: true` makes probabilities of them, for models that leave that to others.
 */
import { Type } from 'typebox'
import { TOP_K_DEFAULT, TOP_K_MAX } from '../../limits.ts'
import type { Task } from '../task.ts'
import { imageSpec } from './image-tensor.ts'
import { jsonBytes, param } from './inputs.ts'
import { numbersOutput, runForNumbers } from './output-numbers.ts'
import { Fit, resizedImage } from './resized-image.ts'

export const imageClassification: Task = {
  name: 'image-classification',
  input: 'image',
  params: Type.Object({
    top_k: Type.Optional(Type.Integer({ minimum: 1, maximum: TOP_K_MAX, default: TOP_K_DEFAULT, description: 'how many classes' })),
    softmax: Type.Optional(Type.Boolean({ default: false, description: 'make probabilities of the scores' })),
    fit: Type.Optional(Fit)
  }, { additionalProperties: false }),
  checkModel(signature, manifest) {
    imageSpec('input', manifest, signature.inputs)
    numbersOutput(signature, manifest)
  },
  async run(context) {
    const session = await context.session()
    const manifest = context.manifest()
    const image = await resizedImage(context, session, param(context, 'fit', 'cover'))
    context.signal.throwIfAborted()
    const numbers = await runForNumbers(session, image, manifest)
    const classes = best(param(context, 'softmax', false) ? softmax(numbers) : numbers, param(context, 'top_k', TOP_K_DEFAULT), manifest.labels ?? [])
    return [await context.write({ name: 'classes.json', filename: 'classes.json', contentType: 'application/json' }, jsonBytes({ classes }))]
  }
}

/** Of equal ones the first in the model's own order. */
function best(scores: readonly number[], count: number, labels: readonly string[]): { label: string, index: number, score: number }[] {
  return scores.map((score, index) => ({ label: labels[index] ?? String(index), index, score }))
    .toSorted((a, b) => b.score - a.score || a.index - b.index)
    .slice(0, count)
}

function softmax(numbers: readonly number[]): number[] {
  // the largest is taken off, so that none becomes infinite
  const largest = numbers.reduce((a, b) => Math.max(a, b))
  const powers = numbers.map(number => Math.exp(number - largest))
  const sum = powers.reduce((a, b) => a + b)
  return powers.map(power => power / sum)
}
