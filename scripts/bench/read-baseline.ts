/**
 * What a download costs at least in Node: `http` in, `http` out. No framework, no SDK, no checks, no records; kept-alive
 * connections. STORE_URL is the bucket's address and answers unsigned reads. This is the yardstick, so it is made as fast
 * as it can honestly be.
 */
import { Agent, createServer, get as httpGet } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { ready } from './processes.ts'

const HIGH_WATER_MARK_BYTES = 256 * 1024
/** Longer than a round: a connection that closes just when it is used again is another test. */
const KEEP_ALIVE_MS = 120_000
const store = new URL(process.env.STORE_URL ?? '')
const agent = new Agent({ keepAlive: true, maxSockets: 128, maxFreeSockets: 128, highWaterMark: HIGH_WATER_MARK_BYTES } as ConstructorParameters<typeof Agent>[0])

function open(path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    httpGet({ agent, host: store.hostname, port: store.port, path: store.pathname + path }, resolve).once('error', reject)
  })
}

async function passThrough(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const answer = await open(request.url ?? '/')
  response.writeHead(answer.statusCode ?? 502, { 'content-type': 'application/octet-stream', 'content-length': answer.headers['content-length'] ?? '0' })
  await pipeline(answer, response)
}

const server = createServer({ highWaterMark: HIGH_WATER_MARK_BYTES, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
  passThrough(request, response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => ready({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }))
