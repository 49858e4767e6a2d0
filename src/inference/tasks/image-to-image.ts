/**
 * An image through a model that makes an image of it, in tiles (tiles.ts), so that any size runs in the memory of a few:
 *
 *   input ─▶ decoded ─▶ tile ─▶ tensor ─▶ model ─▶ tensor ─▶ its core into the result ─▶ encoded ─▶ staging
 *
 * Decoded and result lie in memory up to IMAGE_IN_MEMORY_MAX_BYTES each, else on disk.
 * The model may make it larger by a whole factor, found out with the first tile. Values outside the range become the nearest
 * inside; NaN fails the run. Of formats that cannot be decoded in stripes (progressive JPEG, interlaced PNG, WebP, AVIF)
 * the decoder itself holds the whole image.
 */
import { join } from 'node:path'
import { Type } from 'typebox'
import { IMAGE_IN_MEMORY_MAX_BYTES, IMAGE_RESULT_PIXELS_MAX, IMAGE_SCALE_MAX, TILE_DEFAULT_PIXELS, TILE_OVERLAP_DEFAULT_PIXELS, TILE_UNIT_PIXELS } from '../../limits.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type StagedResult, type WireTensor } from '../port.ts'
import type { Session, Task, TaskContext } from '../task.ts'
import { openImage, undecodable, withChannels } from './image-input.ts'
import { imageDecoder, imageEncoder, imageSize, imageSpec, type ImageSpec } from './image-tensor.ts'
import { param } from './inputs.ts'
import { createRawImage, createRawImageInMemory, openRawImage, rawImageInMemory, type RawImage, type RawImageWriter, type Rectangle } from './raw-image.ts'
import { loadSharp } from './sharp.ts'
import { evenWindow, planTiles, type Tile } from './tiles.ts'

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
    tile: Type.Optional(Type.Integer({ minimum: 64, maximum: 4096, description: `side of a tile, where the model takes any; without it at most ${TILE_DEFAULT_PIXELS}` })),
    overlap: Type.Optional(Type.Integer({ minimum: 0, maximum: 1024, default: TILE_OVERLAP_DEFAULT_PIXELS, description: 'how far around a pixel the model looks; less than half a tile' }))
  }, { additionalProperties: false }),
  checkModel(signature, manifest) {
    imageSpec('input', manifest, signature.inputs)
    imageSpec('output', manifest, signature.outputs)
  },
  async run(context) {
    const session = await context.session()
    const manifest = context.manifest()
    const specs = { input: imageSpec('input', manifest, session.signature.inputs), output: imageSpec('output', manifest, session.signature.outputs) }
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

interface Specs { input: ImageSpec, output: ImageSpec }

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

interface Result { width: number, height: number, scale: number, writer: RawImageWriter }

async function runTiles(context: TaskContext, session: Session, specs: Specs, image: RawImage): Promise<Result> {
  const { tiles, windowSize } = plan(context, specs.input, image)
  const toTensor = imageEncoder(specs.input, memoryOf(context, 'tensor'))
  const toBytes = imageDecoder(specs.output)
  let result: Result | undefined
  try {
    for (const [index, { window, core }] of tiles.entries()) {
      context.signal.throwIfAborted()
      const input = toTensor(image.read(window), windowSize.width ?? window.width, windowSize.height ?? window.height)
      const [output] = await session.run([input], [specs.output.name], { reuse: true })
      result ??= await begin(context, specs, image, scaleOf(specs, input, output!))
      assertScale(specs, input, output!, result.scale)
      const { scale } = result
      const region = scaled({ ...core, left: core.left - window.left, top: core.top - window.top }, scale)
      result.writer.write(scaled(core, scale), target => toBytes(output!, region, target))
      context.progress({ progress: 100 * (index + 1) / tiles.length, message: `${index + 1} of ${tiles.length} tiles` })
    }
  } finally {
    result?.writer.close()
  }
  return result!
}

/** `windowSize`: what the model takes, where it takes nothing else; smaller images are continued up to it. */
function plan(context: TaskContext, { width, height }: ImageSpec, image: RawImage): { tiles: Tile[], windowSize: { width: number | null, height: number | null } } {
  const { tile, overlap: asked } = context.params as { tile?: number, overlap?: number }
  const largest = { width: width ?? tile ?? TILE_DEFAULT_PIXELS, height: height ?? tile ?? TILE_DEFAULT_PIXELS }
  const least = Math.min(largest.width, largest.height)
  if (asked !== undefined && asked * 2 >= least) throw new InferenceFailed('invalid_input', `overlap must be less than half a tile, which is ${least} pixels`)
  const overlap = asked ?? Math.min(TILE_OVERLAP_DEFAULT_PIXELS, Math.floor(least / 4))
  // whoever names a size gets it
  const even = (length: number, max: number, isFixed: boolean): number => (isFixed ? max : evenWindow(length, max, overlap, TILE_UNIT_PIXELS))
  const window = {
    width: even(image.width, largest.width, (width ?? tile) !== undefined),
    height: even(image.height, largest.height, (height ?? tile) !== undefined)
  }
  return { tiles: planTiles(image, window, overlap), windowSize: { width, height } }
}

function scaled({ left, top, width, height }: Rectangle, scale: number): Rectangle {
  return { left: left * scale, top: top * scale, width: width * scale, height: height * scale }
}

/** How many times as wide the model makes an image. @throws InferenceFailed invalid_model */
function scaleOf({ input, output }: Specs, given: WireTensor, made: WireTensor): number {
  const scale = imageSize(output, made).width / imageSize(input, given).width
  if (!Number.isInteger(scale) || scale < 1 || scale > IMAGE_SCALE_MAX) throw wrongSize(input, given, output, made)
  return scale
}

function assertScale({ input, output }: Specs, given: WireTensor, made: WireTensor, scale: number): void {
  const [from, to] = [imageSize(input, given), imageSize(output, made)]
  if (to.width !== from.width * scale || to.height !== from.height * scale) throw wrongSize(input, given, output, made)
}

function wrongSize(input: ImageSpec, given: WireTensor, output: ImageSpec, made: WireTensor): InferenceFailed {
  const [from, to] = [imageSize(input, given), imageSize(output, made)]
  return new InferenceFailed('invalid_model', `of ${from.width} × ${from.height} pixels the model made ${to.width} × ${to.height}: it has to be the same whole factor from 1 to ${IMAGE_SCALE_MAX} both ways`)
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
  return { ...size, scale, writer }
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
