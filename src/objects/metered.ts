/** A store whose requests are timed. What else an adapter can do (see port.ts, presign.ts) stays as it is. */
import { ObjectStoreFailed, type ObjectInfo, type ObjectStore } from './port.ts'

/** `outcome`: ok, aborted, or the code of the failure. `seconds` of `open` are those until its body can be read. */
export type StoreObserver = (request: { operation: string, outcome: string, seconds: number }) => void

const TIMED = [
  'check', 'createBucket', 'put', 'copy', 'open', 'head', 'delete', 'createMultipart', 'putPart', 'copyPart', 'completeMultipart', 'abortMultipart', 'listMultiparts'
] as const satisfies (keyof ObjectStore)[]

export function meteredStore<Store extends ObjectStore>(store: Store, observe: StoreObserver): Store {
  const timed = Object.fromEntries(TIMED.map(operation => [operation, async (...args: unknown[]): Promise<unknown> => {
    const work = store[operation] as (...given: unknown[]) => Promise<unknown>
    const startedAt = performance.now()
    const ended = (outcome: string): void => observe({ operation, outcome, seconds: (performance.now() - startedAt) / 1000 })
    try {
      const answer = await work.apply(store, args)
      ended('ok')
      return answer
    } catch (error) {
      ended(outcomeOf(error))
      throw error
    }
  }]))
  return { ...store, ...timed, list: (prefix, options) => timedList(store.list(prefix, options), observe) } satisfies ObjectStore
}

/** What whoever reads the list does between its pages is not the store's time. */
async function* timedList(entries: AsyncIterable<ObjectInfo>, observe: StoreObserver): AsyncGenerator<ObjectInfo, void, undefined> {
  const iterator = entries[Symbol.asyncIterator]()
  let waitedMs = 0
  let outcome = 'ok'
  try {
    for (;;) {
      const startedAt = performance.now()
      const next = await iterator.next().finally(() => { waitedMs += performance.now() - startedAt })
      if (next.done === true) return
      yield next.value
    }
  } catch (error) {
    outcome = outcomeOf(error)
    throw error
  } finally {
    observe({ operation: 'list', outcome, seconds: waitedMs / 1000 })
    await iterator.return?.()
  }
}

function outcomeOf(error: unknown): string {
  if (error instanceof ObjectStoreFailed) return error.code.toLowerCase()
  return error instanceof Error && error.name === 'AbortError' ? 'aborted' : 'failed'
}
