/**
 * Finalize: a staged upload becomes an immutable object at its sha256 path, without its bytes passing through again.
 *
 *   find what is staged → its digest, bound to its ETag → the profile's checks → claim the hash → create-only copy bound
 *   to that ETag → confirm → manifest object → all rows in one transaction → manifest object compared → delete staging
 *   → answer
 *
 * Nothing durable is written before every check has passed. Every step can be repeated: a finalize that was cut off, or
 * whose answer was lost, is simply called again. Of several at once one writes the rows; the others give its answer.
 * Where the staged object has vanished in between, the row says why: finalized by another (its answer), or aborted.
 */
import { isPenstockError, PenstockError } from '../errors.ts'
import { assertMayIngestKind } from '../identity/permissions.ts'
import type { Principal } from '../identity/principal.ts'
import { manifestKey, parseCanonicalKey, parseStagingKey, type CanonicalName } from '../objects/keys.ts'
import type { ObjectInfo } from '../objects/port.ts'
import type { StoreAbilities } from '../objects/probe.ts'
import type { ModelRecord } from '../records/jobs-port.ts'
import type { ExtensionRecord, FinalizeInput, UploadRecord, VersionRecord } from '../records/port.ts'
import { checkBundle, type CheckedBundle } from './bundle/check.ts'
import { settleManifest, storeManifest } from './bundle/manifest-object.ts'
import type { SignatureInput } from './bundle/signature.ts'
import type { IngestContext, Log } from './context.ts'
import { digestObject } from './digest-object.ts'
import { checkModelUpload, firstModelWithContent, newModel, versionExists, type CheckedModel } from './model/check.ts'
import { failureOfFinalize } from './observer.ts'
import { mayReach, ownerOf } from './ownership.ts'
import { profileNamed, type Profile } from './profiles.ts'
import { ask, collected, publishStaged, type PublishedObject } from './publish.ts'

export interface FinalizeRequest {
  key: string
  /** bytes */
  size?: number
  /** hex sha256 */
  declaredHash?: string
  manifestJson?: string
  signature?: SignatureInput
}

/** The answer, as the contract has it; kept with the upload for repeats. */
export interface FinalizedObject {
  contentHash: string
  canonicalKey: string
  size: number
  contentType: string
  deduplicated: boolean
  extension?: { id: string, name: string, publisher?: string }
  version?: { id: string, version: string }
  model?: { name: string, version: string }
  manifestKey?: string
  signature?: unknown
}

export interface Caller { principal: Principal, log: Log }

/** @throws PenstockError of the flat codes of `/finalize` */
export async function finalizeUpload(context: IngestContext, request: FinalizeRequest, caller: Caller): Promise<FinalizedObject> {
  const name = (parseStagingKey(request.key) ?? parseCanonicalKey(request.key))?.name
  const kind = name === undefined || name === 'manifest.json' ? 'unknown' : profileNamed(context.profiles, name).kind
  try {
    const object = await finalize(context, request, caller)
    context.observer?.finalizeEnded({ kind, result: object.deduplicated ? 'deduplicated' : 'created' })
    return object
  } catch (error) {
    context.observer?.finalizeEnded({ kind, result: failureOfFinalize(error) })
    throw error
  }
}

async function finalize(context: IngestContext, request: FinalizeRequest, caller: Caller): Promise<FinalizedObject> {
  const staging = parseStagingKey(request.key)
  if (staging === undefined) return await repeatOfCanonical(context, request, caller)
  const profile = profileNamed(context.profiles, staging.name)
  assertMayIngestKind(caller.principal, profile.kind, context.config)
  const abilities = await ask('S3_HEAD_FAILED', () => context.readiness.ensure())
  try {
    return await finalizeStaged(context, request, caller, { ...staging, profile, abilities })
  } catch (error) {
    if (!isPenstockError(error, 'STAGING_NOT_FOUND')) throw error
    // gone from under us: another finalize of this upload may have finished it
    const upload = await context.records.uploads.get(staging.uploadId)
    if (upload?.status !== 'finalized' || !mayReach(caller.principal, upload)) throw error
    return repeat(request, upload)
  }
}

interface Staging { uploadId: string, name: CanonicalName, profile: Profile, abilities: StoreAbilities }
interface StagedBytes { info: ObjectInfo, sha256: string }

