import t, { type Test } from 'tap'
import { metricsRoute } from '../../src/http/routes/metrics.ts'
import { requireScraper } from '../../src/identity/metrics-guard.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

const ADMIN_TOKEN = 'a-token-of-the-admin'
const METRICS_TOKEN = 'a-token-of-prometheus'

/** It listens on loopback, whatever HOST says to the guard. */
async function start(t: Test, env: Record<string, string>): Promise<Edge> {
  return await startEdge(t, { env, routes: [(app, { config }) => metricsRoute(app, { exposition: { contentType: 'text/plain', metrics: async () => 'x 1\n' }, guard: requireScraper(config) })] })
}

async function statuses({ app }: Edge, ...headers: Record<string, string>[]): Promise<number[]> {
  return await Promise.all(headers.map(async each => (await app.inject({ url: '/metrics', headers: each })).statusCode))
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

t.test('on loopback everybody may look, whatever credential is sent along', async t => {
  const edge = await start(t, { ADMIN_TOKEN })
  t.same(await statuses(edge, {}, bearer('wrong'), { host: 'localhost:4000' }), [200, 200, 200])
})

t.test('on loopback a proxy lets nobody in, nor a page that came by another name', async t => {
  const edge = await start(t, { ADMIN_TOKEN, METRICS_TOKEN })
  t.same(await statuses(edge, { 'x-forwarded-for': '10.0.0.1' }, { forwarded: 'for=10.0.0.1' }, { via: '1.1 nginx' }, { 'x-real-ip': '10.0.0.1' }, { host: 'evil.example' }), [401, 401, 401, 401, 401])
  t.same(await statuses(edge, { 'x-forwarded-for': '10.0.0.1', ...bearer(METRICS_TOKEN) }), [200])
})

t.test('elsewhere it takes an administrator or METRICS_TOKEN', async t => {
  const edge = await start(t, { HOST: '0.0.0.0', ADMIN_TOKEN, METRICS_TOKEN })
  t.same(await statuses(edge, {}, bearer('wrong'), bearer(METRICS_TOKEN.slice(1)), { authorization: METRICS_TOKEN }, { 'x-alga-admin': 'true' }), [401, 401, 401, 401, 401])
  t.same(await statuses(edge, bearer(ADMIN_TOKEN), bearer(METRICS_TOKEN), { authorization: `bearer  ${METRICS_TOKEN}` }), [200, 200, 200])
})

t.test('without METRICS_TOKEN there is none that fits', async t => {
  const edge = await start(t, { HOST: '0.0.0.0', ADMIN_TOKEN })
  t.same(await statuses(edge, bearer(''), bearer('undefined'), bearer(METRICS_TOKEN)), [401, 401, 401])
})

t.test('METRICS_TOKEN opens nothing else', async t => {
  const { app } = await startEdge(t, {
    env: { ADMIN_TOKEN, METRICS_TOKEN },
    routes: [async scope => void scope.get('/who', async ({ principal, credentialError }) => ({ principal, code: credentialError?.code }))]
  })
  t.same((await app.inject({ url: '/who', headers: bearer(METRICS_TOKEN) })).json(), { principal: null, code: 'UNAUTHORIZED' })
})
