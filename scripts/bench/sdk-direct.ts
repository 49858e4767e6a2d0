/** Puts small objects straight into the store with the service's own client: what `small` is compared with. */
import { randomBytes, randomUUID } from 'node:crypto'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import { s3Calls } from '../../src/objects/s3-client.ts'
import { ready } from './processes.ts'

interface DirectOrder { readonly count: number, readonly parallel: number, readonly sizeBytes: number }

const { S3_ENDPOINT: endpoint, S3_BUCKET: bucket = '', S3_ACCESS_KEY_ID: accessKeyId = '', S3_SECRET_ACCESS_KEY: secretAccessKey = '' } = process.env
const { client } = s3Calls({ endpoint, bucket, accessKeyId, secretAccessKey, region: 'us-east-1', forcePathStyle: true, maxSockets: 128 })

async function run({ count, parallel, sizeBytes }: DirectOrder): Promise<{ wallSeconds: number }> {
  const body = randomBytes(sizeBytes)
  let started = 0
  const before = performance.now()
  const worker = async () => {
    while (started < count) {
      started += 1
      await client.send(new PutObjectCommand({ Bucket: bucket, Key: `sha256/direct/${randomUUID()}`, Body: body, ContentLength: sizeBytes }))
    }
  }
  await Promise.all(Array.from({ length: parallel }, worker))
  return { wallSeconds: (performance.now() - before) / 1000 }
}

process.on('message', (message: DirectOrder) => { void run(message).then(report => process.send?.(report)) })
ready()
