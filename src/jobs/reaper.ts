/**
 * Finds jobs whose lease is over, because the node that ran them died or lost the records: they wait again, or have failed.
 * Any number of nodes may look.
 */
import { REAP_BATCH } from '../limits.ts'
import { jobRetryDelayMs } from './backoff.ts'
import type { JobsContext } from './context.ts'
import { noteEnd } from './observer.ts'

type ReaperContext = Pick<JobsContext, 'config' | 'records' | 'webhooks' | 'log' | 'observer'>

export interface Reaper { stop(): Promise<void> }

/** Looks three times in a JOB_LEASE_MS. */
export function startReaper(context: ReaperContext): Reaper {
  const { config, log } = context
  let reaping: Promise<void> | undefined
  let stopped = false
  const timer = setInterval(() => {
    reaping ??= reap(context, () => stopped)
      .catch((error: unknown) => log.warn({ action: 'jobs.reap.failed', err: error }))
      .finally(() => { reaping = undefined })
  }, config.JOB_LEASE_MS / 3)
  timer.unref()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await reaping
    }
  }
}

async function reap({ config, records: { jobs }, webhooks, log, observer }: ReaperContext, stopped: () => boolean): Promise<void> {
  for (let reaped = REAP_BATCH; reaped === REAP_BATCH && !stopped();) {
    const lost = await jobs.reapLost({ maxAttempts: config.JOB_MAX_ATTEMPTS, retryAt: attempt => Date.now() + jobRetryDelayMs(attempt), limit: REAP_BATCH })
    reaped = lost.reaped
    if (reaped > 0) log.warn({ action: 'jobs.reaped', jobs: reaped })
    // they ended with nobody who tells of it
    if (lost.ended.length > 0) webhooks.look()
    for (const id of observer === undefined ? [] : lost.ended) {
      const job = await jobs.get(id)
      if (job !== undefined) noteEnd(observer, job, job.status)
    }
  }
}
