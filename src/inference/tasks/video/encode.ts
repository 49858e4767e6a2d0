/**
 * Frames with their times into a file: by way of a pipe (matroska.ts) into ffmpeg, which takes the sound from the original.
 * A frame is written when the one before is taken; two wait in there.
 */
import { VIDEO_QUEUE_FRAMES } from '../../../limits.ts'
import type { StagedResult } from '../../port.ts'
import { InferenceFailed } from '../../port.ts'
import type { Channels } from '../image-tensor.ts'
import { colourTags, matrixOf } from './colours.ts'
import { INPUT_FILE, type Fraction, type VideoFacts, type VideoSource } from './facts.ts'
import { rawFrameHeader, rawVideoHeader } from './matroska.ts'
import { inputOf, ProgramFailed, QUIET, startProgram, type Program } from './program.ts'

export const PRESETS = ['ultrafast', 'veryfast', 'fast', 'medium', 'slow'] as const
export type Preset = typeof PRESETS[number]

interface Format {
  contentType: StagedResult['contentType']
  qualityDefault: number
  /** sound that it holds as it is, and what else becomes of it */
  sounds: ReadonlySet<string>
  sound: string
  /** whether it holds odd widths and heights */
  odd: boolean
  arguments(quality: number, preset: Preset): string[]
}

/** Above 4K. x264 looks forty frames ahead, which all lie in memory: of these it looks less far. */
const LARGE_PIXELS = 3840 * 2160

/** -cpu-used of libvpx, by the name of what takes as much pain in x264. */
const CPU_USED: Record<Preset, number> = { ultrafast: 8, veryfast: 6, fast: 5, medium: 4, slow: 2 }

export const FORMATS = {
  mp4: {
    contentType: 'video/mp4', qualityDefault: 20, odd: false,
    sounds: new Set(['aac', 'mp3', 'ac3', 'eac3', 'opus', 'flac', 'alac']), sound: 'aac',
    arguments: (quality, preset) => ['-c:v', 'libx264', '-preset', preset, '-crf', String(quality), '-movflags', '+faststart']
  },
  webm: {
    contentType: 'video/webm', qualityDefault: 31, odd: true,
    sounds: new Set(['opus', 'vorbis']), sound: 'libopus',
    arguments: (quality, preset) => ['-c:v', 'libvpx-vp9', '-crf', String(quality), '-b:v', '0', '-row-mt', '1', '-deadline', 'good', '-cpu-used', String(Math.min(CPU_USED[preset], 5))]
  }
} as const satisfies Record<string, Format>
export type FormatName = keyof typeof FORMATS

export interface EncodeOptions extends VideoSource {
  facts: VideoFacts
  format: FormatName
  quality: number
  preset: Preset
  threads: number
  /** of the frames that will come */
  size: { width: number, height: number, channels: Channels }
  /** of the first frame, in units of the time base of the original */
  startTime: number
}

export interface VideoEncoder {
  /** Settles when the pixels can be written over. Times rise. @throws InferenceFailed */
  write(pixels: Uint8Array, time: number): Promise<void>
  /** Settles when the file is whole, `result.<format>` in the folder. @throws InferenceFailed */
  finish(): Promise<void>
  /** Idempotent. */
  kill(): void
  /** Settles when ffmpeg is gone; never rejects. */
  readonly gone: Promise<void>
}

export function startEncoder(options: EncodeOptions): VideoEncoder {
  const { ffmpeg, folder, signal, facts: { timeBase, rate }, size, startTime } = options
  const program = startProgram({ path: ffmpeg.ffmpeg, args: encoderArguments(options), env: ffmpeg.env, folder, signal })
  program.stdout.resume()
  program.notes.resume()
  const bytes = size.width * size.height * size.channels
  let header: Buffer | undefined = rawVideoHeader({ ...size, frameNs: Math.round(1e9 * rate.den / rate.num) })
  return {
    kill: program.kill,
    gone: program.ended.catch(() => {}),
    async write(pixels, time) {
      const frame = rawFrameHeader(nanoseconds(time - startTime, timeBase), bytes)
      try {
        await put(program, header === undefined ? frame : Buffer.concat([header, frame]))
        await put(program, pixels.subarray(0, bytes))
      } catch (error) {
        await end(program)
        // it ended well, before its input did
        throw new InferenceFailed('internal_error', 'ffmpeg does not take any more frames', { cause: error })
      }
      header = undefined
    },
    async finish() {
      program.stdin.end()
      await end(program)
    }
  }
}

