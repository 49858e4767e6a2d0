import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { Config } from '../../src/config.ts'
import { flatErrors } from '../../src/http/errors.ts'
import { requireCaller, requireIngest } from '../../src/identity/guards.ts'
import { assertMayIngest, assertMayIngestKind } from '../../src/identity/permissions.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance, { config }: { config: Config }): Promise<void> {
  flatErrors(app)
  app.post('/ingest', { onRequest: requireIngest(config) }, async request => request.principal)
  app.get('/caller', { onRequest: requireCaller() }, async request => request.principal)
  app.get('/open', async request => ({ principal: request.principal }))
}

const token = 'a-token-of-the-admin'

async function call(edge: Edge, path: string, headers: Record<string, string> = {}): Promise<{ status: number, body: any }> { // eslint-disable-line typescript/no-explicit-any
  const response = await edge.app.inject({ method: path === '/ingest' ? 'POST' : 'GET', url: path, headers: { host: 'localhost', ...headers } })
  return { status: response.statusCode, body: response.json() }
}

t.test('ingest never takes the developer: it asks for a credential', async t => {
  const edge = await startEdge(t, { routes: [routes] })
  t.match(await call(edge, '/caller'), { status: 200, body: { kind: 'developer' } })
  t.match(await call(edge, '/ingest'), { status: 403, body: { code: 'RBAC_FORBIDDEN' } })
  t.match(await call(edge, '/ingest', { 'x-alga-admin': 'TRUE' }), { status: 200, body: { kind: 'admin', subject: 'dev', account: 'local' } })
  t.equal(edge.logged('identity.developer.enabled').length, 1, 'the developer is warned about at start')
})

t.test('where other machines can connect, what lets them in without a secret is warned about', async t => {
  const warned = async (env: Record<string, string>) => {
    const edge = await startEdge(t, { env, routes: [routes] })
    return edge.lines.filter(line => line.level === 'warn').map(line => line.action)
  }
  const production = { NODE_ENV: 'production', ADMIN_TOKEN: token }
  const open = { HOST: '0.0.0.0' }
  t.same(await warned(open), ['identity.developer.enabled', 'identity.admin_header.trusted', 'identity.developer.exposed'])
  t.same(await warned({ ...open, ADMIN_TOKEN: token }), [])
  t.same(await warned({ ...open, ADMIN_TOKEN: token, TRUST_ADMIN_HEADER: 'true' }), ['identity.admin_header.trusted'])
  t.same(await warned({ ...open, ...production }), [])
  t.same(await warned({ ...open, ...production, TRUST_ADMIN_HEADER: 'true' }), ['identity.admin_header.trusted'], 'a proxy has to strip it')
  t.same(await warned({}), ['identity.developer.enabled'], 'nobody but this machine can connect')
  t.same(await warned({ ADMIN_TOKEN: token }), [])
})

t.test('with a token configured, nobody is let in without it', async t => {
  const edge = await startEdge(t, { env: { ADMIN_TOKEN: token }, routes: [routes] })
  for (const path of ['/caller', '/ingest']) {
    t.match(await call(edge, path), { status: 403, body: { code: 'RBAC_FORBIDDEN' } }, path)
    t.match(await call(edge, path, { authorization: 'Bearer wrong' }), { status: 401, body: { code: 'UNAUTHORIZED' } }, path)
    t.match(await call(edge, path, { authorization: `Bearer ${token}` }), { status: 200, body: { kind: 'admin', subject: null } }, path)
  }
  t.same(edge.logged('identity.developer.enabled'), [])
})

t.test('a bad credential does not break open routes', async t => {
  const edge = await startEdge(t, { env: { ADMIN_TOKEN: token }, routes: [routes] })
  for (const path of ['/open', '/livez', '/readyz', '/openapi.json', '/docs/']) {
    const response = await edge.app.inject({ url: path, headers: { authorization: 'Bearer wrong' } })
    t.equal(response.statusCode, 200, path)
  }
})

t.test('the insecure switch lets ingest through without a credential, and says so each time', async t => {
  const edge = await startEdge(t, { env: { EXT_BUNDLES_ALLOW_INSECURE: 'true', ADMIN_TOKEN: token }, routes: [routes] })
  t.equal(edge.logged('identity.insecure.enabled').length, 1)
  t.match(await call(edge, '/ingest'), { status: 200, body: { kind: 'admin', subject: 'dev', account: 'local' } })
  t.match(await call(edge, '/ingest'), { status: 200 })
  t.equal(edge.logged('identity.insecure.used').length, 2)
  t.match(await call(edge, '/ingest', { authorization: 'Bearer wrong' }), { status: 401 }, 'a bad credential stays bad')
  t.match(await call(edge, '/caller'), { status: 403 }, 'other routes are not touched')
  t.match(await call(edge, '/ingest', { host: 'evil.example' }), { status: 403 }, 'a rebound name')
  t.match(await call(edge, '/ingest', { origin: 'https://evil.example' }), { status: 403 }, 'a page of another site')
})

t.test('without the switch nothing is said', async t => {
  const edge = await startEdge(t, { routes: [routes] })
  t.same(edge.lines.filter(line => String(line.action).includes('insecure')), [])
})

const scopes = { SCOPE_UPLOAD: 'penstock:upload', SCOPE_ADMIN: 'penstock:admin' }

function caller(kind: Principal['kind'], ...granted: string[]): Principal {
  return { kind, subject: 's', account: 'a', clientId: null, scopes: granted }
}

function check(principal: Principal | null): () => void {
  return () => assertMayIngest(principal, scopes)
}

t.test('who may ingest is a matter of kind and scope', async t => {
  t.doesNotThrow(check(caller('admin')))
  t.doesNotThrow(check(caller('client', 'x', 'penstock:upload')))
  t.doesNotThrow(check(caller('user', 'penstock:upload')))
  t.throws(check(null), { code: 'UNAUTHENTICATED' })
  t.throws(check(caller('developer', 'penstock:upload')), { code: 'UNAUTHENTICATED' })
  t.throws(check(caller('client', 'x')), { code: 'INSUFFICIENT_SCOPE', details: { required_scope: 'penstock:upload', provided_scopes: ['x'] } })
  for (const kind of ['guest', 'public', 'node'] as const) t.throws(check(caller(kind, 'penstock:upload')), { code: 'RBAC_FORBIDDEN' }, kind)
})

t.test('bundles and models are for administrators', async t => {
  for (const kind of ['bundle', 'model'] as const) {
    t.doesNotThrow(() => assertMayIngestKind(caller('admin'), kind, scopes))
    t.throws(() => assertMayIngestKind(caller('client', 'penstock:upload'), kind, scopes), { code: 'INSUFFICIENT_SCOPE', details: { required_scope: 'penstock:admin' } }, kind)
  }
  t.doesNotThrow(() => assertMayIngestKind(caller('client', 'penstock:upload'), 'object', scopes))
})
