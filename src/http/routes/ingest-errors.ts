/** What the ingest routes answer with, beyond what follows from their guards, limits and bodies. For the documentation. */
import type { ErrorName } from '../../errors.ts'

const callerErrors = ['RBAC_FORBIDDEN', 'INSUFFICIENT_SCOPE', 'RECORDS_UNAVAILABLE'] as const satisfies ErrorName[]

export const uploadErrors = [
  ...callerErrors, 'HASH_MISMATCH', 'REQUEST_TIMEOUT', 'UPLOAD_ID_IN_USE', 'UPLOAD_ABORTED', 'BUCKET_NOT_FOUND', 'S3_PUT_FAILED'
] as const satisfies ErrorName[]

export const finalizeErrors = [
  ...callerErrors, 'HASH_MISMATCH', 'SIZE_MISMATCH', 'STAGING_NOT_FOUND', 'STAGING_CHANGED', 'OBJECT_EXISTS',
  'MANIFEST_REQUIRED', 'INVALID_MANIFEST', 'SIGNATURE_REQUIRED', 'SIGNATURE_UNSUPPORTED', 'SIGNATURE_INVALID', 'EXTENSION_VERSION_ALREADY_EXISTS',
  'INVALID_MODEL', 'MODEL_VERSION_EXISTS',
  'S3_HEAD_FAILED', 'S3_GET_FAILED', 'COPY_FAILED', 'CANONICAL_MISSING', 'MANIFEST_STORE_FAILED'
] as const satisfies ErrorName[]

export const abortErrors = [...callerErrors, 'S3_DELETE_FAILED'] as const satisfies ErrorName[]
