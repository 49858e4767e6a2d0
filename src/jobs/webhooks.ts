/**
 * Webhooks: the events of a job as POSTs to the address that its creator gave.
 *
 * How far a job is told of stands in the records, and whoever tells it holds a lease on that (webhooks-port.ts):
 *
 *   the node that runs the job follows it: it watches as any listener does, and delivers one event after the other
 *   whatever else is to be told (it waits, it ended with nobody who ran it, its node died) is found by the node that looks
 *     first, which delivers what there is and gives the lease back
 *
 * Progress is tried once and at most every WEBHOOK_PROGRESS_INTERVAL_MS, what was superseded meanwhile is left out; other
 * events are tried WEBHOOK_ATTEMPTS_MAX times, those that a node died over among them. Whoever gives no answer, or one of
 * 408, 429 or 5xx, may give another next time; every other answer than 2xx is the last word. An event whose delivery could
 * not be noted comes again, on the same node or another, with the same seq: receivers know it by job and seq. What becomes
 * of a webhook is only logged: the job goes on.
 *
 * While the records do not answer it waits, and goes on behind the last event that was dealt with. A job that is removed
 * before its end was told of ends with its farewell: its last event, and the job as it was then.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import pLimit from 'p-limit'
import type { Config } from '../config.ts'
import type { Log } from '../ingest/context.ts'
import {
  JOB_EVENTS_BATCH, RECORDS_RETRY_INTERVAL_MS, WEBHOOK_ATTEMPTS_MAX, WEBHOOK_CLOSE_GRACE_MS, WEBHOOK_LEASE_MS, WEBHOOK_LOOK_INTERVAL_MS,
  WEBHOOK_PROGRESS_INTERVAL_MS, WEBHOOK_TURNS_MAX, WEBHOOKS_MAX
} from '../limits.ts'
import type { JobEvent, JobRecord, JobRecords, JobWebhook } from '../records/jobs-port.ts'
import { RecordStoreFailed } from '../records/port.ts'
import type { WebhookRecords, WebhookTurn } from '../records/webhooks-port.ts'
import { webhookRetryDelayMs } from './backoff.ts'
import { sendWebhook } from './send-webhook.ts'
import { showEventData, showJob } from './show.ts'
import { isTerminal, isTerminalEvent, jobWatchers } from './watch.ts'
import { AddressRefused } from './webhook-address.ts'

export interface Webhooks {
  /** This node runs the job: delivers what it has to tell as it comes. Nothing where it has no webhook. The returned function gives it up: another node goes on. */
  follow(job: JobRecord): () => void
  /** Something is to be told of a job that nobody runs: looks at once, instead of some time soon. */
  look(): void
  /** What is there to be told gets WEBHOOK_CLOSE_GRACE_MS; the rest is for other nodes, or the next start. Idempotent. */
  close(): Promise<void>
}

export interface WebhookOptions {
  config: Pick<Config, 'WEBHOOK_SECRET' | 'WEBHOOK_ALLOW_PRIVATE' | 'PUBLIC_BASE_URL'>
  records: { jobs: Pick<JobRecords, 'events' | 'farewell' | 'get' | 'subscribe'>, webhooks: WebhookRecords }
  log: Log
  retryDelayMs?: (attempt: number) => number
  closeGraceMs?: number
  leaseMs?: number
  lookIntervalMs?: number
}

interface Follower {
  readonly id: string
  /** It is run here, so that more is to come. */
  running: boolean
  readonly given: AbortController
  /** all was told, by others */
  over: boolean
  /** undefined until the job was read */
  webhook: JobWebhook | undefined
  /** seq of the last event that was dealt with */
  seen: number
  /** at the event behind it */
  attempts: number
  /** Aborts when the lease is lost; undefined while there is none. */
  lease: AbortController | undefined
  lastProgressAt: number
}

/** How it goes on behind an event: it was dealt with, or left to whoever has the next turn. */
type Outcome = 'dealt' | 'left'

