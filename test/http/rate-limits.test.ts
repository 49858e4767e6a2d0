import assert from 'node:assert/strict'
import type { FastifyInstance, InjectOptions } from 'fastify'
import t from 'tap'
import type { Config } from '../../src/config.ts'
import { flatErrors } from '../../src/http/errors.ts'
import { limited } from '../../src/http/rate-limits.ts'
import { requireIngest } from '../../src/identity/guards.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { eventually } from '../support/raw-client.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

/** Routes as ingest has them, and one where the test says who is calling. */
async function routes(app: FastifyInstance, { config }: { config: Config }): Promise<void> {
  flatErrors(app)
  const onRequest = requireIngest(config)
  for (const path of ['/one', '/alias/one']) app.post(path, { onRequest, config: limited('ingest', 'one') }, async () => ({}))
  app.post('/two', { onRequest, config: limited('ingest', 'two') }, async () => {
    throw new Error('a fault')
  })
  app.get('/read', { config: limited('ingest', 'read') }, async () => ({}))
  app.get('/as', {
    onRequest: async request => {
      const { kind, subject = null, account = null, client = null } = request.query as Record<string, string>
      request.principal = { kind: kind as Principal['kind'], subject, account, clientId: client, scopes: [] }
    },
    config: limited('ingest', 'as')
  }, async () => ({}))
}

const env = { EXT_BUNDLES_RATELIMIT_MAX: '2', EXT_BUNDLES_RATELIMIT_WINDOW_MS: '60000', REFUSED_RATE_LIMIT_MAX: '3' }
const admin = { 'x-alga-admin': 'true', host: 'localhost' }

async function post(edge: Edge, url: string, options: InjectOptions = {}) {
  return await edge.app.inject({ method: 'POST', url, headers: admin, ...options })
}

t.test('beyond the budget a caller gets 429, and both families of headers on every answer', async t => {
  const edge = await startEdge(t, { env, routes: [routes] })
  for (const [status, remaining] of [[200, '1'], [200, '0'], [429, '0'], [429, '0']] as const) {
    const { statusCode, headers } = await post(edge, '/one')
    t.equal(statusCode, status)
    for (const prefix of ['x-ratelimit', 'ratelimit']) {
      t.equal(String(headers[`${prefix}-limit`]), '2')
      t.equal(String(headers[`${prefix}-remaining`]), remaining)
      t.match(String(headers[`${prefix}-reset`]), /^([1-9]|[1-5]\d|60)$/)
    }
    t.equal(headers['retry-after'] !== undefined, status === 429)
  }
  t.match((await post(edge, '/one')).json(), { code: 'RATE_LIMIT' })
})

t.test('an alias takes from the budget of its route; another route has its own', async t => {
  const edge = await startEdge(t, { env, routes: [routes] })
  t.equal((await post(edge, '/one')).statusCode, 200)
  t.equal((await post(edge, '/alias/one')).statusCode, 200)
  t.equal((await post(edge, '/one')).statusCode, 429)
  t.equal((await post(edge, '/alias/one')).statusCode, 429)
  const other = await post(edge, '/two')
  t.equal(other.statusCode, 500)
  t.equal(String(other.headers['ratelimit-remaining']), '1', 'the headers are on errors too')
})

t.test('HEAD counts once, with GET', async t => {
  const edge = await startEdge(t, { env, routes: [routes] })
  t.equal(String((await edge.app.inject({ method: 'HEAD', url: '/read' })).headers['ratelimit-remaining']), '1')
  t.equal(String((await edge.app.inject({ method: 'GET', url: '/read' })).headers['ratelimit-remaining']), '0')
})

t.test('a window ends', async t => {
  const edge = await startEdge(t, { env: { ...env, EXT_BUNDLES_RATELIMIT_WINDOW_MS: '2000' }, routes: [routes] })
  for (const status of [200, 200, 429]) t.equal((await post(edge, '/one')).statusCode, status)
  await eventually(async () => assert.equal((await post(edge, '/one')).statusCode, 200), 20_000)
})

t.test('zero switches a bucket off, with its headers', async t => {
  const edge = await startEdge(t, { env: { EXT_BUNDLES_RATELIMIT_MAX: '0', REFUSED_RATE_LIMIT_MAX: '0' }, routes: [routes] })
  for (let n = 0; n < 40; n++) {
    const { statusCode, headers } = await post(edge, '/one')
    t.equal(statusCode, 200)
    t.equal(headers['ratelimit-limit'], undefined)
  }
  for (let n = 0; n < 5; n++) t.equal((await post(edge, '/one', { headers: {} })).statusCode, 403)
})

