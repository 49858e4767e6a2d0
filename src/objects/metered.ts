/** A store whose requests are timed. What else an adapter can do (see port.ts, presign.ts) stays as it is. */
import { ObjectStoreFailed, type ObjectInfo, type ObjectStore } from './port.ts'

/** `outcome`: ok, aborted or timeout by the caller's signal, or the code of the failure. `seconds` of `open` are those until its body can be read. */
export type StoreObserver = (request: { operation: string, outcome: string, seconds: number }) => void

const TIMED = [
  'check', 'createBucket', 'put', 'putUnsized', 'copy', 'open', 'head', 'delete', 'createMultipart', 'putPart', 'copyPart', 'completeMultipart', 'abortMultipart', 'listMultiparts'
] as const satisfies (keyof ObjectStore)[]

export function meteredStore<Store extends ObjectStore>(store: Store, observe: StoreObserver): Store {
  const timed = Object.fromEntries(TIMED.filter(operation => store[operation] !== undefined).map(operation => [operation, async (...args: unknown[]): Promise<unknown> => {
    const work = store[operation] as (...given: unknown[]) => Promise<unknown>
    const startedAt = performance.now()
    const ended = (outcome: string): void => observe({ operation, outcome, seconds: (performance.now() - startedAt) / 1000 })
    try {
      const answer = await work.apply(store, args)
      ended('ok')
      return answer
    } catch (error) {
      ended(outcomeOf(error, signalIn(args)))
      throw error
    }
  }]))
  return { ...store, ...timed, list: (prefix, options) => timedList(store.list(prefix, options), observe, options?.signal) } satisfies ObjectStore
}

/** What whoever reads the list does between its pages is not the store's time. */
async function* timedList(entries: AsyncIterable<ObjectInfo>, observe: StoreObserver, signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo, void, undefined> {
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
    outcome = outcomeOf(error, signal)
    throw error
  } finally {
    observe({ operation: 'list', outcome, seconds: waitedMs / 1000 })
    await iterator.return?.()
  }
}

/** Each method takes its signal alone or among its options. */
function signalIn(args: readonly unknown[]): AbortSignal | undefined {
  return args.map(each => each instanceof AbortSignal ? each : (each as { signal?: AbortSignal } | undefined)?.signal).find(each => each !== undefined)
}

function outcomeOf(error: unknown, signal: AbortSignal | undefined): string {
  if (signal?.aborted === true) return (signal.reason as Error | undefined)?.name === 'TimeoutError' ? 'timeout' : 'aborted'
  return error instanceof ObjectStoreFailed ? error.code.toLowerCase() : 'failed'
}
