/**
 * One worker as the pool sees it, whichever way it is isolated: messages both ways, a way to kill it, a promise of its end.
 *
 * A process is the leader of a process group of its own. So a Ctrl-C in a terminal does not reach it, and killing it takes
 * along the commands that it has started. It gets nothing of this process's environment but what it is given: neither
 * secrets nor the loaders and flags of whoever runs us. It ends by itself when its channel closes, which is how it learns
 * that this process is gone.
 *
 * A thread cannot be killed in the middle of a run: ONNX Runtime would take the whole process with it (SIGABRT).
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { WORKER_LAST_WORDS_MS, WORKER_MESSAGE_MAX_BYTES } from '../../limits.ts'
import { CHANNEL_FD, framedChannel, type FramedChannel } from '../framed-channel.ts'
import { forbidTelemetry } from '../no-telemetry.ts'
import type { ToWorker } from '../protocol.ts'
import { readLines } from './log-lines.ts'

export type Isolation = 'process' | 'thread'

export interface ChannelOptions {
  isolation: Isolation
  /** file that the worker runs */
  entry: string
  /** the whole environment of the worker */
  env: Readonly<Record<string, string>>
  onMessage(message: unknown): void
  /** It sent what is no message at all, and is heard no more. */
  onBroken(why: string): void
  onLine(line: string): void
}

export interface Channel {
  /** Of a worker that is a process. */
  readonly pid: number | null
  /** Whether it can be killed while it runs a model. */
  readonly killable: boolean
  /** To a worker that has ended: nothing. @throws for what cannot be cloned */
  send(message: ToWorker): void
  /** Ends it at once; a thread that is not killable must be idle. Idempotent. */
  kill(): void
  /** One that could not be ended no longer keeps this process. */
  forget(): void
  /** How it has ended, in words; settles when it is gone and everything that it said was heard. Never rejects. */
  readonly ended: Promise<string>
}

export function openChannel(options: ChannelOptions): Channel {
  return options.isolation === 'process' ? openProcess(options) : openThread(options)
}

/**
 * The memory of images counts for V8, which collects before its heap has grown to twice the size: once an image of a megapixel,
 * for a tenth of its time. A worker's heap is small.
 */
const RARE_COLLECTIONS = ['--heap-growing-percent=400']
/** glibc makes arenas by the number of threads, and each keeps what it once had: decoders and runtimes that take turns need few. */
const FEW_ARENAS = { MALLOC_ARENA_MAX: '2' }

function openProcess({ entry, env, onMessage, onBroken, onLine }: ChannelOptions): Channel {
  const child = spawn(process.execPath, [...RARE_COLLECTIONS, entry], { detached: true, env: { ...FEW_ARENAS, ...env }, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] })
  const channel = framedChannel(child.stdio[CHANNEL_FD] as Duplex, { maxBytes: WORKER_MESSAGE_MAX_BYTES, onMessage, onBroken })
  for (const stream of [child.stdout, child.stderr]) if (stream !== null) readLines(stream, onLine)
  const kill = (): void => {
    killGroup(child.pid)
    child.kill('SIGKILL')
  }
  // a worker that can no longer be told anything is of no use
  void killDeaf(child, channel, kill)
  return {
    pid: child.pid ?? null,
    killable: true,
    send: message => channel.send(message),
    kill,
    forget() {
      child.unref()
      child.stdio[CHANNEL_FD]?.destroy()
      child.stdout?.destroy()
      child.stderr?.destroy()
    },
    ended: endOfProcess(child, channel).finally(() => killGroup(child.pid))
  }
}

async function killDeaf(child: ChildProcess, { closed }: FramedChannel, kill: () => void): Promise<void> {
  await closed
  if (child.exitCode === null && child.signalCode === null) setTimeout(kill, WORKER_LAST_WORDS_MS).unref()
}

/** The worker and the commands that it has started. */
function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // there is none any more
  }
}

async function endOfProcess(child: ChildProcess, { closed }: FramedChannel): Promise<string> {
  const how = await exitOf(child)
  const heard = new AbortController()
  await Promise.race([closed, delay(WORKER_LAST_WORDS_MS, undefined, { signal: heard.signal }).catch(() => {})])
  heard.abort()
  return how
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise(resolve => {
    child.once('error', error => { if (child.pid === undefined) resolve(`it did not start: ${error.message}`) })
    child.on('error', () => {})
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`))
  })
}

function openThread({ entry, env, onMessage, onBroken, onLine }: ChannelOptions): Channel {
  forbidTelemetry()
  const thread = new Worker(entry, { execArgv: [], argv: [], env: { ...env }, stdout: true, stderr: true })
  thread.on('message', onMessage)
  thread.on('messageerror', error => onBroken(error.message))
  for (const stream of [thread.stdout, thread.stderr]) readLines(stream, onLine)
  let failure: unknown
  thread.on('error', error => { failure = error })
  return {
    pid: null,
    killable: false,
    // nothing is transferred: whoever asked keeps its tensors
    send: message => thread.postMessage(message, []),
    kill: () => void thread.terminate(),
    forget: () => thread.unref(),
    ended: new Promise(resolve => {
      thread.once('exit', code => resolve(failure === undefined ? `exit code ${code}` : String(failure instanceof Error ? failure.message : failure)))
    })
  }
}
