/**
 * Watches what callers are told of. The rows say it, by seq; hints, and a poll behind them, only say when to look. So a watcher
 * on any node, one that comes late and one that comes again get the same story. Watchers of one caller look together.
 */
import { ACTIVITY_BATCH, WATCH_POLL_INTERVAL_MS } from '../limits.ts'
import type { ActivityEvent, Holder } from '../records/access-port.ts'
import { userOf } from '../records/holders.ts'
import type { RecordStore } from '../records/port.ts'

export interface ActivityWatchers {
  /** Events behind `after`, first those that are there, then as they come; ends when the signal aborts. */
  watch(holder: Holder, after: number, signal: AbortSignal): AsyncGenerator<ActivityEvent, void, undefined>
}

interface Watched {
  wakes: Set<() => void>
  /** looks under way, by `after` */
  looks: Map<number, Promise<ActivityEvent[]>>
}

export function activityWatchers({ activity, jobs }: Pick<RecordStore, 'activity' | 'jobs'>, pollMs = WATCH_POLL_INTERVAL_MS): ActivityWatchers {
  const watched = new Map<string, Watched>()
  let stopListening: (() => void) | undefined

  /** A look that is under way may not have what the hint is about. */
  function wake(user: string): void {
    const { looks, wakes } = watched.get(user) ?? {}
    looks?.clear()
    for (const each of wakes ?? []) each()
  }

  /** Only while somebody watches. */
  function listen(): () => void {
    const unsubscribe = jobs.subscribe(hint => { if (hint.kind === 'activity') wake(hint.user) })
    const timer = setInterval(() => { for (const user of watched.keys()) wake(user) }, pollMs)
    timer.unref()
    return () => {
      unsubscribe()
      clearInterval(timer)
    }
  }

  /** Returns what removes it again. */
  function add(user: string, onWake: () => void): () => void {
    const entry = watched.get(user) ?? { wakes: new Set(), looks: new Map() }
    watched.set(user, entry)
    entry.wakes.add(onWake)
    stopListening ??= listen()
    return () => {
      entry.wakes.delete(onWake)
      if (entry.wakes.size === 0) watched.delete(user)
      if (watched.size > 0) return
      stopListening?.()
      stopListening = undefined
    }
  }

  function look(user: string, holder: Holder, after: number): Promise<ActivityEvent[]> {
    const { looks } = watched.get(user)!
    const shared = looks.get(after)
    if (shared !== undefined) return shared
    const own = activity.read(holder, after, ACTIVITY_BATCH).finally(() => { if (looks.get(after) === own) looks.delete(after) })
    looks.set(after, own)
    return own
  }

  async function* watch(holder: Holder, after: number, signal: AbortSignal): AsyncGenerator<ActivityEvent, void, undefined> {
    const user = userOf(holder)
    let rung = Promise.withResolvers<void>()
    const ring = (): void => rung.resolve()
    const remove = add(user, ring)
    signal.addEventListener('abort', ring)
    try {
      for (let seen = after; !signal.aborted;) {
        // from here on a ring counts: what it is about may not be in this look
        rung = Promise.withResolvers<void>()
        const events = await look(user, holder, seen)
        for (const event of events) {
          if (signal.aborted) return
          seen = event.seq
          yield event
        }
        if (events.length < ACTIVITY_BATCH && !signal.aborted) await rung.promise
      }
    } finally {
      signal.removeEventListener('abort', ring)
      remove()
    }
  }

  return { watch }
}
