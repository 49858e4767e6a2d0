/** Budgets that several nodes share in a real Redis, and what becomes of them when it is away. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Redis as Reader } from 'ioredis'
import t, { type Test } from 'tap'
import { limited } from '../../src/http/rate-limits.ts'
import { createLogger } from '../../src/logging.ts'
import { redisClient, RedisUnavailable, type RedisClient } from '../../src/redis.ts'
import { eventually } from '../support/raw-client.ts'
import { redisOrSkip } from '../support/redis.ts'
import { startService } from '../support/service-process.ts'
import { stallingProxy } from '../support/stalling-proxy.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

const env = { EXT_BUNDLES_RATELIMIT_MAX: '3', API_V1_RATE_LIMIT_MAX: '3', REFUSED_RATE_LIMIT_MAX: '2' }

/** The test says who is calling. */
async function onRequest(request: FastifyRequest): Promise<void> {
  const { subject = null } = request.query as Record<string, string>
  request.principal = subject === null ? null : { kind: 'user', subject, account: 'acme', clientId: null, scopes: [] }
}

/** Two routes in one bucket, one in another. */
async function routes(app: FastifyInstance): Promise<void> {
  app.get('/one', { onRequest, config: limited('ingest', 'one') }, async () => ({}))
  app.get('/two', { onRequest, config: limited('ingest', 'two') }, async () => ({}))
  app.get('/api', { onRequest, config: limited('api', 'one') }, async () => ({}))
}

async function node(t: Test, url: string): Promise<Edge & { redis: RedisClient }> {
  const redis = redisClient({ url, log: createLogger({ level: 'silent' }) })
  t.teardown(() => redis.close())
  await redis.open()
  return { ...await startEdge(t, { env, redis, routes: [routes] }), redis }
}

/** Takes one; how many are left. */
async function leftAfter(edge: Edge, path: string): Promise<number> {
  return Number((await edge.app.inject(path)).headers['ratelimit-remaining'])
}

async function statusOf(edge: Edge, path: string): Promise<number> {
  return (await edge.app.inject(path)).statusCode
}

const redis = await redisOrSkip(t)
if (redis !== undefined) {
  t.test('callers, groups and buckets are counted apart, by all nodes together', async t => {
    const [here, there] = await Promise.all([node(t, redis.url), node(t, redis.url)])
    const first = await here.app.inject('/one?subject=ann')
    for (const prefix of ['x-ratelimit', 'ratelimit']) {
      t.equal(Number(first.headers[`${prefix}-limit`]), 3)
      t.equal(Number(first.headers[`${prefix}-remaining`]), 2)
      t.match(String(first.headers[`${prefix}-reset`]), /^(5\d|60)$/)
    }
    t.equal(await leftAfter(there, '/one?subject=ann'), 1)
    t.equal(await statusOf(here, '/one?subject=ann'), 200)
    for (const edge of [here, there]) {
      const refused = await edge.app.inject('/one?subject=ann')
      t.equal(refused.statusCode, 429)
      t.match(String(refused.headers['retry-after']), /^(5\d|60)$/)
      t.match(refused.json(), { error: { code: 'rate_limit_exceeded' } })
    }
    for (const path of ['/one?subject=bob', '/two?subject=ann', '/api?subject=ann', '/one']) t.equal(await leftAfter(there, path), 2, path)
  })

  t.test('many requests at once take no more than there are', async t => {
    const edges = await Promise.all([node(t, redis.url), node(t, redis.url)])
    const statuses = await Promise.all(Array.from({ length: 40 }, (_, n) => statusOf(edges[n % 2]!, '/one?subject=carl')))
    t.equal(statuses.filter(status => status === 200).length, 3)
  })

  t.test('the keys say nothing of the caller, and go by themselves', async t => {
    const edge = await node(t, redis.url)
    await statusOf(edge, '/one?subject=dora-the-explorer')
    const reader = new Reader(redis.url)
    t.teardown(() => reader.disconnect())
    const keys = await reader.keys('*')
    t.ok(keys.length > 0)
    for (const key of keys) {
      t.match(key, /^penstock:rate:(ingest|api|refused):(one|two|):[\w-]{43}$/)
      const leftMs = await reader.pttl(key)
      t.ok(leftMs > 0 && leftMs <= 300_000)
    }
  })
}

