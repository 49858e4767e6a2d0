/**
 * Frames of a video, one after another: ffmpeg writes their pixels to its standard output and a line with the time of each to
 * file descriptor 3. It stops when nobody reads, and so does whoever reads: of a video there are never more frames in memory
 * than one, and what the pipes hold.
 */
import { VIDEO_DAMAGED_MAX, VIDEO_PIXELS_MAX } from '../../../limits.ts'
import { giveBack } from '../../../objects/give-back.ts'
import { InferenceFailed } from '../../port.ts'
import type { Channels } from '../image-tensor.ts'
import { matrixOf } from './colours.ts'
import { INPUT_FILE, type VideoFacts, type VideoSource } from './facts.ts'
import { inputOf, ProgramFailed, QUIET, startProgram } from './program.ts'

const PIXEL_FORMATS = { 1: 'gray', 3: 'rgb24', 4: 'rgba' } as const

export interface DecodeOptions extends VideoSource {
  facts: VideoFacts
  channels: Channels
  threads: number
  /** where a frame is put, each in the place of the one before */
  frame: Uint8Array
}

/** Yields the time of the frame that now lies in `frame`, in units of the time base. @throws InferenceFailed invalid_input */
export async function* decodeFrames(options: DecodeOptions): AsyncGenerator<number> {
  const { ffmpeg, folder, signal, frame } = options
  const program = startProgram({ path: ffmpeg.ffmpeg, args: decoderArguments(options), env: ffmpeg.env, folder, signal })
  program.stdin.end()
  const times = timesOf(linesOf(program.notes))
  let first: number | undefined
  let last = 0
  try {
    for await (const _ of filling(frame, program.stdout)) {
      const { value, done } = await times.next()
      if (done === true) throw new InferenceFailed('internal_error', 'ffmpeg gave a frame without its time')
      first ??= value
      last = value
      yield value
    }
    await program.ended.catch((error: unknown) => {
      throw error instanceof ProgramFailed ? new InferenceFailed('invalid_input', `the video cannot be decoded: ${program.reason()}`, { cause: error }) : error
    })
  } finally {
    program.kill()
    await program.ended.catch(() => {})
  }
  if (first === undefined) throw new InferenceFailed('invalid_input', 'the video has no frame that can be decoded')
  assertLasts(options, last - first, program.messages())
}

/** What demuxers say when they pass over what they cannot read; that of AVI says nothing. */
const PASSED_OVER = /invalid as first byte of an EBML number|bad header/

/** A file that is whole in length, and zeros from somewhere on, comes to an end there without an error. */
function assertLasts({ container, facts: { seconds, timeBase, rate } }: DecodeOptions, time: number, messages: string): void {
  if (seconds === undefined || (container.demuxer !== 'avi' && !PASSED_OVER.test(messages))) return
  const lasts = time * timeBase.num / timeBase.den + rate.den / rate.num
  if (lasts < (1 - VIDEO_DAMAGED_MAX) * seconds) throw new InferenceFailed('invalid_input', `the video cannot be decoded: it is damaged, and of its ${seconds.toFixed(1)} s there are ${lasts.toFixed(1)} left`)
}

/** Yields whenever `frame` is full; what is less in the end is dropped. */
async function* filling(frame: Uint8Array, source: AsyncIterable<Buffer>): AsyncGenerator<void> {
  let filled = 0
  for await (const chunk of source) {
    for (let from = 0; from < chunk.length;) {
      const part = chunk.subarray(from, from + frame.length - filled)
      frame.set(part, filled)
      from += part.length
      filled += part.length
      if (filled < frame.length) continue
      filled = 0
      yield
    }
    giveBack(chunk)
  }
}

function decoderArguments({ ffmpeg, container, facts, channels, threads }: DecodeOptions): string[] {
  const { width, height, timeBase } = facts
  const filters = [
    `settb=${timeBase.num}/${timeBase.den}`,
    // only frames that have something to tell are told of
    'metadata=mode=add:key=penstock:value=1', `metadata=mode=print:file='pipe\\:3':direct=1`,
    // the same size for all, whatever comes in the middle of it
    `scale=${width}:${height}:in_color_matrix=${matrixOf(facts).scale}`
  ]
  return [
    ...QUIET, '-nostdin', '-max_error_rate', String(VIDEO_DAMAGED_MAX), '-max_pixels', String(VIDEO_PIXELS_MAX), '-threads', String(threads), ...inputOf(container.demuxer, INPUT_FILE),
    '-map', '0:V:0', '-vf', filters.join(','), ...ffmpeg.passthrough, ...ffmpeg.outputQueue, '-pix_fmt', PIXEL_FORMATS[channels], '-f', 'rawvideo', 'pipe:1'
  ]
}

/** Short ones: what we have told the filter to print. */
async function* linesOf(source: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of source) {
    const lines = (rest + chunk.toString('latin1')).split('\n')
    rest = lines.pop()!
    yield* lines
  }
}

/** One that is later than the one before, whatever the file says; one that is not said is the next. */
async function* timesOf(lines: AsyncIterable<string>): AsyncGenerator<number, undefined> {
  let last: number | undefined
  for await (const line of lines) {
    const [, said] = /^frame:\d+ +pts:(-?\d+|NOPTS)\b/.exec(line) ?? []
    if (said === undefined) continue
    const time: number = said === 'NOPTS' ? (last ?? -1) + 1 : Number(said)
    last = last === undefined ? time : Math.max(time, last + 1)
    yield last
  }
}
