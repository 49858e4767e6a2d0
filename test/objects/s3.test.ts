import t from 'tap'
import { s3ObjectStore } from '../../src/objects/s3.ts'
import { objectStoreContract } from '../contract/object-store.ts'
import { minioOrSkip } from '../support/minio.ts'
import { startS3Stub } from '../support/s3-stub.ts'

const settings = { region: 'us-east-1', forcePathStyle: true, maxSockets: 32 }

objectStoreContract(t, 's3 on the stub', async () => {
  const stub = await startS3Stub({ partMinBytes: 1000 })
  t.teardown(() => stub.close())
  const store = s3ObjectStore({ ...settings, ...stub })
  return { store, atomicCopy: true, partMinBytes: 1000, leftovers: async () => [...stub.uploads.keys()] }
})

const minio = await minioOrSkip(t)
if (minio) {
  objectStoreContract(t, 's3 on MinIO', async () => {
    const store = s3ObjectStore({ ...settings, ...minio, bucket: await minio.bucket() })
    return { store, atomicCopy: false, partMinBytes: 5 * 1024 * 1024 }
  })
}
