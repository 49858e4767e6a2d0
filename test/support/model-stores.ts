/** Stores for tests of models, and workers that read no ONNX: a file loads unless it begins with `bad`, and says what it is. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import { InferenceFailed, type InferencePool, type ModelSignature } from '../../src/inference/port.ts'
import type { Log } from '../../src/ingest/context.ts'
import { stagingKey } from '../../src/objects/keys.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { probeStore } from '../../src/objects/probe.ts'
import { storeReadiness, type StoreReadiness } from '../../src/objects/readiness.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { SIGNATURE } from './model-rows.ts'

export interface ModelStores {
  store: ObjectStore
  records: RecordStore
  readiness: StoreReadiness
  log: Log
  /** Lines of an action. */
  logged(action: string): Record<string, unknown>[]
  /** Every key but those of the probe. */
  keys(): Promise<string[]>
  json(key: string): Promise<unknown>
}

export const digest = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex')

export async function modelStores(t: Test): Promise<ModelStores> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-models-'))
  const store = memoryObjectStore()
  const records = sqliteRecordStore({ file: join(folder, 'records.db') })
  await records.migrate()
  t.teardown(async () => {
    await records.close()
    await rm(folder, { recursive: true, force: true })
  })
  const lines: Record<string, unknown>[] = []
  const write = (fields: Record<string, unknown>, message?: string): void => void lines.push({ ...fields, message })
  return {
    store, records, log: { debug: write, info: write, warn: write, error: write },
    readiness: storeReadiness({ store, createBucket: true, probe: () => probeStore(store, records.multiparts), onProbed() {} }),
    logged: action => lines.filter(line => line.action === action),
    async keys() {
      const keys: string[] = []
      for await (const { key } of store.list('sha256/')) keys.push(key)
      return keys
    },
    json: async key => JSON.parse((await buffer((await store.open(key)).body)).toString()) as unknown
  }
}

function load(bytes: Buffer): ModelSignature {
  if (bytes.subarray(0, 3).toString() === 'bad') throw new InferenceFailed('invalid_model', 'protobuf parsing failed')
  return SIGNATURE
}

/** As a worker does it: hash, load, stage. */
export function scriptedImport({ store }: Pick<ModelStores, 'store'>): { pool: Pick<InferencePool, 'importModel' | 'checkModel'>, staged: string[] } {
  const staged: string[] = []
  return {
    staged,
    pool: {
      async checkModel({ key }) {
        return load(await buffer((await store.open(key)).body))
      },
      async importModel(file, known) {
        const bytes = await readFile(file)
        const sha256 = digest(bytes)
        const signature = load(bytes)
        if (known.includes(sha256)) return { sha256, size: bytes.length, signature, staged: null }
        const key = stagingKey(randomUUID(), 'object')
        const { etag } = await store.put(key, bytes, { size: bytes.length })
        staged.push(key)
        return { sha256, size: bytes.length, signature, staged: { name: 'model', filename: 'model.onnx', key, etag, size: bytes.length, sha256, contentType: 'application/octet-stream' } }
      }
    }
  }
}
