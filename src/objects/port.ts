/**
 * The port to object storage. Keys are made by keys.ts; an adapter never lets one leave its root or bucket.
 *
 * Objects appear whole or not at all: a put that fails or is cancelled leaves nothing that `head`, `open` or `list` shows.
 * An `etag` is opaque, unquoted, and changes when the bytes under a key are written again.
 * Adapters translate what their backend says into the errors below and keep it as `cause`.
 * Every method that takes a `signal` rejects soon after it aborts and releases its connection.
 */
import type { Readable } from 'node:stream'

export type ObjectKey = string
export type ETag = string

export interface ObjectInfo {
  key: ObjectKey
  /** bytes */
  size: number
  etag: ETag
  lastModified: Date
}

/** Inclusive, zero-based, both ends inside the object. */
export interface ByteRange { start: number, end: number }

export interface OpenObject extends ObjectInfo {
  /** The bytes of the range (the whole object without one). Destroying it releases the connection. A store that fails on the way destroys it with an error. */
  body: Readable
  /** Nobody else uses the chunks of the body: whoever reads it may give their memory back. */
  disposable?: boolean
}

export interface PutOptions {
  /** Exact number of bytes. Fewer or more in the body reject, and nothing is stored. */
  size: number
  contentType?: string
  cacheControl?: string
  /** Hex sha256 of the body where it is known before; stores that can do so verify it and refuse a body that differs. */
  sha256?: string
  /** Refuse with ObjectAlreadyExists where the key is taken. Atomic only where the store enforces it (see probe.ts). */
  createOnly?: boolean
  /** Nobody else uses the chunks of a streamed body: their memory may be given back as soon as they are sent. */
  disposable?: boolean
  signal?: AbortSignal
}

export type UnsizedPutOptions = Pick<PutOptions, 'contentType' | 'createOnly' | 'signal'>

export interface CopyOptions {
  /** Copy only while the source has this ETag, else ObjectPreconditionFailed. */
  sourceETag?: ETag
  /** Refuse with ObjectAlreadyExists where the target is taken. Atomic only where the store enforces it. */
  createOnly?: boolean
  contentType?: string
  signal?: AbortSignal
}

export interface ObjectStore {
  /** For logs: `fs`, `s3`, `memory`. */
  readonly name: string

  /** The most bytes that one put takes; more go by multipart. */
  readonly putMaxBytes: number

  /** Is the bucket (root) there? Rejects with BucketNotFound or ObjectStoreFailed. Writes nothing. */
  check(signal?: AbortSignal): Promise<void>

  /** Makes the bucket (root) if it is not there. Idempotent. */
  createBucket(signal?: AbortSignal): Promise<void>

  /**
   * Stores one object. Not idempotent with `createOnly`; a streamed body is never retried. The caller destroys the body
   * on failure. On success the bytes are durable.
   */
  put(key: ObjectKey, body: Readable | Uint8Array, options: PutOptions): Promise<{ etag: ETag }>

  /**
   * As put, of a body whose end tells its length; what the body throws may come out as an error of the store. A store that has
   * to know the length before does not have this, and is given parts (put-unknown-length.ts).
   */
  putUnsized?(key: ObjectKey, body: AsyncIterable<Uint8Array>, options?: UnsizedPutOptions): Promise<{ etag: ETag, size: number }>

  /** Server-side copy; no byte passes through this process. Not found: ObjectNotFound of the source. */
  copy(source: ObjectKey, target: ObjectKey, options?: CopyOptions): Promise<{ etag: ETag }>

  /** Reads one object. Not found: ObjectNotFound. `ifMatch` differs: ObjectPreconditionFailed. A range beyond the end: ObjectRangeNotSatisfiable. */
  open(key: ObjectKey, options?: { range?: ByteRange, ifMatch?: ETag, signal?: AbortSignal }): Promise<OpenObject>

  /** What is stored under the key, or undefined. */
  head(key: ObjectKey, signal?: AbortSignal): Promise<ObjectInfo | undefined>

