/**
 * Images through a model by the pool, against a bare loop around onnxruntime-node: as many processes with as many threads
 * each, the same model, the same image of one megapixel, the same decoder and encoder. The pool's workers do more: they
 * read the bucket and verify the digest, cut tiles, hash the result and store it durably (fs store).
 */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { readConfig } from '../../src/config.ts'
import type { InferencePool, ModelRef, RunInput, RunRequest } from '../../src/inference/port.ts'
import { sizePool } from '../../src/inference/pool/sizing.ts'
import { createLogger } from '../../src/logging.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { openPool } from '../../src/pools.ts'
import { openObjectStore } from '../../src/stores.ts'
import type { InferOrder, InferReport } from './infer-baseline.ts'
import type { BenchOptions } from './main.ts'
import { cpuSeconds, median } from './measure.ts'
import { order, startProgram } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'

const MODELS = join(import.meta.dirname, '../../src/inference/models')
const NAMES = ['upscale-2x', 'edges'] as const
const SIDE_PIXELS = 1000
/** One measurement: enough that starting and ending do not count, for each worker. */
const IMAGES_EACH = 12
const RUN_TIMEOUT_MS = 120_000
const MIN_RATIO = 0.95

/** Something of a photograph: gradients, edges and noise, always the same. */
async function writePhotograph(path: string): Promise<Buffer> {
  const pixels = Buffer.alloc(SIDE_PIXELS * SIDE_PIXELS * 3)
  for (let at = 0, seed = 1; at < pixels.length; at += 1) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    const [x, y] = [Math.floor(at / 3) % SIDE_PIXELS, Math.floor(at / 3 / SIDE_PIXELS)]
    pixels[at] = 110 + 70 * Math.sin(x / (31 + at % 3)) + 40 * Math.sign(Math.cos(y / 97)) + (seed >> 16) % 24
  }
  await sharp(pixels, { raw: { width: SIDE_PIXELS, height: SIDE_PIXELS, channels: 3 } }).jpeg({ quality: 90 }).toFile(path)
  return await readFile(path)
}

async function store(objects: ObjectStore, bytes: Uint8Array, contentType: string): Promise<RunInput> {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const key = canonicalKey(sha256, 'object')
  await objects.put(key, bytes, { size: bytes.length, contentType })
  return { name: 'input', key, sha256, size: bytes.length, contentType }
}

async function storeModel(objects: ObjectStore, name: string): Promise<ModelRef> {
  const { key, sha256, size } = await store(objects, await readFile(join(MODELS, name, '1/model.onnx')), 'application/octet-stream')
  const manifest = JSON.parse(await readFile(join(MODELS, name, '1/model.json'), 'utf8')) as { task: string }
  return { name, version: '1', sha256, key, size, task: manifest.task, manifest }
}

/** Images a second, each worker with a run and one that waits. */
async function throughPool(pool: InferencePool, objects: ObjectStore, model: ModelRef, input: RunInput, workers: number): Promise<number> {
  const staged: string[] = []
  let left = workers * IMAGES_EACH
  const before = performance.now()
  await Promise.all(Array.from({ length: workers * 2 }, async () => {
    while (left > 0) {
      left -= 1
      const request: RunRequest = { id: `bench-${left}`, task: model.task, model, params: {}, inputs: [input] }
      const { results } = await pool.run(request, { timeoutMs: RUN_TIMEOUT_MS })
      staged.push(...results.map(result => result.key))
    }
  }))
  const seconds = (performance.now() - before) / 1000
  for (const key of staged) await objects.delete(key)
  return workers * IMAGES_EACH / seconds
}

export async function benchInfer({ rounds, parallel: workers }: BenchOptions): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-infer-'))
  const { intraOpNumThreads: threads } = sizePool({ workers, threads: undefined, device: 'cpu' })
  const config = readConfig({ DATA_DIR: join(folder, 'data'), DEVICE: 'cpu', WORKERS: String(workers), WORKER_THREADS: String(threads) })
  const objects = openObjectStore(config)
  const pool = await openPool(config, createLogger({ level: 'error' }))
  const stops: (() => Promise<unknown>)[] = [() => pool.close(), () => objects.close(), () => rm(folder, { recursive: true, force: true })]
  try {
    await mkdir(config.DATA_DIR)
    await objects.createBucket()
    await pool.start()
    const image = join(folder, 'image.jpg')
    const input = await store(objects, await writePhotograph(image), 'image/jpeg')
    const rows: Record<string, string | number>[] = []
    for (const name of NAMES) {
      const model = await storeModel(objects, name)
      const programs = await Promise.all(Array.from({ length: workers }, () => startProgram('infer-baseline.ts')))
      const stopPrograms = async (): Promise<void> => { await Promise.all(programs.map(program => program.stop())) }
      stops.unshift(stopPrograms)
      const subjects: Record<string, { pids(): number[], rate(): Promise<number> }> = {
        baseline: { pids: () => programs.map(program => program.pid), rate: async () => {
          const before = performance.now()
          await Promise.all(programs.map((program, index) => order<InferReport>(program, {
            model: join(MODELS, name, '1/model.onnx'), image, out: join(folder, `${index}.png`), count: IMAGES_EACH, threads
          } satisfies InferOrder)))
          return workers * IMAGES_EACH / ((performance.now() - before) / 1000)
        } },
        pool: { pids: () => pool.status().flatMap(worker => worker.pid ?? []), rate: () => throughPool(pool, objects, model, input, workers) }
      }
      // round 0 warms everything up and is thrown away; every other round goes in the opposite order
      for (let round = 0; round <= rounds; round += 1) {
        const turn = Object.entries(subjects)
        for (const [subject, { pids, rate }] of round % 2 === 0 ? turn : turn.toReversed()) {
          const cpu = (): number => pids().reduce((sum, pid) => sum + cpuSeconds(pid), 0)
          const before = cpu()
          const imagesPerSecond = await rate()
          if (round > 0) rows.push({ round, model: name, subject, 'images/s': imagesPerSecond, 'CPU s/image': (cpu() - before) / (workers * IMAGES_EACH) })
        }
      }
      await stopPrograms()
    }
    return describeInfer(rounds, workers, threads, rows)
  } finally {
    for (const stop of stops) await stop()
  }
}

function describeInfer(rounds: number, workers: number, threads: number, rows: Record<string, string | number>[]): Report {
  const of = (model: string, subject: string, column = 'images/s') => median(rows.filter(row => row.model === model && row.subject === subject).map(row => Number(row[column])))
  return {
    name: 'infer',
    setup: { rounds, workers, 'threads each': threads, image: `${SIDE_PIXELS} × ${SIDE_PIXELS}`, 'images a round': workers * IMAGES_EACH, ...machine() },
    rows,
    figures: NAMES.flatMap(name => [
      { name: `${name}, bare loop`, value: of(name, 'baseline'), unit: 'images/s' },
      { name: `${name}, pool`, value: of(name, 'pool'), unit: 'images/s' },
      { name: `${name}, pool / bare loop`, value: of(name, 'pool') / of(name, 'baseline'), unit: '×', bound: { at: 'least' as const, value: MIN_RATIO } },
      { name: `${name}, CPU of the pool's workers / bare loop`, value: of(name, 'pool', 'CPU s/image') / of(name, 'baseline', 'CPU s/image'), unit: '×' }
    ])
  }
}
