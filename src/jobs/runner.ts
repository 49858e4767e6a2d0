/**
 * The runner of a node: claims jobs while its pool has free workers, holds their leases, and sees each attempt to its end.
 *
 *   hint, free worker, poll ─▶ claim ─▶ attempt (attempt.ts) ─▶ claim …
 *   every third of the lease ─▶ heartbeat ─▶ lost: the attempt ends and changes nothing any more
 *                                       └─▶ cancel asked for: the worker is told
 *   a hint about a job        ─▶ the same at once, since that may be a wish to cancel
 *   shutdown                  ─▶ no claims; what runs has SHUTDOWN_GRACE_MS, then it goes back to the queue
 *
 * A claim is for a worker that is free now: jobs wait in the records, where any node can take them, and not here.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { CLAIM_POLL_INTERVAL_MS, HELD_LOOK_INTERVAL_MS, JOBS_PERSISTING_MAX } from '../limits.ts'
import { newAttempt, runAttempt, type Attempt } from './attempt.ts'
import type { JobsContext } from './context.ts'
import { startBeats } from './node-beats.ts'
import { startReaper } from './reaper.ts'

export interface Runner {
  /** Returns when no job is held any more. Idempotent. Close the pool after it. */
  stop(): Promise<void>
}

export function startRunner(context: JobsContext): Runner {
  const { config, pool, log, webhooks } = context
  const { jobs } = context.records
  const node = `${hostname()}/${context.node}`
  const held = new Map<Attempt, Promise<void>>()
  // without the file its commands are unknown here; another node may have it
  const exceptTasks = config.EXEC_TASKS_FILE === undefined && config.AI_TRANSFER_MODE === 'path' ? ['exec'] : []
  let stopping = false

  function count(phase: Attempt['phase']): number {
    return [...held.keys()].filter(attempt => attempt.phase === phase).length
  }

  function hasRoom(): boolean {
    return !stopping && pool.free > count('preparing') && count('persisting') < JOBS_PERSISTING_MAX
  }

  async function claimAll(): Promise<void> {
    while (hasRoom()) {
      const token = randomUUID()
      const job = await jobs.claim({ token, worker: node, leaseMs: config.JOB_LEASE_MS, exceptTasks })
      if (job === undefined) return
      const attempt = newAttempt(job, token)
      // claimed again while this node still held it: the lease was over
      for (const other of held.keys()) if (other.job.id === job.id) other.stop('lost')
      if (stopping) attempt.stop('shutdown')
      const giveUp = webhooks.follow(job)
      held.set(attempt, hold(attempt, giveUp))
    }
  }

  async function hold(attempt: Attempt, giveUp: () => void): Promise<void> {
    const end = await runAttempt(context, attempt)
    held.delete(attempt)
    // where the job goes on elsewhere, that node tells of it; else its terminal event ends the follower
    if (end !== 'completed' && end !== 'failed' && end !== 'cancelled') giveUp()
    claims.want()
  }

  async function beat(): Promise<void> {
    const attempts = [...held.keys()]
    if (attempts.length === 0) return
    const { lost, cancelled } = await jobs.heartbeat(attempts.map(({ job, token }) => ({ id: job.id, token })), config.JOB_LEASE_MS)
    const gone = new Set(lost)
    const unwanted = new Set(cancelled)
    for (const attempt of attempts) {
      if (gone.has(attempt.job.id)) attempt.stop('lost')
      else if (unwanted.has(attempt.job.id)) attempt.stop('cancel')
    }
  }

  const claims = wanted(claimAll, error => log.warn({ action: 'jobs.claim.failed', err: error }))
  const beats = wanted(beat, error => log.warn({ action: 'jobs.heartbeat.failed', err: error }), Math.min(HELD_LOOK_INTERVAL_MS, config.JOB_LEASE_MS / 6))
  const reaper = startReaper(context)
  const nodeBeats = startBeats(context)
  const unsubscribe = jobs.subscribe(hint => {
    if (hint.kind === 'queued') return claims.want()
    const attempt = hint.kind === 'job' ? [...held.keys()].find(({ job }) => job.id === hint.jobId) : undefined
    if (attempt === undefined) return
    if (attempt.ownHints > 0) attempt.ownHints -= 1
    else beats.want()
  })
  const offFree = pool.onFree(claims.want)
  const poll = setInterval(claims.want, CLAIM_POLL_INTERVAL_MS)
  const lease = setInterval(beats.want, config.JOB_LEASE_MS / 3)
  claims.want()

  async function stop(): Promise<void> {
    stopping = true
    unsubscribe()
    offFree()
    clearInterval(poll)
    await Promise.all([reaper.stop(), claims.close()])
    const grace = new AbortController()
    const finished = Promise.all(held.values())
    await Promise.race([finished, delay(config.SHUTDOWN_GRACE_MS, undefined, { signal: grace.signal }).catch(() => {})])
    grace.abort()
    for (const attempt of held.keys()) attempt.stop('shutdown')
    await Promise.all(held.values())
    clearInterval(lease)
    await Promise.all([beats.close(), nodeBeats.stop()])
  }

  let stopped: Promise<void> | undefined
  return { stop: () => stopped ??= stop() }
}

interface Wanted {
  /** Does the work, now or once more behind the one that is under way. */
  want(): void
  /** Does no more. Resolves when none is under way. */
  close(): Promise<void>
}

/** Work of which one at a time is enough, and not more often than every `intervalMs`. */
function wanted(work: () => Promise<void>, onError: (error: unknown) => void, intervalMs = 0): Wanted {
  const closing = new AbortController()
  let again = false
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    do {
      again = false
      await work().catch(onError)
      if (intervalMs > 0) await delay(intervalMs, undefined, { ref: false, signal: closing.signal }).catch(() => {})
    } while (again && !closing.signal.aborted)
    running = undefined
  }

  return {
    want() {
      if (closing.signal.aborted) return
      again = true
      running ??= run()
    },
    async close() {
      closing.abort()
      await running
    }
  }
}
