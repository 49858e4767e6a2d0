/**
 * Webhooks: the events of a job as POSTs to the address that its creator gave.
 *
 * A follower watches the job as any listener does and delivers one event after the other. It belongs to the node that runs
 * the job, or that ends it while nobody runs it. Progress is tried once and at most every WEBHOOK_PROGRESS_INTERVAL_MS, what
 * was superseded meanwhile is left out; other events are tried WEBHOOK_ATTEMPTS_MAX times. Whoever gives no answer, or one
 * of 408, 429 or 5xx, may give another next time; every other answer than 2xx is the last word.
 *
 * Nothing notes what was delivered: a node that dies takes its deliveries with it, and the one that takes over the job
 * begins where it took over. An event may come twice; receivers know it by job and seq. What becomes of a webhook is only
 * logged: the job goes on.
 *
 * While the records do not answer it waits, and goes on behind the last event that was dealt with. A job that is removed
 * before its end was told of ends with the job as it was last known.
 */
import { setTimeout as delay } from 'node:timers/promises'
import pLimit from 'p-limit'
import type { Config } from '../config.ts'
import type { Log } from '../ingest/context.ts'
import { JOB_EVENTS_BATCH, RECORDS_RETRY_INTERVAL_MS, WEBHOOK_ATTEMPTS_MAX, WEBHOOK_CLOSE_GRACE_MS, WEBHOOK_PROGRESS_INTERVAL_MS, WEBHOOKS_MAX } from '../limits.ts'
import type { JobEvent, JobRecord, JobRecords, JobWebhook } from '../records/jobs-port.ts'
import { RecordStoreFailed } from '../records/port.ts'
import { webhookRetryDelayMs } from './backoff.ts'
import { sendWebhook } from './send-webhook.ts'
import { showEventData, showJob } from './show.ts'
import { isTerminal, isTerminalEvent, jobWatchers } from './watch.ts'
import { AddressRefused } from './webhook-address.ts'

export interface Webhooks {
  /** Delivers what is behind seq `after`, to the end of the job. Nothing where it has no webhook. The returned function gives it up: another node goes on. */
  follow(job: JobRecord, after: number): () => void
  /** Terminal events that are there get WEBHOOK_CLOSE_GRACE_MS. Idempotent. */
  close(): Promise<void>
}

export interface WebhookOptions {
  config: Pick<Config, 'WEBHOOK_SECRET' | 'WEBHOOK_ALLOW_PRIVATE' | 'PUBLIC_BASE_URL'>
  jobs: Pick<JobRecords, 'events' | 'get' | 'subscribe'>
  log: Log
  retryDelayMs?: (attempt: number) => number
  closeGraceMs?: number
}

interface Follower {
  id: string
  webhook: JobWebhook
  secret: string
  /** as it was last known */
  job: JobRecord
  /** seq of the last event that was dealt with */
  seen: number
  /** that event was terminal */
  told: boolean
  lastProgressAt: number
  given: AbortController
}

