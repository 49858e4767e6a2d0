/**
 * Is the store there, and what does it enforce? The probe runs once, before anything is written for a caller; when the
 * store was not there at start it runs on the first question after it came up. A good answer is believed for
 * STORE_CHECK_TTL_MS, a bad one is not kept; questions at the same time share one request.
 */
import { CHECK_TIMEOUT_MS, STORE_CHECK_TTL_MS } from '../limits.ts'
import type { ObjectStore } from './port.ts'
import type { StoreAbilities } from './probe.ts'

export interface StoreReadiness {
  /** What the store enforces. @throws as check() and the probe do, where the store is not there */
  ensure(): Promise<StoreAbilities>
}

export interface ReadinessOptions {
  store: ObjectStore
  createBucket: boolean
  probe: (store: ObjectStore) => Promise<StoreAbilities>
  onProbed: (abilities: StoreAbilities) => void
}

export function storeReadiness({ store, createBucket, probe, onProbed }: ReadinessOptions): StoreReadiness {
  let abilities: StoreAbilities | undefined
  let goodUntil = 0
  let asking: Promise<StoreAbilities> | undefined

  async function ask(): Promise<StoreAbilities> {
    if (abilities === undefined && createBucket) await store.createBucket(AbortSignal.timeout(CHECK_TIMEOUT_MS))
    await store.check(AbortSignal.timeout(CHECK_TIMEOUT_MS))
    if (abilities === undefined) {
      abilities = await probe(store)
      onProbed(abilities)
    }
    goodUntil = performance.now() + STORE_CHECK_TTL_MS
    return abilities
  }

  return {
    async ensure() {
      if (abilities !== undefined && performance.now() < goodUntil) return abilities
      asking ??= ask().finally(() => { asking = undefined })
      return await asking
    }
  }
}
