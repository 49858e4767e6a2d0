/**
 * Copies what the records point at from one of Penstock's own stores to another, under the same keys, so that the service
 * can be switched from one to the other. The records are only read.
 *
 *   for each object that a row points at: there already? → passed over
 *                                         read → hashed on the way → written create-only
 *
 * The last chunk leaves only when length and hash were found right (meter.ts), so that bytes that are not those of their key
 * never become an object of the target. What is there is known from the target alone: a run that was cut off is run again as
 * it was. Objects are immutable, so it can run beside the service; what comes in meanwhile is found by the next run, and the
 * last one is made while the service is stopped.
 *
 * Multipart uploads are noted nowhere: a record would be for the sweeper of the service, which looks into the other store.
 * What a killed run has left of one is aborted when the next comes to its key.
 */
import { pipeline } from 'node:stream/promises'
import { digestObject } from '../../src/ingest/digest-object.ts'
import { Meter } from '../../src/ingest/meter.ts'
import { SWEEP_BATCH } from '../../src/limits.ts'
import { manifestKey, parseCanonicalKey } from '../../src/objects/keys.ts'
import { putLarge } from '../../src/objects/multipart-put.ts'
import { ObjectAlreadyExists, ObjectNotFound, type ObjectInfo, type ObjectStore } from '../../src/objects/port.ts'
import type { StoreAbilities } from '../../src/objects/probe.ts'
import type { MultipartIntents } from '../../src/objects/with-intent.ts'
import type { RecordStore, StoredObject } from '../../src/records/port.ts'
import { isOwn, reasonOf } from './reasons.ts'
import type { Outcome } from './work.ts'

export interface Pair { source: ObjectStore, target: ObjectStore }

export interface CopyOptions {
  /** of the target; undefined in a dry run, which writes nothing */
  abilities: StoreAbilities | undefined
  /** read back what was written, and what was there */
  verify: boolean
  /** Called with bytes as they pass. */
  onBytes(count: number): void
}

/** `sha256`: of its bytes; undefined for a manifest, whose key does not say it. `size`: undefined likewise. */
export interface ObjectToCopy { key: string, contentType: string, sha256?: string, size?: number }

/** Every object that a row points at, and the manifests beside bundles and models. */
export async function* referencedObjects(records: RecordStore, signal: AbortSignal): AsyncGenerator<ObjectToCopy> {
  for (let after: string | undefined; !signal.aborted;) {
    const page = await records.objects.listReferenced(SWEEP_BATCH, after)
    for (const object of page) yield* withManifest(object)
    after = page.at(-1)?.key
    if (page.length < SWEEP_BATCH) return
  }
}

/** With the types that ingest gives them: that of a file is in its row. */
function* withManifest({ key, sha256, size }: StoredObject): Generator<ObjectToCopy> {
  const name = parseCanonicalKey(key)?.name
  yield { key, sha256, size, contentType: name === 'bundle.tar.zst' ? 'application/zstd' : 'application/octet-stream' }
  if (name !== 'object') yield { key: manifestKey(sha256), contentType: 'application/json' }
}

/** Never rejects. */
export async function copyObject(pair: Pair, object: ObjectToCopy, options: CopyOptions, signal: AbortSignal): Promise<Outcome> {
  const { key: name } = object
  try {
    const there = await pair.target.head(object.key, signal)
    if (there !== undefined) return await passOver(pair, object, there, options, signal)
    const info = await pair.source.head(object.key, signal)
    if (info === undefined) return missing(object)
    if (object.size !== undefined && info.size !== object.size) throw new Error(`has ${info.size} bytes in the source, and ${object.size} in the records`)
    if (options.abilities === undefined) return { name, outcome: 'planned', size: info.size }
    return await copy(pair, object, info, { ...options, abilities: options.abilities }, signal)
  } catch (error) {
    return { name, outcome: 'failed', reason: signal.aborted ? 'was cut off' : reasonOf(error), own: isOwn(error) && !(error instanceof ObjectNotFound) }
  }
}

