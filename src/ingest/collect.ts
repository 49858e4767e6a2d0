/**
 * The collector finds canonical objects that no row points at: what a finalize left that died between copy and record, or
 * lost to an abort. Whether a hash is garbage is decided in the records, in one transaction that also bars new claims on
 * it; a finalize of the same bytes at that moment is told to come again, and so is one that had claimed them before.
 * Objects younger than the grace period stay.
 *
 * The collector deletes only while its lease on the hash holds. A hash that it left, or died over, stays barred until the
 * lease is over; then the sweeper or the next collector finishes it.
 */
import { SWEEP_BATCH } from '../limits.ts'
import { CANONICAL_PREFIX, keysOfHash, parseCanonicalKey, STAGING_PREFIX } from '../objects/keys.ts'
import type { ObjectInfo, ObjectStore } from '../objects/port.ts'
import type { RecordStore } from '../records/port.ts'

export interface CollectStores { store: ObjectStore, records: RecordStore }

export interface CollectOptions extends CollectStores {
  /** Objects last written, and claims made, at or after this time stay. */
  before: Date
  /** false: only look */
  remove: boolean
  /** Ends it between two hashes: what was begun is finished first. */
  signal?: AbortSignal
}

export interface Garbage { sha256: string, keys: string[], bytes: number, removed: boolean }

/** Yields each hash that nothing points at; with `remove` it is gone by then. @throws what the stores throw */
export async function* collect(options: CollectOptions): AsyncGenerator<Garbage> {
  for await (const objects of objectsByHash(options)) {
    if (options.signal?.aborted) return
    const garbage = await collectHash(options, objects)
    if (garbage) yield garbage
  }
  if (!options.remove) return
  for (const sha256 of await options.records.objects.listCutOff(SWEEP_BATCH)) {
    if (options.signal?.aborted) return
    const garbage = await resumeCollection(options, sha256)
    if (garbage) yield garbage
  }
}

/** Finishes a collection whose collector died: where that was after its last delete, no listing of the bucket shows the hash. */
export async function resumeCollection({ store, records }: CollectStores, sha256: string): Promise<Garbage | undefined> {
  const lease = await records.objects.resumeCollect(sha256)
  if (lease === undefined) return undefined
  const found = await Promise.all(keysOfHash(sha256).map(key => store.head(key)))
  return await removeAll({ store, records }, { sha256, objects: found.filter(object => object !== undefined) }, lease)
}

/** Records that have never seen an object would make all of a full bucket garbage: they are not the bucket's. */
export async function knowsBucket({ store, records }: CollectStores): Promise<boolean> {
  if (await records.objects.anyStored()) return true
  for await (const _ of objectsByHash({ store })) return false
  return true
}

interface HashObjects { sha256: string, objects: ObjectInfo[] }

/** Keys come in order, so those of one hash come together. */
async function* objectsByHash({ store }: Pick<CollectStores, 'store'>): AsyncGenerator<HashObjects> {
  let current: HashObjects | undefined
  for await (const object of store.list(CANONICAL_PREFIX)) {
    const sha256 = object.key.startsWith(STAGING_PREFIX) ? undefined : parseCanonicalKey(object.key)?.sha256
    if (sha256 === undefined) continue // not ours to judge
    if (current?.sha256 !== sha256) {
      if (current) yield current
      current = { sha256, objects: [] }
    }
    current.objects.push(object)
  }
  if (current) yield current
}

async function collectHash({ store, records, before, remove }: CollectOptions, found: HashObjects): Promise<Garbage | undefined> {
  if (found.objects.some(object => object.lastModified >= before)) return undefined
  if (!remove) return await records.objects.isGarbage(found.sha256, before.getTime()) ? describe(found, false) : undefined
  const lease = await records.objects.beginCollect(found.sha256, before.getTime())
  return lease === undefined ? undefined : await removeAll({ store, records }, found, lease)
}

/** Undefined where the lease did not last: another may have the hash by then, and new bytes may be under it. */
async function removeAll({ store, records }: CollectStores, found: HashObjects, lease: string): Promise<Garbage | undefined> {
  for (const { key } of found.objects) {
    if (!await records.objects.holdsCollect(found.sha256, lease)) return undefined
    await store.delete(key)
  }
  return await records.objects.endCollect(found.sha256, lease) ? describe(found, true) : undefined
}

function describe({ sha256, objects }: HashObjects, removed: boolean): Garbage {
  return { sha256, keys: objects.map(object => object.key), bytes: objects.reduce((sum, object) => sum + object.size, 0), removed }
}
