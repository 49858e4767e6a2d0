/**
 * One order to a worker, from the moment it is given until whoever asked has an answer. Exactly one of these ends it:
 *
 *   the worker answers          done → that; failed → that, or `cancelled` where it was told to cancel
 *   the time is over            the worker is killed, a thread told; `timeout`
 *   the signal aborts           the worker is told, killed after the grace; `cancelled`, or done where it was too late
 *   the worker ends             `worker_lost`, or why it was killed
 *   a killed worker stays       the answer is given all the same after WORKER_KILL_WAIT_MS; a thread is not waited for
 */
import { WORKER_KILL_WAIT_MS } from '../../limits.ts'
import { InferenceFailed, type Execution, type RunHooks } from '../port.ts'
import type { FromWorker, ToWorker } from '../protocol.ts'

export type Order = Extract<ToWorker, { type: 'run' | 'check' | 'import' }>
export type Done = Extract<FromWorker, { type: 'done' }>
export type Answer = Exclude<FromWorker, { type: 'ready' | 'unusable' }>

export interface OrderUnderWay {
  readonly id: string
  /** What whoever asked waits for. */
  readonly outcome: Promise<Done>
  /** A message that bears its id. */
  take(answer: Answer): void
  /** The worker is killed for this reason; of several the first counts. */
  condemn(why: InferenceFailed): void
  /** The worker has ended. */
  lose(how: string): void
  /** It could not be given to a worker. */
  refuse(why: InferenceFailed): void
}

export interface OrderOptions {
  order: Order
  hooks: RunHooks
  cancelGraceMs: number
  killable: boolean
  onStarted(execution: Execution): void
  tellToCancel(): void
  kill(why: InferenceFailed): void
}

export function orderUnderWay({ order, hooks, cancelGraceMs, killable, onStarted, tellToCancel, kill }: OrderOptions): OrderUnderWay {
  const { promise, resolve, reject } = Promise.withResolvers<Done>()
  let verdict: InferenceFailed | null = null
  let grace: NodeJS.Timeout | undefined
  let wait: NodeJS.Timeout | undefined
  let told = false
  let over = false
  const limit = setTimeout(() => condemn(new InferenceFailed('timeout', `it took longer than ${hooks.timeoutMs} ms`)), hooks.timeoutMs)

  function release(): void {
    over = true
    for (const timer of [limit, grace, wait]) clearTimeout(timer)
    hooks.signal?.removeEventListener('abort', onAbort)
  }

  function fail(error: InferenceFailed): void {
    release()
    reject(error)
  }

  function condemn(why: InferenceFailed): void {
    if (over) return
    verdict ??= why
    const reason = verdict
    clearTimeout(limit)
    clearTimeout(grace)
    kill(reason)
    if (!killable) tellOnce()
    wait ??= setTimeout(() => fail(reason), killable ? WORKER_KILL_WAIT_MS : 0)
  }

  function tellOnce(): void {
    if (told) return
    told = true
    tellToCancel()
  }

  function onAbort(): void {
    if (verdict !== null) return
    verdict = new InferenceFailed('cancelled', 'it was cancelled')
    const reason = verdict
    tellOnce()
    grace = setTimeout(() => condemn(reason), cancelGraceMs)
  }

  function answer(message: Extract<Answer, { type: 'done' | 'failed' }>): void {
    if (message.type === 'done') {
      release()
      return resolve(message)
    }
    // nobody else may say that a run was cancelled
    const code = message.code === 'cancelled' ? 'internal_error' : message.code
    fail(verdict ?? new InferenceFailed(code, message.message, { retryable: message.retryable, cause: message.reason ?? undefined }))
  }

  hooks.signal?.addEventListener('abort', onAbort)
  return {
    id: order.id,
    outcome: promise,
    condemn,
    refuse: fail,
    lose: how => fail(verdict ?? new InferenceFailed('worker_lost', `the worker ended in the middle of it (${how})`)),
    take(message) {
      if (over) return
      switch (message.type) {
        case 'started': onStarted(message.execution); return hooks.onStarted?.(message.execution)
        case 'staging': return hooks.onStaging?.(message.key)
        case 'progress': return hooks.onProgress?.({ stage: message.stage, progress: message.progress, message: message.message })
        default: return answer(message)
      }
    }
  }
}
