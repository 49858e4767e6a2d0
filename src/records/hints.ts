/**
 * Hints: "look again". They say nothing that the rows do not, and may be lost; whoever waits for one also looks by itself
 * now and then.
 *
 * Within this process they are handed over when their transaction was committed. Between processes they go through a
 * channel, where the database has one (Postgres): then they are part of the transaction, so that none goes out for what
 * was rolled back and none is forgotten by a node that dies behind its commit. A hint that comes back to the store that
 * sent it is dropped: it was handed over already.
 */
import type { JobHint } from './jobs-port.ts'
import type { RecordsTransaction } from './schema.ts'

/** The way to other processes. */
export interface HintChannel {
  /** Within the transaction. */
  send(trx: RecordsTransaction, hints: readonly JobHint[]): Promise<void>
  /** From the first call on, hints of other processes come to `receive`. It may be one too many, also for no reason. */
  listen(receive: (hint: JobHint) => void): void
  close(): Promise<void>
}

/** The part that queries use. */
export interface HintSender {
  /** Within the transaction, at its end. */
  send(trx: RecordsTransaction, hints: readonly JobHint[]): Promise<void>
  /** When it was committed. */
  deliver(hints: readonly JobHint[]): void
}

export interface Hints extends HintSender {
  subscribe(listener: (hint: JobHint) => void): () => void
  close(): Promise<void>
}

/** @param channel undefined: the hints stay in this process */
export function jobHints(channel?: HintChannel): Hints {
  // each subscription is one of its own, also of the same function twice
  const subscriptions = new Set<{ listener: (hint: JobHint) => void }>()
  let listening = false
  const deliver = (hints: readonly JobHint[]): void => {
    // later, so that what a listener throws does not reach whoever wrote
    for (const hint of hints) for (const each of subscriptions) queueMicrotask(() => { if (subscriptions.has(each)) each.listener(hint) })
  }
  return {
    send: async (trx, hints) => { if (hints.length > 0) await channel?.send(trx, hints) },
    deliver,
    subscribe(listener) {
      const subscription = { listener }
      subscriptions.add(subscription)
      if (!listening) channel?.listen(hint => deliver([hint]))
      listening = true
      return () => { subscriptions.delete(subscription) }
    },
    async close() {
      subscriptions.clear()
      await channel?.close()
    }
  }
}
