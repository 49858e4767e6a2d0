/**
 * An image through a model that makes an image of it, in tiles (tiles.ts), so that any size runs in the memory of a few:
 *
 *   input ─▶ decoded ─▶ tiles through the model (tiled-model.ts) ─▶ result ─▶ encoded ─▶ staging
 *
 * Decoded and result lie in memory up to IMAGE_IN_MEMORY_MAX_BYTES each, else on disk. Of formats that cannot be decoded in stripes (progressive JPEG, interlaced PNG, WebP, AVIF)
 * the decoder itself holds the whole image.
 */
import { join } from 'node:path'
import { Type } from 'typebox'
import { IMAGE_IN_MEMORY_MAX_BYTES, IMAGE_RESULT_PIXELS_MAX } from '../../limits.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type StagedResult } from '../port.ts'
import type { Session, Task, TaskContext } from '../task.ts'
import { openImage, undecodable, withChannels } from './image-input.ts'
import type { ImageSpec } from './image-tensor.ts'
import { param } from './inputs.ts'
import { createRawImage, createRawImageInMemory, openRawImage, rawImageInMemory, type RawImage, type RawImageWriter } from './raw-image.ts'
import { loadSharp } from './sharp.ts'
import { imageSpecs, tiledModel, TILE_PARAMS, type Specs } from './tiled-model.ts'

/** The longest side that each can hold. */
const FORMATS = {
  png: { extension: 'png', contentType: 'image/png', sideMax: 2 ** 31 - 1 },
  jpeg: { extension: 'jpg', contentType: 'image/jpeg', sideMax: 65_535 },
  webp: { extension: 'webp', contentType: 'image/webp', sideMax: 16_383 }
} as const
type Format = keyof typeof FORMATS

export const imageToImage: Task = {
  name: 'image-to-image',
  input: 'image',
  params: Type.Object({
    format: Type.Optional(Type.Enum(['png', 'jpeg', 'webp'], { default: 'png', description: 'of the result' })),
    quality: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 90, description: 'of jpeg and webp' })),
    ...TILE_PARAMS
  }, { additionalProperties: false }),
  checkModel(signature, manifest) {
    imageSpecs(signature, manifest)
  },
  async run(context) {
    const session = await context.session()
    const specs = imageSpecs(session.signature, context.manifest())
    const image = await decode(context, specs.input)
    try {
      return [await encode(context, await runTiles(context, session, specs, image), specs.output)]
    } finally {
      image.close()
    }
  }
}

function memoryOf(context: TaskContext, name: string): (bytes: number) => ArrayBuffer {
  return bytes => context.memory(name, bytes)
}

async function decode(context: TaskContext, { channels }: ImageSpec): Promise<RawImage> {
  context.progress({ progress: null, message: 'decoding' })
  const { decode: pipeline, orientation, metadata } = await openImage(context)
  const image = withChannels(pipeline(), channels)
  if (metadata.width * metadata.height * channels > IMAGE_IN_MEMORY_MAX_BYTES) {
    const path = join(await context.folder(), 'decoded.v')
    await image.toFile(path).catch((error: unknown) => { throw undecodable(error) })
    context.signal.throwIfAborted()
    return openRawImage(path, channels, memoryOf(context, 'tile'), orientation)
  }
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true }).catch((error: unknown) => { throw undecodable(error) })
  if (info.channels !== channels) throw new InferenceFailed('internal_error', `the image was decoded to ${info.channels} channels, not to ${channels}`)
  return rawImageInMemory(data, info, channels, orientation)
}

interface Result { width: number, height: number, writer: RawImageWriter }

async function runTiles(context: TaskContext, session: Session, specs: Specs, image: RawImage): Promise<Result> {
  const model = tiledModel(context, session, specs, image)
  let result: Result | undefined
  try {
    await model.run(image, {
      async begin(scale) {
        result = await begin(context, specs, image, scale)
        return result.writer
      },
      onTile: done => context.progress({ progress: 100 * done / model.tiles, message: `${done} of ${model.tiles} tiles` })
    })
  } finally {
    result?.writer.close()
  }
  return result!
}

/** Room for the result, once it is known how large it becomes. */
async function begin(context: TaskContext, { output: { channels } }: Specs, image: RawImage, scale: number): Promise<Result> {
  const size = { width: image.width * scale, height: image.height * scale }
  const format = param<Format>(context, 'format', 'png')
  const { sideMax } = FORMATS[format]
  if (size.width * size.height > IMAGE_RESULT_PIXELS_MAX) throw new InferenceFailed('invalid_input', `the result would have ${size.width} × ${size.height} pixels, more than ${IMAGE_RESULT_PIXELS_MAX}`)
  if (Math.max(size.width, size.height) > sideMax) throw new InferenceFailed('invalid_input', `the result has ${size.width} × ${size.height} pixels, and ${format} holds at most ${sideMax} on a side: ask for another format`)
  const fits = size.width * size.height * channels <= IMAGE_IN_MEMORY_MAX_BYTES
  const writer = fits ? createRawImageInMemory(size, channels, memoryOf(context, 'result')) : createRawImage(join(await context.folder(), 'result.v'), size, channels, memoryOf(context, 'core'))
  return { ...size, writer }
}

async function encode(context: TaskContext, { width, height, writer: { source } }: Result, { channels }: ImageSpec): Promise<StagedResult> {
  context.progress({ progress: 100, message: 'encoding' })
  context.signal.throwIfAborted()
  const format = param<Format>(context, 'format', 'png')
  const { extension, contentType } = FORMATS[format]
  const result = { name: `image.${extension}`, filename: `image.${extension}`, contentType }
  const sharp = await loadSharp(context.threads)
  const inMemory = typeof source !== 'string'
  const image = sharp(source, { limitInputPixels: false, sequentialRead: true, ...(inMemory && { raw: { width, height, channels } }) })
    .toColourspace(channels === 1 ? 'b-w' : 'srgb').toFormat(format, format === 'png' ? {} : { quality: param(context, 'quality', 90) })
  if (inMemory) return await context.write(result, await image.toBuffer().catch(unencodable))
  const path = join(await context.folder(), result.filename)
  await image.toFile(path).catch(unencodable)
  return await context.writeFile(result, path)
}

function unencodable(cause: unknown): never {
  throw new InferenceFailed('internal_error', `the result cannot be encoded: ${plainReason(cause)}`, { cause })
}
