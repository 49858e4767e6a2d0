/** The stores that a benchmark writes to: the null sink, or a MinIO whose data is in memory where there is room. */
import { mkdtemp, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PutBucketPolicyCommand } from '@aws-sdk/client-s3'
import { s3Calls } from '../../src/objects/s3-client.ts'
import type { S3Calls } from '../../src/objects/s3-client.ts'
import { s3ObjectStore } from '../../src/objects/s3.ts'
import { startMinio } from '../servers/minio.ts'
import { startProgram } from './processes.ts'

const MEMORY_FOLDER = '/dev/shm'
const MAX_SOCKETS = 128

export interface BenchStore {
  readonly name: 'sink' | 'minio'
  /** Of the service. */
  readonly env: Record<string, string>
  /** Address of the bucket; it takes unsigned reads and writes. */
  readonly bucketUrl: string
  /** The very client that the service uses, for what is compared with it. */
  readonly calls: S3Calls
  /** Removes every object, so that the next round has room. */
  empty(): Promise<void>
  stop(): Promise<void>
}

interface Address { endpoint: string, bucket: string, accessKeyId: string, secretAccessKey: string }

function describe(name: 'sink' | 'minio', at: Address, stop: () => Promise<void>): BenchStore {
  const options = { ...at, region: 'us-east-1', forcePathStyle: true, maxSockets: MAX_SOCKETS }
  const calls = s3Calls(options)
  return {
    name, calls,
    bucketUrl: `${at.endpoint}/${at.bucket}`,
    env: { OBJECT_STORE: 's3', S3_ENDPOINT: at.endpoint, S3_BUCKET: at.bucket, S3_ACCESS_KEY_ID: at.accessKeyId, S3_SECRET_ACCESS_KEY: at.secretAccessKey },
    async empty() {
      const store = s3ObjectStore(options)
      for await (const { key } of store.list('sha256/')) await store.delete(key)
      await store.close()
    },
    async stop() {
      calls.close()
      await stop()
    }
  }
}

export async function startSink(): Promise<BenchStore> {
  const sink = await startProgram('sink.ts')
  return describe('sink', { endpoint: sink.url, bucket: 'bench', accessKeyId: 'bench', secretAccessKey: 'bench-secret' }, () => sink.stop())
}

/** @param neededBytes what a round leaves there at most */
export async function startMinioStore(neededBytes: number): Promise<BenchStore> {
  const dataDir = await mkdtemp(join(await memoryFolder(neededBytes), 'penstock-bench-minio-'))
  const removeData = () => rm(dataDir, { recursive: true, force: true })
  try {
    const minio = await startMinio({ dataDir })
    const store = describe('minio', minio, () => minio.stop().finally(removeData))
    // the baseline knows nothing of signatures; on loopback, for the length of the benchmark
    await store.calls.client.send(new PutBucketPolicyCommand({ Bucket: minio.bucket, Policy: openPolicy(minio.bucket) }))
    return store
  } catch (error) {
    await removeData()
    throw error
  }
}

/** A disk that others use too would be what is measured. */
async function memoryFolder(neededBytes: number): Promise<string> {
  const room = await statfs(MEMORY_FOLDER).then(({ bavail, bsize }) => bavail * bsize, () => 0)
  return room > 2 * neededBytes ? MEMORY_FOLDER : tmpdir()
}

function openPolicy(bucket: string): string {
  return JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { AWS: ['*'] }, Action: ['s3:GetObject', 's3:PutObject', 's3:DeleteObject'], Resource: [`arn:aws:s3:::${bucket}/*`] }] })
}
