/** Delay of the service's event loop, and of `/livez`, while uploads stream through it and its pool is full of images. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import sharp from 'sharp'
import { ask, queueOf } from './job-services.ts'
import { askDelay, MAX_P99_MS } from './loop.ts'
import type { BenchOptions } from './main.ts'
import { median } from './measure.ts'
import { order, startProgram, startService } from './processes.ts'
import type { Running } from './processes.ts'
import type { PingReport } from './ping.ts'
import { machine } from './report.ts'
import type { Report } from './report.ts'
import { startMinioStore } from './stores.ts'
import { ADMIN, MIB, send, uploadUrl } from './upload.ts'

const LIVEZ_MAX_P99_MS = 50
const IMAGE_SIDE = 1024
const PING_INTERVAL_MS = 10
const TOP_UP_INTERVAL_MS = 200
const WAITING_MIN = 8

/** Returns the hash of an image of one megapixel that the service has finalized. */
async function bringImage(service: Running): Promise<string> {
  const image = await sharp(randomBytes(IMAGE_SIDE * IMAGE_SIDE * 3), { raw: { width: IMAGE_SIDE, height: IMAGE_SIDE, channels: 3 } }).png().toBuffer()
  const response = await fetch(`${service.url}/upload-proxy?kind=object&filename=noise.png&size=${image.length}`, {
    method: 'POST', headers: { ...ADMIN, 'content-type': 'image/png' }, body: new Uint8Array(image)
  })
  const { upload } = await response.json() as { upload: { key: string } }
  const { contentHash } = await ask<{ contentHash: string }>(service, '/finalize', { key: upload.key })
  return contentHash
}

/** Sees to it that jobs wait while `work` runs. @throws where the pool was not full at its end */
async function withFullPool<T>(service: Running, sha256: string, work: () => Promise<T>): Promise<T> {
  const topUp = async () => {
    const { waiting } = await queueOf(service)
    for (let each = waiting; each < WAITING_MIN; each += 1) await ask(service, '/api/v1/jobs', { model: 'upscale-2x', cache: false, input: { sha256 } })
  }
  await topUp()
  while ((await queueOf(service)).running === 0) await delay(TOP_UP_INTERVAL_MS)
  const over = new AbortController()
  const toppingUp = (async () => {
    while (!over.signal.aborted) {
      await topUp()
      await delay(TOP_UP_INTERVAL_MS)
    }
  })()
  try {
    const result = await Promise.race([work(), toppingUp.then(() => { throw new Error('the jobs ran out') })])
    if ((await queueOf(service)).running === 0) throw new Error('the pool was not full: nothing ran at the end of a round')
    return result
  } finally {
    over.abort()
    await toppingUp
  }
}

export async function benchJobLoop({ rounds, parallel, sizeMib }: BenchOptions): Promise<Report> {
  const store = await startMinioStore(parallel * sizeMib * MIB)
  const stops = [store.stop]
  try {
    const load = await startProgram('load.ts')
    stops.unshift(load.stop)
    const ping = await startProgram('ping.ts')
    stops.unshift(ping.stop)
    const service = await startService({ ...store.env, API_V1_RATE_LIMIT_MAX: '0', DEVICE: 'cpu' }, ['--import', join(import.meta.dirname, 'loop-delay.ts')])
    stops.unshift(service.stop)
    const sha256 = await bringImage(service)
    const rows: Record<string, string | number>[] = []
    await withFullPool(service, sha256, async () => {
      for (let round = 0; round <= rounds; round += 1) {
        const before = await queueOf(service)
        await askDelay(service)
        await order(ping, { url: `${service.url}/livez`, intervalMs: PING_INTERVAL_MS })
        const { wallSeconds } = await send(load, { url: uploadUrl(service), headers: ADMIN, count: parallel, parallel, sizeBytes: sizeMib * MIB })
        const livez = await order<PingReport>(ping, {})
        const { p50, p99, max } = await askDelay(service)
        const jobs = (await queueOf(service)).completed - before.completed
        if (round > 0) rows.push({ round, 'p50 ms': p50, 'p99 ms': p99, 'max ms': max, 'livez p50 ms': livez.p50, 'livez p99 ms': livez.p99, 'livez max ms': livez.max, seconds: wallSeconds, 'jobs done': jobs })
      }
    })
    const of = (column: string) => median(rows.map(row => Number(row[column])))
    return {
      name: 'job-loop',
      setup: { rounds, uploads: parallel, 'size MiB': sizeMib, image: `${IMAGE_SIDE} × ${IMAGE_SIDE}`, store: 'minio', ...machine() },
      rows,
      figures: [
        { name: 'event-loop delay, p99', value: of('p99 ms'), unit: 'ms', bound: { at: 'most', value: MAX_P99_MS } },
        { name: '/livez, p99', value: of('livez p99 ms'), unit: 'ms', bound: { at: 'most', value: LIVEZ_MAX_P99_MS } }
      ]
    }
  } finally {
    for (const stop of stops) await stop()
  }
}
