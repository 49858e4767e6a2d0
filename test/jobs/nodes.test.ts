/** Several nodes over one Postgres, which tells each of what the others did. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { ALICE, jobWorld, type World } from '../support/job-world.ts'
import { ownPostgresOrSkip, postgresOrSkip } from '../support/postgres.ts'
import { eventually } from '../support/raw-client.ts'

interface Nodes { api: World, worker: World }

async function twoNodes(t: Test, url: string, env: Record<string, string> = {}): Promise<Nodes> {
  const api = await jobWorld(t, { env: { ...env, DATABASE_URL: url } })
  const worker = await jobWorld(t, { beside: api, env: { ...env, DATABASE_URL: url } })
  // nothing has to be put right by the lease
  worker.run()
  return { api, worker }
}

const LONG_LEASE = { JOB_LEASE_MS: '60000' }

t.test('over Postgres', async t => {
  const postgres = await postgresOrSkip(t)
  if (!postgres) return

  await t.test('a job made here runs there, and is watched here', async t => {
    const { api, worker } = await twoNodes(t, await postgres.createDatabase(), LONG_LEASE)
    const { id } = await api.create()
    const events: string[] = []
    const watched = (async () => { for await (const { event } of await api.service.watch(ALICE, id, 0, new AbortController().signal)) events.push(event) })()
    const run = await worker.pool.next()
    run.hooks.onProgress?.({ stage: 'inference', progress: 30, message: null })
    await api.when(id, job => job.progress === 30)
    await run.finish('there')
    await watched
    t.equal(events[0], 'generation_started')
    t.equal(events.at(-1), 'generation_complete')
    t.equal(await api.resultText(await api.ended(id)), 'there')
  })

  await t.test('a cancel asked for here reaches the worker there long before its lease', async t => {
    const { api, worker } = await twoNodes(t, await postgres.createDatabase(), LONG_LEASE)
    const { id } = await api.create()
    await worker.pool.next()
    await api.when(id, job => job.stage === 'inference')
    await api.service.cancel(ALICE, id)
    t.match(await api.ended(id), { status: 'cancelled' })
    const next = await api.create()
    await worker.pool.next()
    await api.service.remove(ALICE, next.id)
    t.equal(await worker.records.jobs.get(next.id), undefined)
  })

  await t.test('of many jobs over three nodes each runs once', async t => {
    const url = await postgres.createDatabase()
    const { api, worker } = await twoNodes(t, url, LONG_LEASE)
    const third = await jobWorld(t, { beside: api, env: { ...LONG_LEASE, DATABASE_URL: url } })
    third.run()
    api.run()
    const nodes = [api, worker, third]
    for (const { pool } of nodes) pool.play(run => run.finish(run.request.id))
    const jobs = await Promise.all(Array.from({ length: 40 }, () => api.create({ cache: false })))
    for (const { id } of jobs) t.match(await api.ended(id), { status: 'completed', attempt: 1 })
    t.equal(nodes.reduce((sum, { pool }) => sum + pool.begun, 0), 40)
  })
})

t.test('Postgres that crashes in the middle of a run: the job is completed all the same, once', async t => {
  const postgres = await ownPostgresOrSkip(t)
  if (!postgres) return
  const { api, worker } = await twoNodes(t, await postgres.createDatabase(), { JOB_LEASE_MS: '20000' })
  const { id } = await api.create()
  const run = await worker.pool.next()
  await api.when(id, job => job.stage === 'inference')
  const crashed = postgres.crash()
  await delay(100)
  await run.finish('survived')
  await crashed
  await eventually(async () => assert.equal((await api.records.jobs.get(id))?.status, 'completed'), 30_000)
  const events = await api.events(id)
  t.equal(events.filter(({ event }) => event === 'generation_complete').length, 1)
  t.equal(await api.resultText((await api.records.jobs.get(id))!), 'survived')
  worker.pool.play(next => next.finish('after'))
  t.match(await api.ended((await api.create({ cache: false })).id), { status: 'completed' })
})

t.test('the queue names the workers of every node, as long as it is there', async t => {
  const world = await jobWorld(t)
  const other = await jobWorld(t, { beside: world, workers: 2 })
  const asks = await jobWorld(t, { beside: world })
  const nodes = async (): Promise<string[]> => (await asks.service.queue()).workers.map(({ node }) => node)
  const runner = other.run()
  world.run()
  await eventually(async () => assert.deepEqual((await nodes()).toSorted(), [asks.node, world.node, other.node].toSorted()))
  t.match((await asks.service.queue()).workers.find(({ node }) => node === other.node), { id: 'w1', state: 'idle', provider: 'cpu', device: 'played', runs: 0 })
  t.notMatch(JSON.stringify((await asks.service.queue()).workers), /"(pid|rss|running)"/)
  await runner.stop()
  t.notOk((await nodes()).includes(other.node), 'it said that it leaves')
  // one that died says nothing, and is not there for long
  await postDated(world, other.node)
  t.notOk((await nodes()).includes(other.node))
})

/** A node that was last seen a minute ago. */
async function postDated({ folder }: { folder: string }, id: string): Promise<void> {
  const store = sqliteRecordStore({ file: join(folder, 'records.db'), now: () => Date.now() - 60_000 })
  await store.nodes.beat(id, [{ id: 'w1', state: 'idle', provider: null, device: null, runs: 0 }])
  await store.close()
}
