import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { flatErrors } from '../../src/http/errors.ts'
import { rawClient } from '../support/raw-client.ts'
import { startEdge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance): Promise<void> {
  flatErrors(app)
  app.post('/json', async request => request.body)
}

async function streaming(app: FastifyInstance): Promise<void> {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.post('/stream', { config: { continueLater: true } }, async request => ({ own: request.body === request.raw }))
}

const env = { UPLOAD_IDLE_TIMEOUT_MS: '100' }
const head = (more = '') => `POST /json HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${more}\r\n`

t.test('a body that stops arriving is answered with 408 and the connection ends', async t => {
  const { port, logged } = await startEdge(t, { env, routes: [routes] })
  for (const start of [head('Content-Length: 100\r\n'), `${head('Content-Length: 100\r\n')}{"a":`, `${head('Transfer-Encoding: chunked\r\n')}5\r\n{"a":\r\n`]) {
    const client = await rawClient(port)
    client.send(start)
    const answer = await client.answer()
    t.equal(answer.status, 408)
    t.match(answer.head, /connection: close/i)
    t.match(JSON.parse(answer.body), { code: 'REQUEST_TIMEOUT' })
    await client.closed
  }
  t.equal(logged('http.request.completed').length, 3)
})

t.test('a body that is slow but keeps arriving is waited for', async t => {
  const { port } = await startEdge(t, { env: { UPLOAD_IDLE_TIMEOUT_MS: '1000' }, routes: [routes] })
  const client = await rawClient(port)
  client.send(head('Content-Length: 12\r\n'))
  for (const letter of '{"a":"slow"}') {
    client.send(letter)
    await delay(120)
  }
  const answer = await client.answer()
  t.equal(answer.status, 200)
  t.equal(answer.body, '{"a":"slow"}')
  client.hangUp()
})

t.test('a client that hangs up in the middle of a body leaves one line and nothing waiting', async t => {
  const { app, port, logged } = await startEdge(t, { env, routes: [routes] })
  const client = await rawClient(port)
  client.send(`${head('Content-Length: 100\r\n')}{"a":`)
  await delay(20)
  client.hangUp()
  await delay(200)
  t.match(logged('http.request.completed'), [{ aborted: true, route: '/json' }])
  t.same(logged('http.request.failed'), [])
  await app.close()
})

t.test('a body that nobody reads times nothing out', async t => {
  const { url, lines } = await startEdge(t, { env, routes: [routes] })
  const response = await fetch(`${url}/json`, { method: 'POST', body: 'x'.repeat(100), headers: { 'content-type': 'application/xml' } })
  t.equal(response.status, 415)
  await delay(200)
  t.equal((await fetch(`${url}/livez`)).status, 200, 'the process goes on')
  t.same(lines.filter(line => line.level === 'error'), [])
})

t.test('a route that takes its body over gets the request itself, without anything in between', async t => {
  const { url } = await startEdge(t, { env, routes: [streaming] })
  const response = await fetch(`${url}/stream`, { method: 'POST', body: '{"a":1}', headers: { 'content-type': 'application/json' } })
  t.same(await response.json(), { own: true })
})
