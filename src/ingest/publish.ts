/**
 * From staging to a hash's own path: claim the hash, copy create-only, bound to the ETag of what was staged, and see that it
 * is there. Whoever did this may give the object a reference with the claim; without one the collector comes for it.
 */
import { isPenstockError, PenstockError, type ErrorName } from '../errors.ts'
import { copyOnce } from '../objects/create-only.ts'
import { canonicalKey, type CanonicalName } from '../objects/keys.ts'
import { ObjectNotFound, ObjectPreconditionFailed } from '../objects/port.ts'
import type { StoreAbilities } from '../objects/probe.ts'
import { RecordStoreFailed } from '../records/port.ts'
import type { IngestContext } from './context.ts'

/** An object in staging that is whole. */
export interface Staged { key: string, etag: string, size: number, sha256: string }
/** Where it goes. */
export interface Canonical { name: CanonicalName, contentType: string }
/** `created`: false where the same bytes were there already. */
export interface PublishedObject { key: string, claim: string, created: boolean }

type Stores = Pick<IngestContext, 'store' | 'records'>

/**
 * Can be repeated. Undefined while the hash is being collected: try again in a moment.
 * @throws PenstockError COPY_FAILED, CANONICAL_MISSING, OBJECT_EXISTS, STAGING_NOT_FOUND, STAGING_CHANGED; RecordStoreFailed
 */
export async function publishStaged({ store, records }: Stores, abilities: StoreAbilities, staged: Staged, { name, contentType }: Canonical, signal?: AbortSignal): Promise<PublishedObject | undefined> {
  const { sha256, size } = staged
  const key = canonicalKey(sha256, name)
  const claim = await records.objects.claim({ sha256, key, size, contentType })
  if (claim === undefined) return undefined
  const { created } = await ask('COPY_FAILED', () => copyOnce(store, abilities, {
    source: staged.key, target: key, sourceETag: staged.etag, size, contentType, intents: records.multiparts, ...(signal && { signal })
  }))
  await confirmStored(store, key, size)
  return { key, claim, created }
}

/** @throws CANONICAL_MISSING where it is not there, OBJECT_EXISTS where it has another size */
export async function confirmStored(store: Stores['store'], key: string, size: number): Promise<void> {
  const stored = await ask('CANONICAL_MISSING', () => store.head(key))
  if (stored === undefined) throw new PenstockError('CANONICAL_MISSING')
  if (stored.size !== size) throw new PenstockError('OBJECT_EXISTS', { details: { key } })
}

/** The collector has or had this hash: whoever comes again in a moment claims and copies anew. */
export function collected(reason: string): PenstockError {
  return new PenstockError('SERVICE_BUSY', { retryAfterSeconds: 1, cause: new Error(reason) })
}

/** Asks the store; what it says becomes the code of this step. */
export async function ask<T>(code: ErrorName, question: () => Promise<T>): Promise<T> {
  try {
    return await question()
  } catch (error) {
    if (isPenstockError(error)) throw error
    if (error instanceof ObjectNotFound) throw new PenstockError('STAGING_NOT_FOUND', { cause: error })
    if (error instanceof ObjectPreconditionFailed) throw new PenstockError('STAGING_CHANGED', { cause: error })
    if (error instanceof RecordStoreFailed) throw error
    throw new PenstockError(code, { cause: error })
  }
}
