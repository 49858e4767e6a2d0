/**
 * ffmpeg or ffprobe, as a child of the worker: killed with it (they are of one process group), and when the run is cancelled.
 * No shell, no terminal, nothing of our environment; names of files are `file:` and names that we chose.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { VIDEO_ALLOCATION_MAX_BYTES, VIDEO_MESSAGES_MAX_CHARACTERS } from '../../../limits.ts'
import { plainReason } from '../../plain-reason.ts'
import { InferenceFailed } from '../../port.ts'

export interface ProgramOptions {
  path: string
  args: readonly string[]
  env: Readonly<Record<string, string>>
  /** where it works */
  folder: string
  signal: AbortSignal
  timeoutMs?: number
}

export interface Program {
  stdin: Writable
  stdout: Readable
  /** its file descriptor 3 */
  notes: Readable
  /** What it said first, in words that may leave this machine. */
  reason(): string
  /** Everything that it said, but for a bound. */
  messages(): string
  /** Idempotent; ends its streams too. */
  kill(): void
  /** Settles when it is gone and its messages are heard; of its output there may be more. @throws ProgramFailed, ProgramLate, InferenceFailed where it was killed */
  ended: Promise<void>
}

/** It ended with another exit code than 0. */
export class ProgramFailed extends Error {}

/** It took longer than it may, and was killed. */
export class ProgramLate extends Error {}

/** Before -i: files and pipes, and no demuxer but the one that is named and those of its kind. */
export function inputOf(demuxer: string, file: string): string[] {
  return ['-protocol_whitelist', 'file,pipe', '-format_whitelist', demuxer, '-f', demuxer, '-i', file]
}

/** What both programs are told before all else. */
export const QUIET = ['-hide_banner', '-v', 'error', '-max_alloc', String(VIDEO_ALLOCATION_MAX_BYTES)]

export function startProgram({ path, args, env, folder, signal, timeoutMs }: ProgramOptions): Program {
  signal.throwIfAborted()
  const child = spawn(path, args, { cwd: folder, env: { ...env }, stdio: ['pipe', 'pipe', 'pipe', 'pipe'], shell: false })
  let messages = ''
  let late = false
  child.stderr.setEncoding('utf8').on('data', (text: string) => { messages = keep(messages + text) })
  // whoever reads and writes hears of it by `ended`
  for (const stream of child.stdio) stream?.on('error', () => {})
  const kill = (): void => {
    child.kill('SIGKILL')
    // nobody reads on
    for (const stream of child.stdio) stream?.destroy()
  }
  signal.addEventListener('abort', kill)
  // a worker that ends in the middle, since its service is gone, takes it along
  process.once('exit', kill)
  const limit = timeoutMs === undefined ? undefined : setTimeout(() => {
    late = true
    kill()
  }, timeoutMs)
  const ended = endOf(child, () => (late ? new ProgramLate(`more than ${timeoutMs} ms`) : undefined)).finally(() => {
    clearTimeout(limit)
    signal.removeEventListener('abort', kill)
    process.off('exit', kill)
  })
  ended.catch(() => {})
  return { stdin: child.stdin, stdout: child.stdout, notes: child.stdio[3] as Readable, reason: () => firstLine(messages), messages: () => messages, kill, ended }
}

/** First and last are what tells. */
function keep(text: string): string {
  const half = VIDEO_MESSAGES_MAX_CHARACTERS / 2
  return text.length <= 2 * VIDEO_MESSAGES_MAX_CHARACTERS ? text : text.slice(0, half) + text.slice(-half)
}

/** The first is what was wrong; later ones say what follows from it. */
function firstLine(text: string): string {
  const [line = ''] = text.trim().split('\n')
  // [mov,mp4 @ 0x55d0c8e0] and our own names of files say nothing to a caller
  return plainReason(line.replaceAll(/\[[^\]]* @ 0x[0-9a-f]+\] ?/g, '').replaceAll(/\bfile:\w+(\.\w+)?:? ?/g, ''))
}

function endOf(child: ChildProcess, why: () => Error | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', cause => reject(new InferenceFailed('internal_error', 'ffmpeg could not be started', { cause })))
    const heard = new Promise<void>(done => { child.stderr!.once('close', () => done()) })
    child.once('exit', async (code, signal) => {
      await heard
      if (code === 0) return resolve()
      // killed by somebody else: most likely there was no memory left
      reject(why() ?? (code === null ? new InferenceFailed('resource_exhausted', `ffmpeg was ended by ${signal}`) : new ProgramFailed(`exit code ${code}`)))
    })
  })
}
