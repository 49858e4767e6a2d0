/**
 * A video through a model of images, frame by frame:
 *
 *   input ─▶ file ─▶ header judged, frames counted
 *                      │
 *                      └▶ ffmpeg ─▶ frame ─▶ tiles through the model (tiled-model.ts) ─▶ frame ─▶ ffmpeg ─▶ file ─▶ staging
 *                         decodes     └ with its time ──────────────────────────────────▶  encodes, with the sound of the original
 *
 * In memory there are one frame that goes in, and two that come out: one is taken by the encoder while the next is made.
 * Frames go in upright, whichever way the camera was held, and come out so. Each keeps its time, be the rate even or not.
 * Sound stays as it is where the format of the result holds it, and else is encoded anew; subtitles and chapters are dropped.
 */
import { createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Type } from 'typebox'
import { VIDEO_PIXELS_MAX, VIDEO_RESULT_PIXELS_MAX, VIDEO_SIDE_MAX } from '../../limits.ts'
import { HOW_TO_GET_FFMPEG } from '../ffmpeg.ts'
import { InferenceFailed } from '../port.ts'
import type { Task, TaskContext } from '../task.ts'
import type { Channels } from './image-tensor.ts'
import { param, theInput } from './inputs.ts'
import { createRawImageInMemory, rawImageInMemory, type RawImageWriter } from './raw-image.ts'
import { imageSpecs, tiledModel, TILE_PARAMS } from './tiled-model.ts'
import { CONTAINER_HEAD_BYTES, CONTAINER_NAMES, containerOf } from './video/container.ts'
import { decodeFrames } from './video/decode.ts'
import { FORMATS, PRESETS, startEncoder, type FormatName, type Preset, type VideoEncoder } from './video/encode.ts'
import { countFrames, readFacts, type VideoFacts, type VideoSource } from './video/facts.ts'

export const videoToVideo: Task = {
  name: 'video-to-video',
  input: 'video',
  params: Type.Object({
    format: Type.Optional(Type.Enum(['mp4', 'webm'], { default: 'mp4', description: 'of the result: mp4 with H.264, webm with VP9' })),
    quality: Type.Optional(Type.Integer({ minimum: 0, maximum: 51, description: 'constant rate factor, less is better; without it 20 for mp4 and 31 for webm' })),
    preset: Type.Optional(Type.Enum([...PRESETS], { default: 'medium', description: 'how much time encoding may take' })),
    ...TILE_PARAMS
  }, { additionalProperties: false }),
  checkModel(signature, manifest) {
    imageSpecs(signature, manifest)
  },
  async run(context) {
    const over = new AbortController()
    const source = await fetchVideo(context, AbortSignal.any([context.signal, over.signal]))
    const format = param<FormatName>(context, 'format', 'mp4')
    try {
      context.progress({ progress: null, message: 'counting frames' })
      const facts = await readFacts(source)
      await runFrames(context, source, facts, await countFrames(source))
    } finally {
      over.abort()
    }
    const name = `video.${format}`
    return [await context.writeFile({ name, filename: name, contentType: FORMATS[format].contentType }, join(source.folder, `result.${format}`))]
  }
}

/** Into a file, since that of a video may say at its end what it begins with. @throws InferenceFailed invalid_input */
async function fetchVideo(context: TaskContext, signal: AbortSignal): Promise<VideoSource> {
  const { ffmpeg } = context
  if (ffmpeg === null) throw new InferenceFailed('invalid_input', `this node takes no videos: ${HOW_TO_GET_FFMPEG}`)
  const input = theInput(context, 'one video')
  const folder = await context.folder()
  const path = join(folder, 'input')
  await pipeline(await context.open(input), createWriteStream(path, { flags: 'wx' }), { signal })
  const container = containerOf(await readHead(path))
  if (container === undefined) throw new InferenceFailed('invalid_input', `the input is no video that is taken: ${CONTAINER_NAMES} are`)
  return { ffmpeg, container, folder, signal, maxPixels: Math.min(context.manifest().limits?.maxPixels ?? VIDEO_PIXELS_MAX, VIDEO_PIXELS_MAX) }
}

async function readHead(path: string): Promise<Buffer> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(CONTAINER_HEAD_BYTES), 0, CONTAINER_HEAD_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

async function runFrames(context: TaskContext, source: VideoSource, facts: VideoFacts, count: number | null): Promise<void> {
  const session = await context.session()
  const specs = imageSpecs(session.signature, context.manifest())
  const { channels } = specs.input
  const model = tiledModel(context, session, specs, facts)
  const frame = new Uint8Array(context.memory('frame', facts.width * facts.height * channels), 0, facts.width * facts.height * channels)
  const image = rawImageInMemory(frame, facts, channels)
  let encoder: VideoEncoder | undefined
  let written: Promise<void> = Promise.resolve()
  let done = 0
  try {
    for await (const time of decodeFrames({ ...source, facts, channels, threads: context.threads, frame })) {
      let result: RawImageWriter | undefined
      await model.run(image, {
        begin(scale) {
          const size = resultSize(facts, scale, specs.output.channels)
          encoder ??= startEncoder({ ...source, ...encoding(context), facts, size, startTime: time })
          // the one before may still be on its way to the encoder
          return result = reversed(createRawImageInMemory(size, size.channels, bytes => context.memory(`result ${done % 2}`, bytes)))
        }
      })
      await written
      written = encoder!.write(result!.source as Buffer, time)
      written.catch(() => {})
      done += 1
      context.progress({ progress: count === null ? null : 100 * Math.min(done, count) / count, message: count === null ? `${done} frames` : `${done} of ${count} frames` })
    }
    await written
    await encoder!.finish()
  } finally {
    encoder?.kill()
    await encoder?.gone
  }
}

/** As the encoder takes it. */
function reversed(writer: RawImageWriter): RawImageWriter {
  return { ...writer, write: (region, fill) => writer.write(region, target => fill({ ...target, reversed: true })) }
}

function encoding(context: TaskContext): { format: FormatName, quality: number, preset: Preset, threads: number } {
  const format = param<FormatName>(context, 'format', 'mp4')
  return { format, quality: param(context, 'quality', FORMATS[format].qualityDefault), preset: param<Preset>(context, 'preset', 'medium'), threads: context.threads }
}

/** @throws InferenceFailed invalid_input */
function resultSize({ width, height }: VideoFacts, scale: number, channels: Channels): { width: number, height: number, channels: Channels } {
  const size = { width: width * scale, height: height * scale, channels }
  if (size.width * size.height > VIDEO_RESULT_PIXELS_MAX || Math.max(size.width, size.height) > VIDEO_SIDE_MAX) {
    throw new InferenceFailed('invalid_input', `the result would have ${size.width} × ${size.height} pixels a frame, more than ${VIDEO_RESULT_PIXELS_MAX}, or than ${VIDEO_SIDE_MAX} on a side`)
  }
  return size
}
