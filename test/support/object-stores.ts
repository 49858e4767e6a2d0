/** Stores for tests that run on several of them. Each is empty and ends with its test. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { fsObjectStore } from '../../src/objects/fs.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { s3ObjectStore, type S3Options } from '../../src/objects/s3.ts'
import type { TestS3 } from './minio.ts'
import { startS3Stub, type S3Stub, type S3StubOptions } from './s3-stub.ts'

const S3_SETTINGS = { region: 'us-east-1', forcePathStyle: true, maxSockets: 32 }

export async function openFs(t: Test): Promise<ObjectStore> {
  const root = await mkdtemp(join(tmpdir(), 'penstock-fs-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  return fsObjectStore({ root })
}

export async function openMemory(): Promise<ObjectStore> {
  return memoryObjectStore()
}

/** An s3 store on a stub of its own, which takes parts of any size. */
export async function openStub(t: Test, options: Partial<S3Options> = {}, stubOptions: S3StubOptions = {}): Promise<{ stub: S3Stub, store: ObjectStore }> {
  const stub = await startS3Stub({ partMinBytes: 1, ...stubOptions })
  const store = s3ObjectStore({ ...S3_SETTINGS, ...stub, ...options })
  t.teardown(async () => {
    await store.close()
    await stub.close()
  })
  return { stub, store }
}

/** An s3 store on a fresh bucket of a real MinIO. */
export async function openMinio(t: Test, minio: TestS3): Promise<ObjectStore> {
  const store = s3ObjectStore({ ...S3_SETTINGS, ...minio, bucket: await minio.bucket() })
  t.teardown(() => store.close())
  return store
}
