import t from 'tap'
import assert from 'node:assert/strict'
import { CHECK_TIMEOUT_MS } from '../../src/limits.ts'
import { startIssuer } from '../support/jwks.ts'
import { s3Env } from '../support/over-stub.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { startApp } from '../support/start-app.ts'
import { startEdge } from '../support/start-edge.ts'
import { healthReportRoute } from '../../src/http/routes/health-report.ts'
import { DEPENDENCIES, type HealthReport } from '../../src/http/health/probing.ts'

const disabled = { status: 'disabled', latency_ms: null, checked_at: null }
const up = { status: 'up', latency_ms: Number, checked_at: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/ }

t.test('with nothing configured, the stores are up, and what is not there is disabled', async t => {
  const { url } = await startApp(t)
  const answer = await fetch(`${url}/health`)
  t.equal(answer.status, 200)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  t.match(await answer.json(), {
    status: 'degraded', version: /^\d+\.\d+\.\d+$/, uptime_s: Number, device: null, model_loaded: false,
    dependencies: { objects: up, records: up, redis: disabled, oidc: disabled, file_gateway: disabled, gpu_node: disabled, infer: disabled, workers: disabled }
  }, 'first looked at before it listens, and degraded because no model is loaded')
})

t.test('with a worker it is healthy, and says where models run', async t => {
  const { url } = await startApp(t, { ROLES: 'worker', WORKERS: '1', DEVICE: 'cpu' })
  const answer = await fetch(`${url}/health`)
  t.match([answer.status, await answer.json()], [200, { status: 'healthy', device: String, model_loaded: true, dependencies: { workers: up } }])
  t.equal((await fetch(`${url}/metrics`)).status, 200, 'metrics too, without the role api')
  t.equal((await fetch(`${url}/extensions`)).status, 404)
})

t.test('an issuer and a Redis that are down degrade it, in time and without saying where they are', async t => {
  const issuer = await startIssuer(t)
  issuer.answer(() => {}) // hangs
  const began = performance.now()
  const { url, logged } = await startApp(t, { ...issuer.env, REDIS_URL: 'redis://127.0.0.1:1' })
  t.ok(performance.now() - began < CHECK_TIMEOUT_MS + 10_000)
  const answer = await fetch(`${url}/health`)
  const text = await answer.text()
  t.match([answer.status, JSON.parse(text)], [200, { status: 'degraded', dependencies: { oidc: { status: 'down', error: 'not reachable' }, redis: { status: 'down' }, records: up } }])
  t.notMatch(text, /127\.0\.0\.1|ECONN|no answer/)
  t.same(logged('health.dependency.down').map(({ dependency }) => dependency).toSorted(), ['oidc', 'redis'])
})

t.test('without its object store it is unhealthy, and answers all the same', async t => {
  const stub = await startS3Stub()
  await stub.close()
  const { url } = await startApp(t, s3Env(stub))
  const answer = await fetch(`${url}/health`)
  t.match([answer.status, await answer.json()], [503, { status: 'unhealthy', dependencies: { objects: { status: 'down', error: 'not reachable' }, records: up } }])
})

t.test('asking costs nothing, whoever asks and how often, and also while shutting down', async t => {
  const states = Object.fromEntries(DEPENDENCIES.map(name => [name, { status: 'disabled', latencyMs: null, checkedAt: null }])) as HealthReport['dependencies']
  const { app, health } = await startEdge(t, {
    env: { ADMIN_TOKEN: 'token', REFUSED_RATE_LIMIT_MAX: '1' },
    routes: [scope => healthReportRoute(scope, { version: '1.0.0', device: () => 'gpu', report: () => ({ status: 'healthy', modelLoaded: true, dependencies: states }) })]
  })
  health.stopping = true
  for (let n = 0; n < 3; n++) {
    const answer = await app.inject({ url: '/health', headers: { authorization: 'Bearer wrong' } })
    assert.equal(answer.statusCode, 200)
    t.match(answer.json(), { status: 'healthy', version: '1.0.0', device: 'gpu', dependencies: { redis: disabled } })
  }
})
