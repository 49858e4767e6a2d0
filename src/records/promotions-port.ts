/**
 * The port to promotions: results of jobs that were copied to the file gateway, each known by (job, source, target).
 *
 *   nothing ─begin▶ being sent ─record▶ promoted ─begin▶ promoted, being sent again ─record▶ promoted, later
 *                       └──release──▶ as before begin
 *
 * Of those that want the same at once one gets to send, on whatever node, and holds a lease meanwhile: whoever gives no sign
 * for that long is taken for dead. A lease that was lost does not undo what was sent: it is recorded all the same.
 */

/** As it is shown in the job. */
export interface Promotion {
  /** as it was asked for: the name of a result, or a stage */
  source: string
  /** key at the gateway */
  target: string
  /** bytes */
  size: number
  sha256: string
  promotedAt: number
}

export interface PromotionId { jobId: string, source: string, target: string }

export interface NewPromotion extends PromotionId { size: number, sha256: string }

/** Who sends: `token` is fresh for each. */
export interface PromotionLease { token: string, leaseMs: number }

export type BeginPromotion =
  /** It is the caller's to send, until record() or release(). */
  | { outcome: 'begun' }
  /** It was promoted behind the time that was asked for. */
  | { outcome: 'promoted', promotion: Promotion }
  /** Somebody else sends. `promotedAt`: when it was promoted before that; 0: never. */
  | { outcome: 'busy', promotedAt: number }
  /** There is no such completed job. */
  | { outcome: 'gone' }

export interface PromotionRecords {
  /** @param after promotions of this time or before do not count; 0: all count, Infinity: none does */
  begin(promotion: NewPromotion, lease: PromotionLease, after: number): Promise<BeginPromotion>
  /** Extends the lease. False: it is not the caller's any more. */
  touch(id: PromotionId, lease: PromotionLease): Promise<boolean>
  /** It was sent: takes the place of an earlier one, with a later time, and changes the job's `updatedAt`. Undefined: the job is gone. */
  record(id: PromotionId, token: string): Promise<Promotion | undefined>
  /** It was not sent. Nothing where the lease is not the caller's any more. */
  release(id: PromotionId, token: string): Promise<void>
}