t.test('two services share one budget; refused callers too', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const settings = { REDIS_URL: redis.url, API_V1_RATE_LIMIT_MAX: '4', REFUSED_RATE_LIMIT_MAX: '3', ADMIN_TOKEN: 'sixteen-or-more-characters' }
  const one = await startService(t, settings)
  const two = await startService(t, settings)
  const admin = { authorization: `Bearer ${settings.ADMIN_TOKEN}` }
  const statuses: number[] = []
  for (let n = 0; n < 6; n++) statuses.push((await (n % 2 === 0 ? one : two).call('/api/v1/jobs', undefined, admin)).status)
  t.same(statuses, [200, 200, 200, 200, 429, 429])
  const refused: number[] = []
  for (let n = 0; n < 5; n++) refused.push((await (n % 2 === 0 ? one : two).call('/api/v1/jobs', undefined, { authorization: 'Bearer wrong' })).status)
  t.same(refused, [401, 401, 401, 429, 429])
})

t.test('without Redis each node counts for itself, says so once, and goes back to it', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const [here, there] = await Promise.all([node(t, redis.url), node(t, redis.url)])
  t.equal(await statusOf(here, '/one?subject=ann'), 200)
  await redis.kill('SIGKILL')
  for (const edge of [here, there]) {
    const statuses: number[] = []
    for (let n = 0; n < 4; n++) statuses.push(await statusOf(edge, '/one?subject=ann'))
    t.same(statuses, [200, 200, 200, 429], 'a budget of its own')
    t.equal(edge.logged('http.rate_limit.alone').length, 1)
  }
  await redis.restart()
  await eventually(async () => { await Promise.all([here.redis.check(), there.redis.check()]) }, 15_000)
  t.equal(await leftAfter(here, '/one?subject=ann'), 2)
  t.equal(await leftAfter(there, '/one?subject=ann'), 1)
})

t.test('requests that come at the same moment take one each where a node counts for itself', async t => {
  // a count that fails, for all of them at once
  const failing = Promise.withResolvers<never>()
  const redis: Pick<RedisClient, 'count'> = { count: () => failing.promise }
  const { app } = await startEdge(t, { env, redis: redis as RedisClient, routes: [routes] })
  const statuses = Promise.all(Array.from({ length: 20 }, async () => (await app.inject('/one?subject=ann')).statusCode))
  await new Promise(setImmediate)
  failing.reject(new RedisUnavailable({}))
  t.same((await statuses).toSorted(), [200, 200, 200, ...Array.from({ length: 17 }, () => 429)])
})

t.test('while Redis stands still, requests are served and limited', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const proxy = await stallingProxy(t, redis.port)
  const edge = await node(t, `redis://127.0.0.1:${proxy.port}`)
  t.equal(await statusOf(edge, '/one?subject=ann'), 200)
  proxy.stall()
  const statuses = await Promise.all(Array.from({ length: 20 }, () => statusOf(edge, '/one?subject=ann')))
  t.same(statuses.toSorted(), [200, 200, 200, ...Array.from({ length: 17 }, () => 429)])
  for (let n = 0; n < 4; n++) t.equal(await statusOf(edge, '/two?subject=ann'), n < 3 ? 200 : 429)
  proxy.flow()
  await eventually(() => edge.redis.check(), 15_000)
  t.equal(await leftAfter(edge, '/one?subject=eve'), 2)
  t.equal(await leftAfter(edge, '/one?subject=ann'), 1, 'what was counted before is still there')
})
