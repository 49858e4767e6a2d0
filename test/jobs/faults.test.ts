import assert from 'node:assert/strict'
import t, { type Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { InferenceFailed } from '../../src/inference/port.ts'
import { ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import { RecordStoreFailed, type RecordStore } from '../../src/records/port.ts'
import { ALICE, jobWorld, type World } from '../support/job-world.ts'
import { eventually } from '../support/raw-client.ts'

const TERMINAL = ['generation_complete', 'generation_failed', 'generation_cancelled']

async function endedOnce(t: Test, world: World, id: string): Promise<void> {
  const events = await world.events(id)
  t.equal(events.filter(({ event }) => TERMINAL.includes(event)).length, 1, 'one terminal event')
  t.ok(TERMINAL.includes(events.at(-1)!.event), 'and nothing behind it')
}

async function nothingStaged(world: World): Promise<void> {
  await eventually(async () => assert.deepEqual(await world.keys('sha256/_staging/'), []))
}

/** Faults that are switched on and off by name of the method. */
function faulty<T extends object>(target: T, failing: Set<string>, error: () => Error): T {
  return new Proxy(target, {
    get(from, name, receiver) {
      const value = Reflect.get(from, name, receiver) as unknown
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => failing.has(String(name)) ? Promise.reject(error()) : (value as (...given: unknown[]) => unknown).apply(from, args)
    }
  })
}

const brokenStore = (failing: Set<string>) => (store: ObjectStore): ObjectStore => faulty(store, failing, () => new ObjectStoreFailed('no answer'))
const brokenJobs = (failing: Set<string>) => (records: RecordStore): RecordStore => ({ ...records, jobs: faulty(records.jobs, failing, () => new RecordStoreFailed('no answer')) })

t.test('a lease that is lost: another node runs the job, and the late one changes nothing and leaves nothing', async t => {
  const failing = new Set<string>()
  const world = await jobWorld(t, { wrapRecords: brokenJobs(failing) })
  world.pool.obeys = false
  world.run()
  const { id } = await world.create()
  const late = await world.pool.next()
  failing.add('heartbeat')
  failing.add('reapLost')
  const other = await jobWorld(t, { beside: world })
  other.run()
  const second = await other.pool.next()
  t.match(await other.records.jobs.get(id), { status: 'processing', attempt: 2 })
  await late.finish('of the late one')
  await nothingStaged(world)
  t.match(await other.records.jobs.get(id), { status: 'processing', attempt: 2 })
  await second.finish('of the second')
  const job = await world.ended(id)
  t.match(job, { status: 'completed', attempt: 2 })
  t.equal(await world.resultText(job), 'of the second')
  await endedOnce(t, world, id)
  await nothingStaged(world)
})

t.test('a node that hears that its lease is lost tells its worker to stop', async t => {
  const failing = new Set<string>()
  const world = await jobWorld(t, { wrapRecords: brokenJobs(failing) })
  world.run()
  const { id } = await world.create()
  const late = await world.pool.next()
  failing.add('heartbeat')
  failing.add('reapLost')
  const other = await jobWorld(t, { beside: world })
  other.run()
  const second = await other.pool.next()
  failing.clear()
  await eventually(() => assert.equal(late.hooks.signal?.aborted, true))
  await second.finish('1')
  t.match(await world.ended(id), { status: 'completed', attempt: 2 })
  await endedOnce(t, world, id)
})

t.test('a node that dies again and again over a job: worker_lost after the last attempt', async t => {
  const world = await jobWorld(t, { env: { JOB_MAX_ATTEMPTS: '2' } })
  const { id } = await world.create()
  // claims and is never heard of again
  for (let attempt = 1; attempt <= 2; attempt++) {
    await eventually(async () => {
      assert.ok(await world.records.jobs.claim({ token: `token ${attempt}`, worker: 'dead', leaseMs: 1 }))
    }, 10_000)
    if (attempt === 1) world.run({ pool: { ...world.pool, free: 0, onFree: () => () => {}, status: () => [] } })
    await world.when(id, job => job.status !== 'processing')
  }
  t.match(await world.records.jobs.get(id), { status: 'failed', attempt: 2, failure: { code: 'worker_lost' } })
  await endedOnce(t, world, id)
})

t.test('the store fails while a result is written: tried again, and nothing is lost or left', async t => {
  const failing = new Set<string>()
  const world = await jobWorld(t, { wrap: brokenStore(failing) })
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  const staged = await run.stage('first')
  for (const name of ['copy', 'createMultipart']) failing.add(name)
  run.done([staged])
  await world.when(id, job => job.status === 'queued' && job.attempt === 1)
  failing.clear()
  await nothingStaged(world)
  await (await world.pool.next()).finish('second')
  const job = await world.ended(id)
  t.match(job, { status: 'completed', attempt: 2 })
  t.equal(await world.resultText(job), 'second')
  await endedOnce(t, world, id)
  await nothingStaged(world)
})

t.test('what a worker that was killed has staged is removed with its attempt, and no other key that it may name', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  const staged = await run.stage('half of it')
  const inputs = (await world.records.jobs.get(id))!.inputs
  for (const key of [staged.key, inputs[0]!.key, '../x', 'sha256/_staging/x/object']) run.hooks.onStaging?.(key)
  run.fail(new InferenceFailed('worker_lost', 'the worker ended in the middle of it'))
  await nothingStaged(world)
  t.ok(await world.store.head(inputs[0]!.key))
  const again = await world.pool.next()
  const kept = await again.stage('1')
  again.hooks.onStaging?.(kept.key)
  again.done([kept])
  t.match(await world.ended(id), { status: 'completed', attempt: 2 })
  await nothingStaged(world)
})

t.test('a store that never comes back: storage_failed, without a word of what it said', async t => {
  const failing = new Set<string>()
  const world = await jobWorld(t, { wrap: brokenStore(failing), env: { JOB_MAX_ATTEMPTS: '1' } })
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  const staged = await run.stage('first')
  for (const name of ['copy', 'createMultipart', 'head', 'delete']) failing.add(name)
  run.done([staged])
  t.match(await world.ended(id), { status: 'failed', failure: { code: 'storage_failed', message: 'object storage failed' } })
  t.equal(world.logged('jobs.staging.left').length, 1, 'the sweeper comes for it')
})

t.test('records that are away when the attempt ends: it is noted when they are back', async t => {
  const failing = new Set<string>()
  const world = await jobWorld(t, { wrapRecords: brokenJobs(failing), env: { JOB_LEASE_MS: '20000' } })
  world.run()
  for (const [end, status, method] of [['done', 'completed', 'complete'], ['fail', 'failed', 'fail']] as const) {
    const { id } = await world.create({ cache: false })
    const run = await world.pool.next()
    await world.when(id, job => job.stage === 'inference')
    failing.add(method)
    if (end === 'done') await run.finish('1')
    else run.fail(new InferenceFailed('invalid_input', 'no'))
    await delay(700)
    t.match(await world.records.jobs.get(id), { status: 'processing' })
    failing.clear()
    t.match(await world.ended(id), { status, attempt: 1 })
    await endedOnce(t, world, id)
  }
  await nothingStaged(world)
})

t.test('an answer of the records that was lost: the job is completed once, and its results stay', async t => {
  let lose = true
  const world = await jobWorld(t, {
    wrapRecords: records => ({ ...records, jobs: { ...records.jobs, async complete(...args) {
      const outcome = await records.jobs.complete(...args)
      if (lose) {
        lose = false
        throw new RecordStoreFailed('the connection was lost')
      }
      return outcome
    } } })
  })
  world.pool.play(run => run.finish('kept'))
  world.run()
  const { id } = await world.create()
  const job = await world.ended(id)
  t.match(job, { status: 'completed' })
  await nothingStaged(world)
  await eventually(() => assert.equal(world.logged('jobs.attempt.end').length, 1))
  t.equal(await world.resultText(job), 'kept')
  await endedOnce(t, world, id)
})

t.test('a result whose hash is being collected is copied again when the collector is through', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  const staged = await run.stage('wanted by the collector')
  const lease = await world.records.objects.beginCollect(staged.sha256, Date.now() + 1000)
  run.done([staged])
  await delay(300)
  t.match(await world.records.jobs.get(id), { status: 'processing', stage: 'persist' })
  await world.records.objects.endCollect(staged.sha256, lease!)
  const job = await world.ended(id)
  t.match(job, { status: 'completed' })
  t.equal(await world.resultText(job), 'wanted by the collector')
})

