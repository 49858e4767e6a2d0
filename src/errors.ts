/**
 * The one catalogue of errors. A row says everything about a condition: its HTTP status, the code and the text that a
 * caller sees. The key is the code of the flat dialect; `nested` is the code of the nested dialect (contract: common).
 * Which dialect is spoken is decided by the route's plugin (http/errors.ts), never by the code that throws.
 *
 * 4xx texts may be made specific by the thrower; 5xx texts always leave as they stand here, so that no host, key or
 * library message reaches a caller. The cause goes to the log.
 */
export interface ErrorRow {
  /** HTTP status in the nested dialect. */
  readonly status: number
  /** HTTP status in the flat dialect, where it differs. */
  readonly flatStatus?: number
  /** Code in the flat dialect, where it is not the key. */
  readonly flat?: string
  /** Code in the nested dialect. */
  readonly nested: string
  readonly message: string
}

export const catalogue = {
  BAD_REQUEST: { status: 400, nested: 'validation_error', message: 'the request is not valid' },
  HASH_MISMATCH: { status: 400, nested: 'hash_mismatch', message: 'the content does not match the declared hash' },
  SIZE_MISMATCH: { status: 400, nested: 'size_mismatch', message: 'the stored size differs from the given size' },
  STAGING_NOT_FOUND: { status: 400, nested: 'staging_not_found', message: 'no staged upload under this key' },
  MANIFEST_REQUIRED: { status: 400, nested: 'manifest_required', message: 'no manifest was given and none was found in the bundle' },
  INVALID_MANIFEST: { status: 400, nested: 'invalid_manifest', message: 'the manifest is not valid' },
  INVALID_MODEL: { status: 400, nested: 'invalid_model', message: 'the file is no model that loads here' },
  INVALID_MULTIPART: { status: 400, flat: 'BAD_REQUEST', nested: 'invalid_multipart', message: 'the multipart body is not valid' },
  SIGNATURE_REQUIRED: { status: 400, nested: 'signature_required', message: 'a signature is required' },
  SIGNATURE_UNSUPPORTED: { status: 400, nested: 'signature_unsupported', message: 'this signature algorithm cannot be verified here' },
  SIGNATURE_INVALID: { status: 400, nested: 'signature_invalid', message: 'the signature could not be verified' },
  UNAUTHENTICATED: { status: 401, flatStatus: 403, flat: 'RBAC_FORBIDDEN', nested: 'invalid_token', message: 'a credential is required' },
  UNAUTHORIZED: { status: 401, nested: 'invalid_token', message: 'the credential is not valid' },
  TOKEN_EXPIRED: { status: 401, flat: 'UNAUTHORIZED', nested: 'token_expired', message: 'the credential has expired' },
  RBAC_FORBIDDEN: { status: 403, nested: 'forbidden', message: 'this caller is not allowed to do this' },
  INSUFFICIENT_SCOPE: { status: 403, flat: 'RBAC_FORBIDDEN', nested: 'insufficient_scope', message: 'the credential lacks a required scope' },
  TENANT_MISMATCH: { status: 403, flat: 'RBAC_FORBIDDEN', nested: 'tenant_mismatch', message: 'the credential is for another tenant' },
  NOT_FOUND: { status: 404, nested: 'not_found', message: 'there is no such route' },
  UPLOAD_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'upload_not_found', message: 'there is no such upload' },
  EXTENSION_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'extension_not_found', message: 'there is no such extension' },
  JOB_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'job_not_found', message: 'there is no such job' },
  RESULT_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'result_not_found', message: 'the job has no such result' },
  MODEL_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'model_not_found', message: 'there is no such model' },
  FILE_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'file_not_found', message: 'there is no such file' },
  TOKEN_NOT_FOUND: { status: 404, flat: 'NOT_FOUND', nested: 'token_not_found', message: 'there is no such token' },
  METHOD_NOT_ALLOWED: { status: 405, nested: 'method_not_allowed', message: 'this path does not take this method' },
  REQUEST_TIMEOUT: { status: 408, nested: 'request_timeout', message: 'the body stopped arriving' },
  UPLOAD_ID_IN_USE: { status: 409, nested: 'upload_id_in_use', message: 'this upload id is in use' },
  UPLOAD_ABORTED: { status: 409, nested: 'upload_aborted', message: 'the upload was aborted while it was arriving' },
  STAGING_CHANGED: { status: 409, nested: 'staging_changed', message: 'the staged bytes changed after they were uploaded' },
  OBJECT_EXISTS: { status: 409, nested: 'object_exists', message: 'an object of another size is stored under this hash' },
  EXTENSION_VERSION_ALREADY_EXISTS: { status: 409, nested: 'extension_version_already_exists', message: 'this version exists with other content' },
  MODEL_VERSION_EXISTS: { status: 409, nested: 'model_version_exists', message: 'this version of the model exists with other content' },
  IDEMPOTENCY_CONFLICT: { status: 409, nested: 'idempotency_conflict', message: 'this idempotency key was used with another body' },
  USER_HAS_ACTIVE_JOB: { status: 409, nested: 'user_has_active_job', message: 'the user has an unfinished job' },
  JOB_ID_IN_USE: { status: 409, nested: 'job_id_in_use', message: 'a job with this id is under way' },
  JOB_NOT_RETRYABLE: { status: 409, nested: 'job_not_retryable', message: 'only failed and cancelled jobs can be retried' },
  JOB_NOT_READY_FOR_PROMOTE: { status: 409, nested: 'job_not_ready_for_promote', message: 'only results of completed jobs can be promoted' },
  SOURCE_NOT_AVAILABLE: { status: 409, nested: 'source_not_available', message: 'the job has nothing of this name that can be promoted' },
  GONE: { status: 410, nested: 'gone', message: 'this route was retired' },
  PRECONDITION_FAILED: { status: 412, nested: 'precondition_failed', message: 'a condition of the request does not hold' },
  PAYLOAD_TOO_LARGE: { status: 413, flat: 'BAD_REQUEST', nested: 'file_too_large', message: 'the body is too large' },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, nested: 'unsupported_media_type', message: 'this content type is not supported here' },
  RANGE_NOT_SATISFIABLE: { status: 416, nested: 'range_not_satisfiable', message: 'the range lies outside the file' },
  INVALID_OBJECT_KEY: { status: 422, nested: 'invalid_object_key', message: 'this cannot be a key at the file gateway' },
  RATE_LIMIT: { status: 429, nested: 'rate_limit_exceeded', message: 'too many requests' },
  QUEUE_FULL: { status: 429, nested: 'queue_full', message: 'too many jobs are waiting' },
  HEADERS_TOO_LARGE: { status: 431, flat: 'BAD_REQUEST', nested: 'validation_error', message: 'the request headers are too large' },
  INTERNAL_ERROR: { status: 500, nested: 'internal_error', message: 'something went wrong here' },
  UNSUPPORTED_TRANSFER_CODING: { status: 501, nested: 'unsupported_transfer_coding', message: 'this transfer coding is not supported: send the body as it is, or chunked' },
  BUCKET_NOT_FOUND: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'the bucket is not there' },
  S3_PUT_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage did not take the bytes' },
  S3_HEAD_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage could not be asked' },
  S3_GET_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage could not be read' },
  S3_DELETE_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage could not delete' },
  COPY_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage could not copy' },
  CANONICAL_MISSING: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'the stored object could not be confirmed' },
  MANIFEST_STORE_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage did not take the manifest' },
  STORAGE_FAILED: { status: 502, flatStatus: 500, nested: 'storage_unavailable', message: 'object storage failed' },
  PERMISSION_CALLBACK_FAILED: { status: 502, nested: 'permission_callback_failed', message: 'whoever decides on access could not be asked' },
  FILE_GATEWAY_UNAVAILABLE: { status: 502, nested: 'file_gateway_unavailable', message: 'the file gateway did not take the file' },
  SERVICE_BUSY: { status: 503, nested: 'service_busy', message: 'the service is busy, try again later' },
  MODEL_NOT_LOADED: { status: 503, nested: 'model_not_loaded', message: 'no model is loaded on this node' },
  AUTH_SERVICE_UNAVAILABLE: { status: 503, nested: 'auth_service_unavailable', message: 'credentials cannot be checked now, try again later' },
  RECORDS_UNAVAILABLE: { status: 503, nested: 'records_unavailable', message: 'the record store is not available' },
  PERMISSION_CALLBACK_TIMEOUT: { status: 504, nested: 'permission_callback_timeout', message: 'whoever decides on access did not answer in time' },
  INFERENCE_TIMEOUT: { status: 504, nested: 'inference_timeout', message: 'the model did not answer in time' }
} as const satisfies Record<string, ErrorRow>

