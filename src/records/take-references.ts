/**
 * New references to objects. One is given under the lock of the hash, either with the claim of whoever copied the bytes
 * there, or because another row points there already: then no collector can have begun, and none can begin before this is
 * committed. Taking a reference away needs no lock.
 */
import { lockHashes } from './locks.ts'
import { holdsClaim, setStored } from './objects.ts'
import { isReferenced } from './references.ts'
import type { Records, RecordsTransaction } from './schema.ts'

/** `claim`: what objects.claim() gave; null: another row must point at the hash. */
export interface Reference { sha256: string, key: string, size: number, contentType: string, claim: string | null }

/**
 * Locks the hashes, and completes the claims. False: one of them cannot be pointed at any more; undo the transaction then.
 * Call it before the rows are written, or they would vouch for themselves.
 */
export async function takeReferences(records: Records, trx: RecordsTransaction, references: readonly Reference[]): Promise<boolean> {
  await lockHashes(records, trx, references.map(({ sha256 }) => sha256))
  for (const same of Map.groupBy(references, ({ sha256 }) => sha256).values()) {
    if (!await takeReference(records, trx, same)) return false
  }
  return true
}

/** Of one hash: a claim that holds is as good as a row for those without one. */
async function takeReference(records: Records, trx: RecordsTransaction, same: readonly Reference[]): Promise<boolean> {
  let claimed = false
  for (const { claim, key: canonicalKey, ...object } of same) {
    if (claim === null) continue
    if (!await holdsClaim(records, trx, { ...object, canonicalKey, claim })) return false
    await setStored(trx, { ...object, canonicalKey })
    claimed = true
  }
  return claimed || isReferenced(trx, same[0]!.sha256)
}
