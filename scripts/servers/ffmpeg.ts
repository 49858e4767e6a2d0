/**
 * ffmpeg and ffprobe, for tests and benchmarks of videos, and for who runs the service on a Debian without them.
 *
 *     node scripts/servers/ffmpeg.ts     finds them or gets them, and prints where they are (debian.ts says how)
 */
import { basename, dirname, join } from 'node:path'
import { findProgram, provideProgram, type Program } from './debian.ts'

const FFMPEG = { name: 'ffmpeg', files: ['ffmpeg'], debian: 'ffmpeg' }

export interface Ffmpeg {
  readonly ffmpeg: string
  readonly ffprobe: string
  /** What the environment of both must have, and that of a service that is to find them. */
  readonly env: Readonly<Record<string, string>>
}

export async function findFfmpeg(): Promise<Ffmpeg | undefined> {
  const program = await findProgram(FFMPEG)
  return program === undefined ? undefined : beside(program)
}

/** @throws Error that says what to do */
export async function provideFfmpeg(say: (line: string) => void): Promise<Ffmpeg> {
  return beside(await provideProgram(FFMPEG, say))
}

/** Both come in one package, into one folder. */
function beside({ path, env }: Program): Ffmpeg {
  const folder = dirname(path)
  const { LD_LIBRARY_PATH: libraries } = env
  return {
    ffmpeg: path,
    ffprobe: join(folder, basename(path).replace('ffmpeg', 'ffprobe')),
    env: { PATH: folder, ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) }
  }
}

if (import.meta.main) console.log((await provideFfmpeg(line => console.error(line))).ffmpeg)
