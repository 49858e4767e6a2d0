/** Pools of real workers over files: a bucket with built-in models and images in it. Nothing of them is left when the test ends. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import sharp from 'sharp'
import type { Test } from 'tap'
import { readConfig } from '../../src/config.ts'
import type { InferencePool, ModelRef, RunHooks, RunInput, RunRequest } from '../../src/inference/port.ts'
import type { WorkerSettings } from '../../src/inference/protocol.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { openObjectStore, storeSettings } from '../../src/stores.ts'
import { startPool, type ScriptedOptions } from './scripted-pool.ts'

export const WORKER = join(import.meta.dirname, '../../src/worker.ts')
export const BUILT_IN = join(import.meta.dirname, '../../src/inference/models')

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export interface Bucket {
  folder: string
  store: ObjectStore
  settings: WorkerSettings
  /** A built-in model, put into the bucket. */
  model(name: string): Promise<ModelRef>
  input(bytes: Uint8Array, contentType: string): Promise<RunInput>
  bytes(key: string): Promise<Buffer>
  keys(): Promise<string[]>
  /** What runs have in their folders. */
  work(): Promise<string[]>
}

export async function makeBucket(t: Test): Promise<Bucket> {
  const folder = t.testdir()
  const config = readConfig({ DATA_DIR: folder })
  const store = openObjectStore(config)
  t.teardown(() => store.close())
  await store.createBucket()
  const put = async (key: string, bytes: Uint8Array, contentType: string): Promise<void> => {
    await store.put(key, bytes, { size: bytes.length, contentType })
  }
  const work = join(folder, 'work')
  return {
    folder, store,
    settings: { store: { ...storeSettings(config) }, modelCacheDir: join(folder, 'models'), workDir: work, device: 'cpu', intraOpNumThreads: 1, execTasks: null, ffmpeg: null, sessionsMax: 2, infer: null },
    async model(name) {
      const bytes = await readFile(join(BUILT_IN, name, '1', 'model.onnx'))
      const manifest = JSON.parse(await readFile(join(BUILT_IN, name, '1', 'model.json'), 'utf8')) as { task: string }
      const sha256 = digest(bytes)
      const key = canonicalKey(sha256, 'object')
      await put(key, bytes, 'application/octet-stream')
      return { name, version: '1', sha256, key, size: bytes.length, task: manifest.task, manifest }
    },
    async input(bytes, contentType) {
      const sha256 = digest(bytes)
      const key = canonicalKey(sha256, 'object')
      await put(key, bytes, contentType)
      return { name: 'input', key, sha256, size: bytes.length, contentType }
    },
    bytes: async key => await buffer((await store.open(key)).body),
    async keys() {
      const keys: string[] = []
      for await (const { key } of store.list('')) keys.push(key)
      return keys
    },
    work: () => readdir(work).catch(() => [])
  }
}

/** A pool of real workers over the bucket. */
export async function startRealPool(t: Test, bucket: Bucket, options: ScriptedOptions = {}): Promise<Awaited<ReturnType<typeof startPool>>> {
  return await startPool(t, { entry: WORKER, settings: bucket.settings, startTimeoutMs: 60_000, ...options })
}

export function realRun(pool: InferencePool, request: Pick<RunRequest, 'id' | 'model'> & Partial<RunRequest>, hooks: Partial<RunHooks> = {}): ReturnType<InferencePool['run']> {
  return pool.run({ task: request.model.task, params: {}, inputs: [], ...request }, { timeoutMs: 100_000, ...hooks })
}

/** A picture with something in every place. */
export async function picture(width: number, height: number): Promise<Buffer> {
  const pixels = Buffer.alloc(width * height * 3)
  for (let at = 0, pixel = 0; pixel < width * height; pixel += 1) {
    const [x, y] = [pixel % width, Math.floor(pixel / width)]
    pixels[at++] = 128 + 100 * Math.sin(x / 37)
    pixels[at++] = 128 + 100 * Math.cos(y / 53)
    pixels[at++] = (x ^ y) & 255
  }
  return await sharp(pixels, { raw: { width, height, channels: 3 } }).png({ compressionLevel: 1 }).toBuffer()
}
