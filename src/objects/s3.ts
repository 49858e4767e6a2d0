/**
 * Objects in a bucket of an S3 server: AWS, MinIO, Ceph, Garage and others. Nothing here is special to one of them.
 * Permissions: s3:ListBucket and s3:ListBucketMultipartUploads on the bucket (s3:CreateBucket only for createBucket);
 * s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on what is in it.
 *
 * What a server may do otherwise than promised, and how that is met:
 * - it takes a condition and ignores it: found by probe.ts, worked around by create-only.ts;
 * - it answers without an ETag (Ceph: CompleteMultipartUpload): HEAD has it;
 * - it answers a copy with 200 and an error in the body: the SDK turns that into an error, an answer without ETag into HEAD;
 * - it refuses to copy more than 5 GiB at once: the copy is made of ranges (copy-parts.ts);
 * - ETags come quoted and leave unquoted, which all of them take and some of them need.
 */
import {
  CopyObjectCommand, CreateBucketCommand, DeleteObjectCommand, GetObjectCommand, HeadBucketCommand, ListObjectsV2Command,
  PutObjectCommand
} from '@aws-sdk/client-s3'
import type { Readable } from 'node:stream'
import { SINGLE_PUT_MAX_BYTES } from '../limits.ts'
import { checkKey, checkPrefix, checkRange } from './checks.ts'
import { copyByParts } from './copy-parts.ts'
import { Deadline } from './deadline.ts'
import { ignore } from './exact-body.ts'
import {
  BucketNotFound, ObjectNotFound, ObjectPreconditionFailed, ObjectRangeNotSatisfiable, ObjectStoreFailed,
  type ByteRange, type CopyOptions, type ETag, type ObjectInfo, type ObjectStore, type OpenObject, type PutOptions
} from './port.ts'
import { copySource, describeAnswer, etagOr, head, unquote } from './s3-answers.ts'
import { retryConflicts, s3Calls, type S3Calls, type S3Options } from './s3-client.ts'
import { answered, takenInstead } from './s3-errors.ts'
import { s3Multipart } from './s3-multipart.ts'
import { s3Presign } from './s3-presign.ts'
import { watchStall } from './watch-stall.ts'

export type { S3Options } from './s3-client.ts'

export function s3ObjectStore(options: S3Options): ObjectStore {
  const s3 = s3Calls(options)
  const presign = options.publicEndpoint === undefined ? undefined : s3Presign(options, options.publicEndpoint)
  const store: ObjectStore = {
    name: 's3',
    putMaxBytes: SINGLE_PUT_MAX_BYTES,
    check: signal => check(s3, signal),
    createBucket: signal => createBucket(s3, signal),
    put: (key, body, putOptions) => put(s3, key, body, putOptions),
    async copy(source, target, copyOptions = {}) {
      try {
        return await copy(s3, source, target, copyOptions)
      } catch (error) {
        const info = answered(error, 400) ? await head(s3, source, copyOptions.signal) : undefined
        if (info === undefined || info.size <= s3.copyMaxBytes) throw error
        return await copyByParts(store, { partBytes: s3.copyMaxBytes, sourceETag: info.etag, ...copyOptions, source, target, size: info.size })
      }
    },
    open: (key, openOptions = {}) => open(s3, key, openOptions),
    head: (key, signal) => head(s3, key, signal),
    delete: (key, signal) => remove(s3, key, signal),
    list: (prefix, listOptions) => list(s3, prefix, listOptions?.signal),
    ...s3Multipart(s3),
    ...presign?.presigns,
    async close() {
      presign?.close()
      s3.close()
    }
  }
  return store
}

async function check({ client, bucket, call, timeouts }: S3Calls, signal?: AbortSignal): Promise<void> {
  try {
    await call('check', timeouts.requestMs, signal, abortSignal => client.send(new HeadBucketCommand({ Bucket: bucket }), { abortSignal }))
  } catch (error) {
    throw error instanceof ObjectNotFound ? new BucketNotFound('the bucket is not there', { cause: error.cause }) : error
  }
}

async function createBucket(s3: S3Calls, signal?: AbortSignal): Promise<void> {
  const { client, bucket, call, timeouts } = s3
  try {
    await check(s3, signal)
  } catch (error) {
    if (!(error instanceof BucketNotFound)) throw error
    await call('createBucket', timeouts.requestMs, signal, abortSignal => client.send(new CreateBucketCommand({ Bucket: bucket }), { abortSignal }))
      .catch(async reason => {
        if (!answered(reason, 409)) throw reason
        await check(s3, signal) // another node made it meanwhile; or it is somebody else's, which check() then says
      })
  }
}

