/**
 * Watches jobs. What is told comes from the event rows, by seq; hints, and a poll behind them, only say when to look. So a
 * watcher on any node, one that comes late and one that comes again get the same story.
 *
 * Watchers of one job look together: those that ask for the same events at the same time share one question. A hint ends
 * the sharing, since an answer that was on its way may not have what the hint is about.
 */
import { JOB_EVENTS_BATCH, WATCH_POLL_INTERVAL_MS } from '../limits.ts'
import type { JobEvent, JobEventName, JobRecords, JobStatus } from '../records/jobs-port.ts'

const TERMINAL_EVENTS: ReadonlySet<JobEventName> = new Set(['generation_complete', 'generation_failed', 'generation_cancelled'])
const TERMINAL: ReadonlySet<JobStatus> = new Set(['completed', 'failed', 'cancelled'])

export function isTerminal({ status }: { status: JobStatus }): boolean {
  return TERMINAL.has(status)
}

export function isTerminalEvent({ event }: { event: JobEventName }): boolean {
  return TERMINAL_EVENTS.has(event)
}

export interface JobWatchers {
  /**
   * Events behind `after`, then as they come. Ends behind the terminal event of the latest run, also where that is not behind
   * `after`; when the job is removed, behind the
   * event that it ended with; and when the signal aborts.
   */
  watch(id: string, after: number, signal: AbortSignal): AsyncGenerator<JobEvent, void, undefined>
}

/** What one look shows, and what comes behind these events: something that is there already, something some time, nothing. */
interface Look { events: JobEvent[], next: 'more' | 'wait' | 'over' }

interface Watched {
  wakes: Set<() => void>
  /** looks under way, by `after` */
  looks: Map<number, Promise<Look>>
}

export function jobWatchers(jobs: Pick<JobRecords, 'events' | 'farewell' | 'get' | 'subscribe'>, pollMs = WATCH_POLL_INTERVAL_MS): JobWatchers {
  const watched = new Map<string, Watched>()
  let stopListening: (() => void) | undefined

  function wake(id: string): void {
    const { looks, wakes } = watched.get(id) ?? {}
    looks?.clear()
    for (const each of wakes ?? []) each()
  }

  /** Only while somebody watches. */
  function listen(): () => void {
    const unsubscribe = jobs.subscribe(hint => { if (hint.kind === 'job') wake(hint.jobId) })
    const timer = setInterval(() => { for (const id of watched.keys()) wake(id) }, pollMs)
    timer.unref()
    return () => {
      unsubscribe()
      clearInterval(timer)
    }
  }

  /** Returns what removes it again. */
  function add(id: string, onWake: () => void): () => void {
    const entry = watched.get(id) ?? { wakes: new Set(), looks: new Map() }
    watched.set(id, entry)
    entry.wakes.add(onWake)
    stopListening ??= listen()
    return () => {
      entry.wakes.delete(onWake)
      if (entry.wakes.size === 0) watched.delete(id)
      if (watched.size > 0) return
      stopListening?.()
      stopListening = undefined
    }
  }

  async function lookAlone(id: string, after: number): Promise<Look> {
    const events = await jobs.events(id, after, JOB_EVENTS_BATCH)
    const last = events.at(-1)
    if (events.length === JOB_EVENTS_BATCH) return { events, next: 'more' }
    if (last !== undefined && !isTerminalEvent(last)) return { events, next: 'wait' }
    const job = await jobs.get(id)
    if (job === undefined) return { events: [...events, ...await lastOfRemoved(id, last?.seq ?? after)], next: 'over' }
    if (job.lastSeq > (last?.seq ?? after)) return { events, next: 'more' }
    return { events, next: isTerminal(job) ? 'over' : 'wait' }
  }

  /** It may have ended, and been removed, between two looks. */
  async function lastOfRemoved(id: string, after: number): Promise<JobEvent[]> {
    const farewell = await jobs.farewell(id)
    return farewell !== undefined && farewell.event.seq > after ? [farewell.event] : []
  }

  function look(id: string, after: number): Promise<Look> {
    const looks = watched.get(id)!.looks
    const shared = looks.get(after)
    if (shared !== undefined) return shared
    const own = lookAlone(id, after).finally(() => { if (looks.get(after) === own) looks.delete(after) })
    looks.set(after, own)
    return own
  }

  async function* watch(id: string, after: number, signal: AbortSignal): AsyncGenerator<JobEvent, void, undefined> {
    const bell = doorbell(signal)
    const remove = add(id, bell.ring)
    try {
      for (let seen = after; !signal.aborted;) {
        bell.reset()
        const { events, next } = await look(id, seen)
        for (const event of events) {
          if (signal.aborted) return
          seen = event.seq
          yield event
        }
        if (next === 'over') return
        if (next === 'wait') await bell.rung()
      }
    } finally {
      remove()
      bell.release()
    }
  }

  return { watch }
}

/** Remembers that it was rung since the last reset, so that nothing is missed while its owner is busy. */
function doorbell(signal: AbortSignal): { ring(): void, reset(): void, rung(): Promise<void>, release(): void } {
  let next = Promise.withResolvers<void>()
  const ring = (): void => next.resolve()
  signal.addEventListener('abort', ring)
  return {
    ring,
    reset() { if (!signal.aborted) next = Promise.withResolvers<void>() },
    rung: () => next.promise,
    release: () => signal.removeEventListener('abort', ring)
  }
}
