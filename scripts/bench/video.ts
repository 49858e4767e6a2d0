/**
 * A video of 1080p through the model `identity-image` by the pool, against ffmpeg alone that decodes and encodes it with the
 * same settings and threads: what is between are the pixels' way through pipes, tensors and ONNX Runtime, for nothing.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../../src/config.ts'
import type { ModelRef, RunInput } from '../../src/inference/port.ts'
import { sizePool } from '../../src/inference/pool/sizing.ts'
import { FORMATS } from '../../src/inference/tasks/video/encode.ts'
import { createLogger } from '../../src/logging.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { openPool } from '../../src/pools.ts'
import { openObjectStore } from '../../src/stores.ts'
import { provideFfmpeg, type Ffmpeg } from '../servers/ffmpeg.ts'
import type { BenchOptions } from './main.ts'
import { cpuSecondsWithChildren, measure, median } from './measure.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'

const MODEL = join(import.meta.dirname, '../../src/inference/models/identity-image/1')
const RATE = 25
const PRESET = 'medium'
const RUN_TIMEOUT_MS = 600_000
const MIN_RATIO = 0.8

async function ffmpeg({ ffmpeg: path, env }: Ffmpeg, args: readonly string[]): Promise<void> {
  const child = spawn(path, ['-v', 'error', '-nostdin', '-y', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  const [code] = await once(child, 'exit') as [number | null]
  if (code !== 0) throw new Error(`ffmpeg ended with ${code}`)
}

async function store(objects: ObjectStore, path: string, contentType: string): Promise<RunInput> {
  const bytes = await readFile(path)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const key = canonicalKey(sha256, 'object')
  await objects.put(key, bytes, { size: bytes.length, contentType })
  return { name: 'input', key, sha256, size: bytes.length, contentType }
}

/** `count`: frames. */
export async function benchVideo({ rounds, count: frames = 250 }: BenchOptions): Promise<Report> {
  const programs = await provideFfmpeg(line => console.error(line))
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-video-'))
  const { intraOpNumThreads: threads } = sizePool({ workers: 1, threads: undefined, device: 'cpu' })
  const config = readConfig({ ...programs.env, DATA_DIR: join(folder, 'data'), DEVICE: 'cpu', WORKERS: '1', WORKER_THREADS: String(threads) })
  const objects = openObjectStore(config)
  const pool = await openPool(config, createLogger({ level: 'error' }))
  try {
    await mkdir(config.DATA_DIR)
    await objects.createBucket()
    await pool.start()
    const original = join(folder, 'original.mp4')
    // something of a film: movement, edges, and the noise of a camera
    await ffmpeg(programs, ['-f', 'lavfi', '-i', `testsrc2=size=1920x1080:rate=${RATE},noise=alls=8:allf=t`, '-f', 'lavfi', '-i', 'sine', '-frames:v', String(frames), '-shortest', '-c:v', 'libx264', '-preset', 'fast', '-pix_fmt', 'yuv420p', original])
    const input = await store(objects, original, 'video/mp4')
    const { key, sha256, size } = await store(objects, join(MODEL, 'model.onnx'), 'application/octet-stream')
    const model: ModelRef = { name: 'identity-image', version: '1', sha256, key, size, task: 'image-to-image', manifest: JSON.parse(await readFile(join(MODEL, 'model.json'), 'utf8')) }
    const worker = (): number => pool.status()[0]!.pid!
    const alone = [...FORMATS.mp4.arguments(FORMATS.mp4.qualityDefault, PRESET), '-threads', String(threads), '-c:a', 'copy', join(folder, 'alone.mp4')]
    const subjects: Record<string, { pid(): number, run(): Promise<void> }> = {
      ffmpeg: { pid: () => process.pid, run: () => ffmpeg(programs, ['-threads', String(threads), '-i', original, ...alone]) },
      pool: { pid: worker, run: async () => {
        const { results } = await pool.run({ id: 'bench', task: 'video-to-video', model, params: { preset: PRESET }, inputs: [input] }, { timeoutMs: RUN_TIMEOUT_MS })
        for (const result of results) await objects.delete(result.key)
      } }
    }
    const rows: Record<string, string | number>[] = []
    // round 0 warms everything up and is thrown away; every other round goes in the opposite order
    for (let round = 0; round <= rounds; round += 1) {
      const turn = Object.entries(subjects)
      for (const [subject, { pid, run }] of round % 2 === 0 ? turn : turn.toReversed()) {
        const before = cpuSecondsWithChildren(pid())
        const { cost } = await measure(pid(), run)
        if (round > 0) rows.push({ round, subject, 'frames/s': frames / cost.wallSeconds, 'CPU ms/frame': (cpuSecondsWithChildren(pid()) - before) / frames * 1000, 'peak MiB of Node': cost.peakRssMib })
      }
    }
    return describeVideo({ rounds, frames, threads }, rows)
  } finally {
    await pool.close()
    await objects.close()
    await rm(folder, { recursive: true, force: true })
  }
}

function describeVideo(setup: { rounds: number, frames: number, threads: number }, rows: Record<string, string | number>[]): Report {
  const of = (subject: string, column: string): number => median(rows.filter(row => row.subject === subject).map(row => Number(row[column])))
  return {
    name: 'video',
    setup: { ...setup, video: '1920 × 1080, H.264', preset: PRESET, ...machine() },
    rows,
    figures: [
      { name: 'ffmpeg alone', value: of('ffmpeg', 'frames/s'), unit: 'frames/s' },
      { name: 'through the model', value: of('pool', 'frames/s'), unit: 'frames/s' },
      { name: 'through the model / ffmpeg alone', value: of('pool', 'frames/s') / of('ffmpeg', 'frames/s'), unit: '×', bound: { at: 'least', value: MIN_RATIO } },
      { name: 'CPU, through the model / ffmpeg alone', value: of('pool', 'CPU ms/frame') / of('ffmpeg', 'CPU ms/frame'), unit: '×' },
      { name: 'peak memory of the worker, without ffmpeg', value: of('pool', 'peak MiB of Node'), unit: 'MiB' }
    ]
  }
}
