/** What the media routes answer with, beyond what follows from their guards, limits and bodies. For the documentation. */
import type { ErrorName } from '../../errors.ts'

const caller = ['RBAC_FORBIDDEN', 'RECORDS_UNAVAILABLE'] as const satisfies ErrorName[]
const publishing = ['COPY_FAILED', 'CANONICAL_MISSING', 'OBJECT_EXISTS', 'STAGING_NOT_FOUND', 'STAGING_CHANGED', 'S3_HEAD_FAILED', 'S3_GET_FAILED', 'BUCKET_NOT_FOUND'] as const satisfies ErrorName[]

export const mediaListErrors = caller
export const mediaInitErrors = [...caller, 'PAYLOAD_TOO_LARGE', 'STORAGE_FAILED'] as const satisfies ErrorName[]
export const mediaPutErrors = [
  'BAD_REQUEST', 'UNAUTHORIZED', 'TOKEN_EXPIRED', 'REQUEST_TIMEOUT', 'UPLOAD_ABORTED', 'UPLOAD_ID_IN_USE', 'GONE', 'PAYLOAD_TOO_LARGE', 'BUCKET_NOT_FOUND',
  'S3_PUT_FAILED', 'SERVICE_BUSY', 'RECORDS_UNAVAILABLE'
] as const satisfies ErrorName[]
export const mediaCompleteErrors = [
  ...caller, 'INSUFFICIENT_SCOPE', 'FILE_NOT_FOUND', 'PAYLOAD_TOO_LARGE', ...publishing,
  'MODEL_NOT_FOUND', 'USER_HAS_ACTIVE_JOB', 'IDEMPOTENCY_CONFLICT', 'QUEUE_FULL', 'SERVICE_BUSY'
] as const satisfies ErrorName[]
export const mediaReadErrors = [...caller, 'FILE_NOT_FOUND', 'PRECONDITION_FAILED', 'RANGE_NOT_SATISFIABLE', 'S3_GET_FAILED', 'BUCKET_NOT_FOUND'] as const satisfies ErrorName[]
export const mediaRemoveErrors = [...caller, 'FILE_NOT_FOUND'] as const satisfies ErrorName[]
export const activityErrors = caller
