/** Reading answers of S3 servers, and writing what goes into their headers. */
import { HeadObjectCommand, type GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { checkKey } from './checks.ts'
import { ObjectNotFound, ObjectStoreFailed, type ETag, type ObjectInfo } from './port.ts'
import type { S3Calls } from './s3-client.ts'

export async function head(s3: S3Calls, key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
  checkKey(key)
  try {
    const answer = await s3.call('head', s3.timeouts.requestMs, signal, abortSignal =>
      s3.client.send(new HeadObjectCommand({ Bucket: s3.bucket, Key: key }), { abortSignal }))
    return describeAnswer(key, answer)
  } catch (error) {
    if (error instanceof ObjectNotFound) return undefined
    throw error
  }
}

export function describeAnswer(key: string, answer: Pick<GetObjectCommandOutput, 'ETag' | 'ContentLength' | 'ContentRange' | 'LastModified'>): ObjectInfo {
  const whole = answer.ContentRange?.split('/')[1]
  const size = whole === undefined ? answer.ContentLength : Number(whole)
  if (size === undefined || !Number.isSafeInteger(size) || !answer.ETag) throw new ObjectStoreFailed('s3: the answer has no size or no ETag')
  return { key, size, etag: unquote(answer.ETag), lastModified: answer.LastModified ?? new Date() }
}

/** The answer's ETag; or that of HEAD, where the answer has none. */
export async function etagOr(s3: S3Calls, etag: string | undefined, key: string, signal?: AbortSignal): Promise<ETag> {
  if (etag) return unquote(etag)
  const info = await head(s3, key, signal)
  if (info === undefined) throw new ObjectStoreFailed('s3: the object is not there after it was written')
  return info.etag
}

/** For `x-amz-copy-source`: each segment encoded, the slashes kept. */
export function copySource(bucket: string, key: string): string {
  return [bucket, ...key.split('/')].map(encodeURIComponent).join('/')
}

export function unquote(etag: string): ETag {
  return etag.replace(/^"(.*)"$/, '$1')
}
