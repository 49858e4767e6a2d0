/**
 * Runs one allow-listed command: no shell, an environment without anything of ours, a guard (guard.ts) that ends it with us.
 * While it runs its output is read line by line, and what it has written to its folder is measured.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Readable } from 'node:stream'
import { EXEC_LINE_MAX_BYTES, EXEC_MEASURE_INTERVAL_MS, EXEC_PIPES_GRACE_MS } from '../../limits.ts'
import { InferenceFailed } from '../port.ts'
import type { GuardOrder, GuardReport } from './guard.ts'

const GUARD = join(import.meta.dirname, 'guard.ts')

export interface CommandOptions extends GuardOrder {
  timeoutMs: number
  signal: AbortSignal
  onLine(line: string): void
  /** Looks at what it has written. @throws InferenceFailed where that is too much: the command is killed */
  measure(): Promise<void>
}

/** Settles when nothing of it runs any more. @throws InferenceFailed timeout, cancelled, what measure() throws; Error where it cannot be started */
export async function runCommand({ file, args, cwd, env, timeoutMs, signal, onLine, measure }: CommandOptions): Promise<{ code: number | null, signal: string | null }> {
  signal.throwIfAborted()
  const guard = spawn(process.execPath, [GUARD], { detached: true, env, cwd, stdio: ['pipe', 'pipe', 'pipe', 'pipe'] })
  let why: unknown
  const stop = (reason: unknown): void => {
    why ??= reason
    killGroup(guard)
  }
  const onAbort = (): void => stop(new InferenceFailed('cancelled', 'it was cancelled'))
  signal.addEventListener('abort', onAbort)
  const limit = setTimeout(() => stop(new InferenceFailed('timeout', `the command took longer than ${timeoutMs} ms`)), timeoutMs)
  const stopClosing = closePipesAfter(guard)
  const stopMeasuring = repeatedly(measure, stop)
  try {
    const [report] = await Promise.all([reportOf(guard, { file, args, cwd, env }), readLines(guard.stdout!, onLine), readLines(guard.stderr!, () => {}), once(guard, 'close')])
    if (why !== undefined) throw why
    return report
  } finally {
    clearTimeout(limit)
    stopClosing()
    await stopMeasuring()
    signal.removeEventListener('abort', onAbort)
    killGroup(guard)
  }
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // it has ended in this moment
  }
}

/** What has left the group lives on, and may hold the pipes: nobody waits for it. */
function closePipesAfter(guard: ChildProcess): () => void {
  let grace: NodeJS.Timeout | undefined
  guard.once('exit', () => {
    grace = setTimeout(() => {
      guard.stdout!.destroy()
      guard.stderr!.destroy()
    }, EXEC_PIPES_GRACE_MS)
  })
  return () => clearTimeout(grace)
}

async function reportOf(guard: ChildProcess, order: GuardOrder): Promise<{ code: number | null, signal: string | null }> {
  guard.stdin!.on('error', () => {})
  guard.stdin!.write(`${JSON.stringify(order)}\n`)
  const line = await text(guard.stdio[3] as Readable)
  if (line === '') return { code: null, signal: 'SIGKILL' }
  const report = JSON.parse(line) as GuardReport
  if ('error' in report) throw new Error(`the command cannot be started: ${report.error}`)
  return report
}

/** One at a time. */
function repeatedly(measure: () => Promise<void>, stop: (reason: unknown) => void): () => Promise<void> {
  let under: Promise<void> | undefined
  const timer = setInterval(() => {
    under ??= measure().catch(stop).finally(() => { under = undefined })
  }, EXEC_MEASURE_INTERVAL_MS)
  return async () => {
    clearInterval(timer)
    await under
  }
}

/** Of a line that is too long only that it was there is known; nothing is kept of more than one. */
async function readLines(stream: Readable, onLine: (line: string) => void): Promise<void> {
  let parts: Buffer[] = []
  let length = 0
  const end = (): void => {
    if (length > 0 && length <= EXEC_LINE_MAX_BYTES) onLine(Buffer.concat(parts).toString())
    parts = []
    length = 0
  }
  for await (const chunk of untilClosed(stream)) {
    for (let from = 0; from < chunk.length;) {
      const at = chunk.indexOf(0x0a, from)
      const part = chunk.subarray(from, at < 0 ? chunk.length : at)
      length += part.length
      if (length <= EXEC_LINE_MAX_BYTES) parts.push(part)
      else parts = []
      if (at >= 0) end()
      from += part.length + 1
    }
  }
  end()
}

/** Ends where it was closed, too. */
async function* untilClosed(stream: Readable): AsyncGenerator<Buffer> {
  try {
    yield* stream as AsyncIterable<Buffer>
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  }
}