export type ErrorName = keyof typeof catalogue

/**
 * Slugs of `x-upload-proxy-why`, with which /upload-proxy says what exactly it was. The first of a code holds where the
 * thrower gives none. A code that is not here is its own slug, in lower case.
 */
const slugs = {
  BAD_REQUEST: [
    'bad_request', 'kind_invalid', 'upload_id_invalid', 'filename_required', 'size_required', 'size_invalid', 'size_exceeds_cap',
    'declared_hash_invalid', 'content_length_mismatch', 'missing_body', 'body_size_mismatch'
  ],
  UNAUTHENTICATED: ['rbac_forbidden'],
  UNAUTHORIZED: ['rbac_forbidden'],
  RBAC_FORBIDDEN: ['rbac_forbidden'],
  INSUFFICIENT_SCOPE: ['rbac_forbidden'],
  TOKEN_EXPIRED: ['rbac_forbidden'],
  TENANT_MISMATCH: ['rbac_forbidden'],
  REQUEST_TIMEOUT: ['idle_timeout'],
  RATE_LIMIT: ['rate_limited'],
  INTERNAL_ERROR: ['unhandled_exception'],
  BUCKET_NOT_FOUND: ['bucket_missing']
} as const satisfies Partial<Record<ErrorName, readonly string[]>>

