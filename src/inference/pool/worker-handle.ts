/**
 * One worker and its life:
 *
 *     starting ──ready──▶ idle ◀──────────▶ busy          one order at a time
 *         │                │                  │
 *         └────────────────┴──────────────────┴─▶ stopping ─▶ ended
 *
 * It says to its pool when it is idle and when it has ended; the pool decides what comes then. A thread that was to be
 * killed in the middle of a run stays busy until it answers, since killing it would kill the service; whoever waited for
 * the run is not kept waiting.
 */
import type { Logger } from 'pino'
import { WORKER_STOP_GRACE_MS, WORKER_STRAY_MESSAGES_MAX } from '../../limits.ts'
import { InferenceFailed, type Execution, type RunHooks, type WorkerStatus } from '../port.ts'
import type { WorkerSettings } from '../protocol.ts'
import { openChannel, type Channel, type ChannelOptions } from './channel.ts'
import { readMessage } from './messages.ts'
import { orderUnderWay, type Answer, type Done, type Order, type OrderUnderWay } from './order.ts'
import { residentBytes } from './resident-bytes.ts'

/** Why a worker ended: by itself, or because it was ended. */
export type EndReason = 'crash' | 'start_failed' | 'max_jobs' | 'max_rss' | 'cancelled' | 'timeout' | 'shutdown'

export interface Ending {
  reason: EndReason
  /** in words, for the log */
  how: string
  /** what it was doing */
  was: WorkerStatus['state']
  livedMs: number
}

export interface WorkerOptions extends Pick<ChannelOptions, 'isolation' | 'entry' | 'env'> {
  id: string
  settings: WorkerSettings
  startTimeoutMs: number
  cancelGraceMs: number
  log: Logger
  onIdle(worker: WorkerHandle): void
  onEnd(worker: WorkerHandle, ending: Ending): void
}

export interface WorkerHandle {
  readonly id: string
  readonly state: WorkerStatus['state']
  /** orders that it answered */
  readonly runs: number
  /** the model of its last order: a worker keeps sessions warm */
  readonly model: string | null
  readonly execution: Execution | null
  /** Bytes. null: a thread, whose memory cannot be told from that of the service, or not known. */
  readonly rss: number | null
  /** Settles when it has ended, which a thread in the middle of a run may never do. */
  readonly ended: Promise<Ending>
  readonly killable: boolean
  /** Of an idle worker only. @throws InferenceFailed */
  execute(order: Order, hooks: RunHooks): Promise<Done>
  /** An idle worker is asked to end and killed if it does not; what runs is killed, and rejects with `why`. */
  end(reason: EndReason, why?: InferenceFailed): void
  /** It no longer keeps this process. */
  forget(): void
  status(): WorkerStatus
}

/** Kept from the worker's own last answer, where the system does not say. */
interface Seen { execution: Execution | null, rss: number | null, runs: number, model: string | null, strays: number }

