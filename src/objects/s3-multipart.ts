/** Multipart uploads of an S3 server. */
import {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CreateMultipartUploadCommand, ListMultipartUploadsCommand,
  UploadPartCommand, UploadPartCopyCommand, type ListMultipartUploadsCommandOutput, type MultipartUpload
} from '@aws-sdk/client-s3'
import { checkKey, checkParts, checkRange } from './checks.ts'
import { MultipartNotFound, ObjectNotFound, ObjectRangeNotSatisfiable, ObjectStoreFailed, type ETag, type MultipartRef, type ObjectStore } from './port.ts'
import { copySource, etagOr, unquote } from './s3-answers.ts'
import { retryConflicts, type S3Calls } from './s3-client.ts'
import { answered, takenInstead } from './s3-errors.ts'

type Methods = Pick<ObjectStore, 'createMultipart' | 'putPart' | 'copyPart' | 'completeMultipart' | 'abortMultipart' | 'listMultiparts'>

export function s3Multipart(s3: S3Calls): Methods {
  const { client, bucket, call, timeouts } = s3
  return {
    async createMultipart(key, { contentType, signal } = {}) {
      checkKey(key)
      const command = new CreateMultipartUploadCommand({ Bucket: bucket, Key: key, ...(contentType === undefined ? {} : { ContentType: contentType }) })
      const { UploadId } = await call('createMultipart', timeouts.requestMs, signal, abortSignal => client.send(command, { abortSignal }))
      if (!UploadId) throw new ObjectStoreFailed('s3: the answer has no upload id')
      return { uploadId: UploadId }
    },

    async putPart(upload, partNumber, body, options) {
      const input = { ...of(bucket, upload), PartNumber: partNumber, ContentLength: options.size }
      const { ETag } = await s3.send('putPart', body, options, (Body, abortSignal) => client.send(new UploadPartCommand({ ...input, Body }), { abortSignal }))
      return { partNumber, etag: partETag(ETag) }
    },

    async copyPart(upload, partNumber, source, { sourceETag, range, signal } = {}) {
      checkKey(source)
      if (range) checkRange(range, Infinity)
      const command = new UploadPartCopyCommand({
        ...of(bucket, upload), PartNumber: partNumber, CopySource: copySource(bucket, source),
        ...(sourceETag === undefined ? {} : { CopySourceIfMatch: sourceETag }),
        ...(range === undefined ? {} : { CopySourceRange: `bytes=${range.start}-${range.end}` })
      })
      try {
        const { CopyPartResult } = await call('copyPart', timeouts.copyMs, signal, abortSignal => client.send(command, { abortSignal }))
        return { partNumber, etag: partETag(CopyPartResult?.ETag) }
      } catch (error) {
        // a range beyond the end is 400 with one name or another
        if (range && answered(error, 400) && /Range|InvalidArgument/.test(nameOf(error))) {
          throw new ObjectRangeNotSatisfiable('the range does not lie inside the object', { cause: (error as Error).cause })
        }
        throw error
      }
    },

    async completeMultipart(upload, parts, { createOnly, signal } = {}) {
      checkParts(parts)
      const command = (): CompleteMultipartUploadCommand => new CompleteMultipartUploadCommand({
        ...of(bucket, upload),
        MultipartUpload: { Parts: parts.map(({ partNumber, etag }) => ({ PartNumber: partNumber, ETag: etag })) },
        ...(createOnly ? { IfNoneMatch: '*' } : {})
      })
      try {
        const { ETag } = await retryConflicts(() => call('completeMultipart', timeouts.copyMs, signal, abortSignal => client.send(command(), { abortSignal })))
        return { etag: await etagOr(s3, ETag, upload.key, signal) }
      } catch (error) {
        throw error instanceof ObjectStoreFailed && createOnly ? takenInstead(error) : error
      }
    },

    async abortMultipart(upload, signal) {
      try {
        await call('abortMultipart', timeouts.requestMs, signal, abortSignal => client.send(new AbortMultipartUploadCommand(of(bucket, upload)), { abortSignal }))
      } catch (error) {
        if (!(error instanceof MultipartNotFound || error instanceof ObjectNotFound)) throw error
      }
    },

    async listMultiparts(key, signal) {
      checkKey(key)
      const found: { uploadId: string, initiated: Date }[] = []
      for await (const { Key, UploadId, Initiated } of uploadsUnder(s3, key, signal)) {
        if (Key === key && UploadId) found.push({ uploadId: UploadId, initiated: Initiated ?? new Date(0) })
      }
      return found
    }
  }
}

async function* uploadsUnder(s3: S3Calls, prefix: string, signal: AbortSignal | undefined): AsyncGenerator<MultipartUpload> {
  let marker: { KeyMarker?: string, UploadIdMarker?: string } = {}
  for (;;) {
    const command = new ListMultipartUploadsCommand({ Bucket: s3.bucket, Prefix: prefix, ...marker })
    const page: ListMultipartUploadsCommandOutput = await s3.call('listMultiparts', s3.timeouts.requestMs, signal, abortSignal => s3.client.send(command, { abortSignal }))
    yield* page.Uploads ?? []
    const { IsTruncated, NextKeyMarker, NextUploadIdMarker } = page
    if (!IsTruncated || !NextKeyMarker || !NextUploadIdMarker) return
    marker = { KeyMarker: NextKeyMarker, UploadIdMarker: NextUploadIdMarker }
  }
}

function of(bucket: string, { key, uploadId }: MultipartRef): { Bucket: string, Key: string, UploadId: string } {
  checkKey(key)
  return { Bucket: bucket, Key: key, UploadId: uploadId }
}

function partETag(etag: string | undefined): ETag {
  if (!etag) throw new ObjectStoreFailed('s3: the answer has no ETag of the part')
  return unquote(etag)
}

function nameOf(error: unknown): string {
  return ((error as Error).cause as Error | undefined)?.name ?? ''
}
