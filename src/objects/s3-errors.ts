/**
 * What an S3 server or the SDK says, in the errors of the port.
 *
 * Servers do not agree on names, and HEAD has no body to carry one: where the name says nothing, the status does. The
 * SDK's errors carry the request, with its credential, in their properties: only name, message, status and request id
 * are kept, and access keys are taken out of the message.
 */
import { S3ServiceException } from '@aws-sdk/client-s3'
import {
  BucketNotFound, MultipartNotFound, ObjectAlreadyExists, ObjectBodyInvalid, ObjectNotFound, ObjectPreconditionFailed,
  ObjectRangeNotSatisfiable, ObjectStoreFailed
} from './port.ts'

/** What the server answered. */
export class S3Answer extends Error {
  /** HTTP status */
  readonly status: number | undefined
  readonly requestId: string | undefined
  constructor(name: string, message: string, status: number | undefined, requestId: string | undefined) {
    super(message)
    this.name = name
    this.status = status
    this.requestId = requestId
  }
}

type StoreError = new (message: string, options?: { cause?: unknown }) => ObjectStoreFailed

const BY_NAME: Record<string, StoreError> = {
  NoSuchKey: ObjectNotFound,
  NotFound: ObjectNotFound,
  NoSuchBucket: BucketNotFound,
  NoSuchUpload: MultipartNotFound,
  PreconditionFailed: ObjectPreconditionFailed,
  InvalidRange: ObjectRangeNotSatisfiable,
  BadDigest: ObjectBodyInvalid,
  XAmzContentChecksumMismatch: ObjectBodyInvalid,
  XAmzContentSHA256Mismatch: ObjectBodyInvalid
}

const BY_STATUS: Record<number, StoreError> = {
  404: ObjectNotFound,
  412: ObjectPreconditionFailed,
  416: ObjectRangeNotSatisfiable
}

/** @param secrets that must not show, whatever a server writes into its answer */
export function translateS3(action: string, error: unknown, secrets: readonly string[]): ObjectStoreFailed {
  if (error instanceof ObjectStoreFailed) return error
  const clean = (text: string): string => secrets.filter(Boolean).reduce((rest, secret) => rest.replaceAll(secret, '…'), text)
  const status = statusOf(error)
  const name = clean(nameOf(error))
  const Kind = BY_NAME[name] ?? (status === undefined ? undefined : BY_STATUS[status]) ?? ObjectStoreFailed
  const cause = error instanceof Error && (status !== undefined || error instanceof S3ServiceException)
    ? new S3Answer(name, clean(error.message), status, requestIdOf(error)) : error
  return new Kind(`s3: ${action} failed (${status === undefined ? name : `${status} ${name}`})`, { cause })
}

/** The answer's name or HTTP status, of a translated error. */
export function answered(error: unknown, nameOrStatus: string | number): boolean {
  const cause = error instanceof ObjectStoreFailed ? error.cause : undefined
  return cause instanceof S3Answer && (cause.name === nameOrStatus || cause.status === nameOrStatus)
}

/** 412 of a request that only had `If-None-Match`. */
export function takenInstead(error: ObjectStoreFailed): ObjectStoreFailed {
  return error instanceof ObjectPreconditionFailed ? new ObjectAlreadyExists(error.message, { cause: error.cause }) : error
}

/** Errors of sockets are all named Error: their code says more. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  return 'code' in error && typeof error.code === 'string' && error.name === 'Error' ? error.code : error.name
}

function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('$metadata' in error)) return undefined
  return (error.$metadata as { httpStatusCode?: number } | undefined)?.httpStatusCode
}

function requestIdOf(error: Error): string | undefined {
  return error instanceof S3ServiceException ? error.$metadata.requestId : undefined
}
