/** What must be true of uploads whatever was killed, read from the stores and not from the service. */
import { CANONICAL_PREFIX, canonicalKey, STAGING_PREFIX } from '../../src/objects/keys.ts'
import { digestOf, unfinished } from './stores.ts'
import type { Stores } from './stores.ts'

/** What clients were told, and so what must be there. */
export interface Promised {
  /** staging key → sha256 of uploads that were answered 200 and not known to be finalized */
  staged: Map<string, string>
  /** sha256 of finalizes that were answered 200 */
  finalized: Set<string>
}

export const noPromises = (): Promised => ({ staged: new Map(), finalized: new Set() })

/** Everything that was promised and is not so. */
export async function brokenUploads({ store, records }: Stores, promised: Promised): Promise<string[]> {
  const faults: string[] = []
  for (const sha256 of promised.finalized) {
    const key = canonicalKey(sha256, 'object')
    if (await digestOf(store, key) !== sha256) faults.push(`${key} was finalized and is not there whole`)
    if (await records.uploads.findFinalized(key) === undefined) faults.push(`${key} was finalized and has no row`)
  }
  for (const [key, sha256] of promised.staged) {
    const id = key.slice(STAGING_PREFIX.length).split('/')[0]!
    if (await digestOf(store, key) !== sha256) faults.push(`${key} was staged and is not there whole`)
    if ((await records.uploads.get(id))?.status !== 'staged') faults.push(`${key} was staged and its row does not say so`)
  }
  return faults
}

/** Everything that is there when it should not be, after sweep and collection, where nothing but uploads was done. */
export async function leftovers(stores: Stores, promised: Promised, dataDir: string): Promise<string[]> {
  const { store, records } = stores
  const faults = await unfinished(stores, dataDir)
  for await (const { key } of store.list(CANONICAL_PREFIX)) {
    const finalized = await records.uploads.findFinalized(key)
    if (finalized === undefined) faults.push(`${key} has no row`)
    else if (await digestOf(store, key) !== finalized.sha256) faults.push(`${key} does not have the hash of its row`)
    else if (!promised.finalized.has(finalized.sha256!)) promised.finalized.add(finalized.sha256!) // finished, unanswered
  }
  return faults
}