async function finalizeStaged(context: IngestContext, request: FinalizeRequest, caller: Caller, staging: Staging): Promise<FinalizedObject> {
  const upload = await context.records.uploads.get(staging.uploadId)
  if (upload && !mayReach(caller.principal, upload)) throw new PenstockError('STAGING_NOT_FOUND')
  if (upload?.status === 'finalized') return repeat(request, upload)
  if (upload && upload.status !== 'staged') throw new PenstockError('STAGING_NOT_FOUND')
  const info = await ask('S3_HEAD_FAILED', () => context.store.head(request.key))
  if (info === undefined || (upload === undefined && caller.principal.kind !== 'admin')) throw new PenstockError('STAGING_NOT_FOUND')
  checkSize(request, info, staging.profile)
  const bytes = { info, sha256: await digestOf(context, info, upload, staging.profile) }
  if (request.declaredHash !== undefined && request.declaredHash !== bytes.sha256) {
    throw new PenstockError('HASH_MISMATCH', { details: { declared: request.declaredHash, computed: bytes.sha256 } })
  }
  if (upload === undefined) await adopt(context, caller, staging, bytes)
  const { kind } = staging.profile
  return await publish(context, caller, staging, bytes, {
    bundle: kind === 'bundle' ? await checkBundle(context, request, bytes) : undefined,
    model: kind === 'model' ? await checkModelUpload(context, request, bytes) : undefined
  })
}

/** What the profile's checks have found; neither for a plain object. */
interface Checked { bundle: CheckedBundle | undefined, model: CheckedModel | undefined }

function manifestOf({ bundle, model }: Checked): unknown {
  return bundle?.manifest ?? model?.manifest
}

function checkSize(request: FinalizeRequest, info: ObjectInfo, profile: Profile): void {
  if (info.size > profile.maxBytes) {
    throw new PenstockError('BAD_REQUEST', { message: `the stored size is over the limit of ${profile.maxBytes} bytes`, details: { limit_bytes: profile.maxBytes, size: info.size } })
  }
  if (request.size !== undefined && request.size !== info.size) {
    throw new PenstockError('SIZE_MISMATCH', { details: { expected: request.size, actual: info.size } })
  }
}

/** What ingest streamed under this very ETag; only bytes that it did not see (or FINALIZE_REHASH=always) are read. */
async function digestOf(context: IngestContext, info: ObjectInfo, upload: UploadRecord | undefined, profile: Profile): Promise<string> {
  if (upload?.etag && upload.etag !== info.etag) throw new PenstockError('STAGING_CHANGED')
  if (upload?.sha256 && context.config.FINALIZE_REHASH !== 'always') return upload.sha256
  const computed = await ask('S3_GET_FAILED', () => digestObject(context.store, info, profile.maxBytes))
  if (upload?.sha256 && upload.sha256 !== computed) throw new PenstockError('STAGING_CHANGED')
  return computed
}

/** Bytes that came into the bucket past this service get their row now. Lost races show in the transaction at the end. */
async function adopt(context: IngestContext, caller: Caller, staging: Staging, { info, sha256 }: StagedBytes): Promise<void> {
  await context.records.uploads.adopt({
    id: staging.uploadId, kind: staging.profile.kind, stagingKey: info.key, filename: staging.name,
    size: info.size, declaredSha256: null, owner: ownerOf(caller.principal)
  }, { sha256, etag: info.etag, size: info.size })
}

async function publish(context: IngestContext, caller: Caller, staging: Staging, bytes: StagedBytes, checked: Checked): Promise<FinalizedObject> {
  const { info, sha256 } = bytes
  const { profile, abilities } = staging
  const published = await publishStaged(context, abilities, { ...info, sha256 }, { name: staging.name, contentType: profile.contentType })
  if (published === undefined) throw collected('the hash is being collected')
  const manifest = manifestOf(checked)
  const stored = manifest === undefined ? undefined : await ask('MANIFEST_STORE_FAILED', () => storeManifest(context.store, abilities, sha256, manifest))
  return await record(context, caller, staging, { bytes, ...published, ...checked, manifestCreated: stored?.created ?? false })
}

interface Published extends Checked, PublishedObject { bytes: StagedBytes, manifestCreated: boolean }

