/**
 * ffmpeg and ffprobe as they are found on PATH: the service looks for them once at its start, and hands what it found to its
 * workers. No version that knows less than OLDEST is taken.
 */
import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { FFMPEG_VERSION_TIMEOUT_MS, VIDEO_QUEUE_FRAMES } from '../limits.ts'

const run = promisify(execFile)

/** The first whose `metadata` filter prints without delay; that knows -fps_mode, in place of -vsync; that writes in a thread of its own. */
const OLDEST = 4.3
const WITH_FPS_MODE = 5.1
const WITH_OUTPUT_QUEUE = 6

export interface Ffmpeg {
  /** paths */
  ffmpeg: string
  ffprobe: string
  /** the whole environment of both */
  env: Record<string, string>
  /** the option that leaves time stamps alone */
  passthrough: readonly [string, string]
  /** those that bound what waits to be written, where there is a line for it */
  outputQueue: readonly string[]
}

export const HOW_TO_GET_FFMPEG = `ffmpeg and ffprobe, of version ${OLDEST} or newer, must be on PATH (Debian and Ubuntu: apt-get install ffmpeg)`

/** Undefined where there is none that can be used. `env`: with PATH, and what the programs need besides. */
export async function findFfmpeg(env: Readonly<Record<string, string>>): Promise<Ffmpeg | undefined> {
  const [ffmpeg, ffprobe] = await Promise.all(['ffmpeg', 'ffprobe'].map(name => onPath(name, env.PATH ?? '')))
  if (ffmpeg === undefined || ffprobe === undefined) return undefined
  const { PATH = '', LD_LIBRARY_PATH: libraries } = env
  const needed = { PATH, ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) }
  const versions = await Promise.all([ffmpeg, ffprobe].map(path => versionOf(path, needed)))
  const oldest = Math.min(...versions)
  if (!(oldest >= OLDEST)) return undefined
  return {
    ffmpeg, ffprobe, env: needed,
    passthrough: [oldest >= WITH_FPS_MODE ? '-fps_mode' : '-vsync', 'passthrough'],
    outputQueue: oldest >= WITH_OUTPUT_QUEUE ? ['-thread_queue_size', String(VIDEO_QUEUE_FRAMES)] : []
  }
}

async function onPath(name: string, path: string): Promise<string | undefined> {
  // a folder that depends on where somebody stands is none
  for (const folder of path.split(delimiter).filter(each => each.startsWith('/'))) {
    const file = join(folder, name)
    if (await access(file, constants.X_OK).then(() => true, () => false)) return file
  }
  return undefined
}

/** As a number, 5.1 for 5.1.9; builds from a repository say no number and are taken for new. NaN: it does not run. */
async function versionOf(path: string, env: Record<string, string>): Promise<number> {
  const { stdout } = await run(path, ['-version'], { env, timeout: FFMPEG_VERSION_TIMEOUT_MS }).catch(() => ({ stdout: '' }))
  const [, version] = /^ff(?:mpeg|probe) version (\S+)/.exec(stdout) ?? []
  if (version === undefined) return Number.NaN
  const [, major, minor] = /^n?(\d+)\.(\d+)/.exec(version) ?? []
  return major === undefined ? Number.POSITIVE_INFINITY : Number(`${major}.${minor}`)
}
