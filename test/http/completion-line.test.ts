import type { FastifyInstance } from 'fastify'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startEdge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance): Promise<void> {
  app.get('/things/:id', async () => ({ a: 1 }))
  app.get('/slow', async () => {
    await delay(150)
    return {}
  })
  app.get('/fault', async () => {
    throw new Error('a fault')
  })
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

t.test('an id that a caller gives is taken where it is one, else one is made; it is on every answer', async t => {
  const { url } = await startEdge(t, { routes: [routes] })
  for (const path of ['/things/1', '/nowhere', '/fault', '/%zz', '/docs/']) {
    for (const given of ['a', 'A-b_c.9', 'x'.repeat(128)]) {
      t.equal((await fetch(url + path, { headers: { 'x-request-id': given } })).headers.get('x-request-id'), given, path)
    }
    for (const given of ['', 'a b', 'ä', 'x'.repeat(129), 'a/b', '<script>']) {
      const id = (await fetch(url + path, { headers: { 'x-request-id': given } })).headers.get('x-request-id')
      t.match(id, uuid, `${path} ${given}`)
    }
  }
})

t.test('a request leaves one line, with the pattern of its route and nothing of its query', async t => {
  const { url, logged } = await startEdge(t, { routes: [routes] })
  await fetch(`${url}/things/7?signature=secret`, { headers: { 'x-request-id': 'mine' } })
  await eventually(() => { if (logged('http.request.completed').length !== 1) throw new Error('no line yet') })
  t.match(logged('http.request.completed'), [{
    level: 'info', service: 'penstock', timestamp: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/, request_id: 'mine',
    method: 'GET', route: '/things/:id', status: 200, duration_ms: Number, bytes_out: 7, actor: 'developer:local:dev'
  }])
})

t.test('errors are in the line by their code; a fault has a second line with its cause', async t => {
  const { url, lines } = await startEdge(t, { routes: [routes] })
  for (const [id, path] of [['1', '/nowhere'], ['2', '/fault'], ['3', '/%zz']]) {
    await fetch(`${url}${path}?token=secret`, { headers: { 'x-request-id': id! } })
  }
  const of = (id: string) => lines.filter(line => line.request_id === id)
  await eventually(() => { if (of('3').length === 0) throw new Error('no line yet') })
  t.match(of('1'), [{ action: 'http.request.completed', status: 404, error: 'NOT_FOUND', route: null }])
  t.match(of('2'), [{ action: 'http.request.failed', level: 'error', err: { message: 'a fault' } }, { action: 'http.request.completed', status: 500, error: 'INTERNAL_ERROR' }])
  t.match(of('3'), [{ action: 'http.request.completed', status: 400, error: 'BAD_REQUEST', route: null }])
  t.notMatch(JSON.stringify(lines), /secret/)
})

t.test('a client that goes away before its answer shows in the line', async t => {
  const { port, logged } = await startEdge(t, { routes: [routes] })
  const client = await rawClient(port)
  client.send('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
  await delay(30)
  client.hangUp()
  await eventually(() => { if (logged('http.request.completed').length !== 1) throw new Error('no line yet') })
  t.match(logged('http.request.completed'), [{ route: '/slow', aborted: true, status: null }])
})

t.test('no credential is ever in a line', async t => {
  const { url, lines } = await startEdge(t, { env: { ADMIN_TOKEN: 'the-right-secret' }, routes: [routes] })
  for (const path of ['/things/1', '/fault', '/nowhere']) {
    await fetch(url + path, { headers: { authorization: 'Bearer the-right-secret', cookie: 'token=cookie-secret', 'x-guest-authorization': 'guest-secret' } })
    await fetch(url + path, { headers: { authorization: 'Bearer a-wrong-secret' } })
  }
  await eventually(() => { if (lines.filter(line => line.action === 'http.request.completed').length < 6) throw new Error('not yet') })
  t.notMatch(JSON.stringify(lines), /secret/)
})