async function record(context: IngestContext, caller: Caller, staging: Staging, published: Published): Promise<FinalizedObject> {
  const { bytes: { info, sha256 }, key, claim, bundle, model } = published
  const input: FinalizeInput = {
    uploadId: staging.uploadId, sha256, canonicalKey: key, size: info.size, contentType: staging.profile.contentType, claim,
    result: rows => answer(staging, published, rows)
  }
  if (bundle) {
    const { name, publisher, version } = bundle.manifest
    input.version = { name, publisher: publisher ?? null, version, contentHash: sha256, canonicalKey: key, manifest: bundle.manifest, signature: bundle.signature }
  }
  if (model) input.model = newModel(model, { sha256, key, size: info.size })
  const outcome = await context.records.uploads.finalize(input)
  if (outcome.outcome === 'gone') throw new PenstockError('STAGING_NOT_FOUND')
  if (outcome.outcome === 'reclaim') throw collected('the hash was collected since it was claimed')
  if (outcome.outcome === 'version_conflict') {
    throw new PenstockError('EXTENSION_VERSION_ALREADY_EXISTS', { details: { content_hash: outcome.contentHash } })
  }
  if (outcome.outcome === 'model_conflict') throw versionExists(outcome.sha256)
  if (outcome.outcome === 'finalized') {
    if (bundle || model) await settle(context, published, caller.log)
    await deleteStaging(context, info.key, caller.log)
  }
  return outcome.result as FinalizedObject
}

function answer(staging: Staging, { bytes, key, created, bundle, model: checkedModel }: Published, rows: { extension?: ExtensionRecord, version?: VersionRecord, model?: ModelRecord }): FinalizedObject {
  const { extension, version, model } = rows
  return {
    contentHash: bytes.sha256, canonicalKey: key, size: bytes.info.size, contentType: staging.profile.contentType, deduplicated: !created,
    ...(extension && { extension: { id: extension.id, name: extension.name, ...(extension.publisher === null ? {} : { publisher: extension.publisher }) } }),
    ...(version && { version: { id: version.id, version: version.version } }),
    ...(model && { model: { name: model.name, version: model.version } }),
    ...((bundle ?? checkedModel) && { manifestKey: manifestKey(bytes.sha256) }),
    ...(bundle && { signature: bundle.signature })
  }
}

/** The record, which says what the manifest is, is written: an object that says otherwise is put right by the next version with these bytes. */
async function settle({ store, records }: IngestContext, published: Published, log: Log): Promise<void> {
  const { bytes: { sha256 }, manifestCreated } = published
  try {
    const first = published.bundle ? await records.extensions.firstWithContent(sha256) : await firstModelWithContent(records.models, sha256)
    await settleManifest(store, first, sha256, manifestCreated ? manifestOf(published) : undefined)
  } catch (error) {
    log.warn({ action: 'ingest.finalize.manifest_left', key: manifestKey(sha256), err: error })
  }
}

/** The object is safe and recorded: what is left in staging is only rubbish, and the sweeper comes by. */
async function deleteStaging(context: IngestContext, key: string, log: Log): Promise<void> {
  try {
    await context.store.delete(key)
  } catch (error) {
    log.warn({ action: 'ingest.finalize.staging_left', key, err: error })
  }
}

function repeat(request: FinalizeRequest, upload: UploadRecord): FinalizedObject {
  const result = upload.result as FinalizedObject
  if (request.size !== undefined && request.size !== result.size) {
    throw new PenstockError('SIZE_MISMATCH', { details: { expected: request.size, actual: result.size } })
  }
  if (request.declaredHash !== undefined && request.declaredHash !== result.contentHash) {
    throw new PenstockError('HASH_MISMATCH', { details: { declared: request.declaredHash, computed: result.contentHash } })
  }
  return result
}

/** A canonical key is no way in: it answers only to who finalized an upload to it. */
async function repeatOfCanonical(context: IngestContext, request: FinalizeRequest, { principal }: Caller): Promise<FinalizedObject> {
  const canonical = parseCanonicalKey(request.key)
  if (canonical === undefined || canonical.name === 'manifest.json') {
    throw new PenstockError('BAD_REQUEST', { message: 'key must be a staging key as /upload-proxy gave it', details: { fields: [{ field: 'key', message: 'is no staging key' }] } })
  }
  const upload = await context.records.uploads.findFinalized(request.key, principal.kind === 'admin' ? undefined : ownerOf(principal))
  if (upload === undefined) throw new PenstockError('STAGING_NOT_FOUND')
  return repeat(request, upload)
}
