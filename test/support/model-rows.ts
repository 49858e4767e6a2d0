/** Rows of models for tests of what reads them. */
import { createHash, randomUUID } from 'node:crypto'
import type { ModelSignature } from '../../src/inference/port.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import type { ModelRecord, ModelRecords } from '../../src/records/jobs-port.ts'

/** y = x: float32, any number of rows of two. */
export const SIGNATURE: ModelSignature = {
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }], outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 2] }]
}

export function modelRow(row: Partial<ModelRecord> = {}): ModelRecord {
  const { name = 'identity', version = '1' } = row
  const sha256 = createHash('sha256').update(`${name} ${version}`).digest('hex')
  return {
    id: randomUUID(), name, version, task: 'tensor', sha256, key: canonicalKey(sha256, 'model.onnx'), size: 100,
    manifest: { name, version, task: 'tensor' }, signature: SIGNATURE, loaded: true, createdAt: 0, ...row
  }
}

/** Only what reads them, and setLoaded: in the order given, which stands for highest version first. */
export function modelRows(rows: ModelRecord[]): ModelRecords {
  return {
    list: async () => [...rows],
    find: async (name, version) => rows.find(row => row.name === name && (version === undefined ? row.loaded : row.version === version)),
    async setLoaded(name, version, loaded) {
      const found = rows.filter(row => row.name === name && (version === undefined || row.version === version))
      for (const row of found) row.loaded = loaded
      return found.length
    },
    add: async () => { throw new Error('these rows are not added to') }
  }
}
