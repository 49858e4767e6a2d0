/** A GPU node played by a test: a real HTTP server that answers as it is told, and remembers what it was asked. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { NodeAddress } from '../../src/inference/remote/ask.ts'

export type Answer = (response: ServerResponse, request: IncomingMessage, body: Buffer) => void | Promise<void>

export interface Asked { method: string, path: string, headers: IncomingMessage['headers'], body: Buffer }

export interface ScriptedNode {
  node: NodeAddress
  url: string
  /** Whatever came, in the order in which it was whole. */
  asked: Asked[]
  of(path: string): Asked[]
  /** Connections that were opened so far, and those that still are. */
  connections: { opened: number, open: number }
}

export interface Script {
  health?: Answer
  process?: Answer
  result?: Answer
  cancel?: Answer
  /** Does it wait for the whole body of /process-upload? Default true. */
  readsAll?: boolean
}

export const TOKEN = 'a-token-of-the-nodes'

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Answer {
  return response => void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

/** Lines as they are to be sent, piece by piece. */
export function lines(...pieces: readonly (string | Buffer)[]): Answer {
  return async response => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    for (const piece of pieces) {
      response.write(piece)
      // each in a packet of its own
      await new Promise(resolve => setImmediate(resolve))
    }
    response.end()
  }
}

export function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

export async function startNode(t: Test, script: Script = {}): Promise<ScriptedNode> {
  const asked: Asked[] = []
  const connections = { opened: 0, open: 0 }
  const routes: Record<string, Answer | undefined> = {
    '/health': script.health ?? json(200, { status: 'healthy', device: 'played', model_loaded: true }),
    '/process-upload': script.process, '/cancel': script.cancel ?? json(200, {})
  }
  const server = createServer(async (request, response) => {
    const path = request.url ?? ''
    const body = path === '/process-upload' && script.readsAll === false ? Buffer.alloc(0) : await buffer(request).catch(() => undefined)
    if (body === undefined) return
    asked.push({ method: request.method ?? '', path, headers: request.headers, body })
    const answer = path.startsWith('/result/') ? script.result : routes[path]
    if (answer === undefined) response.writeHead(404).end()
    else await answer(response, request, body)
  })
  server.on('connection', socket => {
    connections.opened += 1
    connections.open += 1
    socket.on('error', () => {})
    socket.once('close', () => { connections.open -= 1 })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { node: { url, token: TOKEN }, url, asked, of: path => asked.filter(each => each.path === path), connections }
}
