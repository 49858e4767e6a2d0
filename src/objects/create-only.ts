/**
 * Copies and small writes that must not replace anything, done by what the store was found to enforce (probe.ts):
 *
 *   copy            one conditional CopyObject
 *   multipart       UploadPartCopy of the whole source, completed with the condition; nothing is visible before
 *   head-then-copy  HEAD, then copy. Not atomic: two at once may both copy. Keys are hashes of the bytes, so the second
 *                   copy writes what is there already.
 *
 * A condition that the store does not enforce is not sent: some servers answer it with 501. Where the ETag of the source is
 * such a condition, the source is looked at before and after.
 *
 * Sources over the limit of one request always go by multipart. Its intent is recorded before the upload is created, so
 * that an upload of a process that died is found by its exact key.
 */
import { SINGLE_PUT_MAX_BYTES, STORE_ATTEMPTS_MAX } from '../limits.ts'
import { copyRanges, pick } from './copy-parts.ts'
import { MultipartNotFound, ObjectAlreadyExists, ObjectNotFound, ObjectPreconditionFailed, type ETag, type ObjectStore, type PutOptions } from './port.ts'
import type { StoreAbilities } from './probe.ts'
import { withIntent, type MultipartIntents } from './with-intent.ts'

export interface CopyOnce {
  source: string
  target: string
  /** The copy is bound to it. */
  sourceETag: ETag
  /** bytes of the source */
  size: number
  contentType?: string
  signal?: AbortSignal
  intents: MultipartIntents
  /** Most bytes of one request; default SINGLE_PUT_MAX_BYTES. */
  partBytes?: number
}

/**
 * Copies to a key that must be free. `created` is false where something is there already, whatever its size.
 * @throws ObjectNotFound of the source, ObjectPreconditionFailed where it has another ETag, ObjectStoreFailed
 */
export async function copyOnce(store: ObjectStore, abilities: StoreAbilities, copy: CopyOnce): Promise<{ created: boolean }> {
  if (abilities.sourceCondition) return { created: await create(() => strategyOf(abilities, copy)(store, copy)) }
  await checkSource(store, copy)
  const { sourceETag: _, ...unbound } = copy
  const created = await create(() => strategyOf(abilities, copy)(store, unbound))
  if (created) await confirmCopy(store, copy)
  return { created }
}

/** Stores a small object at a key that must be free. `created` is false where something is there already. */
export async function putOnce(store: ObjectStore, abilities: StoreAbilities, key: string, bytes: Uint8Array, options: Omit<PutOptions, 'size' | 'createOnly'> = {}): Promise<{ created: boolean }> {
  if (!abilities.createOnlyPut && await store.head(key, options.signal) !== undefined) return { created: false }
  return { created: await create(() => store.put(key, bytes, { ...options, size: bytes.length, createOnly: abilities.createOnlyPut })) }
}

type Copy = Omit<CopyOnce, 'sourceETag'> & { sourceETag?: ETag }
type Strategy = (store: ObjectStore, copy: Copy) => Promise<unknown>

function strategyOf({ createOnlyCopy }: StoreAbilities, { size, partBytes = SINGLE_PUT_MAX_BYTES }: CopyOnce): Strategy {
  if (createOnlyCopy === 'head-then-copy') return headThen(size > partBytes ? uploadOf({}) : copyOf({}))
  return createOnlyCopy === 'multipart' || size > partBytes ? uploadOf({ createOnly: true }) : copyOf({ createOnly: true })
}

interface Condition { createOnly?: true }

function copyOf(condition: Condition): Strategy {
  return (store, { source, target, ...copy }) => store.copy(source, target, { ...pick(copy, 'sourceETag', 'contentType', 'signal'), ...condition })
}

function headThen(strategy: Strategy): Strategy {
  return async (store, copy) => {
    if (await store.head(copy.target, copy.signal) !== undefined) throw new ObjectAlreadyExists('the key is taken')
    await strategy(store, copy)
  }
}

/** An upload can vanish under a complete (its answer was lost, or a server dropped it over a conflict): look, and begin again. */
function uploadOf(condition: Condition): Strategy {
  return async (store, copy) => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await copyAsUpload(store, copy, condition)
      } catch (error) {
        if (!(error instanceof MultipartNotFound) || attempt === STORE_ATTEMPTS_MAX) throw error
        if (await store.head(copy.target, copy.signal) !== undefined) throw new ObjectAlreadyExists('the key is taken', { cause: error })
      }
    }
  }
}

async function copyAsUpload(store: ObjectStore, { intents, ...copy }: Copy, condition: Condition): Promise<void> {
  await withIntent(store, intents, copy.target, copy, async upload => {
    const parts = await copyRanges(store, upload, copy)
    await store.completeMultipart(upload, parts, { ...pick(copy, 'signal'), ...condition })
  })
}

async function create(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run()
    return true
  } catch (error) {
    if (error instanceof ObjectAlreadyExists) return false
    throw error
  }
}

async function checkSource(store: ObjectStore, { source, sourceETag, signal }: CopyOnce): Promise<void> {
  const info = await store.head(source, signal)
  if (info === undefined) throw new ObjectNotFound('there is no such source')
  if (info.etag !== sourceETag) throw new ObjectPreconditionFailed('the source has another ETag')
}

/** The source changed while it was copied: then the target may hold anything, and goes, unless its ETag says otherwise. */
async function confirmCopy(store: ObjectStore, copy: CopyOnce): Promise<void> {
  try {
    await checkSource(store, copy)
  } catch (error) {
    // a source that is gone says nothing: another finalize may have recorded the target and removed it
    const changed = error instanceof ObjectPreconditionFailed && (await store.head(copy.target))?.etag !== copy.sourceETag
    if (changed) await store.delete(copy.target)
    throw error
  }
}
