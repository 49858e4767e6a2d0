/**
 * Load generator: on each order it sends `count` bodies of `sizeBytes`, `parallel` at a time, over plain `http` with a
 * known Content-Length, and answers with the status of every request. Every body begins with random bytes, so that no
 * two are equal.
 */
import { randomBytes } from 'node:crypto'
import { Agent, request as httpRequest } from 'node:http'
import { ready } from './processes.ts'

const CHUNK_BYTES = 256 * 1024
const chunk = randomBytes(CHUNK_BYTES)
const agent = new Agent({ keepAlive: true, maxSockets: 128, maxFreeSockets: 128, highWaterMark: CHUNK_BYTES } as ConstructorParameters<typeof Agent>[0])

export interface LoadOrder {
  /** `{size}` in it becomes the size. */
  readonly url: string
  readonly headers: Record<string, string>
  readonly count: number
  readonly parallel: number
  readonly sizeBytes: number
  /** Sent as JSON instead of random bytes; `{n}` in it becomes a number that no other body of this process has. */
  readonly json?: string
}

export interface LoadReport {
  readonly wallSeconds: number
  /** How many answers had which status; 0 stands for a connection that failed. */
  readonly statuses: Record<string, number>
  /** Body of the last answer. */
  readonly lastBody: string
}

let bodies = 0

/** What is sent at once, and how many random bytes follow. */
function bodyOf({ json, sizeBytes }: LoadOrder): { first: Buffer, type: string, length: number } {
  if (json === undefined) return { first: randomBytes(Math.min(16, sizeBytes)), type: 'application/octet-stream', length: sizeBytes }
  const first = Buffer.from(json.replaceAll('{n}', String(bodies += 1)))
  return { first, type: 'application/json', length: first.length }
}

function sendOne(load: LoadOrder): Promise<{ status: number, body: string }> {
  const { url, headers } = load
  const { first, type, length } = bodyOf(load)
  return new Promise(resolve => {
    const request = httpRequest(url.replace('{size}', String(length)), { agent, method: 'POST', headers: { ...headers, 'content-length': length, 'content-type': type } })
    request.once('error', error => resolve({ status: 0, body: error.message }))
    request.once('response', response => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => { body += text })
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    let left = length
    const write = () => {
      for (;;) {
        const part = left === length ? first : chunk.subarray(0, Math.min(CHUNK_BYTES, left))
        left -= part.length
        if (left === 0) return void request.end(part)
        if (!request.write(part)) return void request.once('drain', write)
      }
    }
    write()
  })
}

async function run(load: LoadOrder): Promise<LoadReport> {
  const statuses: Record<string, number> = {}
  let started = 0
  let lastBody = ''
  const before = performance.now()
  const worker = async () => {
    while (started < load.count) {
      started += 1
      const { status, body } = await sendOne(load)
      statuses[status] = (statuses[status] ?? 0) + 1
      lastBody = body
    }
  }
  await Promise.all(Array.from({ length: Math.min(load.parallel, load.count) }, worker))
  return { wallSeconds: (performance.now() - before) / 1000, statuses, lastBody }
}

if (process.send !== undefined) {
  process.on('message', (load: LoadOrder) => { void run(load).then(report => process.send?.(report)) })
  ready()
}
