import t from 'tap'
import { startEdge } from '../support/start-edge.ts'

t.test('livez touches nothing', async t => {
  let asked = 0
  const { app } = await startEdge(t, { ready: async () => { asked++; return { ready: false, reasons: ['x'] } } })
  const response = await app.inject('/livez')
  t.equal(response.statusCode, 200)
  t.same(response.json(), { status: 'alive' })
  t.equal(response.headers['cache-control'], 'no-store')
  t.equal(asked, 0)
})

t.test('readyz says whether traffic should come, and why not', async t => {
  const answers = [{ ready: true, reasons: [] }, { ready: false, reasons: ['records not reachable'] }, { ready: false, reasons: [] }]
  const { app } = await startEdge(t, { ready: async () => answers.shift()! })
  t.match(await app.inject('/readyz'), { statusCode: 200, body: '{"status":"ready"}' })
  t.match(await app.inject('/readyz'), { statusCode: 503, body: '{"status":"not_ready","reasons":["records not reachable"]}' })
  t.match(await app.inject('/readyz'), { statusCode: 503, body: '{"status":"not_ready","reasons":["not ready"]}' })
})

t.test('not being able to find out is not being ready, and the reason stays in the log', async t => {
  const { app, logged } = await startEdge(t, { ready: async () => { throw new Error('postgres://10.0.0.5 refused') } })
  const response = await app.inject('/readyz')
  t.equal(response.statusCode, 503)
  t.notMatch(response.body, /10\.0/)
  t.equal(logged('health.ready.failed').length, 1)
})

t.test('health is open and unlimited', async t => {
  const { app } = await startEdge(t, { env: { ADMIN_TOKEN: 'token', EXT_BUNDLES_RATELIMIT_MAX: '1', REFUSED_RATE_LIMIT_MAX: '1' } })
  for (let n = 0; n < 5; n++) {
    for (const url of ['/livez', '/readyz']) {
      const response = await app.inject({ url, headers: { authorization: 'Bearer wrong' } })
      t.equal(response.statusCode, 200)
      t.equal(response.headers['ratelimit-limit'], undefined)
    }
  }
})

t.test('readyz says what is missing and can be done without, where there is such a thing', async t => {
  const answers = [{ ready: true, reasons: [], degraded: ['redis not reachable'] }, { ready: true, reasons: [], degraded: [] }, { ready: false, reasons: ['records not reachable'], degraded: ['redis not reachable'] }]
  const { app } = await startEdge(t, { ready: async () => answers.shift()! })
  t.match(await app.inject('/readyz'), { statusCode: 200, body: '{"status":"ready","degraded":["redis not reachable"]}' })
  t.match(await app.inject('/readyz'), { statusCode: 200, body: '{"status":"ready"}' })
  t.match(await app.inject('/readyz'), { statusCode: 503, body: '{"status":"not_ready","reasons":["records not reachable"]}' })
})
