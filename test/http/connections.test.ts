import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { CONNECTIONS_MAX, PIPELINED_MAX } from '../../src/limits.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startEdge } from '../support/start-edge.ts'

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`
}

/** Requests that began and how many were under way at once. */
function slowRoute() {
  const seen = { begun: [] as string[], now: 0, most: 0 }
  const routes = async (app: FastifyInstance): Promise<void> => {
    app.get<{ Querystring: { n: string, ms: string } }>('/slow', async request => {
      seen.begun.push(request.query.n)
      seen.most = Math.max(seen.most, ++seen.now)
      await delay(Number(request.query.ms))
      seen.now--
      return { n: request.query.n }
    })
  }
  return { seen, routes }
}

async function* flood(): AsyncGenerator<Buffer> {
  for (;;) yield Buffer.alloc(64 * 1024)
}

async function floods(app: FastifyInstance): Promise<void> {
  app.get('/flood', async (_request, reply) => await reply.send(Readable.from(flood(), { objectMode: false })))
}

/** Asks, and never reads. */
async function neverReads(port: number, requests: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.pause()
  socket.write(requests)
  return socket
}

t.test('requests sent without waiting for answers are begun one after the other', async t => {
  const { seen, routes } = slowRoute()
  const { port } = await startEdge(t, { routes: [routes] })
  const client = await rawClient(port)
  let text = ''
  client.socket.on('data', (chunk: Buffer) => { text += chunk.toString() })
  const order = Array.from({ length: PIPELINED_MAX + 1 }, (_, n) => String(n))
  client.send(order.map(n => get(`/slow?ms=10&n=${n}`)).join(''))
  await eventually(() => assert.equal(text.match(/HTTP\/1\.1 200/g)?.length, order.length))
  t.same(seen.begun, order)
  t.equal(seen.most, 1)
  t.same([...text.matchAll(/\{"n":"(\d)"\}/g)].map(match => match[1]), order, 'the answers come in the same order')
  client.send(get('/slow?ms=0&n=again'))
  await eventually(() => assert.match(text, /again/))
  client.hangUp()
})

t.test('a client that lets too many requests wait is cut off, and those are not begun', async t => {
  const { seen, routes } = slowRoute()
  const { port, logged } = await startEdge(t, { routes: [routes] })
  const client = await rawClient(port)
  client.send(get('/slow?ms=300&n=x').repeat(2000))
  await client.closed
  await eventually(() => assert.equal(logged('http.request.completed').length, 1))
  await delay(400)
  t.equal(seen.begun.length, 1)
})

t.test('a request that waits behind the last answer of its connection is not begun', async t => {
  const { seen, routes } = slowRoute()
  const { port } = await startEdge(t, { routes: [routes] })
  const client = await rawClient(port)
  client.send(get('/slow?ms=50&n=first').replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n') + get('/slow?ms=0&n=second'))
  await client.closed
  await delay(50)
  t.same(seen.begun, ['first'])
})

/** Files of the documentation that this process holds open. */
function opened(): number {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('swagger-ui')
    } catch {
      return false
    }
  }).length
}

t.test('the pages of the documentation cost one descriptor a connection, however often they are asked for and not read', { skip: existsSync('/proc/self/fd') ? false : 'no /proc here' }, async t => {
  const { port } = await startEdge(t)
  const path = '/docs/static/swagger-ui-bundle.js'
  const some = await neverReads(port, get(path).repeat(PIPELINED_MAX))
  const many = await neverReads(port, get(path).repeat(2000))
  const most: number[] = []
  for (let n = 0; n < 20; n++) {
    await delay(20)
    most.push(opened())
  }
  t.ok(Math.max(...most) <= 2, `${Math.max(...most)} were open`)
  some.destroy()
  many.destroy()
})

t.test('a client that takes nothing of its answer is cut off', async t => {
  const { app, port, logged } = await startEdge(t, { routes: [floods] })
  app.server.timeout = 200
  const socket = await neverReads(port, get('/flood'))
  await eventually(() => assert.deepEqual(logged('http.request.completed').map(line => line.aborted), [true]))
  await eventually(async () => assert.equal(await openConnections(app), 0))
  t.pass('and its answer ends')
  socket.destroy()
})

async function openConnections(app: FastifyInstance): Promise<number> {
  return await new Promise((resolve, reject) => {
    app.server.getConnections((error, count) => error ? reject(error) : resolve(count))
  })
}

t.test('a client that waits while the service is at work is not cut off; one that is idle is', async t => {
  const { app, port } = await startEdge(t, { routes: [slowRoute().routes] })
  app.server.timeout = 100
  const idle = await rawClient(port)
  const client = await rawClient(port)
  client.send(get('/slow?ms=600&n=1'))
  t.equal((await client.answer()).status, 200)
  await idle.closed
  client.hangUp()
})

t.test('shutdown does not wait for a client that takes nothing of its answer', async t => {
  const { app, port } = await startEdge(t, { routes: [floods] })
  const socket = await neverReads(port, get('/flood'))
  await delay(200)
  await app.close()
  t.pass('closed')
  socket.destroy()
})

t.test('connections above the limit are closed as they come, and the log says so once', async t => {
  const { app, port, url, logged } = await startEdge(t)
  t.equal(app.server.maxConnections, CONNECTIONS_MAX)
  app.server.maxConnections = 2
  const held = [await rawClient(port), await rawClient(port)]
  for (let n = 0; n < 3; n++) await (await rawClient(port)).closed
  await eventually(() => assert.equal(logged('http.connections.dropped').length, 1))
  for (const client of held) client.hangUp()
  await eventually(async () => assert.equal((await fetch(`${url}/livez`)).status, 200))
})
