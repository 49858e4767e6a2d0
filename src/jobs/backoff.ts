/** Pauses before another try: growing, bounded, and not the same for everyone. */
import { JOB_BACKOFF_MAX_MS, JOB_BACKOFF_MIN_MS, WEBHOOK_BACKOFF_MIN_MS } from '../limits.ts'

/** A quarter more or less, so that what failed together does not come again together. */
function jittered(ms: number, random: () => number): number {
  return Math.round(ms * (0.75 + random() / 2))
}

/** After attempt `attempt` (from 1) of a job: 1 s, 4 s, 16 s … */
export function jobRetryDelayMs(attempt: number, random: () => number = Math.random): number {
  return jittered(Math.min(JOB_BACKOFF_MAX_MS, JOB_BACKOFF_MIN_MS * 4 ** (attempt - 1)), random)
}

/** After attempt `attempt` (from 1) at a delivery: 1 s, 2 s, 4 s … */
export function webhookRetryDelayMs(attempt: number, random: () => number = Math.random): number {
  return jittered(WEBHOOK_BACKOFF_MIN_MS * 2 ** (attempt - 1), random)
}
