/**
 * A video as a job whose model runs on another node, which shares no storage, against the same job in the service's own workers:
 * what is added is the way of the bytes there and back. All on one machine, so that both have the same processors. Memory is that of
 * the services alone; what a worker takes is the same in both.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { provideFfmpeg, type Ffmpeg } from '../servers/ffmpeg.ts'
import { ask, completed } from './job-services.ts'
import type { BenchOptions } from './main.ts'
import { measure, median } from './measure.ts'
import { startService } from './processes.ts'
import type { Running } from './processes.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { ADMIN, MIB } from './upload.ts'

const MAX_RATIO = 1.15
/** Of the last round's peak to the first's. */
const MAX_GROWTH = 1.25
const TOKEN = 'a-token-of-the-nodes'
const LONG_MS = '3600000'

/** About so many bytes: ffmpeg stops there. Movement, edges, and the noise of a camera. */
async function makeVideo({ ffmpeg, env }: Ffmpeg, path: string, sizeBytes: number): Promise<void> {
  const source = 'testsrc2=size=1280x720:rate=25,noise=alls=8:allf=t'
  const child = spawn(ffmpeg, ['-v', 'error', '-nostdin', '-y', '-f', 'lavfi', '-i', source, '-c:v', 'libx264', '-preset', 'ultrafast', '-crf', '10', '-pix_fmt', 'yuv420p', '-fs', String(sizeBytes), path], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  const [code] = await once(child, 'exit') as [number | null]
  if (code !== 0) throw new Error(`ffmpeg ended with ${code}`)
}

/** Brings the video in; returns its hash. */
async function bring({ url }: Running, path: string): Promise<string> {
  const { size } = await stat(path)
  const response = await fetch(`${url}/upload-proxy?kind=object&filename=video.mp4&size=${size}`, {
    method: 'POST', headers: { ...ADMIN, 'content-length': String(size), 'content-type': 'video/mp4' }, body: Readable.toWeb(createReadStream(path)) as NonNullable<RequestInit['body']>, duplex: 'half'
  } as RequestInit)
  const text = await response.text()
  if (!response.ok) throw new Error(`the video was not taken: ${response.status} ${text}`)
  const { upload } = JSON.parse(text) as { upload: { key: string } }
  const { contentHash } = await ask<{ contentHash: string }>({ url } as Running, '/finalize', { key: upload.key })
  return contentHash
}

async function runJob(app: Running, sha256: string): Promise<void> {
  const job = await ask<{ job_id: string }>(app, '/api/v1/jobs', { model: 'identity-image', task: 'video-to-video', params: { preset: 'ultrafast' }, input: { sha256 }, cache: false })
  await completed(app, job.job_id)
}

export async function benchRemote({ rounds, sizeMib }: BenchOptions): Promise<Report> {
  const programs = await provideFfmpeg(line => console.error(line))
  const folder = await mkdtemp(join(tmpdir(), 'penstock-bench-remote-'))
  const stops = [() => rm(folder, { recursive: true, force: true })]
  const start = async (env: Record<string, string>): Promise<Running> => {
    const running = await startService({ API_V1_RATE_LIMIT_MAX: '0', DEVICE: 'cpu', WORKERS: '1', JOB_TIMEOUT_MS: LONG_MS, MAX_OBJECT_SIZE_BYTES: String(2048 * MIB), MAX_FILE_SIZE_MB: '2048', ...programs.env, ...env })
    stops.unshift(running.stop)
    return running
  }
  try {
    const path = join(folder, 'video.mp4')
    await makeVideo(programs, path, sizeMib * MIB)
    const own = await start({ ROLES: 'api,worker' })
    const node = await start({ ROLES: 'gpu-node', AI_INTERNAL_TOKEN: TOKEN })
    const app = await start({ ROLES: 'api,worker', AI_TRANSFER_MODE: 'remote', AI_SERVICE_URL: node.url, AI_INTERNAL_TOKEN: TOKEN })
    const hash = await bring(own, path)
    await bring(app, path)
    const subjects = {
      path: async () => {
        const { cost } = await measure(own.pid, () => runJob(own, hash))
        return { seconds: cost.wallSeconds, 'service CPU s': cost.cpuSeconds, 'service peak MiB': cost.peakRssMib, 'node peak MiB': 0 }
      },
      remote: async () => {
        const { cost: ofNode, result: { cost } } = await measure(node.pid, () => measure(app.pid, () => runJob(app, hash)))
        return { seconds: cost.wallSeconds, 'service CPU s': cost.cpuSeconds + ofNode.cpuSeconds, 'service peak MiB': cost.peakRssMib, 'node peak MiB': ofNode.peakRssMib }
      }
    }
    const rows: Record<string, string | number>[] = []
    // round 0 warms everything up and is thrown away; every other round goes in the opposite order
    for (let round = 0; round <= rounds; round += 1) {
      const turn = Object.entries(subjects)
      for (const [subject, run] of round % 2 === 0 ? turn : turn.toReversed()) {
        const found = await run()
        if (round > 0) rows.push({ round, subject, ...found })
      }
    }
    return describe({ rounds, 'video MiB': (await stat(path)).size / MIB }, rows)
  } finally {
    for (const stop of stops) await stop()
  }
}

function describe(setup: Record<string, number>, rows: Record<string, string | number>[]): Report {
  const of = (subject: string, column: string): number[] => rows.filter(row => row.subject === subject).map(row => Number(row[column]))
  const growth = (column: string): number => (of('remote', column).at(-1) ?? 0) / (of('remote', column)[0] ?? 1)
  return {
    name: 'remote',
    setup: { ...setup, ...machine() },
    rows,
    figures: [
      { name: 'own workers', value: median(of('path', 'seconds')), unit: 's' },
      { name: 'GPU node', value: median(of('remote', 'seconds')), unit: 's' },
      { name: 'GPU node / own workers', value: median(of('remote', 'seconds')) / median(of('path', 'seconds')), unit: '×', bound: { at: 'most', value: MAX_RATIO } },
      { name: 'memory of the service, last peak / first peak', value: growth('service peak MiB'), unit: '×', bound: { at: 'most', value: MAX_GROWTH } },
      { name: 'memory of the GPU node, last peak / first peak', value: growth('node peak MiB'), unit: '×', bound: { at: 'most', value: MAX_GROWTH } }
    ]
  }
}