/** A write to what is gone is not always answered. */
async function put({ stdin, ended }: Program, bytes: Uint8Array): Promise<void> {
  const { promise: taken, resolve, reject } = Promise.withResolvers<void>()
  stdin.write(bytes, error => { if (error) reject(error); else resolve() })
  await Promise.race([taken, ended.then(() => { throw new Error('it has ended') })])
}

async function end(program: Program): Promise<void> {
  await program.ended.catch((error: unknown) => {
    if (!(error instanceof ProgramFailed)) throw error
    const reason = program.reason()
    if (/No space left|Disk quota|Cannot allocate memory/.test(program.messages())) throw new InferenceFailed('resource_exhausted', 'this machine has no room left for the result', { cause: error })
    if (/Decoder \(codec \S+\) not found|no decoder found/.test(program.messages())) throw new InferenceFailed('invalid_input', `the ffmpeg of this node cannot decode its sound: ${reason}`, { cause: error })
    if (/Unknown encoder/.test(program.messages())) throw new InferenceFailed('invalid_input', `the ffmpeg of this node cannot encode it: ${reason}`, { cause: error })
    throw new InferenceFailed('internal_error', `the result cannot be encoded: ${reason}`, { cause: error })
  })
}

function nanoseconds(time: number, { num, den }: Fraction): bigint {
  return (BigInt(time) * BigInt(num) * 1_000_000_000n + BigInt(den) / 2n) / BigInt(den)
}

function encoderArguments(options: EncodeOptions): string[] {
  const { ffmpeg, container, facts, format: name, quality, preset, threads, size, startTime } = options
  const { timeBase: { num, den }, sounds } = facts
  const format: Format = FORMATS[name]
  const delay = (startTime * num / den).toFixed(9)
  return [
    ...QUIET, '-nostdin',
    // nothing is to be found out about these: their header says all
    '-probesize', '32', '-analyzeduration', '0', '-thread_queue_size', String(VIDEO_QUEUE_FRAMES), '-itsoffset', delay, ...inputOf('matroska', 'pipe:0'),
    ...(sounds.length > 0 ? inputOf(container.demuxer, INPUT_FILE) : []),
    '-map', '0:v:0', ...sounds.flatMap(({ index, codec }, at) => ['-map', `1:${index}`, `-c:a:${at}`, format.sounds.has(codec) ? 'copy' : format.sound]),
    // FLAC and Opus in MP4 were experimental for long
    '-strict', 'experimental', '-map_chapters', '-1', '-max_muxing_queue_size', '9999',
    '-vf', filtersOf(options, format).join(','), ...ffmpeg.passthrough, '-enc_time_base', `${num}/${den}`,
    ...format.arguments(quality, preset), ...(name === 'mp4' && size.width * size.height > LARGE_PIXELS ? ['-rc-lookahead', '10'] : []), ...colourTags(facts), '-threads', String(threads),
    '-f', name, `file:result.${name}`
  ]
}

/** H.264 with colours at half the size holds even sizes: what is odd is continued by a pixel. */
function filtersOf({ facts, size: { width, height } }: EncodeOptions, { odd }: Format): string[] {
  const [right, bottom] = odd ? [0, 0] : [width % 2, height % 2]
  const { num, den } = facts.aspect
  return [
    ...(right + bottom > 0 ? [`pad=${width + right}:${height + bottom}`, `fillborders=right=${right}:bottom=${bottom}:mode=smear`] : []),
    `scale=out_color_matrix=${matrixOf(facts).scale}:out_range=tv`, 'format=yuv420p', `setsar=${num}/${den}`
  ]
}
