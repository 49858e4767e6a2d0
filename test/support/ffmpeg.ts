/** A real ffmpeg for a test: scripts/servers/ffmpeg.ts says where it comes from. And videos made with it, and looked at. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { findFfmpeg, provideFfmpeg, type Ffmpeg as Programs } from '../../scripts/servers/ffmpeg.ts'
import { findFfmpeg as findAsService, type Ffmpeg } from '../../src/inference/ffmpeg.ts'
import { isRequired } from './minio.ts'

const HOW = 'there is no ffmpeg: `node scripts/servers/ffmpeg.ts` gets one'
const MAX_BYTES = 256 * 1024 * 1024

const run = promisify(execFile)

interface ProbedStream {
  codec_type: string, codec_name: string, width: number, height: number, time_base: string, sample_aspect_ratio?: string, avg_frame_rate: string, nb_read_frames?: string
  color_space?: string, color_range?: string, color_primaries?: string, level?: number, pix_fmt?: string, start_time: string, duration: string, side_data_list?: { rotation?: number }[]
}

export interface TestFfmpeg {
  /** As a service finds it, for the settings of workers. */
  ffmpeg: Ffmpeg
  /** What the environment of a service has to have to find it. */
  env: Readonly<Record<string, string>>
  /** Bytes of a file that ffmpeg makes: `args` go before its name. `files` lie beside it. */
  make(name: string, args: readonly string[], files?: Readonly<Record<string, Uint8Array | string>>): Promise<Buffer>
  /** Streams of a video, all frames counted. */
  probe(video: Uint8Array): Promise<ProbedStream[]>
  /** Times of the frames of the first video stream, in seconds. */
  times(video: Uint8Array): Promise<number[]>
  /** Pixels of every frame as they are to be seen, packed RGB. */
  pixels(video: Uint8Array): Promise<Buffer>
  /** SHA-256 of the bytes of each packet of sound, as they are stored. */
  sound(video: Uint8Array): Promise<string>
}

/**
 * Call it with the file's `t`. Where there is no ffmpeg the tests are skipped, saying so, unless PENSTOCK_REQUIRE lists
 * `ffmpeg`: then it is got, or the tests fail.
 */
export async function ffmpegOrSkip(t: Test): Promise<TestFfmpeg | undefined> {
  const programs = isRequired('ffmpeg') ? await provideFfmpeg(line => console.error(line)) : await findFfmpeg()
  if (programs === undefined) {
    console.error(`SKIPPED: ${HOW}, PENSTOCK_REQUIRE=ffmpeg makes this a failure`)
    void t.test('what needs an ffmpeg', { skip: HOW }, () => {})
    return undefined
  }
  return await testFfmpeg(t, programs)
}

async function testFfmpeg(t: Test, programs: Programs): Promise<TestFfmpeg> {
  const { env } = programs
  const ffmpeg = await findAsService(env)
  if (ffmpeg === undefined) throw new Error('the service would not take this ffmpeg')
  const home = await mkdtemp(join(tmpdir(), 'penstock-ffmpeg-'))
  t.teardown(() => rm(home, { recursive: true, force: true }))

  async function inFolder<T>(files: Readonly<Record<string, Uint8Array | string>>, work: (folder: string) => Promise<T>): Promise<T> {
    const folder = await mkdtemp(join(home, 'one-'))
    for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes)
    const result = await work(folder)
    await rm(folder, { recursive: true })
    return result
  }

  async function out(path: string, video: Uint8Array, args: readonly string[]): Promise<Buffer> {
    return await inFolder({ video }, async cwd => (await run(path, ['-v', 'error', ...args], { cwd, env, encoding: 'buffer', maxBuffer: MAX_BYTES })).stdout)
  }

  return {
    ffmpeg, env,
    make: (name, args, files = {}) => inFolder(files, async cwd => {
      await run(programs.ffmpeg, ['-v', 'error', '-nostdin', ...args, `file:${name}`], { cwd, env })
      return await readFile(join(cwd, name))
    }),
    async probe(video) {
      const json = await out(programs.ffprobe, video, ['-count_frames', '-show_streams', '-of', 'json', 'video'])
      return (JSON.parse(json.toString()) as { streams: ProbedStream[] }).streams
    },
    async times(video) {
      const csv = await out(programs.ffprobe, video, ['-select_streams', 'v:0', '-show_entries', 'frame=pts_time', '-of', 'csv=p=0', 'video'])
      return csv.toString().trim().split('\n').filter(line => line !== '').map(Number.parseFloat)
    },
    pixels: video => out(programs.ffmpeg, video, ['-i', 'video', '-map', '0:V:0', '-vsync', 'passthrough', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-']),
    async sound(video) {
      return (await out(programs.ffmpeg, video, ['-i', 'video', '-map', '0:a', '-c', 'copy', '-f', 'streamhash', '-hash', 'sha256', '-'])).toString().trim()
    }
  }
}
