/**
 * Abort: the row is ended first, so that neither the upload nor a finalize can win any more, then the bytes go. An upload
 * that still arrives here is cut off at once; on another node its next look at the row (a second) does it.
 */
import { PenstockError } from '../errors.ts'
import { assertMayIngestKind } from '../identity/permissions.ts'
import { parseStagingKey, STAGING_PREFIX } from '../objects/keys.ts'
import type { Caller } from './finalize.ts'
import type { IngestContext } from './context.ts'
import { mayReach } from './ownership.ts'
import { profileNamed } from './profiles.ts'

export type AbortAnswer =
  | { status: 'deleted', key: string, area: 'staging' }
  | { status: 'noop', key: string, area: 'canonical' }

const SEGMENTS = /^sha256(\/[A-Za-z0-9._-]+)+$/

/** @throws BAD_REQUEST for what is no key; S3_DELETE_FAILED */
export async function abortUpload(context: IngestContext, { key }: { key: string }, { principal }: Caller): Promise<AbortAnswer> {
  const staging = parseStagingKey(key)
  if (staging === undefined) {
    if (`${key}/`.startsWith(STAGING_PREFIX) || !SEGMENTS.test(key) || /\/\.{1,2}(\/|$)/.test(key)) {
      throw new PenstockError('BAD_REQUEST', { message: 'key is no key of this service', details: { fields: [{ field: 'key', message: 'is no key of this service' }] } })
    }
    return { status: 'noop', key, area: 'canonical' }
  }
  assertMayIngestKind(principal, profileNamed(context.profiles, staging.name).kind, context.config)
  const deleted: AbortAnswer = { status: 'deleted', key, area: 'staging' }
  const upload = await context.records.uploads.get(staging.uploadId)
  // another's upload and one that never was get the same answer; bytes without a row are for administrators
  if (upload ? !mayReach(principal, upload) : principal.kind !== 'admin') return deleted
  await context.records.uploads.end(staging.uploadId, 'aborted')
  const running = context.running.get(staging.uploadId)
  running?.abort(new PenstockError('UPLOAD_ABORTED', { why: 'upload_aborted' }))
  await running?.done
  await remove(context, key)
  return deleted
}

async function remove(context: IngestContext, key: string): Promise<void> {
  try {
    await context.store.delete(key)
  } catch (error) {
    throw new PenstockError('S3_DELETE_FAILED', { cause: error })
  }
}
