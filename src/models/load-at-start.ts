/** Loads the models of a folder once the store is there, beside the start of the service. */
import { setTimeout as delay } from 'node:timers/promises'
import { STORE_RETRY_INTERVAL_MS } from '../limits.ts'
import { loadModels, type LoadContext } from './load-directory.ts'

export interface Loading {
  /** Settles when all were looked at, or it was stopped. Never rejects. */
  readonly done: Promise<void>
  /** Ends it behind the model that it is at. Idempotent. */
  stop(): Promise<void>
}

/** Tries again while the store or the records do not answer. */
export function startLoading(context: LoadContext, directory: string): Loading {
  const stop = new AbortController()

  async function load(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        const loaded = await loadModels(context, directory, stop.signal)
        return context.log.info({ action: 'models.load.done', directory, ...loaded })
      } catch (err) {
        if (stop.signal.aborted) return
        context.log.error({ action: 'models.load.failed', directory, err }, 'the models could not be loaded; trying again')
        await delay(STORE_RETRY_INTERVAL_MS, undefined, { signal: stop.signal, ref: false }).catch(() => {})
      }
    }
  }

  const done = load()
  return {
    done,
    async stop() {
      stop.abort()
      await done
    }
  }
}
