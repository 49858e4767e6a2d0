/** What finalize checks of a bundle before anything durable is written: manifest, signature, and that its version is free. */
import { isPenstockError, PenstockError } from '../../errors.ts'
import { ObjectNotFound, ObjectPreconditionFailed, type ObjectInfo } from '../../objects/port.ts'
import type { IngestContext } from '../context.ts'
import { readManifestFromBundle } from './manifest-in-bundle.ts'
import { parseManifest, type Manifest } from './manifest-rules.ts'
import { checkSignature, type SignatureInput, type SignatureResult } from './signature.ts'

export interface CheckedBundle { manifest: Manifest, signature: SignatureResult }

export interface BundleRequest { manifestJson?: string, signature?: SignatureInput }

/** @throws MANIFEST_REQUIRED, INVALID_MANIFEST, SIGNATURE_*, EXTENSION_VERSION_ALREADY_EXISTS, S3_GET_FAILED, STAGING_CHANGED */
export async function checkBundle(context: IngestContext, request: BundleRequest, { info, sha256 }: { info: ObjectInfo, sha256: string }): Promise<CheckedBundle> {
  const given = request.manifestJson?.trim() ? request.manifestJson : undefined
  const manifest = parseManifest(given ?? await context.manifestReaders(() => manifestInside(context, info)))
  const signature = checkSignature(context.trust, sha256, request.signature)
  const taken = await context.records.extensions.findVersion({ publisher: manifest.publisher ?? null, name: manifest.name, version: manifest.version })
  if (taken && taken.contentHash !== sha256) {
    throw new PenstockError('EXTENSION_VERSION_ALREADY_EXISTS', { details: { content_hash: taken.contentHash } })
  }
  return { manifest, signature }
}

async function manifestInside(context: IngestContext, info: ObjectInfo): Promise<string> {
  try {
    const { body } = await context.store.open(info.key, { ifMatch: info.etag })
    return await readManifestFromBundle(body)
  } catch (error) {
    if (isPenstockError(error)) throw error
    if (error instanceof ObjectPreconditionFailed) throw new PenstockError('STAGING_CHANGED', { cause: error })
    if (error instanceof ObjectNotFound) throw new PenstockError('STAGING_NOT_FOUND', { cause: error })
    throw new PenstockError('S3_GET_FAILED', { cause: error })
  }
}
