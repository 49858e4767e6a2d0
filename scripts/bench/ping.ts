/**
 * Asks an address again and again, `intervalMs` after each answer, from an order with a `url` until the next one, which is
 * answered with how long the answers took.
 */
import { Agent, get } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { percentile } from './measure.ts'
import { ready } from './processes.ts'

export interface PingOrder { url?: string, intervalMs?: number }
export interface PingReport { count: number, p50: number, p99: number, max: number }

const agent = new Agent({ keepAlive: true, maxSockets: 1 })
let over = new AbortController()
let asking: Promise<number[]> | undefined

/** ms until the whole answer was there. @throws where it was not 200 */
function once(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const before = performance.now()
    get(url, { agent }, response => {
      response.resume().once('end', () => (response.statusCode === 200 ? resolve(performance.now() - before) : reject(new Error(`answered ${response.statusCode}`))))
    }).once('error', reject)
  })
}

async function askOn(url: string, intervalMs: number, { signal }: AbortController): Promise<number[]> {
  const took: number[] = []
  while (!signal.aborted) {
    took.push(await once(url))
    await delay(intervalMs)
  }
  return took
}

async function obey({ url, intervalMs = 0 }: PingOrder): Promise<PingReport | object> {
  if (url !== undefined) {
    over = new AbortController()
    asking = askOn(url, intervalMs, over)
    return {}
  }
  over.abort()
  const took = await asking ?? []
  return { count: took.length, p50: percentile(took, 50), p99: percentile(took, 99), max: Math.max(...took) }
}

process.on('message', (message: PingOrder) => {
  obey(message).then(report => process.send?.(report), (error: unknown) => {
    console.error(error)
    process.exit(1)
  })
})
ready()
