/** Starts and ends the processes of a benchmark, each in a process of its own so that its CPU time can be told apart. */
import { fork, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const STOP_GRACE_MS = 10_000
/** How a line of loop-delay.ts begins; loop.ts reads those. */
export const LOOP_DELAY_MARK = 'loop-delay '

export interface Running {
  readonly pid: number
  /** Address without a slash at its end; '' of a program that does not listen. */
  readonly url: string
  readonly child: ChildProcess
  stop(): Promise<void>
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS)
  await gone
  clearTimeout(force)
}

/** Programs of this folder say `{ url }` to their parent when they are ready, and end when it disconnects. */
export async function startProgram(file: string, env: Record<string, string> = {}): Promise<Running> {
  // without execArgv a child would inherit the loaders of whatever runs this, a test runner's among them
  const child = fork(join(import.meta.dirname, file), { execArgv: [], env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const [message] = await Promise.race([once(child, 'message'), once(child, 'exit').then(() => { throw new Error(`${file} ended before it was ready`) })]) as [{ url?: string }]
  return { pid: child.pid ?? 0, url: message.url ?? '', child, stop: () => stopChild(child) }
}

/** Sends one order to a program and waits for its answer. */
export async function order<T>(program: Running, message: object): Promise<T> {
  const ended = new AbortController()
  const answered = once(program.child, 'message', { signal: ended.signal }) as Promise<[T]>
  const exited = once(program.child, 'exit', { signal: ended.signal }).then(() => { throw new Error('a program of the benchmark ended in the middle') })
  program.child.send(message)
  try {
    const [answer] = await Promise.race([answered, exited])
    return answer
  } finally {
    ended.abort()
    await Promise.allSettled([answered, exited])
  }
}

/** As `npm start` and the image have them. */
const START_FLAGS = ['--max-semi-space-size=8']

/** The service as it is started for real, SQLite in a temporary folder, rate limits off, its log thrown away. */
export async function startService(env: Record<string, string>, nodeArgs: readonly string[] = []): Promise<Running> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-'))
  const child = spawn(process.execPath, [...START_FLAGS, ...nodeArgs, join(import.meta.dirname, '../../src/main.ts')], {
    env: {
      PATH: process.env.PATH, PORT: '0', DATA_DIR: folder, EXT_BUNDLES_RATELIMIT_MAX: '0', REFUSED_RATE_LIMIT_MAX: '0',
      FILES_UPLOAD_RATE_LIMIT_MAX: '0', FILES_DOWNLOAD_RATE_LIMIT_MAX: '0', ...env
    },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  createInterface({ input: child.stderr }).on('line', line => {
    if (!line.startsWith(LOOP_DELAY_MARK)) process.stderr.write(`${line}\n`)
  })
  const stop = async () => {
    await stopChild(child)
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const url = await listeningAddress(child)
    child.stdout.resume()
    return { pid: child.pid ?? 0, url, child, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function listeningAddress(child: ChildProcess): Promise<string> {
  const lines: string[] = []
  if (child.stdout !== null) {
    for await (const line of createInterface({ input: child.stdout })) {
      lines.push(line)
      if (!line.startsWith('{')) continue
      const entry = JSON.parse(line) as { action?: string, address?: string }
      if (entry.action === 'service.listening' && entry.address !== undefined) return entry.address
    }
  }
  throw new Error(`the service did not start:\n${lines.join('\n')}`)
}

/** For programs: tells the parent that they are ready, and does not outlive it. */
export function ready(message: { url?: string } = {}): void {
  process.once('disconnect', () => process.exit(0))
  process.once('SIGTERM', () => process.exit(0))
  process.send?.(message)
}