export function createWebhooks(options: WebhookOptions): Webhooks {
  const { config, records, log, retryDelayMs = webhookRetryDelayMs, closeGraceMs = WEBHOOK_CLOSE_GRACE_MS, leaseMs = WEBHOOK_LEASE_MS, lookIntervalMs = WEBHOOK_LOOK_INTERVAL_MS } = options
  const { jobs, webhooks } = records
  const { WEBHOOK_SECRET: secret } = config
  const watchers = jobWatchers(jobs)
  const requests = pLimit(WEBHOOKS_MAX)
  const followers = new Map<Follower, Promise<void>>()
  /** of this process */
  const holder = randomUUID()
  /** no more waiting for events */
  const closing = new AbortController()
  /** no more waiting for receivers */
  const cutOff = new AbortController()
  let looking: Promise<void> | undefined
  let lookAgain = false

  function add(follower: Follower): void {
    const following = follow(follower)
      .catch((error: unknown) => log.warn({ action: 'jobs.webhook.failed', job_id: follower.id, err: error }))
      .finally(() => followers.delete(follower))
    followers.set(follower, following)
  }

  /** One that was given up is on its way out, and has nothing of what comes. */
  function followerOf(id: string): Follower | undefined {
    return [...followers.keys()].find(each => each.id === id && !each.given.signal.aborted)
  }

  /** Until all is told, nothing is there, it is given up, or everything closes. */
  async function follow(follower: Follower): Promise<void> {
    const over = AbortSignal.any([follower.given.signal, closing.signal])
    for (;;) {
      try {
        if (await turn(follower, over)) return
      } catch (error) {
        if (!(error instanceof RecordStoreFailed) || over.aborted) throw error
        log.debug({ action: 'jobs.webhook.waits', job_id: follower.id, err: error })
      }
      await pause(RECORDS_RETRY_INTERVAL_MS, over)
    }
  }

  /** True: that was all, for this node. */
  async function turn(follower: Follower, over: AbortSignal): Promise<boolean> {
    if (!await hasLease(follower)) return follower.over || over.aborted
    const told = await deliverAll(follower, over)
    if (follower.lease!.signal.aborted) {
      follower.lease = undefined
      return !follower.running
    }
    // a retry may have come meanwhile, whose run is as good as another job
    if (told && await webhooks.end(follower.id, holder, follower.seen)) return true
    if ((told || follower.running) && !over.aborted) return false
    await webhooks.giveBack(turnOf(follower), holder)
    return true
  }

  async function hasLease(follower: Follower): Promise<boolean> {
    if (follower.lease !== undefined) return true
    if (follower.given.signal.aborted) return false
    const taken = await webhooks.take(follower.id, holder, leaseMs)
    // another node is at it, mostly with what came before this one ran it: later
    if (taken === 'held') return false
    if (taken === 'none') follower.over = true
    else begin(follower, taken)
    return taken !== 'none'
  }

  /** True: the last event was terminal, and is dealt with. */
  async function deliverAll(follower: Follower, over: AbortSignal): Promise<boolean> {
    const { id, given } = follower
    let told = false
    if (follower.running) {
      for await (const event of watchers.watch(id, follower.seen, AbortSignal.any([over, follower.lease!.signal]))) {
        if (await dealWith(follower, event) === 'left') return false
        told = isTerminalEvent(event)
      }
      if (given.signal.aborted || follower.lease!.signal.aborted) return false
    }
    for (let events = await there(follower); events.length > 0; events = await there(follower)) {
      for (const event of events) {
        if (await dealWith(follower, event) === 'left') return false
        told = isTerminalEvent(event)
      }
    }
    return told || await tellOfRemoval(follower)
  }

  const there = ({ id, seen }: Follower): Promise<JobEvent[]> => jobs.events(id, seen, JOB_EVENTS_BATCH)

  /** True also where all is told, and only that could not be noted. Behind a farewell nothing comes. */
  async function tellOfRemoval(follower: Follower): Promise<boolean> {
    const job = await jobs.get(follower.id)
    if (job !== undefined) return isTerminal(job) && job.lastSeq === follower.seen
    const farewell = await jobs.farewell(follower.id)
    if (farewell !== undefined && farewell.event.seq > follower.seen && await dealWith(follower, farewell.event) === 'left') return false
    follower.seen = Number.MAX_SAFE_INTEGER
    return true
  }

  async function dealWith(follower: Follower, event: JobEvent): Promise<Outcome> {
    const delivered = await deliverIfWanted(follower, event)
    if (delivered === 'left') return 'left'
    follower.seen = event.seq
    follower.attempts = 0
    // the end of a job is noted by what ends the telling
    return delivered === 'unwanted' || isTerminalEvent(event) || await note(follower) ? 'dealt' : 'left'
  }

  async function deliverIfWanted(follower: Follower, event: JobEvent): Promise<Outcome | 'unwanted'> {
    if (follower.webhook !== undefined && !wants(follower.webhook, event)) return 'unwanted'
    const isProgress = event.event === 'generation_progress'
    if (isProgress) await pause(WEBHOOK_PROGRESS_INTERVAL_MS - (performance.now() - follower.lastProgressAt), closing.signal)
    const job = await jobs.get(follower.id) ?? (await jobs.farewell(follower.id))?.job
    if (follower.lease!.signal.aborted) return 'left'
    if (job?.webhook == null) return 'unwanted'
    follower.webhook = job.webhook
    if (!wants(job.webhook, event) || (isProgress && closing.signal.aborted)) return 'unwanted'
    if (isProgress) follower.lastProgressAt = performance.now()
    return await deliver(follower, event, job, job.webhook)
  }

  async function deliver(follower: Follower, event: JobEvent, job: JobRecord, webhook: JobWebhook): Promise<Outcome> {
    const base = config.PUBLIC_BASE_URL ?? ''
    const id = `${job.id}.${event.seq}`
    const body = JSON.stringify({ event: event.event, seq: event.seq, job_id: job.id, data: showEventData(event, job, base), job: showJob(job, base) })
    const attempts = event.event === 'generation_progress' ? 1 : WEBHOOK_ATTEMPTS_MAX
    const facts = { job_id: job.id, event: event.event, seq: event.seq, host: new URL(webhook.url).host }
    while (follower.attempts < attempts) {
      const failure = await tryToSend(webhook, id, body)
      const attempt = follower.attempts + 1
      if (failure === undefined) {
        log.debug({ action: 'jobs.webhook.delivered', ...facts, attempt })
        return 'dealt'
      }
      const last = failure.final || attempt >= attempts
      log[last && attempts > 1 ? 'warn' : 'debug']({ action: last ? 'jobs.webhook.failed' : 'jobs.webhook.retried', ...facts, attempt, ...failure.why })
      if (cutOff.signal.aborted) return 'left'
      if (last) return 'dealt'
      follower.attempts = attempt
      if (!await note(follower)) return 'left'
      await pause(retryDelayMs(attempt), cutOff.signal)
      if (cutOff.signal.aborted) return 'left'
    }
    log.warn({ action: 'jobs.webhook.failed', ...facts, attempt: follower.attempts }, 'nodes died over it')
    return 'dealt'
  }

  async function tryToSend({ url }: JobWebhook, id: string, body: string): Promise<{ final: boolean, why: Record<string, unknown> } | undefined> {
    try {
      const status = await requests(() => sendWebhook({ url, id, body, secret: secret!, allowPrivate: config.WEBHOOK_ALLOW_PRIVATE, signal: cutOff.signal }))
      if (status >= 200 && status < 300) return undefined
      return { final: status < 500 && status !== 408 && status !== 429, why: { status } }
    } catch (error) {
      return { final: error instanceof AddressRefused, why: { err: error } }
    }
  }

  async function note(follower: Follower): Promise<boolean> {
    const held = await patiently(() => webhooks.note(turnOf(follower), holder, leaseMs))
    if (!held) follower.lease?.abort()
    return held
  }

  /** What was sent is noted also where the records are away for a moment, lest it is sent again. */
  async function patiently<T>(step: () => Promise<T>): Promise<T> {
    const until = performance.now() + leaseMs
    for (;;) {
      try {
        return await step()
      } catch (error) {
        if (!(error instanceof RecordStoreFailed) || closing.signal.aborted || performance.now() > until) throw error
        await pause(RECORDS_RETRY_INTERVAL_MS, closing.signal)
      }
    }
  }

  async function hold(): Promise<void> {
    const held = [...followers.keys()].filter(({ lease }) => lease !== undefined)
    if (held.length === 0) return
    const lost = new Set(await webhooks.hold(held.map(({ id }) => id), holder, leaseMs))
    for (const follower of held) if (lost.has(follower.id)) follower.lease?.abort()
  }

  /** Takes what is due, as far as there is room for it. */
  async function lookOnce(): Promise<void> {
    const room = WEBHOOK_TURNS_MAX - [...followers.keys()].filter(({ running }) => !running).length
    if (room <= 0) return
    for (const taken of await webhooks.takeDue(holder, leaseMs, room)) {
      const known = followerOf(taken.jobId)
      const follower = known ?? newFollower(taken.jobId, false)
      // else its own lease was over, and is its own again: it goes on
      if (follower.lease === undefined) begin(follower, taken)
      if (known === undefined) add(follower)
    }
  }

  async function lookAll(): Promise<void> {
    do {
      lookAgain = false
      await lookOnce().catch((error: unknown) => log.warn({ action: 'jobs.webhook.look_failed', err: error }))
    } while (lookAgain && !closing.signal.aborted)
    looking = undefined
  }

  function look(): void {
    if (secret === undefined || closing.signal.aborted) return
    lookAgain = true
    looking ??= lookAll()
  }

  const looks = setInterval(look, lookIntervalMs).unref()
  const holds = setInterval(() => { hold().catch((error: unknown) => log.warn({ action: 'jobs.webhook.hold_failed', err: error })) }, leaseMs / 3).unref()

  async function close(): Promise<void> {
    closing.abort()
    clearInterval(looks)
    const timer = setTimeout(() => cutOff.abort(), closeGraceMs)
    await looking
    await Promise.all(followers.values())
    clearTimeout(timer)
    clearInterval(holds)
  }

  return {
    follow(job) {
      if (job.webhook === null || closing.signal.aborted) return () => {}
      if (secret === undefined) {
        log.warn({ action: 'jobs.webhook.failed', job_id: job.id }, 'WEBHOOK_SECRET is not set: nothing can be signed')
        return () => {}
      }
      const known = followerOf(job.id)
      const follower = known ?? newFollower(job.id, true, job.webhook)
      follower.running = true
      if (known === undefined) add(follower)
      return () => follower.given.abort()
    },
    look,
    close
  }
}

function newFollower(id: string, running: boolean, webhook?: JobWebhook): Follower {
  return { id, running, webhook, given: new AbortController(), over: false, seen: 0, attempts: 0, lease: undefined, lastProgressAt: -Infinity }
}

function begin(follower: Follower, { seq, attempts }: WebhookTurn): void {
  Object.assign(follower, { seen: seq, attempts, lease: new AbortController() })
}

function turnOf({ id, seen, attempts }: Follower): WebhookTurn {
  return { jobId: id, seq: seen, attempts }
}

/** Terminal events come always. */
function wants({ events }: JobWebhook, event: JobEvent): boolean {
  return events === undefined || isTerminalEvent(event) || events.includes(event.event)
}

/** Ends early, without a fault, where the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms > 0) await delay(ms, undefined, { signal }).catch(() => {})
}
