/** The one image of a run at the size that the model takes, as its tensor: for models that look at an image as a whole. */
import { Type } from 'typebox'
import { IMAGE_FREE_SIDE_PIXELS } from '../../limits.ts'
import { InferenceFailed, type WireTensor } from '../port.ts'
import type { Session, TaskContext } from '../task.ts'
import { openImage, undecodable, withChannels } from './image-input.ts'
import { imageEncoder, imageSpec, packed } from './image-tensor.ts'

/** cover: cut at the longer side; contain: black bars at the shorter; fill: distorted. */
export const Fit = Type.Enum(['cover', 'contain', 'fill'], { description: 'how an image of other proportions is brought to the size of the model' })
export type Fit = 'cover' | 'contain' | 'fill'

/** Decoded no larger than it is needed, upright, without its animation. @throws InferenceFailed invalid_input, invalid_model */
export async function resizedImage(context: TaskContext, session: Session, fit: Fit): Promise<WireTensor> {
  const spec = imageSpec('input', context.manifest(), session.signature.inputs)
  const [width, height] = [spec.width ?? IMAGE_FREE_SIDE_PIXELS, spec.height ?? IMAGE_FREE_SIDE_PIXELS]
  const image = await openImage(context)
  const resized = withChannels(image.decode().autoOrient().resize({ width, height, fit, background: '#000000' }), spec.channels)
  const { data, info } = await resized.raw().toBuffer({ resolveWithObject: true }).catch((error: unknown) => { throw undecodable(error) })
  if (info.width !== width || info.height !== height || info.channels !== spec.channels) throw new InferenceFailed('internal_error', `the image became ${info.width} × ${info.height} × ${info.channels}`)
  return imageEncoder(spec, bytes => context.memory('tensor', bytes))(packed(data, width, height, spec.channels))
}
