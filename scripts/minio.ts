/**
 * `npm run minio [-- --port 9000 --data ./data/minio --bucket penstock]`: a MinIO for development, until Ctrl-C.
 * Prints the lines that .env needs.
 */
import { parseArgs } from 'node:util'
import { startMinio } from './servers/minio.ts'

const { values } = parseArgs({
  options: {
    port: { type: 'string' },
    data: { type: 'string', default: './data/minio' },
    bucket: { type: 'string', default: 'penstock' }
  }
})

if (values.port !== undefined && !/^\d{1,5}$/.test(values.port)) {
  console.error('--port must be a number')
  process.exit(2)
}

try {
  const minio = await startMinio({ dataDir: values.data, bucket: values.bucket, ...(values.port === undefined ? {} : { port: Number(values.port) }) })
  console.log(`# MinIO is running at ${minio.endpoint}, data in ${values.data}. Put this into .env; Ctrl-C ends it.
OBJECT_STORE=s3
S3_ENDPOINT=${minio.endpoint}
S3_REGION=us-east-1
S3_BUCKET=${minio.bucket}
S3_ACCESS_KEY_ID=${minio.accessKeyId}
S3_SECRET_ACCESS_KEY=${minio.secretAccessKey}
S3_FORCE_PATH_STYLE=true`)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void minio.stop().then(() => process.exit(0)))
} catch (error) {
  console.error((error as Error).message)
  process.exit(1)
}
