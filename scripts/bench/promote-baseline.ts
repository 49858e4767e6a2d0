/**
 * What a promotion costs at least in Node: on each POST, the object of that path comes by `http` from the store and goes by `http`
 * to the gateway. No framework, no SDK, no token, no checks, no records; kept-alive connections. STORE_URL is the bucket's address
 * and answers unsigned reads. This is the yardstick, so it is made as fast as it can honestly be.
 */
import { Agent, createServer, get as httpGet, request as httpRequest } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { ready } from './processes.ts'

const HIGH_WATER_MARK_BYTES = 256 * 1024
const store = new URL(process.env.STORE_URL ?? '')
const gateway = new URL(process.env.GATEWAY_URL ?? '')
const agent = new Agent({ keepAlive: true, maxSockets: 128, maxFreeSockets: 128, highWaterMark: HIGH_WATER_MARK_BYTES } as ConstructorParameters<typeof Agent>[0])

function open(path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    httpGet({ agent, host: store.hostname, port: store.port, path: store.pathname + path }, resolve).once('error', reject)
  })
}

async function passOn(request: IncomingMessage, response: ServerResponse): Promise<void> {
  request.resume()
  const source = await open(request.url ?? '/')
  if (source.statusCode !== 200) throw new Error(`the store answered ${source.statusCode}`)
  const upstream = httpRequest({
    agent, method: 'PUT', host: gateway.hostname, port: gateway.port, path: `/files${request.url}`, headers: { 'content-length': source.headers['content-length'] ?? '0' }
  })
  const answered = new Promise<number>((resolve, reject) => {
    upstream.once('error', reject).once('response', answer => {
      answer.resume().once('end', () => resolve(answer.statusCode ?? 0))
    })
  })
  const [status] = await Promise.all([answered, pipeline(source, upstream)])
  response.writeHead(status === 201 ? 200 : 502, { 'content-length': 0 }).end()
}

const server = createServer((request, response) => {
  passOn(request, response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => ready({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }))
