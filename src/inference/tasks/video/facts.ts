/**
 * What the header of a video says, judged before anything of it is decoded; and how many frames it has, by going through it
 * without decoding them.
 */
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { VIDEO_COUNT_TIMEOUT_MS, VIDEO_DURATION_MAX_SECONDS, VIDEO_FRAMES_MAX, VIDEO_PIXELS_MAX, VIDEO_PROBE_OUTPUT_MAX_BYTES, VIDEO_PROBE_TIMEOUT_MS, VIDEO_SIDE_MAX, VIDEO_SOUNDS_MAX } from '../../../limits.ts'
import type { Ffmpeg } from '../../ffmpeg.ts'
import { InferenceFailed } from '../../port.ts'
import type { Container } from './container.ts'
import { inputOf, ProgramFailed, ProgramLate, QUIET, startProgram, type Program } from './program.ts'
import { isCutOff } from './whole.ts'

export interface Fraction { num: number, den: number }

export interface VideoFacts {
  /** Of a frame as it is to be seen: turned upright. */
  width: number
  height: number
  /** of what time stamps count */
  timeBase: Fraction
  /** frames a second, on average; where nothing says it, as most have */
  rate: Fraction
  /** how long it says that it is; undefined where it does not */
  seconds: number | undefined
  /** how wide a pixel is in relation to its height */
  aspect: Fraction
  /** As ffmpeg names them; undefined where the file does not say. */
  colours: { matrix?: string, primaries?: string, transfer?: string }
  sounds: Sound[]
}

/** A stream of sound: which of the streams of the file, and what it is. */
export interface Sound { index: number, codec: string }

export interface VideoSource {
  ffmpeg: Ffmpeg
  container: Container
  /** the folder of the run, with the video in it as `input` */
  folder: string
  /** pixels of a frame */
  maxPixels: number
  signal: AbortSignal
}

export const INPUT_FILE = 'file:input'

const FIELDS = 'index,codec_type,codec_name,width,height,sample_aspect_ratio,time_base,r_frame_rate,avg_frame_rate,nb_frames,duration,color_space,color_primaries,color_transfer'

interface Stream {
  index: number, codec_type?: string, codec_name?: string, width?: number, height?: number, sample_aspect_ratio?: string, time_base?: string, r_frame_rate?: string, avg_frame_rate?: string
  nb_frames?: string, duration?: string, color_space?: string, color_primaries?: string, color_transfer?: string, nb_read_packets?: string
  disposition?: { attached_pic?: number }, tags?: { rotate?: string }, side_data_list?: { rotation?: number }[]
}
interface Probed { streams?: Stream[], format?: { duration?: string } }

/** @throws InferenceFailed invalid_input */
export async function readFacts(source: VideoSource): Promise<VideoFacts> {
  if (await isCutOff(source.container, join(source.folder, 'input'))) throw cutOff()
  const { probed: { streams = [], format = {} }, messages } = await probe(source, VIDEO_PROBE_TIMEOUT_MS, ['-show_entries', `stream=${FIELDS}:stream_disposition=attached_pic:stream_tags=rotate:stream_side_data=rotation:format=duration`]).catch((error: unknown) => {
    throw error instanceof ProgramLate ? refused('looking at its header took too long', error) : error
  })
  const sounds = streams.filter(({ codec_type: type }) => type === 'audio')
  const video = streams.find(({ codec_type: type, disposition }) => type === 'video' && disposition?.attached_pic !== 1)
  if (video === undefined) throw refused(sounds.length > 0 ? 'there is only sound in it, and no video' : 'there is no video in it')
  const seconds = Number(video.duration ?? format.duration)
  assertLimits(source, { ...video, ...tooLarge(messages) }, seconds)
  return { ...describe(video, knownSounds(sounds)), seconds: seconds > 0 ? seconds : undefined }
}

/** Phones write a second one beside the first, of a kind that only their makers know. */
function knownSounds(streams: readonly Stream[]): Sound[] {
  const known = streams.flatMap(({ index, codec_name: codec }) => (codec === undefined || codec === 'unknown' || codec === 'none' ? [] : [{ index, codec }]))
  if (known.length === 0 && streams.length > 0) throw refused('its sound is of a kind that ffmpeg does not know')
  return known.slice(0, VIDEO_SOUNDS_MAX)
}

/**
 * Frames, by their packets; null where counting takes too long.
 * @throws InferenceFailed invalid_input where there is none, or the file ends before its end
 */
export async function countFrames(source: VideoSource, timeoutMs = VIDEO_COUNT_TIMEOUT_MS): Promise<number | null> {
  const counted = await probe(source, timeoutMs, ['-count_packets', '-select_streams', 'V:0', '-show_entries', 'stream=nb_read_packets']).catch((error: unknown) => {
    if (error instanceof ProgramLate) return null
    throw error
  })
  if (counted === null) return null
  const count = Number(counted.probed.streams?.[0]?.nb_read_packets ?? 0)
  if (!(count > 0)) throw refused('there is no frame in it')
  if (count > VIDEO_FRAMES_MAX) throw refused(`it has ${count} frames, more than the ${VIDEO_FRAMES_MAX} that are taken`)
  return count
}

/** What demuxers say of a file that was cut off within what has no length. */
const CUT_OFF = /partial file|ended prematurely/

