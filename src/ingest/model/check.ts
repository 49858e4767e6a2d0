/** What finalize checks of a model before anything durable is written: its manifest, that its version is free, and that a worker can load it. */
import { isPenstockError, PenstockError } from '../../errors.ts'
import { checkManifest, type ModelManifest } from '../../inference/manifest.ts'
import { InferenceFailed, type ModelSignature } from '../../inference/port.ts'
import { BUSY_RETRY_AFTER_SECONDS, MANIFEST_MAX_BYTES } from '../../limits.ts'
import type { ObjectInfo } from '../../objects/port.ts'
import type { ModelRecord, ModelRecords, NewModel } from '../../records/jobs-port.ts'
import { invalidManifest } from '../bundle/bundle-errors.ts'
import type { IngestContext } from '../context.ts'

export interface CheckedModel { manifest: ModelManifest, signature: ModelSignature }

/** @throws MANIFEST_REQUIRED, INVALID_MANIFEST, MODEL_VERSION_EXISTS, INVALID_MODEL, SERVICE_BUSY, STORAGE_FAILED */
export async function checkModelUpload(context: IngestContext, request: { manifestJson?: string }, { info, sha256 }: { info: ObjectInfo, sha256: string }): Promise<CheckedModel> {
  const manifest = parseModelManifest(request.manifestJson)
  await assertVersionFree(context.records.models, manifest, sha256)
  try {
    return { manifest, signature: await context.checkModel({ key: info.key, sha256, size: info.size, manifest }) }
  } catch (error) {
    throw loadError(error)
  }
}

/** The manifest in `text`. @throws MANIFEST_REQUIRED where there is none, INVALID_MANIFEST with details.issues */
export function parseModelManifest(text: string | undefined): ModelManifest {
  if (text === undefined || text.trim() === '') throw new PenstockError('MANIFEST_REQUIRED', { message: 'a model needs a manifest: give it as manifestJson' })
  if (Buffer.byteLength(text) > MANIFEST_MAX_BYTES) throw invalidManifest([{ path: '', message: `must be at most ${MANIFEST_MAX_BYTES} bytes` }])
  const checked = checkManifest(parseJson(text))
  if ('issues' in checked) throw invalidManifest(checked.issues)
  return checked.manifest
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text.startsWith('\uFEFF') ? text.slice(1) : text)
  } catch (error) {
    throw invalidManifest([{ path: '', message: `must be JSON: ${(error as Error).message}` }])
  }
}

/** The transaction at the end decides; this spares a worker the load. @throws MODEL_VERSION_EXISTS */
async function assertVersionFree(models: ModelRecords, { name, version }: ModelManifest, sha256: string): Promise<void> {
  const taken = await models.find(name, String(version))
  if (taken !== undefined && taken.sha256 !== sha256) throw versionExists(taken.sha256)
}

export function versionExists(sha256: string): PenstockError {
  return new PenstockError('MODEL_VERSION_EXISTS', { details: { content_hash: sha256 } })
}

function loadError(error: unknown): unknown {
  if (isPenstockError(error) || !(error instanceof InferenceFailed)) return error
  switch (error.code) {
    case 'invalid_model':
    case 'invalid_input': return new PenstockError('INVALID_MODEL', { message: `the model does not load: ${error.message}`, cause: error })
    case 'timeout': return new PenstockError('INVALID_MODEL', { message: 'the model took too long to load', cause: error })
    case 'storage_failed': return new PenstockError('S3_GET_FAILED', { cause: error })
    default: return new PenstockError('SERVICE_BUSY', { retryAfterSeconds: BUSY_RETRY_AFTER_SECONDS, cause: error })
  }
}

/** The row of a model whose object is at `key`. */
export function newModel({ manifest, signature }: CheckedModel, object: { sha256: string, key: string, size: number }): NewModel {
  return { name: manifest.name, version: String(manifest.version), task: manifest.task, ...object, manifest, signature }
}

/** The oldest model with this content, under whatever name. */
export async function firstModelWithContent(models: ModelRecords, sha256: string): Promise<ModelRecord | undefined> {
  const same = (await models.list()).filter(model => model.sha256 === sha256)
  return same.toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))[0]
}
