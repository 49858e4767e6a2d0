import t from 'tap'
import { ingestContract } from '../contract/ingest.ts'
import { minioOrSkip } from '../support/minio.ts'
import { postgresOrSkip } from '../support/postgres.ts'

const minio = await minioOrSkip(t)
const postgres = minio && await postgresOrSkip(t)

if (minio && postgres) {
  ingestContract(t, 'MinIO + Postgres', async () => ({
    OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: await minio.bucket(),
    S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey,
    DATABASE_URL: await postgres.createDatabase()
  }))
}
