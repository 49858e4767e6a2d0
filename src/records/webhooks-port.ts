/**
 * The port to what is still to be told to webhooks. Whoever delivers holds a lease on the job, so that of several nodes one
 * does, and the events come in their order; how far it is stands in the records, so that another goes on where a node died.
 * Of a delivery whose end could not be noted the next one is a repeat.
 */
export interface WebhookTurn {
  jobId: string
  /** of the last event that was dealt with */
  seq: number
  /** at the event behind it, those that a node died over among them */
  attempts: number
}

export interface WebhookRecords {
  /** Jobs with something to tell that nobody tells, longest due first, now under `lease`. No two callers get the same. */
  takeDue(lease: string, leaseMs: number, limit: number): Promise<WebhookTurn[]>
  /** This job, also where there is nothing to tell yet. `held`: by somebody else; `none`: it has no webhook, or all is told. */
  take(jobId: string, lease: string, leaseMs: number): Promise<WebhookTurn | 'held' | 'none'>
  /** Extends the lease on these; returns those that are no longer under it. */
  hold(jobIds: readonly string[], lease: string, leaseMs: number): Promise<string[]>
  /** How far it is; extends the lease. False, and nothing changes: it is no longer under it. */
  note(turn: WebhookTurn, lease: string, leaseMs: number): Promise<boolean>
  /** Gives it back, for the next one to take. Nothing where it is no longer under the lease. */
  giveBack(turn: WebhookTurn, lease: string): Promise<void>
  /** All is told up to `seq`. False: there is a newer event, or it is no longer under the lease. */
  end(jobId: string, lease: string, seq: number): Promise<boolean>
}
