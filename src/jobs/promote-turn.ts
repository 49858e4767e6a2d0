/**
 * Of those that promote the same at once, on whatever nodes, one sends; the others wait for what comes of it. Where that is
 * nothing, or its node died, the next one sends.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '../ingest/context.ts'
import { PROMOTION_LEASE_MS, PROMOTION_POLL_INTERVAL_MS } from '../limits.ts'
import type { NewPromotion, Promotion, PromotionRecords } from '../records/promotions-port.ts'

export interface TurnContext { promotions: PromotionRecords, log: Log, leaseMs?: number }

/**
 * Sends, or finds that it was sent. Undefined: the job is gone.
 * @param force an earlier promotion does not count; one that came while this waited does
 * @throws what `send` throws; the signal's reason
 */
export async function promoteOnce(context: TurnContext, promotion: NewPromotion, force: boolean, send: () => Promise<void>, signal: AbortSignal): Promise<Promotion | undefined> {
  const lease = { token: randomUUID(), leaseMs: context.leaseMs ?? PROMOTION_LEASE_MS }
  for (let after = force ? Number.POSITIVE_INFINITY : 0; ;) {
    signal.throwIfAborted()
    const begun = await context.promotions.begin(promotion, lease, after)
    if (begun.outcome === 'gone') return undefined
    if (begun.outcome === 'promoted') return begun.promotion
    if (begun.outcome === 'begun') return await sendInTurn(context, promotion, lease, send)
    after = Math.min(after, begun.promotedAt)
    await delay(PROMOTION_POLL_INTERVAL_MS, undefined, { signal })
  }
}

async function sendInTurn({ promotions, log }: TurnContext, promotion: NewPromotion, lease: { token: string, leaseMs: number }, send: () => Promise<void>): Promise<Promotion | undefined> {
  const note = (error: unknown): void => log.warn({ action: 'jobs.promote.lease_failed', job_id: promotion.jobId, err: error })
  const timer = setInterval(() => void promotions.touch(promotion, lease).catch(note), lease.leaseMs / 3)
  try {
    await send()
  } catch (error) {
    // where that cannot be noted, it lapses
    await promotions.release(promotion, lease.token).catch(note)
    throw error
  } finally {
    clearInterval(timer)
  }
  return await promotions.record(promotion, lease.token)
}