export type Slug = (typeof slugs)[keyof typeof slugs][number] | Lowercase<ErrorName>

/** Every slug that may stand for a code; the first is the one that it has by itself. */
export function slugsOf(code: ErrorName): readonly [Slug, ...Slug[]] {
  const known: Partial<Record<ErrorName, readonly [Slug, ...Slug[]]>> = slugs
  return known[code] ?? [code.toLowerCase() as Lowercase<ErrorName>]
}

/** What `x-upload-proxy-why` says of an error. */
export function whyOf(error: PenstockError): Slug {
  return error.why ?? slugsOf(error.code)[0]
}

export interface PenstockErrorOptions {
  /** Replaces the catalogue's text in the answer. Only 4xx. */
  message?: string
  /** Facts a caller can act on; goes into the answer of 4xx only. */
  details?: Record<string, unknown>
  /** Slug of `x-upload-proxy-why`, where the code alone does not say it. */
  why?: Slug
  /** Seconds for `Retry-After`. */
  retryAfterSeconds?: number
  /** Extra response headers (lower case). */
  headers?: Record<string, string>
  cause?: unknown
}

/** An error of the catalogue. `statusCode` is the nested dialect's, for code of the framework that reads it. */
export class PenstockError extends Error {
  readonly code: ErrorName
  readonly statusCode: number
  readonly details: Record<string, unknown> | undefined
  readonly why: Slug | undefined
  readonly retryAfterSeconds: number | undefined
  readonly headers: Record<string, string> | undefined

  constructor(code: ErrorName, options: PenstockErrorOptions = {}) {
    const row: ErrorRow = catalogue[code]
    super(options.message ?? row.message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'PenstockError'
    this.code = code
    this.statusCode = row.status
    this.details = options.details
    this.why = options.why
    this.retryAfterSeconds = options.retryAfterSeconds
    this.headers = options.headers
  }
}

/** Is it an error of the catalogue (of this name)? */
export function isPenstockError(error: unknown, code?: ErrorName): error is PenstockError {
  return error instanceof PenstockError && (code === undefined || error.code === code)
}
