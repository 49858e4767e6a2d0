/**
 * A worker that does what its orders say, in place of the real one: for tests of the pool. It speaks the protocol over the
 * channel of a child process or the port of a thread. `params.do` of a run is a list of steps; `manifest.do` of a model check
 * likewise; `settings.execTasks` says how it starts.
 */
import { parentPort, threadId } from 'node:worker_threads'
import { setTimeout as delay } from 'node:timers/promises'
import { Socket } from 'node:net'
import { CHANNEL_FD, framedChannel, type FramedChannel } from '../../src/inference/framed-channel.ts'
import type { FromWorker, ToWorker, WorkerSettings } from '../../src/inference/protocol.ts'

export type Step =
  | { sleepMs: number }
  | { sleepUnlessCancelledMs: number }
  | { spinMs: number }
  | { progress: number }
  | { exit: number }
  | { kill: NodeJS.Signals }
  | { throw: string }
  | { leakMib: number }
  | { say: unknown, times?: number }
  | { print: string }
  | { spawnSleeper: true }
  | { disconnect: true }
  /** raw, in hex, past everything that makes messages */
  | { write: string }
  | { fail: string, retryable?: boolean }
  | { answerTensors: true }
  | { answerEnvironment: true }
  | { never: true }

/** How a worker starts. */
export interface StartScript { unusable?: string, exit?: number, never?: boolean, provider?: string, exitAfterReady?: boolean, ignoreStop?: boolean, onlyIfMissing?: string }

let channel: FramedChannel | undefined
const say = (message: unknown): void => {
  if (parentPort === null) channel?.send(message)
  else parentPort.postMessage(message, [])
}
const leaked: Buffer[] = []
let worker = ''
let start: StartScript = {}
let cancelled: AbortController | null = null

const rss = (): number => process.memoryUsage.rss()
const execution = () => ({ provider: start.provider ?? 'cpu', device: `thread ${threadId}`, worker })

async function init(name: string, settings: WorkerSettings): Promise<void> {
  worker = name
  start = (settings.execTasks ?? {}) as StartScript
  if (start.onlyIfMissing !== undefined) {
    const { existsSync } = await import('node:fs')
    if (!existsSync(start.onlyIfMissing)) start = {}
  }
  if (start.never) return
  if (start.exit !== undefined) process.exit(start.exit)
  if (start.unusable !== undefined) {
    say({ type: 'unusable', message: start.unusable } satisfies FromWorker)
    process.exit(1)
  }
  say({ type: 'ready', execution: execution(), note: null } satisfies FromWorker)
  if (start.exitAfterReady) setTimeout(() => process.exit(3), 20)
}

function spin(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until) { /* nothing else runs meanwhile, as in ONNX Runtime's run() */ }
}

const nothing = { signature: null, sha256: null, size: null }
const done = (id: string, more: Partial<Extract<FromWorker, { type: 'done' }>> = {}): void =>
  say({ type: 'done', id, results: [], tensors: [], ...nothing, rss: rss(), ...more } satisfies FromWorker)
const failed = (id: string, code: string, message: string, retryable = false): void => say({ type: 'failed', id, code, message, retryable, reason: 'what was behind it', rss: rss() })
const textTensor = (text: string) => ({ name: 'text', datatype: 'UINT8' as const, shape: [text.length], data: new Uint8Array(Buffer.from(text)) })

/** @returns whether it has answered */
async function take(step: Step, order: Extract<ToWorker, { id: string }>, signal: AbortSignal): Promise<boolean> {
  const { id } = order
  if ('sleepMs' in step) await delay(step.sleepMs)
  else if ('sleepUnlessCancelledMs' in step) {
    await delay(step.sleepUnlessCancelledMs, undefined, { signal }).catch(() => {})
    if (!signal.aborted) return false
    failed(id, 'cancelled', 'told to')
    return true
  } else if ('spinMs' in step) spin(step.spinMs)
  else if ('progress' in step) say({ type: 'progress', id, stage: 'steps', progress: step.progress, message: null } satisfies FromWorker)
  else if ('exit' in step) process.exit(step.exit)
  else if ('kill' in step) {
    process.kill(process.pid, step.kill)
    await delay(60_000)
  } else if ('throw' in step) {
    setImmediate(() => { throw new Error(step.throw) })
    await delay(60_000)
  } else if ('leakMib' in step) leaked.push(Buffer.alloc(step.leakMib * 1024 * 1024, 1))
  else if ('say' in step) for (let time = 0; time < (step.times ?? 1); time += 1) say(step.say)
  else if ('print' in step) process.stdout.write(step.print)
  else if ('spawnSleeper' in step) {
    const { spawn } = await import('node:child_process')
    const sleeper = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 600000)'], { stdio: 'ignore' })
    say({ type: 'progress', id, stage: 'sleeper', progress: null, message: String(sleeper.pid) } satisfies FromWorker)
  } else if ('disconnect' in step) {
    channel?.end()
    await delay(60_000)
  } else if ('write' in step) {
    const { writeSync } = await import('node:fs')
    writeSync(CHANNEL_FD, Buffer.from(step.write, 'hex'))
    await delay(60_000)
  } else if ('fail' in step) {
    failed(id, step.fail, `failed as ${step.fail}`, step.retryable)
    return true
  } else if ('answerTensors' in step) {
    done(id, { tensors: [...(order.type === 'run' ? order.tensors ?? [] : [])] })
    return true
  } else if ('answerEnvironment' in step) {
    done(id, { tensors: [textTensor(JSON.stringify({ env: process.env, argv: process.argv.slice(2), execArgv: process.execArgv }))] })
    return true
  } else await delay(3_600_000)
  return false
}

const SIGNATURE = { inputs: [{ name: 'x', datatype: 'FP32' as const, shape: [-1, 3] }], outputs: [{ name: 'y', datatype: 'FP32' as const, shape: [-1] }] }

function finish(order: Extract<ToWorker, { id: string }>): void {
  if (order.type === 'check') return done(order.id, { signature: SIGNATURE })
  if (order.type === 'import') return done(order.id, { signature: SIGNATURE, sha256: 'a'.repeat(64), size: 4 })
  done(order.id)
}

function stepsOf(order: ToWorker): Step[] {
  const holder = order.type === 'run' ? order.params : order.type === 'check' ? order.manifest : {}
  return ((holder as { do?: Step[] }).do) ?? []
}

async function obey(order: ToWorker): Promise<void> {
  if (order.type === 'init') return init(order.worker, order.settings)
  if (order.type === 'cancel') return cancelled?.abort()
  if (order.type === 'stop') {
    if (!start.ignoreStop) process.exit(0)
    return
  }
  cancelled = new AbortController()
  if (order.type === 'run') say({ type: 'started', id: order.id, execution: execution() } satisfies FromWorker)
  for (const step of stepsOf(order)) if (await take(step, order, cancelled.signal)) return
  finish(order)
}

if (parentPort === null) {
  process.on('SIGINT', () => {}).on('SIGTERM', () => {})
  channel = framedChannel(new Socket({ fd: CHANNEL_FD }), { maxBytes: Number.POSITIVE_INFINITY, onMessage: message => void obey(message as ToWorker), onBroken: () => process.exit(1) })
  await channel.closed
  if (process.env.OUTLIVE === undefined) process.exit(0)
} else {
  parentPort.on('message', (message: ToWorker) => void obey(message))
}
