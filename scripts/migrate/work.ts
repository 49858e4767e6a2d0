/**
 * Does one thing with every entry of a source, a bounded number at once, and tells of each what became of it.
 *
 * The first signal to end (Ctrl-C) begins nothing more and lets what is under way finish; the second cuts that off, which
 * leaves as little as any failure does; a third ends the process. Where our own store or records fail again and again,
 * nothing more is begun either: it would all fail, and the next run begins with what is missing.
 */
import { OWN_FAILURES_MAX } from './limits.ts'

export interface Outcome {
  name: string
  /** `planned`: a dry run would do it */
  outcome: 'done' | 'planned' | 'skipped' | 'failed'
  reason?: string
  /** bytes that were moved, or would be */
  size?: number
  /** what there is to be known of it, for the report */
  facts?: Record<string, string | null>
  /** of a failure: it was our own store or records, and not the entry */
  own?: boolean
}

export interface Ending {
  /** begin nothing more */
  readonly draining: AbortSignal
  /** end what is under way */
  readonly cutOff: AbortSignal
}

export interface Totals { done: number, planned: number, skipped: number, failed: number, bytes: number }

export interface WorkResult {
  totals: Totals
  /** why it ended before it was through */
  ended?: string
}

export interface WorkOptions<Entry> {
  entries: AsyncIterable<Entry>
  perform(entry: Entry, signal: AbortSignal): Promise<Outcome>
  concurrency: number
  ending: Ending
  onOutcome(outcome: Outcome): void
}

/** Never rejects: what the source as a whole has to say is how it ended. */
export async function workThrough<Entry>({ entries, perform, concurrency, ending, onOutcome }: WorkOptions<Entry>): Promise<WorkResult> {
  const totals: Totals = { done: 0, planned: 0, skipped: 0, failed: 0, bytes: 0 }
  const iterator = entries[Symbol.asyncIterator]()
  let ended: string | undefined
  let ownFailures = 0

  function note(outcome: Outcome): void {
    totals[outcome.outcome] += 1
    if (outcome.outcome === 'done' || outcome.outcome === 'planned') totals.bytes += outcome.size ?? 0
    if (outcome.own === true) ownFailures += 1
    else if (outcome.outcome === 'done') ownFailures = 0
    if (ownFailures >= OWN_FAILURES_MAX) ended ??= `${OWN_FAILURES_MAX} times one after another it was our own store or records that failed: ${outcome.reason}`
    onOutcome(outcome)
  }

  async function takeTurns(): Promise<void> {
    for (;;) {
      if (ending.draining.aborted) ended ??= 'it was told to end'
      if (ended !== undefined) return
      const { done, value } = await iterator.next()
      if (done === true) return
      note(await perform(value, ending.cutOff))
    }
  }

  const settled = await Promise.allSettled(Array.from({ length: concurrency }, takeTurns))
  const broken = settled.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
  if (broken !== undefined) ended ??= (broken.reason as Error).message
  await iterator.return?.().catch(() => {})
  return { totals, ...(ended !== undefined && { ended }) }
}
