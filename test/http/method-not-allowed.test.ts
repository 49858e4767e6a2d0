import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { flatErrors } from '../../src/http/errors.ts'
import { refuseOtherMethods } from '../../src/http/method-not-allowed.ts'
import { startEdge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance): Promise<void> {
  flatErrors(app)
  app.post('/thing', async () => ({}))
  await app.register(async inner => {
    inner.get('/thing', async () => ({}))
    inner.get('/items/:id', async () => ({}))
  })
  app.all('/retired', async () => ({}))
  refuseOtherMethods(app)
}

async function prefixed(app: FastifyInstance): Promise<void> {
  await app.register(async inner => {
    inner.put('/x', async () => ({}))
    refuseOtherMethods(inner)
  }, { prefix: '/v1' })
}

t.test('a known path refuses other methods and says which it takes', async t => {
  const { app } = await startEdge(t, { routes: [routes, prefixed] })
  for (const [url, method, allow] of [
    ['/thing', 'DELETE', 'GET, HEAD, OPTIONS, POST'],
    ['/thing', 'PROPFIND', 'GET, HEAD, OPTIONS, POST'],
    ['/items/7', 'POST', 'GET, HEAD, OPTIONS'],
    ['/v1/x', 'GET', 'OPTIONS, PUT'],
    ['/v1/x', 'HEAD', 'OPTIONS, PUT'],
    ['/livez', 'POST', 'GET, HEAD, OPTIONS']
  ] as const) {
    const response = await app.inject({ method: method as 'GET', url })
    t.equal(response.statusCode, 405, `${method} ${url}`)
    t.equal(response.headers.allow, allow)
  }
  t.match((await app.inject({ method: 'DELETE', url: '/thing' })).json(), { code: 'METHOD_NOT_ALLOWED' }, 'in the dialect of its plugin')
  t.match((await app.inject({ method: 'DELETE', url: '/livez' })).json(), { error: { code: 'method_not_allowed' } })
})

t.test('OPTIONS is answered, HEAD is GET without a body', async t => {
  const { app } = await startEdge(t, { routes: [routes] })
  const options = await app.inject({ method: 'OPTIONS', url: '/thing' })
  t.equal(options.statusCode, 204)
  t.equal(options.headers.allow, 'GET, HEAD, OPTIONS, POST')
  const head = await app.inject({ method: 'HEAD', url: '/thing' })
  t.equal(head.statusCode, 200)
  t.equal(head.body, '')
})

t.test('a path that takes every method refuses none', async t => {
  const { app } = await startEdge(t, { routes: [routes] })
  for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS'] as const) t.equal((await app.inject({ method, url: '/retired' })).statusCode, 200, method)
})

t.test('a preflight of CORS is answered on a path that has other methods', async t => {
  const { app } = await startEdge(t, { env: { CORS_ORIGIN: 'https://app.example.com' }, routes: [routes] })
  const response = await app.inject({
    method: 'OPTIONS', url: '/thing',
    headers: { origin: 'https://app.example.com', 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }
  })
  t.equal(response.statusCode, 204)
  t.equal(response.headers['access-control-allow-origin'], 'https://app.example.com')
  t.match(response.headers['access-control-allow-methods'], /POST/)
  t.equal(response.headers['access-control-allow-headers'], 'authorization')
})
