/** Real workers (src/worker.ts) in a pool, over a store of files. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { encodeModel, type Graph } from '../../scripts/onnx/model.ts'
import { MODELS } from '../../scripts/make-models.ts'
import { createPool, type PoolOptions } from '../../src/inference/pool/pool.ts'
import type { ModelRef, RunInput } from '../../src/inference/port.ts'
import type { WorkerSettings } from '../../src/inference/protocol.ts'
import { createLogger } from '../../src/logging.ts'
import { fsObjectStore } from '../../src/objects/fs.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import { sha256Of } from './worker.ts'

const ENTRY = join(import.meta.dirname, '../../src/worker.ts')

export async function startWorkerPools(t: Test, more: Partial<WorkerSettings> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-process-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const store = fsObjectStore({ root: join(folder, 'objects') })
  await store.createBucket()
  const settings: WorkerSettings = {
    store: { OBJECT_STORE: 'fs', DATA_DIR: folder }, modelCacheDir: join(folder, 'models'), workDir: join(folder, 'work'), device: 'cpu', intraOpNumThreads: 1, execTasks: null, ffmpeg: null, sessionsMax: 2, infer: null, ...more
  }
  const options: Omit<PoolOptions, 'log' | 'onRestart'> = { workers: 1, isolation: 'process', entry: ENTRY, env: { PATH: '/usr/bin:/bin' }, settings, maxJobs: 0, maxRssBytes: 0, cancelGraceMs: 2000, queueMax: 10, startTimeoutMs: 60_000 }
  async function object(bytes: Uint8Array, name: 'object' | 'model.onnx') {
    const sha256 = sha256Of(bytes)
    const key = canonicalKey(sha256, name)
    await store.put(key, bytes, { size: bytes.length })
    return { sha256, key, size: bytes.length }
  }
  return {
    folder, store, settings, options,
    input: async (bytes: Uint8Array): Promise<RunInput> => ({ name: 'input', contentType: 'application/octet-stream', ...await object(bytes, 'object') }),
    model: async (graph: Graph): Promise<ModelRef> => ({ name: 'm', version: '1', task: 'tensor', manifest: { name: 'm', version: 1, task: 'tensor' }, ...await object(encodeModel(graph), 'model.onnx') }),
    async builtIn(name: string): Promise<ModelRef> {
      const manifest = JSON.parse(await readFile(join(MODELS, name, '1/model.json'), 'utf8')) as { task: string }
      return { name, version: '1', task: manifest.task, manifest, ...await object(await readFile(join(MODELS, name, '1/model.onnx')), 'model.onnx') }
    },
    async pool(t: Test, changes: Partial<PoolOptions> = {}) {
      const lines: Record<string, unknown>[] = []
      const pool = createPool({ ...options, ...changes, log: createLogger({ level: 'debug', destination: { write: line => void lines.push(JSON.parse(line) as Record<string, unknown>) } }) })
      t.teardown(() => pool.close())
      await pool.start()
      return { pool, logged: (action: string) => lines.filter(line => line.action === action) }
    }
  }
}
