/** A worker in this process, with what it really is made of: ONNX Runtime, sharp, and a store of files. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { encodeModel, type Graph } from '../../scripts/onnx/model.ts'
import { MODELS } from '../../scripts/make-models.ts'
import type { Datatype, ModelRef, RunInput, StagedResult, WireTensor } from '../../src/inference/port.ts'
import type { FromWorker, ToWorker, WorkerSettings } from '../../src/inference/protocol.ts'
import { workerLoop } from '../../src/inference/worker/loop.ts'
import { fsObjectStore } from '../../src/objects/fs.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'

export type Answer = Extract<FromWorker, { type: 'done' | 'failed' }>
type Order = Extract<ToWorker, { id: string }>

export interface TestWorker {
  folder: string
  store: ObjectStore
  settings: WorkerSettings
  /** Everything that it has said. */
  said: FromWorker[]
  tell(message: ToWorker): void
  /** Gives an order and waits for its answer. */
  order(order: Order): Promise<Answer>
  run(task: string, model: ModelRef, inputs?: readonly RunInput[], more?: { params?: Record<string, unknown>, tensors?: WireTensor[], outputs?: string[], id?: string }): Promise<Answer>
  /** An input object. */
  put(bytes: Uint8Array | string, contentType?: string, name?: string): Promise<RunInput>
  /** A model object. */
  model(graph: Graph | Uint8Array, manifest?: Record<string, unknown>): Promise<ModelRef>
  builtIn(name: string): Promise<ModelRef>
  read(result: StagedResult): Promise<Buffer>
  staged(): Promise<string[]>
}

export const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

export async function startTestWorker(t: Test, overrides: Partial<WorkerSettings> = {}): Promise<TestWorker> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-worker-'))
  const store = fsObjectStore({ root: join(folder, 'objects') })
  await store.createBucket()
  const settings: WorkerSettings = {
    store: {}, modelCacheDir: join(folder, 'models'), workDir: join(folder, 'work'), device: 'cpu', intraOpNumThreads: 1, execTasks: null, ffmpeg: null, sessionsMax: 2, infer: null, ...overrides
  }
  const said: FromWorker[] = []
  const waiting = new Set<(message: FromWorker) => void>()
  const ended = Promise.withResolvers<void>()
  const hear = workerLoop({
    openStore: () => store,
    say(message) {
      // as if it had crossed a channel
      const copy = structuredClone(message)
      said.push(copy)
      for (const listener of waiting) listener(copy)
    },
    onEnd: () => ended.resolve()
  })
  t.teardown(async () => {
    hear({ type: 'stop' })
    await ended.promise
    await rm(folder, { recursive: true, force: true })
  })

  function next<T extends FromWorker>(matches: (message: FromWorker) => message is T): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<T>()
    const listener = (message: FromWorker): void => {
      if (!matches(message)) return
      waiting.delete(listener)
      resolve(message)
    }
    waiting.add(listener)
    return promise
  }

  const begun = next(message => message.type === 'ready' || message.type === 'unusable')
  hear({ type: 'init', worker: '1.1', settings })
  await begun

  async function answerTo(before: Promise<unknown>, order: Order): Promise<Answer> {
    await before
    const answer = next((message): message is Answer => (message.type === 'done' || message.type === 'failed') && message.id === order.id)
    hear(order)
    return await answer
  }

  /** One at a time, as a pool does it. */
  let last: Promise<unknown> = Promise.resolve()
  const worker: TestWorker = {
    folder, store, settings, said, tell: hear,
    order(order) {
      const answer = answerTo(last, order)
      // ready for the next once what follows the answer is done, too
      last = answer.then(() => delay(0))
      return answer
    },
    run: (task, model, inputs = [], { params = {}, id = randomUUID(), ...more } = {}) => worker.order({ type: 'run', id, task, model, params, inputs, ...more }),
    async put(content, contentType = 'application/octet-stream', name = 'input') {
      const bytes = Buffer.from(content)
      const sha256 = sha256Of(bytes)
      const key = canonicalKey(sha256, 'object')
      await store.put(key, bytes, { size: bytes.length })
      return { name, key, sha256, size: bytes.length, contentType }
    },
    async model(graph, manifest = {}) {
      const bytes = graph instanceof Uint8Array ? graph : encodeModel(graph)
      const sha256 = sha256Of(bytes)
      const key = canonicalKey(sha256, 'model.onnx')
      await store.put(key, bytes, { size: bytes.length })
      const whole = { name: 'model', version: 1, task: 'tensor', ...manifest }
      return { name: whole.name, version: String(whole.version), task: whole.task, sha256, key, size: bytes.length, manifest: whole }
    },
    async builtIn(name) {
      const path = join(MODELS, name, '1')
      return await worker.model(await readFile(join(path, 'model.onnx')), JSON.parse(await readFile(join(path, 'model.json'), 'utf8')) as Record<string, unknown>)
    },
    read: async ({ key }) => await buffer((await store.open(key)).body),
    async staged() {
      const keys: string[] = []
      for await (const { key } of store.list('sha256/_staging/')) keys.push(key)
      return keys
    }
  }
  return worker
}

/** The results, where it is done. @throws Error with the failure where it is not */
export function resultsOf(answer: Answer): StagedResult[] {
  if (answer.type === 'failed') throw new Error(`${answer.code}: ${answer.message}`)
  return answer.results
}

export function tensorsOf(answer: Answer): WireTensor[] {
  if (answer.type === 'failed') throw new Error(`${answer.code}: ${answer.message}`)
  return answer.tensors
}

export function wire(name: string, datatype: Datatype, shape: number[], data: ArrayBufferView): WireTensor {
  return { name, datatype, shape, data: new Uint8Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer) }
}
