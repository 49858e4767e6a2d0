/** Which adapters the configuration asks for. Shared by the service and the commands in scripts/. */
import { join } from 'node:path'
import type { Config } from './config.ts'
import { fsObjectStore } from './objects/fs.ts'
import { memoryObjectStore } from './objects/memory.ts'
import type { ObjectStore } from './objects/port.ts'
import { s3ObjectStore } from './objects/s3.ts'
import type { RecordStore } from './records/port.ts'
import { postgresRecordStore } from './records/postgres.ts'
import { sqliteRecordStore } from './records/sqlite.ts'

/** Sockets to the store beyond those of the uploads: for copies, questions and the sweeper. */
const SPARE_SOCKETS = 64

const STORE_VARIABLES = [
  'OBJECT_STORE', 'DATA_DIR', 'S3_ENDPOINT', 'S3_REGION', 'S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY',
  'S3_FORCE_PATH_STYLE', 'PUBLIC_S3_ENDPOINT', 'MAX_CONCURRENT_UPLOADS'
] as const satisfies (keyof Config)[]

/** All that has to be known to open the object store. */
export type StoreSettings = Pick<Config, typeof STORE_VARIABLES[number]>

/** The part of a configuration that workers get, to open the same store. */
export function storeSettings(config: Config): StoreSettings {
  return Object.fromEntries(STORE_VARIABLES.map(name => [name, config[name]])) as unknown as StoreSettings
}

export function openObjectStore(config: StoreSettings): ObjectStore {
  switch (config.OBJECT_STORE) {
    case 'memory': return memoryObjectStore()
    case 'fs': return fsObjectStore({ root: join(config.DATA_DIR, 'objects') })
    case 's3': return s3ObjectStore({
      ...(config.S3_ENDPOINT === undefined ? {} : { endpoint: config.S3_ENDPOINT }),
      region: config.S3_REGION,
      bucket: config.S3_BUCKET!,
      accessKeyId: config.S3_ACCESS_KEY_ID!,
      secretAccessKey: config.S3_SECRET_ACCESS_KEY!,
      forcePathStyle: config.S3_FORCE_PATH_STYLE,
      publicEndpoint: config.PUBLIC_S3_ENDPOINT,
      maxSockets: config.MAX_CONCURRENT_UPLOADS + SPARE_SOCKETS
    })
  }
}

/** Where the records are kept without DATABASE_URL. */
export function recordsFile(config: Config): string {
  return join(config.DATA_DIR, 'penstock.db')
}

export function openRecordStore(config: Config): RecordStore {
  return config.DATABASE_URL === undefined
    ? sqliteRecordStore({ file: recordsFile(config) })
    : postgresRecordStore({ url: config.DATABASE_URL })
}
