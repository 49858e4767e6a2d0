/**
 * Reads: on each order it gets `url` `count` times, `parallel` at once, over plain `http`, and throws the bytes away. With
 * `bytesPerSecond` each reader is a slow one: it takes no more than that from its socket, so that the sender has to wait.
 */
import { Agent, get as httpGet } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { ready } from './processes.ts'

const HIGH_WATER_MARK_BYTES = 256 * 1024
const agent = new Agent({ keepAlive: true, maxSockets: 128, maxFreeSockets: 128, highWaterMark: HIGH_WATER_MARK_BYTES } as ConstructorParameters<typeof Agent>[0])

export interface ReadOrder {
  readonly url: string
  /** One after the other, in turn. */
  readonly headers: readonly Record<string, string>[]
  readonly count: number
  readonly parallel: number
  /** of each reader; without it as fast as they come */
  readonly bytesPerSecond?: number
}

export interface ReadReport {
  readonly wallSeconds: number
  /** How many answers had which status; 0 stands for a connection that failed, or broke. */
  readonly statuses: Record<string, number>
  readonly bytes: number
}

/** Takes a body at a pace. Resolves with its length. */
function drain(response: IncomingMessage, bytesPerSecond = Number.POSITIVE_INFINITY): Promise<number> {
  const begun = performance.now()
  let bytes = 0
  return new Promise((resolve, reject) => {
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      const aheadMs = bytes / bytesPerSecond * 1000 - (performance.now() - begun)
      if (aheadMs < 1) return
      response.pause()
      setTimeout(() => response.resume(), aheadMs)
    })
    response.once('end', () => resolve(bytes)).once('error', reject)
  })
}

function readOne({ url, bytesPerSecond }: ReadOrder, headers: Record<string, string>): Promise<{ status: number, bytes: number }> {
  return new Promise(resolve => {
    const fail = () => resolve({ status: 0, bytes: 0 })
    httpGet(url, { agent, headers }, response => {
      drain(response, bytesPerSecond).then(bytes => resolve({ status: response.statusCode ?? 0, bytes }), fail)
    }).once('error', fail)
  })
}

async function run(order: ReadOrder): Promise<ReadReport> {
  const statuses: Record<string, number> = {}
  let started = 0
  let bytes = 0
  const before = performance.now()
  const reader = async () => {
    while (started < order.count) {
      const headers = order.headers[started % order.headers.length] ?? {}
      started += 1
      const read = await readOne(order, headers)
      statuses[read.status] = (statuses[read.status] ?? 0) + 1
      bytes += read.bytes
    }
  }
  await Promise.all(Array.from({ length: Math.min(order.parallel, order.count) }, reader))
  return { wallSeconds: (performance.now() - before) / 1000, statuses, bytes }
}

if (process.send !== undefined) {
  process.on('message', (order: ReadOrder) => { void run(order).then(report => process.send?.(report)) })
  ready()
}
