/**
 * What nobody needs any more: jobs that finished more than JOB_RETENTION_DAYS ago, with their events, inputs and results, and
 * rows whose time is over, minted tokens among them. In small batches, each a transaction of its own. Any number of nodes may do it at once. Objects
 * that nothing points at then are the collector's.
 */
import { RETENTION_BATCH, RETENTION_INTERVAL_MS, TOKENS_OVER_KEPT_MS } from '../limits.ts'
import type { JobsContext } from './context.ts'
import { removeFinished } from './remove-job.ts'

const DAY_MS = 86_400_000

export interface Retention { stop(): Promise<void> }

type Context = Pick<JobsContext, 'config' | 'records' | 'log'>

/** Counts what it removed, for whoever measures. */
export interface RetentionOptions { intervalMs?: number, onRemoved?: (jobs: number) => void }

/** Looks at once and then every interval, never twice at a time. */
export function startRetention(context: Context, { intervalMs = RETENTION_INTERVAL_MS, onRemoved }: RetentionOptions = {}): Retention {
  let stopped = false
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    try {
      const removed = await sweepJobs(context, () => stopped)
      if (removed === 0) return
      onRemoved?.(removed)
      context.log.info({ action: 'jobs.retention.done', jobs: removed })
    } catch (error) {
      context.log.warn({ action: 'jobs.retention.failed', err: error })
    }
  }

  const tick = (): void => { running ??= run().finally(() => { running = undefined }) }
  const timer = setInterval(tick, intervalMs)
  timer.unref()
  tick()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await running
    }
  }
}

/** Returns how many jobs were removed. Each batch that is not full is the last, and so is one of which some could not be removed. */
export async function sweepJobs(context: Context, stopped: () => boolean = () => false, now = Date.now()): Promise<number> {
  const { config, records: { jobs, tokens } } = context
  while (!stopped() && await jobs.pruneLapsed(RETENTION_BATCH) >= RETENTION_BATCH) { /* the next batch */ }
  while (!stopped() && await tokens.prune(now - TOKENS_OVER_KEPT_MS, RETENTION_BATCH) === RETENTION_BATCH) { /* the next batch */ }
  if (config.JOB_RETENTION_DAYS === 0) return 0
  let removed = 0
  for (let batch = RETENTION_BATCH; batch === RETENTION_BATCH && !stopped(); removed += batch) {
    batch = await removeFinished(context, now - config.JOB_RETENTION_DAYS * DAY_MS)
  }
  return removed
}
