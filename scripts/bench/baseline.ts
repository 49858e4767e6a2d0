/**
 * What an upload costs at least in Node: `http` in, `http` out, sha256 on the way. No framework, no SDK, no checks, no
 * records; kept-alive connections and the water marks of the service. STORE_URL is the bucket's address and takes
 * unsigned writes. This is the yardstick, so it is made as fast as it can honestly be.
 */
import { createHash, randomUUID } from 'node:crypto'
import { Agent, createServer, request as httpRequest } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ready } from './processes.ts'

const HIGH_WATER_MARK_BYTES = 256 * 1024
/** Longer than a round: a connection that closes just when it is used again is another test. */
const KEEP_ALIVE_MS = 120_000
const store = new URL(process.env.STORE_URL ?? '')
const agent = new Agent({ keepAlive: true, maxSockets: 128, maxFreeSockets: 128, highWaterMark: HIGH_WATER_MARK_BYTES } as ConstructorParameters<typeof Agent>[0])

async function passThrough(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const hash = createHash('sha256')
  const hashing = new Transform({
    highWaterMark: HIGH_WATER_MARK_BYTES,
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      done(null, chunk)
    }
  })
  const upstream = httpRequest({
    agent, method: 'PUT', host: store.hostname, port: store.port, path: `${store.pathname}/${randomUUID()}`,
    headers: { 'content-length': request.headers['content-length'] ?? '0' }
  })
  const answered = new Promise<number>((resolve, reject) => {
    upstream.once('error', reject).once('response', answer => {
      answer.resume().once('end', () => resolve(answer.statusCode ?? 0))
    })
  })
  const [status] = await Promise.all([answered, pipeline(request, hashing, upstream)])
  const body = JSON.stringify({ sha256: hash.digest('hex') })
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length }).end(body)
}

const server = createServer({ highWaterMark: HIGH_WATER_MARK_BYTES, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
  passThrough(request, response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => ready({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }))
