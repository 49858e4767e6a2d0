/**
 * Load generator: on each order it sends `count` bodies of `sizeBytes`, `parallel` at a time, over plain `http` with a
 * known Content-Length, and answers with the status of every request. Every body begins with random bytes, so that no
 * two are equal. They go as they are, or each as the one file of a multipart form.
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
  /** Sent as the file of this part of a multipart form; the size is the file's. */
  readonly part?: string
}

export interface LoadReport {
  readonly wallSeconds: number
  /** How many answers had which status; 0 stands for a connection that failed. */
  readonly statuses: Record<string, number>
  /** Body of the last answer. */
  readonly lastBody: string
}

let bodies = 0

const BOUNDARY = 'penstock-bench-3f1c9a'

interface Body {
  /** What is sent at once; random bytes follow. */
  first: Buffer
  /** What is sent behind them. */
  last: Buffer
  type: string
  /** of all of it */
  length: number
}

function bodyOf({ json, part, sizeBytes }: LoadOrder): Body {
  if (json !== undefined) {
    const first = Buffer.from(json.replaceAll('{n}', String(bodies += 1)))
    return { first, last: Buffer.alloc(0), type: 'application/json', length: first.length }
  }
  const random = randomBytes(Math.min(16, sizeBytes))
  if (part === undefined) return { first: random, last: Buffer.alloc(0), type: 'application/octet-stream', length: sizeBytes }
  const head = `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${part}"; filename="bench.bin"\r\nContent-Type: application/octet-stream\r\n\r\n`
  const last = Buffer.from(`\r\n--${BOUNDARY}--\r\n`)
  return { first: Buffer.concat([Buffer.from(head), random]), last, type: `multipart/form-data; boundary=${BOUNDARY}`, length: head.length + sizeBytes + last.length }
}

function sendOne(load: LoadOrder): Promise<{ status: number, body: string }> {
  const { url, headers } = load
  const { first, last, type, length } = bodyOf(load)
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
        const body = left === length ? first : chunk.subarray(0, Math.min(CHUNK_BYTES, left - last.length))
        left -= body.length
        if (left === last.length) return void request.end(last.length === 0 ? body : Buffer.concat([body, last]))
        if (!request.write(body)) return void request.once('drain', write)
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
