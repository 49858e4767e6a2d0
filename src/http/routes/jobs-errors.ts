/** What the job routes answer with, beyond what follows from their guards, limits and bodies. For the documentation. */
import type { ErrorName } from '../../errors.ts'

const caller = ['RBAC_FORBIDDEN', 'INSUFFICIENT_SCOPE', 'RECORDS_UNAVAILABLE'] as const satisfies ErrorName[]
const reading = ['PRECONDITION_FAILED', 'RANGE_NOT_SATISFIABLE', 'S3_GET_FAILED', 'BUCKET_NOT_FOUND'] as const satisfies ErrorName[]
/** Of making a job: its model, its input, its place, and the store that the input goes into. */
const making = [
  'MODEL_NOT_FOUND', 'FILE_NOT_FOUND', 'USER_HAS_ACTIVE_JOB', 'IDEMPOTENCY_CONFLICT', 'QUEUE_FULL', 'RBAC_FORBIDDEN',
  'BUCKET_NOT_FOUND', 'S3_PUT_FAILED', 'COPY_FAILED', 'CANONICAL_MISSING'
] as const satisfies ErrorName[]

export const listErrors = caller
export const jobErrors = [...caller, 'JOB_NOT_FOUND'] as const satisfies ErrorName[]
export const retryErrors = [...jobErrors, 'JOB_NOT_RETRYABLE', 'USER_HAS_ACTIVE_JOB'] as const satisfies ErrorName[]
export const createErrors = [...caller, ...making, 'INVALID_MULTIPART', 'UPLOAD_ABORTED', 'STAGING_NOT_FOUND', 'STAGING_CHANGED', 'OBJECT_EXISTS'] as const satisfies ErrorName[]
export const generateErrors = [...caller, ...making] as const satisfies ErrorName[]
export const resultErrors = [...jobErrors, 'RESULT_NOT_FOUND', ...reading] as const satisfies ErrorName[]
export const tokenErrors = [...jobErrors, 'RESULT_NOT_FOUND'] as const satisfies ErrorName[]
export const downloadErrors = ['FILE_NOT_FOUND', 'S3_GET_FAILED', 'BUCKET_NOT_FOUND', 'RECORDS_UNAVAILABLE'] as const satisfies ErrorName[]
