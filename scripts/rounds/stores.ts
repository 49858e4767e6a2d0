/** What the scripts that kill the service look for in its stores, and how they tidy up before they look. */
import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { collect } from '../../src/ingest/collect.ts'
import { sweep } from '../../src/ingest/sweep.ts'
import { PROBE_PREFIX, STAGING_PREFIX } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { startMinio } from '../servers/minio.ts'

export interface Stores { store: ObjectStore, records: RecordStore }

/** Stores keep whole seconds. */
const SECOND_MS = 1500
const SWEEP_TIMEOUT_MS = 120_000

const quiet = { debug() {}, info() {}, warn(fields: Record<string, unknown>) { console.error(fields) }, error(fields: Record<string, unknown>) { console.error(fields) } }

/** Everything that is there is older than this. */
function soon(): Date {
  return new Date(Date.now() + 1000)
}

/** Of the bytes that are there; undefined where there are none. */
export async function digestOf(store: ObjectStore, key: string): Promise<string | undefined> {
  if (await store.head(key) === undefined) return undefined
  const hash = createHash('sha256')
  for await (const chunk of (await store.open(key)).body) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** As if the service had been left alone for longer than any of its bounds. */
export async function sweepAndCollect({ store, records }: Stores): Promise<{ swept: number, collected: number }> {
  let swept = 0
  // twice: where a copy is a hard link, taking one name away makes the other as new as that moment
  for (let pass = 0; pass < 2; pass++) {
    await delay(SECOND_MS)
    const { uploads, objects } = await sweep({ store, records, log: quiet }, soon(), AbortSignal.timeout(SWEEP_TIMEOUT_MS))
    swept += uploads + objects
  }
  let collected = 0
  for await (const { removed } of collect({ store, records, before: soon(), remove: true })) collected += removed ? 1 : 0
  return { swept, collected }
}

/** What is unfinished after a sweep of everything: nothing may be. `dataDir`: of a service that keeps its objects in files. */
export async function unfinished({ store, records }: Stores, dataDir: string): Promise<string[]> {
  const faults: string[] = []
  for (const prefix of [STAGING_PREFIX, PROBE_PREFIX]) {
    for await (const { key } of store.list(prefix)) faults.push(`${key} was left`)
  }
  for (const intent of await records.multiparts.listStale(Date.now() + 60_000, 100)) faults.push(`multipart intent ${intent.key} was left`)
  for (const folder of ['.tmp', '.multipart']) {
    const files = await readdir(join(dataDir, 'objects', folder), { recursive: true }).catch(() => [])
    faults.push(...files.map(file => `${folder}/${file} was left`))
  }
  return faults
}

/** The environment of the service over a MinIO of its own, and how to end that. */
export async function minioEnvironment(): Promise<{ env: Record<string, string>, stop(): Promise<void> }> {
  const minio = await startMinio()
  return {
    env: {
      OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: minio.bucket,
      S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey
    },
    stop: () => minio.stop()
  }
}

/** The same over a MinIO and a Postgres of its own, which several nodes can share. */
export async function sharedStoresEnvironment(): Promise<{ env: Record<string, string>, stop(): Promise<void> }> {
  const minio = await minioEnvironment()
  try {
    const postgres = await startPostgres()
    return {
      env: { ...minio.env, DATABASE_URL: postgres.url },
      async stop() {
        await Promise.all([minio.stop(), postgres.stop()])
      }
    }
  } catch (error) {
    await minio.stop()
    throw error
  }
}
