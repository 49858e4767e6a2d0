import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { pino } from 'pino'
import { Down, startProbing, type Probes, type Probing } from '../../../src/http/health/probing.ts'
import { CHECK_TIMEOUT_MS } from '../../../src/limits.ts'
import { eventually } from '../../support/raw-client.ts'

const up = async (): Promise<void> => {}
const stores = { objects: up, records: up }

async function probe(t: Test, probes: Probes, anyModelLoaded = async () => true): Promise<{ probing: Probing, logs: Record<string, unknown>[] }> {
  const logs: Record<string, unknown>[] = []
  const log = pino({}, { write: (line: string) => { logs.push(JSON.parse(line) as Record<string, unknown>) } })
  const probing = startProbing({ probes, anyModelLoaded, log })
  t.teardown(probing.stop)
  await probing.refresh()
  return { probing, logs }
}

async function refuse(): Promise<never> {
  throw new Error('connect ECONNREFUSED 10.0.0.5:5432')
}

t.test('the worst of what is down decides', async t => {
  for (const [status, probes, loaded] of [
    ['healthy', stores, true],
    ['degraded', stores, false],
    ['degraded', { ...stores, redis: refuse }, true],
    ['degraded', { ...stores, workers: refuse, oidc: up }, true],
    ['degraded', { ...stores, file_gateway: refuse, gpu_node: refuse }, true],
    ['unhealthy', { ...stores, objects: refuse }, true],
    ['unhealthy', { ...stores, records: refuse, redis: refuse }, false]
  ] as const) {
    const { probing } = await probe(t, probes, async () => loaded)
    t.equal(probing.report().status, status, `${Object.keys(probes).join()} ${loaded}`)
  }
})

t.test('each dependency says how it is, when that was found, and how long it took', async t => {
  const { probing } = await probe(t, { ...stores, redis: refuse, workers: async () => { throw new Down('no worker is ready') } })
  const { dependencies, modelLoaded } = probing.report()
  t.same(Object.keys(dependencies), ['objects', 'records', 'redis', 'oidc', 'file_gateway', 'gpu_node', 'infer', 'workers'])
  t.match(dependencies, {
    objects: { status: 'up', latencyMs: Number, checkedAt: Number, error: undefined },
    redis: { status: 'down', latencyMs: Number, checkedAt: Number, error: 'not reachable' },
    oidc: { status: 'disabled', latencyMs: null, checkedAt: null },
    workers: { status: 'down', error: 'no worker is ready' }
  })
  t.equal(modelLoaded, true)
})

t.test('why it is down is logged once, and that it is up again', async t => {
  let down = true
  const { probing, logs } = await probe(t, { ...stores, redis: async () => { if (down) await refuse() } })
  await probing.refresh()
  t.match(logs, [{ action: 'health.dependency.down', dependency: 'redis', err: { message: /10\.0\.0\.5/ } }])
  down = false
  await probing.refresh()
  await probing.refresh()
  t.match(logs.slice(1), [{ action: 'health.dependency.up', dependency: 'redis' }])
  t.equal(logs.length, 2)
  t.match(probing.report(), { status: 'healthy', dependencies: { redis: { status: 'up', error: undefined } } })
})

t.test('probes that hang are down in time, are not asked again meanwhile, and hold up no other', async t => {
  let asked = 0
  const hang = Promise.withResolvers<void>()
  const began = performance.now()
  const { probing } = await probe(t, { ...stores, redis: () => { asked += 1; return hang.promise } }, () => new Promise(() => {}))
  t.ok(performance.now() - began >= CHECK_TIMEOUT_MS - 10, 'it was waited for')
  t.match(probing.report(), { status: 'degraded', modelLoaded: false, dependencies: { objects: { status: 'up' }, redis: { status: 'down', error: 'not reachable' } } })
  await probing.refresh()
  t.equal(asked, 1)
  hang.resolve()
  await eventually(async () => {
    await probing.refresh()
    assert.equal(probing.report().dependencies.redis.status, 'up')
  })
})

t.test('it looks by itself, and no more once it is stopped', async t => {
  let asked = 0
  const probing = startProbing({ probes: { ...stores, redis: async () => { asked += 1 } }, anyModelLoaded: async () => true, log: pino({ level: 'silent' }), intervalMs: 10 })
  t.equal(probing.report().dependencies.redis.status, 'disabled', 'not looked at yet')
  await eventually(async () => assert.ok(asked >= 3))
  probing.stop()
  const before = asked
  await probing.refresh()
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(asked, before)
})