  /** Idempotent: a key that is not there is no error. */
  delete(key: ObjectKey, signal?: AbortSignal): Promise<void>

  /** Every object whose key begins with the prefix, in byte order of the keys, page by page. */
  list(prefix: string, options?: { signal?: AbortSignal }): AsyncIterable<ObjectInfo>

  /** Begins a multipart upload, which is invisible until it is completed. */
  createMultipart(key: ObjectKey, options?: { contentType?: string, signal?: AbortSignal }): Promise<{ uploadId: string }>

  /** Stores part `partNumber` (from 1); the same number again replaces it. Unknown upload: MultipartNotFound. */
  putPart(upload: MultipartRef, partNumber: number, body: Readable | Uint8Array, options: { size: number, signal?: AbortSignal }): Promise<MultipartPart>

  /** Stores a range of another object (all of it without one) as a part, server-side. Errors as copy and putPart. */
  copyPart(upload: MultipartRef, partNumber: number, source: ObjectKey, options?: { sourceETag?: ETag, range?: ByteRange, signal?: AbortSignal }): Promise<MultipartPart>

  /** Makes the object of its parts, in the given order. `createOnly` as in put; when it is refused, the upload stays and is to be aborted. */
  completeMultipart(upload: MultipartRef, parts: readonly MultipartPart[], options?: { createOnly?: boolean, signal?: AbortSignal }): Promise<{ etag: ETag }>

  /** Drops an unfinished upload and its parts. Idempotent: an unknown upload is no error. */
  abortMultipart(upload: MultipartRef, signal?: AbortSignal): Promise<void>

  /** Unfinished uploads of exactly this key. */
  listMultiparts(key: ObjectKey, signal?: AbortSignal): Promise<{ uploadId: string, initiated: Date }[]>

  /** Ends what the adapter holds open. Idempotent. */
  close(): Promise<void>
}

export interface MultipartRef { key: ObjectKey, uploadId: string }
export interface MultipartPart { partNumber: number, etag: ETag }

/** Ability of stores that keep unfinished writes of dead processes on disk. */
export interface SweepsTemporaries {
  /** Removes unfinished writes that were last touched before `before`. Returns how many. */
  sweepTemporaries(before: Date): Promise<number>
}

export function sweepsTemporaries(store: ObjectStore): store is ObjectStore & SweepsTemporaries {
  return 'sweepTemporaries' in store
}

/** Base of everything an adapter throws. Itself: the store could not be reached, timed out, or answered with an error of its own. */
export class ObjectStoreFailed extends Error {
  readonly code: string = 'OBJECT_STORE_FAILED'
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = new.target.name
  }
}
export class ObjectNotFound extends ObjectStoreFailed { override readonly code = 'OBJECT_NOT_FOUND' }
export class BucketNotFound extends ObjectStoreFailed { override readonly code = 'BUCKET_NOT_FOUND' }
export class ObjectAlreadyExists extends ObjectStoreFailed { override readonly code = 'OBJECT_ALREADY_EXISTS' }
/** `sourceETag` or `ifMatch` did not hold. */
export class ObjectPreconditionFailed extends ObjectStoreFailed { override readonly code = 'OBJECT_PRECONDITION_FAILED' }
export class ObjectRangeNotSatisfiable extends ObjectStoreFailed { override readonly code = 'OBJECT_RANGE_NOT_SATISFIABLE' }
export class MultipartNotFound extends ObjectStoreFailed { override readonly code = 'MULTIPART_NOT_FOUND' }
/** The body had another length than `size`, or another hash than `sha256`. */
export class ObjectBodyInvalid extends ObjectStoreFailed { override readonly code = 'OBJECT_BODY_INVALID' }
/** The key cannot be a key of this project: nothing was asked of the store. */
export class ObjectKeyInvalid extends ObjectStoreFailed { override readonly code = 'OBJECT_KEY_INVALID' }
