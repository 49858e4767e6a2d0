import { Agent, request } from 'node:http'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { flatErrors } from '../../src/http/errors.ts'
import { rawClient } from '../support/raw-client.ts'
import { startEdge } from '../support/start-edge.ts'

async function* chunks() {
  yield 'begun '
  await delay(200)
  yield 'ended'
}

async function routes(app: FastifyInstance): Promise<void> {
  flatErrors(app)
  app.get('/slow', async () => {
    await delay(200)
    return { done: true }
  })
  app.get('/stream', async (_request, reply) => {
    return await reply.send(Readable.from(chunks()))
  })
}

t.test('while shutting down, requests are refused as busy and told when to come back', async t => {
  const { url, health } = await startEdge(t, { routes: [routes] })
  health.stopping = true
  const response = await fetch(`${url}/slow`)
  t.equal(response.status, 503)
  t.equal(response.headers.get('connection'), 'close')
  t.match(Number(response.headers.get('retry-after')), /^[1-9]/)
  t.match(await response.json(), { code: 'SERVICE_BUSY' })
  t.equal((await fetch(`${url}/livez`)).status, 200, 'the process is alive')
  t.match(await (await fetch(`${url}/readyz`)).json(), { status: 'not_ready', reasons: ['shutting down'] })
})

t.test('closing waits for answers under way and not for the connections they came on', async t => {
  for (const path of ['/slow', '/stream']) {
    const { app, port } = await startEdge(t, { routes: [routes] })
    const agent = new Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())
    const answered = once(request({ port, host: '127.0.0.1', path, agent }).end(), 'response')
    await delay(100)
    const start = performance.now()
    const closed = app.close()
    const [response] = await answered
    t.match(await text(response), /done|ended/, path)
    await closed
    // without its care a connection would stay for its keep-alive time of 72 s
    t.ok(performance.now() - start < 5000, `${path} is closed with its last answer`)
  }
})

t.test('a request that comes after closing began, on a connection with an answer under way, is not begun', async t => {
  const { app, port, logged } = await startEdge(t, { routes: [routes] })
  const client = await rawClient(port)
  client.send('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
  await delay(50)
  const closed = app.close()
  client.send('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
  const answer = await client.answer()
  t.equal(answer.status, 200)
  t.match(answer.head, /connection: close/i)
  await Promise.all([closed, client.closed])
  t.equal(logged('http.request.completed').filter(line => line.status === 200).length, 1)
})
