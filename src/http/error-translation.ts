/** Brings everything that can be thrown in a request into the catalogue. What is not known becomes INTERNAL_ERROR. */
import type { FastifyRequest, FastifySchemaValidationError } from 'fastify'
import { isPenstockError, PenstockError, type ErrorName } from '../errors.ts'
import { BucketNotFound, ObjectStoreFailed } from '../objects/port.ts'
import { RecordStoreFailed } from '../records/port.ts'

interface Foreign {
  code?: unknown
  statusCode?: unknown
  validation?: FastifySchemaValidationError[]
  validationContext?: string
}

export interface InvalidField { field: string, message: string }

/** A request that does not fit its schema, or breaks a rule that the schema cannot say. */
export function invalidFields(fields: readonly InvalidField[], cause?: unknown): PenstockError {
  const message = fields.map(each => `${each.field} ${each.message}`).join('; ')
  return new PenstockError('BAD_REQUEST', { message, details: { fields }, cause })
}

function invalidField(issue: FastifySchemaValidationError, context: string): InvalidField {
  const { missingProperty, additionalProperty, allowedValues } = issue.params
  const inner = [missingProperty, additionalProperty].find(each => typeof each === 'string')
  const path = issue.instancePath.split('/').slice(1).map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  const field = [...path, ...(inner === undefined ? [] : [inner])].join('.') || context
  if (missingProperty !== undefined) return { field, message: 'is required' }
  if (additionalProperty !== undefined) return { field, message: 'is not known here' }
  if (Array.isArray(allowedValues)) return { field, message: `must be one of ${allowedValues.join(', ')}` }
  return { field, message: issue.message ?? 'is not valid' }
}

/** What the framework says, in our words: its own texts never leave. */
const frameworkErrors: Record<string, (error: Foreign, request: FastifyRequest) => PenstockError> = {
  FST_ERR_CTP_BODY_TOO_LARGE: (cause, request) => bodyTooLarge(request.routeOptions.bodyLimit, cause),
  FST_ERR_CTP_INVALID_MEDIA_TYPE: cause => new PenstockError('UNSUPPORTED_MEDIA_TYPE', { cause }),
  FST_ERR_CTP_EMPTY_TYPE: cause => new PenstockError('UNSUPPORTED_MEDIA_TYPE', { cause }),
  FST_ERR_ROUTE_MISSING_CONTENT_TYPE: cause => new PenstockError('UNSUPPORTED_MEDIA_TYPE', { cause }),
  FST_ERR_CTP_EMPTY_JSON_BODY: cause => invalidFields([{ field: 'body', message: 'is empty' }], cause),
  FST_ERR_CTP_INVALID_JSON_BODY: cause => invalidFields([{ field: 'body', message: 'is not valid JSON' }], cause),
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: cause => invalidFields([{ field: 'body', message: 'differs in length from Content-Length' }], cause),
  FST_ERR_BAD_URL: cause => invalidFields([{ field: 'url', message: 'is not a valid path' }], cause),
  FST_ERR_MAX_PARAM_LENGTH: cause => invalidFields([{ field: 'url', message: 'has a part that is too long' }], cause)
}

const byStatus: Record<number, ErrorName> = {
  400: 'BAD_REQUEST', 401: 'UNAUTHORIZED', 403: 'RBAC_FORBIDDEN', 404: 'NOT_FOUND', 405: 'METHOD_NOT_ALLOWED',
  408: 'REQUEST_TIMEOUT', 413: 'PAYLOAD_TOO_LARGE', 414: 'BAD_REQUEST', 415: 'UNSUPPORTED_MEDIA_TYPE', 429: 'RATE_LIMIT',
  431: 'HEADERS_TOO_LARGE'
}

/** A JSON body above its limit. */
export function bodyTooLarge(limitBytes: number, cause?: unknown): PenstockError {
  return new PenstockError('PAYLOAD_TOO_LARGE', { message: `the body is over the limit of ${limitBytes} bytes`, details: { field: 'body', limit_bytes: limitBytes }, cause })
}

/** The error of the catalogue that stands for whatever was thrown; that is kept as its cause. */
export function translateError(error: unknown, request: FastifyRequest): PenstockError {
  if (isPenstockError(error)) return error
  if (error instanceof RecordStoreFailed) return new PenstockError('RECORDS_UNAVAILABLE', { cause: error })
  if (error instanceof BucketNotFound) return new PenstockError('BUCKET_NOT_FOUND', { cause: error })
  if (error instanceof ObjectStoreFailed) return new PenstockError('STORAGE_FAILED', { cause: error })
  if (!(error instanceof Error)) return new PenstockError('INTERNAL_ERROR', { cause: error })
  const foreign = error as Foreign
  if (Array.isArray(foreign.validation)) {
    return invalidFields(foreign.validation.map(issue => invalidField(issue, foreign.validationContext ?? 'request')), error)
  }
  const own = typeof foreign.code === 'string' ? frameworkErrors[foreign.code] : undefined
  if (own !== undefined) return own(foreign, request)
  return new PenstockError(byStatus[Number(foreign.statusCode)] ?? 'INTERNAL_ERROR', { cause: error })
}
