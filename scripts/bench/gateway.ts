/** A file gateway that throws the bytes away, and the token endpoint that it trusts with everybody. */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ready } from './processes.ts'

const HIGH_WATER_MARK_BYTES = 256 * 1024
/** Longer than a round: a connection that closes just when it is used again is another test. */
const KEEP_ALIVE_MS = 120_000

async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let bytes = 0
  for await (const chunk of request) bytes += (chunk as Buffer).length
  const whole = bytes === Number(request.headers['content-length'])
  response.writeHead(whole ? 201 : 400, { 'content-length': 0 }).end()
}

function issue(request: IncomingMessage, response: ServerResponse): void {
  request.resume()
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ access_token: 'bench', token_type: 'Bearer', expires_in: 3600 }))
}

const server = createServer({ highWaterMark: HIGH_WATER_MARK_BYTES, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
  if (request.method === 'POST') issue(request, response)
  else if (request.method === 'PUT') take(request, response).catch(() => response.destroy())
  else response.writeHead(404).end()
})
server.listen(0, '127.0.0.1', () => ready({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }))
