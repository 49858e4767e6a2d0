/** What the file routes answer with, beyond what follows from their guards, limits and bodies. For the documentation. */
import type { ErrorName } from '../../errors.ts'

const caller = ['RBAC_FORBIDDEN', 'RECORDS_UNAVAILABLE'] as const satisfies ErrorName[]

export const fileListErrors = caller
export const fileErrors = [...caller, 'FILE_NOT_FOUND'] as const satisfies ErrorName[]
export const fileReadErrors = [
  ...fileErrors, 'PRECONDITION_FAILED', 'RANGE_NOT_SATISFIABLE', 'S3_GET_FAILED', 'BUCKET_NOT_FOUND', 'PERMISSION_CALLBACK_TIMEOUT', 'PERMISSION_CALLBACK_FAILED'
] as const satisfies ErrorName[]
export const fileUploadErrors = [
  ...caller, 'INVALID_MULTIPART', 'UPLOAD_ABORTED', 'BUCKET_NOT_FOUND', 'S3_PUT_FAILED', 'COPY_FAILED', 'CANONICAL_MISSING', 'OBJECT_EXISTS',
  'STAGING_NOT_FOUND', 'STAGING_CHANGED'
] as const satisfies ErrorName[]
