/**
 * An inference server played by a test: a real HTTP server with one model, `y = x`, that answers as it is told, and remembers
 * what it was asked.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { ServerAddress } from '../../src/inference/oip/ask.ts'

export type Answer = (response: ServerResponse, request: IncomingMessage, body: Buffer) => void | Promise<void>

export interface Asked { method: string, path: string, headers: IncomingMessage['headers'], body: Buffer }

export interface Script {
  server?: Answer
  model?: Answer
  ready?: Answer
  health?: Answer
  infer?: Answer
}

export interface ScriptedInferServer {
  address: ServerAddress
  /** Changed while it runs. */
  script: Script
  /** Whatever came, in the order in which it was whole. */
  asked: Asked[]
  /** Paths that end so. */
  of(tail: string): Asked[]
  /** Connections that were opened so far, and those that still are. */
  connections: { opened: number, open: number }
  close(): Promise<void>
}

export const JSON_LENGTH = 'inference-header-content-length'
export const FACTS = { name: 'played', version: '2', extensions: ['binary_tensor_data'] }
export const MODEL = { name: 'model', versions: ['1'], platform: 'played', inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }], outputs: [{ name: 'y', datatype: 'FP32', shape: [-1] }] }

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Answer {
  return response => void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(typeof body === 'string' ? body : JSON.stringify(body))
}

/** An answer with binary data behind its JSON. */
export function binary(outputs: readonly object[], data: Uint8Array, headers: Record<string, string> = {}): Answer {
  return response => {
    const head = Buffer.from(JSON.stringify({ model_name: 'model', model_version: '1', outputs }))
    response.writeHead(200, { 'content-type': 'application/octet-stream', [JSON_LENGTH]: String(head.length), 'content-length': String(head.length + data.length), ...headers })
    response.end(Buffer.concat([head, data]))
  }
}

interface Tensor { name: string, datatype: string, shape: number[], data?: unknown, parameters?: { binary_data_size?: number } }

/** What comes in as x goes out as y, in kind. */
export const identity: Answer = (response, request, body) => {
  const length = request.headers[JSON_LENGTH]
  const head = length === undefined ? body.length : Number(length)
  const { inputs: [x] } = JSON.parse(body.toString('utf8', 0, head)) as { inputs: Tensor[] }
  const y = { ...x!, name: 'y' }
  return length === undefined ? json(200, { model_name: 'model', outputs: [y] })(response, request, body) : binary([y], body.subarray(head))(response, request, body)
}

export async function startInferServer(t: Test, given: Script = {}, token: string | null = null): Promise<ScriptedInferServer> {
  const asked: Asked[] = []
  const connections = { opened: 0, open: 0 }
  const script: Script = { server: json(200, FACTS), model: json(200, MODEL), ready: json(200, { name: 'model', ready: true }), health: response => void response.end(), infer: identity, ...given }
  const server = createServer(async (request, response) => {
    const path = request.url ?? ''
    const body = await buffer(request).catch(() => undefined)
    if (body === undefined) return
    asked.push({ method: request.method ?? '', path, headers: request.headers, body })
    const answer = path === '/v2' ? script.server : path === '/v2/health/ready' ? script.health
      : path.endsWith('/infer') ? script.infer : path.endsWith('/ready') ? script.ready : script.model
    await answer!(response, request, body)
  })
  server.on('connection', socket => {
    connections.opened += 1
    connections.open += 1
    socket.on('error', () => {})
    socket.once('close', () => { connections.open -= 1 })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  async function close(): Promise<void> {
    server.closeAllConnections()
    if (server.listening) await once(server.close(), 'close')
  }
  t.teardown(close)
  return {
    address: { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token },
    script, asked, connections, close, of: tail => asked.filter(({ path }) => path.endsWith(tail))
  }
}