export function startWorker(options: WorkerOptions): WorkerHandle {
  const { id, log, onIdle, onEnd } = options
  const startedAt = performance.now()
  const seen: Seen = { execution: null, rss: null, runs: 0, model: null, strays: 0 }
  let state: WorkerStatus['state'] = 'starting'
  let was: WorkerStatus['state'] = 'starting'
  let reason: EndReason | null = null
  let refusal: string | null = null
  let current: OrderUnderWay | null = null
  let forced: NodeJS.Timeout | undefined

  const channel: Channel = openChannel({
    ...options,
    onMessage: hear,
    onBroken: gibberish,
    onLine: line => log.debug({ action: 'worker.output', worker: id, line })
  })
  const startLimit = setTimeout(() => {
    refusal = `it was not ready within ${options.startTimeoutMs} ms`
    end('start_failed')
  }, options.startTimeoutMs)
  const ended = channel.ended.then(conclude)
  channel.send({ type: 'init', worker: id, settings: options.settings })

  function hear(value: unknown): void {
    const message = readMessage(value)
    if (message === null) return stray('this is no message of a worker')
    if (message.type === 'ready' || message.type === 'unusable') {
      if (state !== 'starting') return stray(`${message.type} out of turn`)
      if (message.type === 'ready') return begin(message.execution, message.note)
      refusal = message.message
      return end('start_failed')
    }
    if (message.id !== current?.id) return stray(`${message.type} of a run that is not under way`)
    answer(current, message)
  }

  /** A worker whose messages make no sense costs a little attention, and in the end its life. */
  function stray(what: string): void {
    seen.strays += 1
    if (seen.strays === 1) log.warn({ action: 'worker.stray_message', worker: id, what })
    if (seen.strays !== WORKER_STRAY_MESSAGES_MAX) return
    log.error({ action: 'worker.senseless', worker: id, messages: seen.strays })
    end('crash', new InferenceFailed('worker_lost', 'the worker talked nonsense and was ended'))
  }

  /** Bytes that are no message: there is no telling what it would say next. */
  function gibberish(why: string): void {
    log.error({ action: 'worker.senseless', worker: id, why })
    end('crash', new InferenceFailed('worker_lost', 'the worker talked nonsense and was ended'))
  }

  function begin(execution: Execution, note: string | null): void {
    clearTimeout(startLimit)
    seen.execution = execution
    state = 'idle'
    log.info({ action: 'worker.ready', worker: id, pid: channel.pid, ...(note !== null && { note }), provider: execution.provider, device: execution.device })
    onIdle(handle)
  }

  function answer(order: OrderUnderWay, message: Answer): void {
    const last = message.type === 'done' || message.type === 'failed'
    if (last) {
      seen.rss = message.rss
      seen.runs += 1
      current = null
    }
    try {
      order.take(message)
    } catch (error) {
      log.error({ action: 'worker.hook_failed', worker: id, run: order.id, err: error })
    }
    if (!last || state !== 'busy') return
    state = 'idle'
    onIdle(handle)
  }

  function kill(why: InferenceFailed): void {
    if (!channel.killable) return log.warn({ action: 'worker.cannot_kill', worker: id, run: current?.id, why: why.code }, 'a thread cannot be killed in the middle of a run: it is waited for')
    stopping(why.code === 'timeout' || why.code === 'cancelled' || why.code === 'shutdown' ? why.code : 'crash')
    channel.kill()
  }

  function stopping(because: EndReason): void {
    if (state !== 'stopping') was = state
    state = 'stopping'
    reason ??= because
  }

  function end(because: EndReason, why = new InferenceFailed('shutdown', 'the worker was ended')): void {
    if (state === 'busy' && current !== null) {
      if (channel.killable) stopping(because)
      else reason ??= because
      return current.condemn(why)
    }
    if (state === 'stopping') return
    const idle = state === 'idle'
    stopping(because)
    if (!idle) return channel.kill()
    channel.send({ type: 'stop' })
    forced = setTimeout(() => {
      log.warn({ action: 'worker.does_not_stop', worker: id })
      channel.kill()
    }, WORKER_STOP_GRACE_MS)
  }

  function conclude(how: string): Ending {
    clearTimeout(startLimit)
    clearTimeout(forced)
    if (state !== 'stopping') was = state
    state = 'stopping'
    const starting = was === 'starting' && reason !== 'shutdown'
    const ending: Ending = {
      reason: reason ?? (starting ? 'start_failed' : 'crash'),
      how: refusal ?? how, was, livedMs: performance.now() - startedAt
    }
    const order = current
    current = null
    order?.lose(how)
    onEnd(handle, ending)
    return ending
  }

  const handle: WorkerHandle = {
    id, ended, end,
    killable: channel.killable,
    forget: () => channel.forget(),
    get state() { return state },
    get runs() { return seen.runs },
    get model() { return seen.model },
    get execution() { return seen.execution },
    get rss() { return channel.pid === null ? null : residentBytes(channel.pid) ?? seen.rss },
    execute(order, hooks) {
      state = 'busy'
      if (order.type === 'run') seen.model = order.model.sha256
      const underWay = orderUnderWay({
        order, hooks, kill,
        cancelGraceMs: options.cancelGraceMs,
        killable: channel.killable,
        onStarted: execution => { seen.execution = execution },
        tellToCancel: () => channel.send({ type: 'cancel', id: order.id })
      })
      current = underWay
      try {
        channel.send(order)
      } catch (error) {
        // nothing was sent, so that the worker is as idle as before
        current = null
        underWay.refuse(new InferenceFailed('internal_error', 'the run cannot be sent to a worker', { cause: error }))
        state = 'idle'
        queueMicrotask(() => { if (state === 'idle') onIdle(handle) })
      }
      return underWay.outcome
    },
    status: () => ({
      id, pid: channel.pid, state,
      provider: seen.execution?.provider ?? null,
      device: seen.execution?.device ?? null,
      running: current?.id ?? null,
      rss: handle.rss,
      runs: seen.runs
    })
  }
  return handle
}
