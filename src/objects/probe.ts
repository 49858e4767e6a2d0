/**
 * Finds out what a store really enforces, because a server can accept a condition and ignore it.
 *
 * For each create-only way, PROBE_WRITERS writers race for one key, in PROBE_ROUNDS rounds: it counts only where in every
 * round exactly one of them wins and all others are told that the key is taken. The ways are tried in the order in which
 * create-only.ts prefers them, and the first that holds is the one. A store that breaks on the way (no answer, 5xx) is an
 * error and not an answer: a bad moment at start must not decide how objects are written from then on.
 */
import { PROBE_ROUNDS, PROBE_WRITERS } from '../limits.ts'
import { probePrefix } from './keys.ts'
import { ObjectAlreadyExists, ObjectPreconditionFailed, ObjectStoreFailed, type ETag, type ObjectStore } from './port.ts'
import { withIntent, type MultipartIntents } from './with-intent.ts'

/** How an object is copied to a key that must be free. */
export type CreateOnlyCopy = 'copy' | 'multipart' | 'head-then-copy'

export interface StoreAbilities {
  /** put({ createOnly }) has exactly one winner. */
  readonly createOnlyPut: boolean
  /** copy({ sourceETag }) and copyPart({ sourceETag }) refuse a source with another ETag. */
  readonly sourceCondition: boolean
  /** The atomic way that works; `head-then-copy` is the one that is not atomic. */
  readonly createOnlyCopy: CreateOnlyCopy
}

interface Probe {
  store: ObjectStore
  intents: MultipartIntents
  signal: AbortSignal | undefined
  prefix: string
  source: string
  etag: ETag
}

const BYTES = Buffer.from('penstock capability probe')
const WRONG_ETAG = '0'.repeat(32)

/**
 * Writes below `_probe/<uuid>/` and removes all of it again, also on failure. What a process that dies here leaves, the
 * sweeper finds: objects by their prefix, multipart uploads by their intents.
 * @throws ObjectStoreFailed, and what the intents throw
 */
export async function probeStore(store: ObjectStore, intents: MultipartIntents, signal?: AbortSignal): Promise<StoreAbilities> {
  const prefix = probePrefix()
  const source = `${prefix}source`
  try {
    const { etag } = await store.put(source, BYTES, { size: BYTES.length, ...(signal && { signal }) })
    const probe: Probe = { store, intents, signal, prefix, source, etag }
    return {
      createOnlyPut: await enforces(probe, 'put', racePut),
      sourceCondition: await refusesWrongSource(probe),
      createOnlyCopy: await createOnlyCopy(probe)
    }
  } finally {
    await cleanUp(store, prefix)
  }
}

async function createOnlyCopy(probe: Probe): Promise<CreateOnlyCopy> {
  if (await enforces(probe, 'copy', raceCopy)) return 'copy'
  if (await enforces(probe, 'multipart', raceMultipart)) return 'multipart'
  return 'head-then-copy'
}

/** Writes the key create-only. */
type Racer = (probe: Probe, key: string) => Promise<unknown>

const racePut: Racer = ({ store, signal }, key) => store.put(key, BYTES, { size: BYTES.length, createOnly: true, ...(signal && { signal }) })

const raceCopy: Racer = ({ store, signal, source }, key) => store.copy(source, key, { createOnly: true, ...(signal && { signal }) })

const raceMultipart: Racer = ({ store, intents, signal, source, etag }, key) => withIntent(store, intents, key, signal ? { signal } : {}, async upload => {
  const part = await store.copyPart(upload, 1, source, { sourceETag: etag, ...(signal && { signal }) })
  await store.completeMultipart(upload, [part], { createOnly: true, ...(signal && { signal }) })
})

async function enforces(probe: Probe, name: string, race: Racer): Promise<boolean> {
  for (let round = 1; round <= PROBE_ROUNDS; round++) {
    const key = `${probe.prefix}${name}-${round}`
    const results = await Promise.allSettled(Array.from({ length: PROBE_WRITERS }, () => race(probe, key)))
    const failures = results.filter(result => result.status === 'rejected').map(result => result.reason as unknown)
    const other = failures.filter(failure => !(failure instanceof ObjectAlreadyExists))
    const broken = other.find(failure => !isRefusal(failure))
    if (broken !== undefined) throw broken
    if (other.length > 0 || failures.length !== PROBE_WRITERS - 1) return false
  }
  return true
}

async function refusesWrongSource(probe: Probe): Promise<boolean> {
  const { store, intents, signal, source } = probe
  const options = { sourceETag: WRONG_ETAG, ...(signal && { signal }) }
  if (!await isRefused(() => store.copy(source, `${probe.prefix}wrong-source`, options))) return false
  return await isRefused(() => withIntent(store, intents, `${probe.prefix}wrong-source-part`, signal ? { signal } : {}, async upload => {
    await store.copyPart(upload, 1, source, options)
    await store.abortMultipart(upload)
  }))
}

async function isRefused(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run()
    return false
  } catch (error) {
    if (error instanceof ObjectPreconditionFailed) return true
    if (isRefusal(error)) return false
    throw error
  }
}

/** Did the store answer that it does not do this (4xx, 501), rather than break? */
function isRefusal(error: unknown): boolean {
  const cause = error instanceof ObjectStoreFailed ? error.cause as { status?: unknown } | undefined : undefined
  const status = typeof cause?.status === 'number' ? cause.status : undefined
  return status !== undefined && (status < 500 || status === 501)
}

/** Not bound to the caller's signal: what was written must go. Its own failures leave less than a KiB below `_probe/`. */
async function cleanUp(store: ObjectStore, prefix: string): Promise<void> {
  try {
    for await (const { key } of store.list(prefix)) await store.delete(key)
  } catch {
    // the probe's own result, or its failure, is what the caller is to see
  }
}
