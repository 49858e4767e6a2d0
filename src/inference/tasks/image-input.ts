/**
 * An image that was given, looked at before anything is decoded: what it begins with and what its header says decide whether
 * it is decoded at all.
 */
import { createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Metadata, Sharp } from 'sharp'
import { IMAGE_IN_MEMORY_MAX_BYTES, IMAGE_PIXELS_MAX } from '../../limits.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type RunInput } from '../port.ts'
import type { TaskContext } from '../task.ts'
import type { Channels } from './image-tensor.ts'
import { theInput } from './inputs.ts'
import { FORMAT_HEAD_BYTES, FORMAT_NAMES, formatOf, loadSharp, type SharpModule } from './sharp.ts'

export interface ImageInput {
  sharp: SharpModule
  metadata: Metadata
  /** of EXIF, 1 to 8 */
  orientation: number
  /** A pipeline over its first frame, which decodes what can be decoded. */
  decode(): Sharp
}

/** @throws InferenceFailed invalid_input */
export async function openImage(context: TaskContext): Promise<ImageInput> {
  const source = await fetchImage(context, theInput(context, 'one image'))
  const sharp = await loadSharp(context.threads)
  const maxPixels = context.manifest().limits?.maxPixels ?? IMAGE_PIXELS_MAX
  const options = { limitInputPixels: maxPixels, failOn: 'error', pages: 1, animated: false, sequentialRead: true } as const
  // only the header is read: what it claims is judged here
  const metadata = await sharp(source, { ...options, limitInputPixels: false }).metadata().catch((error: unknown) => { throw undecodable(error) })
  assertSize(metadata, maxPixels)
  return { sharp, metadata, orientation: metadata.orientation ?? 1, decode: () => sharp(source, options) }
}

/** In memory, or in a file of the run's folder. */
async function fetchImage(context: TaskContext, input: RunInput): Promise<Buffer | string> {
  if (input.size <= IMAGE_IN_MEMORY_MAX_BYTES) {
    const bytes = await context.read(input, IMAGE_IN_MEMORY_MAX_BYTES)
    assertTaken(bytes.subarray(0, FORMAT_HEAD_BYTES))
    return bytes
  }
  const path = join(await context.folder(), 'input')
  await pipeline(await context.open(input), createWriteStream(path, { flags: 'wx' }), { signal: context.signal })
  assertTaken(await readHead(path))
  return path
}

async function readHead(path: string): Promise<Buffer> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(FORMAT_HEAD_BYTES), 0, FORMAT_HEAD_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

function assertTaken(head: Buffer): void {
  if (formatOf(head) !== undefined) return
  const taken = `${FORMAT_NAMES.slice(0, -1).join(', ')} and ${FORMAT_NAMES.at(-1)} are`
  throw new InferenceFailed('invalid_input', /<svg[\s>]|<!DOCTYPE svg/i.test(head.toString('latin1')) ? `SVG is not taken as an image: ${taken}` : `the input is no image that is taken: ${taken}`)
}

function assertSize({ width, height }: Metadata, maxPixels: number): void {
  if (!(width > 0 && height > 0)) throw new InferenceFailed('invalid_input', 'the image has no size')
  if (width * height > maxPixels) throw new InferenceFailed('invalid_input', `the image has ${width} × ${height} = ${width * height} pixels, more than the ${maxPixels} that are taken`)
}

/** What sharp throws over bytes that are not what they say. */
export function undecodable(error: unknown): InferenceFailed {
  return error instanceof InferenceFailed ? error : new InferenceFailed('invalid_input', `the image cannot be decoded: ${plainReason(error)}`, { cause: error })
}

/** With so many channels; what is transparent lies on white where there is no fourth. */
export function withChannels(image: Sharp, channels: Channels): Sharp {
  if (channels === 4) return image.ensureAlpha().toColourspace('srgb')
  const opaque = image.flatten({ background: '#ffffff' })
  return channels === 1 ? opaque.greyscale().toColourspace('b-w') : opaque.toColourspace('srgb')
}
