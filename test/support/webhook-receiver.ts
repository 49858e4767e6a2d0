/** A server that takes webhooks, as a test wants it to. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Test } from 'tap'

export interface Delivery {
  event: string
  seq: number
  signature: string
  body: string
  json: Record<string, unknown>
  atMs: number
}

export interface Receiver {
  url: string
  port: number
  deliveries: Delivery[]
  /** Answers from now on; 200 by itself. Called when the body has been read. */
  answer(how: Answer): void
}

type Answer = (response: ServerResponse, request: IncomingMessage, count: number) => void

function accept(response: ServerResponse): void {
  response.end()
}

export async function webhookReceiver(t: Test, host = '127.0.0.1'): Promise<Receiver> {
  const deliveries: Delivery[] = []
  let count = 0
  let answer: Answer = accept
  const server = createServer((request, response) => {
    void (async () => {
      const body = await text(request)
      const json = body === '' ? {} : JSON.parse(body) as Record<string, unknown>
      deliveries.push({ event: String(json.event), seq: Number(json.seq), signature: String(request.headers['x-penstock-signature']), body, json, atMs: performance.now() })
      answer(response, request, ++count)
    })()
  })
  server.listen(0, host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://${host}:${port}/hook?token=secret`, port, deliveries, answer: how => { answer = how } }
}
