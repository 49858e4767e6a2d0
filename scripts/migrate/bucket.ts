/**
 * Objects of another bucket, by its S3 API. Its keys are whatever someone gave them, so this asks the API itself and not the
 * port to object storage, which takes the keys of this project alone.
 */
import { GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3'
import type { Readable } from 'node:stream'
import { s3Calls, type S3Calls, type S3Options } from '../../src/objects/s3-client.ts'
import { BUCKET_REQUEST_TIMEOUT_MS } from './limits.ts'
import { SourceFault, type Entry, type Opened, type Source } from './source.ts'

export interface BucketOptions extends S3Options {
  /** keys that begin so, all of them where it is empty */
  prefix: string
  /** what stands for the bucket in the ids of its files; endpoint and bucket where it is not given */
  label?: string | undefined
}

export function bucketSource({ prefix, label, ...options }: BucketOptions): Source {
  const s3 = s3Calls(options)
  const root = label ?? JSON.stringify([options.endpoint ?? 'aws', options.bucket])
  return {
    entries: signal => list(s3, { prefix, root, signal }),
    async close() { s3.close() }
  }
}

async function* list(s3: S3Calls, { prefix, root, signal }: { prefix: string, root: string, signal: AbortSignal }): AsyncGenerator<Entry> {
  let token: string | undefined
  do {
    const command = new ListObjectsV2Command({ Bucket: s3.bucket, Prefix: prefix, ...(token !== undefined && { ContinuationToken: token }) })
    const page = await s3.call('list', BUCKET_REQUEST_TIMEOUT_MS, signal, abortSignal => s3.client.send(command, { abortSignal })).catch(error => {
      throw new SourceFault(`the bucket cannot be listed: ${reasonOf(error)}`, { cause: error })
    })
    for (const { Key = '', Size = 0 } of page.Contents ?? []) yield describe(s3, root, Key, Size)
    token = page.IsTruncated ? page.NextContinuationToken : undefined
  } while (token !== undefined)
}

function describe(s3: S3Calls, root: string, key: string, size: number): Entry {
  if (key.endsWith('/') && size === 0) return { name: key, outcome: 'skipped', reason: 'stands for a folder' }
  return { name: key, path: key, size, identity: JSON.stringify(['bucket', root, key]), open: signal => read(s3, key, signal) }
}

async function read(s3: S3Calls, key: string, signal: AbortSignal): Promise<Opened> {
  const command = new GetObjectCommand({ Bucket: s3.bucket, Key: key })
  const answer = await s3.call('open', BUCKET_REQUEST_TIMEOUT_MS, signal, abortSignal => s3.client.send(command, { abortSignal })).catch(error => {
    throw new SourceFault(`cannot be read: ${reasonOf(error)}`, { cause: error })
  })
  const body = answer.Body as Readable
  body.on('error', () => {}) // it may fail before anyone listens; whoever reads it finds it destroyed
  if (answer.ContentEncoding !== undefined && answer.ContentEncoding !== '' && answer.ContentEncoding !== 'identity') {
    body.destroy()
    throw new SourceFault(`is stored as ${answer.ContentEncoding}: unpack it first`)
  }
  return {
    body,
    ...(answer.ContentLength !== undefined && { size: answer.ContentLength }),
    ...(answer.ContentType !== undefined && { contentType: answer.ContentType })
  }
}

/** What the server said, where it said something; what it is translated to says only which call it was. */
function reasonOf(error: unknown): string {
  const { message, cause } = error as Error
  return cause instanceof Error && cause.message !== '' ? `${message}: ${cause.message}` : message
}