t.test('several nodes over the same records: every job runs once', async t => {
  const world = await jobWorld(t, { workers: 2 })
  const nodes = [world, await jobWorld(t, { beside: world, workers: 2 }), await jobWorld(t, { beside: world, workers: 2 })]
  for (const node of nodes) {
    node.pool.play(async run => {
      await delay(Math.random() * 20)
      await run.finish(run.request.id)
    })
    node.run()
  }
  const jobs = await Promise.all(Array.from({ length: 30 }, () => world.create({ cache: false })))
  for (const { id } of jobs) {
    t.match(await world.ended(id), { status: 'completed', attempt: 1 })
    await endedOnce(t, world, id)
  }
  t.equal(nodes.reduce((sum, { pool }) => sum + pool.begun, 0), 30)
})

t.test('retry: the next run has its own terminal event, and a watcher from the start sees both', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  ;(await world.pool.next()).fail(new InferenceFailed('invalid_input', 'no'))
  await world.ended(id)
  await t.rejects(world.service.retry({ ...ALICE, subject: 'eve' }, id), { code: 'JOB_NOT_FOUND' })
  t.match(await world.service.retry(ALICE, id), { run: 2, failure: null, progress: null })
  await (await world.pool.next()).finish('1')
  t.match(await world.ended(id), { status: 'completed', run: 2, attempt: 1 })
  await t.rejects(world.service.retry(ALICE, id), { code: 'JOB_NOT_RETRYABLE' })
  const seen: string[] = []
  for await (const { event } of await world.service.watch(ALICE, id, 0, new AbortController().signal)) seen.push(event)
  t.same(seen.filter(event => event !== 'generation_progress'), ['generation_started', 'generation_failed', 'generation_started', 'generation_complete'])
})

t.test('retry racing delete: either it is gone, or it runs again', async t => {
  const world = await jobWorld(t)
  world.pool.play(async run => run.fail(new InferenceFailed('invalid_input', 'no')))
  world.run()
  for (let round = 0; round < 10; round++) {
    const { id } = await world.create({ cache: false })
    await world.ended(id)
    const [retried] = await Promise.allSettled([world.service.retry(ALICE, id), world.service.remove(ALICE, id)])
    t.ok(retried.status === 'fulfilled' || ['JOB_NOT_FOUND', 'JOB_NOT_RETRYABLE'].includes((retried.reason as { code: string }).code), retried.status)
    await eventually(async () => assert.equal(await world.records.jobs.get(id), undefined))
    t.same(await world.events(id), [])
  }
})
