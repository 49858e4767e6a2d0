/**
 * Presigned addresses (AWS Signature Version 4 in the query) of the endpoint that clients use, which may be another than the
 * one that this service uses. Nothing is sent: they are made of the key, the time and the secret.
 *
 * A header of the client counts for the signature only where it is named: Content-Type always, Content-Length where the
 * size is known. Both come from the client; with others than were signed the store refuses the request.
 */
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { checkKey } from './checks.ts'
import type { Presigns } from './presign.ts'
import { s3Client, type S3Options } from './s3-client.ts'

/** @param endpoint as clients reach it */
export function s3Presign(options: S3Options, endpoint: string): { presigns: Presigns, close(): void } {
  const client = s3Client({ ...options, endpoint })
  const { bucket: Bucket } = options
  const presigns: Presigns = {
    async presignGet(key, { expiresSeconds, contentType, disposition }) {
      checkKey(key)
      const command = new GetObjectCommand({
        Bucket, Key: key,
        ...(contentType === undefined ? {} : { ResponseContentType: contentType }),
        ...(disposition === undefined ? {} : { ResponseContentDisposition: disposition })
      })
      return await getSignedUrl(client, command, { expiresIn: expiresSeconds })
    },
    async presignPut(key, { expiresSeconds, contentType, size }) {
      checkKey(key)
      const command = new PutObjectCommand({ Bucket, Key: key, ContentType: contentType, ...(size === undefined ? {} : { ContentLength: size }) })
      const signableHeaders = new Set(['host', 'content-type', 'content-length'])
      return { url: await getSignedUrl(client, command, { expiresIn: expiresSeconds, signableHeaders }), headers: { 'content-type': contentType } }
    }
  }
  return { presigns, close: () => client.destroy() }
}