async function put(s3: S3Calls, key: string, body: Readable | Uint8Array, options: PutOptions): Promise<{ etag: ETag }> {
  checkKey(key)
  const { size, contentType, cacheControl, sha256, createOnly } = options
  const input = {
    Bucket: s3.bucket, Key: key, ContentLength: size,
    ...(contentType === undefined ? {} : { ContentType: contentType }),
    ...(cacheControl === undefined ? {} : { CacheControl: cacheControl }),
    ...(sha256 === undefined ? {} : { ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64') }),
    ...(createOnly ? { IfNoneMatch: '*' } : {})
  }
  const once = (): Promise<{ ETag?: string | undefined }> => s3.send('put', body, options, (Body, abortSignal) =>
    s3.client.send(new PutObjectCommand({ ...input, Body }), { abortSignal }))
  try {
    const { ETag } = await (body instanceof Uint8Array ? retryConflicts(once) : once())
    return { etag: await etagOr(s3, ETag, key, options.signal) }
  } catch (error) {
    throw error instanceof ObjectStoreFailed && createOnly ? takenInstead(error) : error
  }
}

async function copy(s3: S3Calls, source: string, target: string, { sourceETag, createOnly, contentType, signal }: CopyOptions): Promise<{ etag: ETag }> {
  checkKey(source)
  checkKey(target)
  const command = (): CopyObjectCommand => new CopyObjectCommand({
    Bucket: s3.bucket, Key: target, CopySource: copySource(s3.bucket, source),
    ...(sourceETag === undefined ? {} : { CopySourceIfMatch: sourceETag }),
    ...(createOnly ? { IfNoneMatch: '*' } : {}),
    ...(contentType === undefined ? {} : { ContentType: contentType, MetadataDirective: 'REPLACE' })
  })
  try {
    const { CopyObjectResult } = await retryConflicts(() => s3.call('copy', s3.timeouts.copyMs, signal, abortSignal => s3.client.send(command(), { abortSignal })))
    return { etag: await etagOr(s3, CopyObjectResult?.ETag, target, signal) }
  } catch (error) {
    if (error instanceof ObjectPreconditionFailed && createOnly) throw await whichFailed(s3, error, source, sourceETag, signal)
    throw error
  }
}

/** 412 does not say which of the two conditions failed: the source does. */
async function whichFailed(s3: S3Calls, error: ObjectStoreFailed, source: string, sourceETag: ETag | undefined, signal?: AbortSignal): Promise<ObjectStoreFailed> {
  if (sourceETag === undefined) return takenInstead(error)
  const info = await head(s3, source, signal)
  if (info === undefined) return new ObjectNotFound('there is no such source', { cause: error.cause })
  return info.etag === sourceETag ? takenInstead(error) : error
}

async function open(s3: S3Calls, key: string, { range, ifMatch, signal }: { range?: ByteRange, ifMatch?: ETag, signal?: AbortSignal }): Promise<OpenObject> {
  checkKey(key)
  if (range) checkRange(range, Infinity)
  const command = new GetObjectCommand({
    Bucket: s3.bucket, Key: key,
    ...(ifMatch === undefined ? {} : { IfMatch: ifMatch }),
    ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end}` })
  })
  const limit = new Deadline(signal, s3.timeouts.requestMs)
  try {
    const answer = await s3.client.send(command, { abortSignal: limit.signal })
    limit.stopClock()
    const body = answer.Body as Readable
    body.on('error', ignore) // the answer may be refused below, or the signal may abort before anyone listens
    const unwatch = watchStall(body, s3.timeouts.stallMs)
    body.once('close', () => {
      unwatch()
      limit.release()
    })
    const info = describeAnswer(key, answer)
    if (ifMatch !== undefined && info.etag !== ifMatch) throw refuse(body, new ObjectPreconditionFailed('the object has another ETag'))
    if (range && answer.ContentRange?.startsWith(`bytes ${range.start}-${range.end}/`) !== true) {
      throw refuse(body, range.end < info.size ? new ObjectStoreFailed('s3: open failed (the range was ignored)') : new ObjectRangeNotSatisfiable('the range does not lie inside the object'))
    }
    return { ...info, body, disposable: true }
  } catch (error) {
    limit.release()
    throw s3.translate('open', error, limit, signal)
  }
}

function refuse<E extends Error>(body: Readable, error: E): E {
  body.destroy()
  return error
}

async function remove(s3: S3Calls, key: string, signal?: AbortSignal): Promise<void> {
  checkKey(key)
  try {
    await s3.call('delete', s3.timeouts.requestMs, signal, abortSignal =>
      s3.client.send(new DeleteObjectCommand({ Bucket: s3.bucket, Key: key }), { abortSignal }))
  } catch (error) {
    if (!(error instanceof ObjectNotFound)) throw error
  }
}

async function* list(s3: S3Calls, prefix: string, signal?: AbortSignal): AsyncGenerator<ObjectInfo> {
  checkPrefix(prefix)
  let token: string | undefined
  do {
    const command = new ListObjectsV2Command({ Bucket: s3.bucket, Prefix: prefix, ...(token === undefined ? {} : { ContinuationToken: token }) })
    const page = await s3.call('list', s3.timeouts.requestMs, signal, abortSignal => s3.client.send(command, { abortSignal }))
    for (const { Key = '', Size = 0, ETag, LastModified } of page.Contents ?? []) {
      yield { key: Key, size: Size, etag: unquote(ETag ?? ''), lastModified: LastModified ?? new Date() }
    }
    token = page.IsTruncated ? page.NextContinuationToken : undefined
  } while (token !== undefined)
}