function cutOff(): InferenceFailed {
  return refused('it is cut off: the file ends before the video does')
}

async function probe({ ffmpeg, container, folder, signal }: VideoSource, timeoutMs: number, asked: string[]): Promise<{ probed: Probed, messages: string }> {
  const args = [...QUIET, '-max_pixels', String(VIDEO_PIXELS_MAX), ...asked, '-of', 'json', ...inputOf(container.demuxer, INPUT_FILE)]
  const program = startProgram({ path: ffmpeg.ffprobe, args, env: ffmpeg.env, folder, signal, timeoutMs })
  program.stdin.end()
  program.notes.resume()
  const [said, ended] = await Promise.allSettled([text(bounded(program.stdout)), program.ended])
  if (said.status === 'rejected' && said.reason instanceof InferenceFailed) throw said.reason
  if (ended.status === 'rejected') throw ended.reason instanceof ProgramFailed ? unreadable(container, program) : ended.reason
  if (said.status === 'rejected') throw said.reason
  const messages = program.messages()
  if (CUT_OFF.test(messages)) throw cutOff()
  return { probed: JSON.parse(said.value) as Probed, messages }
}

function unreadable({ name }: Container, program: Program): InferenceFailed {
  const { width, height } = tooLarge(program.messages())
  return refused(width === undefined ? `it is no ${name.replace(' and ', ' or ')} that can be read: ${program.reason()}` : `it has ${width} × ${height} pixels a frame, more than the ${VIDEO_PIXELS_MAX} that are taken`)
}

async function* bounded(stdout: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of stdout) {
    bytes += chunk.length
    if (bytes > VIDEO_PROBE_OUTPUT_MAX_BYTES) throw refused('its header says more than can be looked at')
    yield chunk
  }
}

/** Sizes that are more than -max_pixels are only told of. */
function tooLarge(messages: string): Pick<Stream, 'width' | 'height'> {
  const [, width, height] = /Picture size (\d{1,10})x(\d{1,10}) /.exec(messages) ?? []
  return width === undefined ? {} : { width: Number(width), height: Number(height) }
}

function assertLimits({ maxPixels }: VideoSource, { width = 0, height = 0, nb_frames: frames, avg_frame_rate: rate }: Stream, seconds: number): void {
  if (!(width > 0 && height > 0)) throw refused('it has no size')
  if (width * height > maxPixels) throw refused(`it has ${width} × ${height} = ${width * height} pixels a frame, more than the ${maxPixels} that are taken`)
  if (Math.max(width, height) > VIDEO_SIDE_MAX) throw refused(`it has ${width} × ${height} pixels, and a side may have ${VIDEO_SIDE_MAX}`)
  if (seconds > VIDEO_DURATION_MAX_SECONDS) throw refused(`it says that it takes ${Math.round(seconds)} s, more than the ${VIDEO_DURATION_MAX_SECONDS} that are taken`)
  const { num, den } = fraction(rate) ?? { num: 0, den: 1 }
  const count = Math.max(Number(frames ?? 0), (seconds || 0) * num / den)
  if (count > VIDEO_FRAMES_MAX) throw refused(`it says that it has ${Math.round(count)} frames, more than the ${VIDEO_FRAMES_MAX} that are taken`)
}

const USUAL_RATE = { num: 25, den: 1 }
const USUAL_TIME_BASE = { num: 1, den: 90_000 }
const RATE_MAX = 1000

function describe(video: Stream, sounds: Sound[]): Omit<VideoFacts, 'seconds'> {
  const rotation = video.side_data_list?.find(each => each.rotation !== undefined)?.rotation ?? Number(video.tags?.rotate ?? 0)
  const lies = Math.abs(rotation) % 180 === 90
  const aspect = fraction(video.sample_aspect_ratio) ?? { num: 1, den: 1 }
  const [width, height] = [video.width!, video.height!]
  const rate = [video.avg_frame_rate, video.r_frame_rate].map(fraction).find(each => each !== undefined && each.num / each.den <= RATE_MAX)
  return {
    ...(lies ? { width: height, height: width } : { width, height }),
    aspect: lies ? { num: aspect.den, den: aspect.num } : aspect,
    timeBase: fraction(video.time_base) ?? USUAL_TIME_BASE,
    rate: rate ?? USUAL_RATE,
    colours: { ...named('matrix', video.color_space), ...named('primaries', video.color_primaries), ...named('transfer', video.color_transfer) },
    sounds
  }
}

/** Of `30000/1001` and `4:3`; undefined where it is none, or nothing. */
function fraction(said: string | undefined): Fraction | undefined {
  const [, num, den] = /^(\d{1,10})[/:](\d{1,10})$/.exec(said ?? '') ?? []
  return Number(num) > 0 && Number(den) > 0 ? { num: Number(num), den: Number(den) } : undefined
}

function named<Name extends string>(name: Name, value: string | undefined): Partial<Record<Name, string>> {
  return value === undefined || !/^[a-z0-9-]{2,32}$/.test(value) || ['unknown', 'unspecified', 'reserved', 'gbr'].includes(value) ? {} : { [name]: value } as Record<Name, string>
}

function refused(message: string, cause?: unknown): InferenceFailed {
  return new InferenceFailed('invalid_input', `the video cannot be taken: ${message}`, { cause })
}