/** A model or bundle of before there were manifests has none in either store. */
function missing({ key: name, sha256 }: ObjectToCopy): Outcome {
  return sha256 === undefined ? { name, outcome: 'skipped', reason: 'has no manifest' } : { name, outcome: 'failed', reason: 'is not in the source, and a record points at it' }
}

async function passOver({ source, target }: Pair, object: ObjectToCopy, there: ObjectInfo, { verify, abilities }: CopyOptions, signal: AbortSignal): Promise<Outcome> {
  const { key: name } = object
  const size = object.size ?? (await source.head(object.key, signal))?.size
  if (size !== undefined && there.size !== size) throw new Error(`is in the target with ${there.size} bytes, not ${size}: that is another's object, and stays`)
  if (!verify || abilities === undefined) return { name, outcome: 'skipped', reason: 'is there already' }
  await verifyCopy({ source, target }, object, there)
  return { name, outcome: 'skipped', reason: 'is there already, verified' }
}

async function copy(pair: Pair, object: ObjectToCopy, info: ObjectInfo, options: CopyOptions & { abilities: StoreAbilities }, signal: AbortSignal): Promise<Outcome> {
  const { key: name } = object
  try {
    await stream(pair, object, info, options, signal)
  } catch (error) {
    if (error instanceof ObjectAlreadyExists) return { name, outcome: 'skipped', reason: 'is there already' }
    throw error
  }
  const written = await pair.target.head(object.key, signal)
  if (written?.size !== info.size) throw new Error('is not in the target as it was written')
  if (options.verify) await verifyCopy(pair, object, written)
  return { name, outcome: 'done', size: info.size, ...(object.sha256 !== undefined && { facts: { sha256: object.sha256 } }) }
}

async function stream({ source, target }: Pair, { key, sha256, contentType }: ObjectToCopy, info: ObjectInfo, { abilities, onBytes }: CopyOptions & { abilities: StoreAbilities }, caller: AbortSignal): Promise<void> {
  const stop = new AbortController()
  const signal = AbortSignal.any([caller, stop.signal])
  const { body } = await source.open(key, { ifMatch: info.etag, signal })
  let counted = 0
  const meter: Meter = new Meter({ size: info.size, declaredSha256: sha256, onChunk: () => {
    onBytes(meter.received - counted)
    counted = meter.received
  } })
  const given = { size: info.size, contentType, createOnly: abilities.createOnlyPut, signal }
  const writing = info.size <= target.putMaxBytes ? target.put(key, meter, given) : abortLeftovers(target, key).then(() => putLarge(target, unnoted, key, meter, given))
  const reading = pipeline(body, meter, { signal })
  // either of them ends the other, and both have ended when this has
  for (const work of [reading, writing]) work.catch(() => stop.abort())
  const [read, written] = await Promise.allSettled([reading, writing])
  meter.destroy()
  if (caller.aborted) throw caller.reason
  // what is wrong with the bytes is why writing them failed, but where the writing failed first
  if (written.status === 'rejected') throw read.status === 'rejected' && !isAbort(read.reason) ? read.reason : written.reason
  if (read.status === 'rejected') throw read.reason
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || (error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE')
}

/** @throws Error where the bytes are not those of the key, or, of a manifest, not those of the source */
async function verifyCopy({ source, target }: Pair, { key, sha256 }: ObjectToCopy, written: ObjectInfo): Promise<void> {
  const digest = await digestObject(target, written, written.size)
  if (digest !== (sha256 ?? await sourceDigest(source, key))) throw new Error(`is in the target with the sha256 ${digest}`)
}

async function sourceDigest(source: ObjectStore, key: string): Promise<string | undefined> {
  const info = await source.head(key)
  return info && await digestObject(source, info, info.size)
}

async function abortLeftovers(target: ObjectStore, key: string): Promise<void> {
  for (const { uploadId } of await target.listMultiparts(key)) await target.abortMultipart({ key, uploadId })
}

/** Nobody but the next run looks for what this one leaves. */
export const unnoted: MultipartIntents = {
  async record() { return { id: '' } },
  async setUploadId() {},
  async touch() {},
  async remove() {}
}