export function createWebhooks({ config, jobs, log, retryDelayMs = webhookRetryDelayMs, closeGraceMs = WEBHOOK_CLOSE_GRACE_MS }: WebhookOptions): Webhooks {
  const watchers = jobWatchers(jobs)
  const requests = pLimit(WEBHOOKS_MAX)
  const followers = new Map<Follower, Promise<void>>()
  /** no more waiting for events */
  const closing = new AbortController()
  /** no more waiting for receivers */
  const cutOff = new AbortController()

  /** Until it is over, given up, or everything closes. */
  async function follow(follower: Follower): Promise<void> {
    const over = AbortSignal.any([follower.given.signal, closing.signal])
    for (;;) {
      try {
        return await deliverAll(follower, over)
      } catch (error) {
        if (!(error instanceof RecordStoreFailed) || over.aborted) throw error
        log.debug({ action: 'jobs.webhook.waits', job_id: follower.id, err: error })
        await pause(RECORDS_RETRY_INTERVAL_MS, over)
      }
    }
  }

  async function deliverAll(follower: Follower, over: AbortSignal): Promise<void> {
    const { id, given } = follower
    for await (const event of watchers.watch(id, follower.seen, over)) await dealWith(follower, event)
    if (given.signal.aborted) return
    for (const event of await jobs.events(id, follower.seen, JOB_EVENTS_BATCH)) if (isTerminalEvent(event)) await dealWith(follower, event)
    if (!follower.told && await jobs.get(id) === undefined) await tellOfRemoval(follower)
  }

  async function dealWith(follower: Follower, event: JobEvent): Promise<void> {
    if (wants(follower.webhook, event)) {
      if (event.event === 'generation_progress') {
        await pause(WEBHOOK_PROGRESS_INTERVAL_MS - (performance.now() - follower.lastProgressAt), closing.signal)
        follower.lastProgressAt = performance.now()
      }
      follower.job = await jobs.get(follower.id) ?? follower.job
      await deliver(follower, event)
    }
    follower.seen = event.seq
    follower.told = isTerminalEvent(event)
  }

  /** Its events went with it. One that was not known to have ended was cancelled for it. */
  async function tellOfRemoval(follower: Follower): Promise<void> {
    const { job, seen } = follower
    if (!isTerminal(job)) follower.job = { ...job, status: 'cancelled', lastSeq: Math.max(seen, job.lastSeq) + 1 }
    await deliver(follower, lastEventOf(follower.job))
  }

  async function deliver(follower: Follower, event: JobEvent): Promise<void> {
    const { job } = follower
    const base = config.PUBLIC_BASE_URL ?? ''
    const body = JSON.stringify({ event: event.event, seq: event.seq, job_id: job.id, data: showEventData(event, job, base), job: showJob(job, base) })
    const attempts = event.event === 'generation_progress' ? 1 : WEBHOOK_ATTEMPTS_MAX
    for (let attempt = 1; ; attempt++) {
      const failure = await tryToSend(follower, body)
      const facts = { job_id: job.id, event: event.event, seq: event.seq, host: new URL(follower.webhook.url).host, attempt }
      if (failure === undefined) return log.debug({ action: 'jobs.webhook.delivered', ...facts })
      const last = failure.final || attempt === attempts || cutOff.signal.aborted
      log[last && attempts > 1 ? 'warn' : 'debug']({ action: last ? 'jobs.webhook.failed' : 'jobs.webhook.retried', ...facts, ...failure.why })
      if (last) return
      await pause(retryDelayMs(attempt), cutOff.signal)
    }
  }

  async function tryToSend({ webhook, secret }: Follower, body: string): Promise<{ final: boolean, why: Record<string, unknown> } | undefined> {
    try {
      const status = await requests(() => sendWebhook({ url: webhook.url, body, secret, allowPrivate: config.WEBHOOK_ALLOW_PRIVATE, signal: cutOff.signal }))
      if (status >= 200 && status < 300) return undefined
      return { final: status < 500 && status !== 408 && status !== 429, why: { status } }
    } catch (error) {
      return { final: error instanceof AddressRefused, why: { err: error } }
    }
  }

  async function close(): Promise<void> {
    closing.abort()
    const timer = setTimeout(() => cutOff.abort(), closeGraceMs)
    await Promise.all(followers.values())
    clearTimeout(timer)
  }

  return {
    follow(job, after) {
      const { id, webhook } = job
      if (webhook === null || closing.signal.aborted) return () => {}
      const { WEBHOOK_SECRET: secret } = config
      if (secret === undefined) {
        log.warn({ action: 'jobs.webhook.failed', job_id: id }, 'WEBHOOK_SECRET is not set: nothing can be signed')
        return () => {}
      }
      const follower: Follower = { id, webhook, secret, job, seen: Math.max(0, after), told: false, lastProgressAt: -Infinity, given: new AbortController() }
      const following = follow(follower)
        .catch((error: unknown) => log.warn({ action: 'jobs.webhook.failed', job_id: id, err: error }))
        .finally(() => followers.delete(follower))
      followers.set(follower, following)
      return () => follower.given.abort()
    },
    close
  }
}

/** Terminal events come always. */
function wants({ events }: JobWebhook, event: JobEvent): boolean {
  return events === undefined || isTerminalEvent(event) || events.includes(event.event)
}

/** As the records write it (jobs-changes.ts). */
function lastEventOf({ id, status, failure, lastSeq, updatedAt }: JobRecord): JobEvent {
  const data = { jobId: id, ...(status === 'failed' && { error: failure }) }
  const event = status === 'completed' ? 'generation_complete' : status === 'failed' ? 'generation_failed' : 'generation_cancelled'
  return { seq: lastSeq, event, data, createdAt: updatedAt }
}

/** Ends early, without a fault, where the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await delay(ms, undefined, { signal }).catch(() => {})
}