t.test('refused callers use up a bucket of their own by address, never the budget of the route', async t => {
  const edge = await startEdge(t, { env, routes: [routes] })
  for (const [headers, status] of [
    [{}, 403], [{ authorization: 'Bearer x' }, 401], [{}, 403], [{}, 429], [{ authorization: 'Bearer x' }, 429]
  ] as const) {
    const answer = await post(edge, '/one', { headers })
    t.equal(answer.statusCode, status)
    t.equal(String(answer.headers['ratelimit-limit']), '3')
    if (status !== 429) t.equal(answer.headers.connection, 'close')
  }
  t.equal((await post(edge, '/one', { headers: {}, remoteAddress: '10.0.0.9' })).statusCode, 403, 'another address has its own')
  t.equal(String((await post(edge, '/one')).headers['ratelimit-remaining']), '1', 'the right caller has the whole budget')
  t.equal((await post(edge, '/one')).statusCode, 200)
})

t.test('nobody can lock out a caller with the right credential by using up the refusals of their address', async t => {
  const edge = await startEdge(t, { env: { ...env, ADMIN_TOKEN: 'the-right-token-of-the-admin', EXT_BUNDLES_RATELIMIT_MAX: '0' }, routes: [routes] })
  for (let n = 0; n < 10; n++) await post(edge, '/one', { headers: { authorization: 'Bearer wrong' } })
  t.equal((await post(edge, '/one', { headers: { authorization: 'Bearer wrong' } })).statusCode, 429)
  t.equal((await post(edge, '/one', { headers: { authorization: 'Bearer the-right-token-of-the-admin' } })).statusCode, 200)
})

t.test('callers are told apart by client, then user, then address', async t => {
  const edge = await startEdge(t, { env: { EXT_BUNDLES_RATELIMIT_MAX: '1' }, routes: [routes] })
  const as = async (query: string, remoteAddress = '10.0.0.1') => (await edge.app.inject({ url: `/as?${query}`, remoteAddress })).statusCode
  t.equal(await as('kind=client&client=a'), 200)
  t.equal(await as('kind=user&client=a&subject=u', '10.0.0.2'), 429, 'one client, whatever the user and the address')
  t.equal(await as('kind=user&subject=u&account=x'), 200)
  t.equal(await as('kind=user&subject=u&account=x', '10.0.0.2'), 429)
  t.equal(await as('kind=user&subject=u&account=y'), 200, 'a user of another account')
  t.equal(await as('kind=guest&subject=u&account=x'), 200, 'a guest takes nothing from a user who is called the same')
  t.equal(await as('kind=guest&subject=u&account=x', '10.0.0.2'), 429)
  t.equal(await as('kind=user&subject=b:c&account=a'), 200)
  t.equal(await as('kind=user&subject=c&account=a:b'), 200, 'names with colons')
  t.equal(await as('kind=admin'), 200)
  t.equal(await as('kind=admin'), 429, 'an administrator is an address')
  t.equal(await as('kind=admin', '10.0.0.2'), 200)
})

t.test('addresses of one IPv6 network count as one, and IPv4 is the same in both forms', async t => {
  const edge = await startEdge(t, { env: { EXT_BUNDLES_RATELIMIT_MAX: '1', ADMIN_TOKEN: 'so-that-nobody-is-the-developer' }, routes: [routes] })
  const from = async (remoteAddress: string) => (await edge.app.inject({ url: '/read', remoteAddress })).statusCode
  t.equal(await from('2001:db8:1:2::1'), 200)
  t.equal(await from('2001:db8:1:2:ffff::9'), 429)
  t.equal(await from('2001:db8:1:3::1'), 200)
  t.equal(await from('192.0.2.1'), 200)
  t.equal(await from('::ffff:192.0.2.1'), 429)
})

t.test('what a proxy says that is no address makes no callers of its own', async t => {
  const edge = await startEdge(t, { env: { EXT_BUNDLES_RATELIMIT_MAX: '1', TRUST_PROXY: '1', ADMIN_TOKEN: 'so-that-nobody-is-the-developer' }, routes: [routes] })
  const from = async (address: string) => (await edge.app.inject({ url: '/read', remoteAddress: '192.0.2.1', headers: { 'x-forwarded-for': address } })).statusCode
  t.equal(await from('unknown'), 200)
  t.equal(await from('_hidden'), 429)
  t.equal(await from('192.0.2.2'), 200)
})
