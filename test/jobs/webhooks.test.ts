import assert from 'node:assert/strict'
import t, { type Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { InferenceFailed } from '../../src/inference/port.ts'
import { signatureOf } from '../../src/jobs/send-webhook.ts'
import { RecordStoreFailed, type RecordStore } from '../../src/records/port.ts'
import { ALICE, jobWorld, type World, type WorldOptions } from '../support/job-world.ts'
import { eventually } from '../support/raw-client.ts'
import { webhookReceiver, type Receiver } from '../support/webhook-receiver.ts'

const SECRET = 'a secret of the tests'
const env = { WEBHOOK_SECRET: SECRET, WEBHOOK_ALLOW_PRIVATE: 'true', PUBLIC_BASE_URL: 'https://penstock.example' }

async function setUp(t: Test, options: WorldOptions = {}): Promise<{ world: World, receiver: Receiver }> {
  return { world: await jobWorld(t, { ...options, env: { ...env, ...options.env } }), receiver: await webhookReceiver(t) }
}

const names = ({ deliveries }: Receiver): string[] => deliveries.map(({ event }) => event)
const last = (receiver: Receiver, event: string): Promise<void> => eventually(() => assert.equal(receiver.deliveries.at(-1)?.event, event), 10_000)

t.test('every event in its order, signed, with the job as it was', async t => {
  const { world, receiver } = await setUp(t)
  world.run()
  const { id } = await world.create({ webhook: { url: receiver.url } })
  const run = await world.pool.next()
  await eventually(() => assert.ok(names(receiver).includes('generation_progress')))
  await run.finish('1')
  await last(receiver, 'generation_complete')
  t.equal(names(receiver)[0], 'generation_started')
  for (const { body, signature, json } of receiver.deliveries) {
    t.equal(signature, signatureOf(body, SECRET))
    t.match(json, { job_id: id, data: { jobId: id }, job: { job_id: id } })
  }
  t.match(receiver.deliveries.at(-1)!.json, {
    seq: Number, job: { status: 'completed', progress: 100 },
    data: { result: { name: 'output.json', url: `https://penstock.example/api/v1/jobs/${id}/results/output.json` }, job: { status: 'completed' } }
  })
  const seqs = receiver.deliveries.map(({ seq }) => seq)
  t.same(seqs, seqs.toSorted((a, b) => a - b))
})

t.test('progress comes at most twice a second, and terminal events also where others are asked for', async t => {
  const { world, receiver } = await setUp(t)
  world.run()
  await world.create({ webhook: { url: receiver.url, events: ['generation_progress'] } })
  const run = await world.pool.next()
  for (let progress = 1; progress <= 30; progress++) {
    run.hooks.onProgress?.({ stage: 'inference', progress, message: null })
    await delay(50)
  }
  await run.finish('1')
  await last(receiver, 'generation_complete')
  const progress = receiver.deliveries.filter(({ event }) => event === 'generation_progress')
  const tookMs = progress.at(-1)!.atMs - progress[0]!.atMs
  t.ok(progress.length >= 2 && progress.length <= 2 + tookMs / 400, `${progress.length} in ${tookMs} ms`)
  t.notOk(names(receiver).includes('generation_started'))
})

t.test('a receiver that fails is asked again; one that refuses is not; the job goes on', async t => {
  const { world, receiver } = await setUp(t)
  world.pool.play(run => run.finish('1'))
  world.run()
  receiver.answer((response, _request, count) => response.writeHead(count < 3 ? 503 : 200).end())
  const first = await world.create({ webhook: { url: receiver.url, events: [] } })
  t.match(await world.ended(first.id), { status: 'completed' })
  await eventually(() => assert.equal(world.logged('jobs.webhook.delivered').length, 1))
  t.same(names(receiver), ['generation_complete', 'generation_complete', 'generation_complete'])
  t.equal(new Set(receiver.deliveries.map(({ body }) => body)).size, 1, 'the same each time')
  receiver.answer(response => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end())
  const second = await world.create({ cache: false, webhook: { url: receiver.url, events: [] } })
  t.match(await world.ended(second.id), { status: 'completed' })
  await eventually(() => assert.equal(world.logged('jobs.webhook.failed').length, 1))
  t.match(world.logged('jobs.webhook.failed')[0], { job_id: second.id, status: 302, attempt: 1 })
  t.notMatch(JSON.stringify(world.logged('jobs.webhook.failed')), /token=secret/, 'the address may hold a secret')
  receiver.answer(response => response.destroy())
  const third = await world.create({ cache: false, webhook: { url: receiver.url, events: [] } })
  t.match(await world.ended(third.id), { status: 'completed' })
  await eventually(() => assert.equal(world.logged('jobs.webhook.failed').length, 2))
  t.match(world.logged('jobs.webhook.failed')[1], { attempt: 6 })
})

t.test('a name that resolves to a private address gets nothing, and the job goes on', async t => {
  const { world, receiver } = await setUp(t, { env: { WEBHOOK_ALLOW_PRIVATE: 'false' } })
  world.pool.play(run => run.finish('1'))
  world.run()
  const { id } = await world.create({ webhook: { url: `http://localhost:${receiver.port}/` } })
  t.match(await world.ended(id), { status: 'completed' })
  await eventually(() => assert.ok(world.logged('jobs.webhook.failed').some(({ event }) => event === 'generation_complete')))
  t.same(receiver.deliveries, [])
})

t.test('a job that nobody runs tells of its end too: cancelled while it waits, lost with its node', async t => {
  const { world, receiver } = await setUp(t, { env: { JOB_MAX_ATTEMPTS: '1' } })
  const cancelled = await world.create({ webhook: { url: receiver.url } })
  await world.service.cancel(ALICE, cancelled.id)
  await last(receiver, 'generation_cancelled')
  t.same(names(receiver), ['generation_started', 'generation_cancelled'])
  receiver.deliveries.length = 0
  const lost = await world.create({ webhook: { url: receiver.url } })
  await world.records.jobs.claim({ token: 'of a dead node', worker: 'dead', leaseMs: 1 })
  world.run()
  await last(receiver, 'generation_failed')
  t.match(receiver.deliveries.at(-1)!.json, { job_id: lost.id, data: { error: { code: 'worker_lost' } } })
})

t.test('over attempts and runs each event comes once, and failure is told with its reason', async t => {
  const { world, receiver } = await setUp(t)
  world.run()
  const { id } = await world.create({ webhook: { url: receiver.url, events: ['generation_started'] } })
  ;(await world.pool.next()).fail(new InferenceFailed('worker_lost', 'the worker ended'))
  ;(await world.pool.next()).fail(new InferenceFailed('invalid_input', 'this is no image'))
  await last(receiver, 'generation_failed')
  await world.service.retry(ALICE, id)
  await (await world.pool.next()).finish('1')
  await last(receiver, 'generation_complete')
  t.same(names(receiver), ['generation_started', 'generation_failed', 'generation_started', 'generation_complete'])
  t.match(receiver.deliveries[1]!.json, { data: { error: { code: 'invalid_input', message: 'this is no image' } } })
})

/** Fails the methods of `failing`, and counts in `failed` how often. */
function brokenJobs(failing: Set<string>, failed: string[]) {
  const unless = <A extends unknown[], R>(name: string, method: (...args: A) => Promise<R>) => async (...args: A): Promise<R> => {
    if (!failing.has(name)) return await method(...args)
    failed.push(name)
    throw new RecordStoreFailed('no answer')
  }
  return (records: RecordStore): RecordStore => ({ ...records, jobs: { ...records.jobs, events: unless('events', records.jobs.events), get: unless('get', records.jobs.get) } })
}

for (const method of ['events', 'get']) {
  t.test(`records that fail for a while cost no event: ${method}`, async t => {
    const failing = new Set<string>()
    const failed: string[] = []
    const { world, receiver } = await setUp(t, { wrapRecords: brokenJobs(failing, failed) })
    const { id } = await world.create({ webhook: { url: receiver.url, events: ['generation_started'] } })
    failing.add(method)
    world.run()
    const run = await world.pool.next()
    await eventually(() => assert.notEqual(failed.length, 0))
    failing.clear()
    await last(receiver, 'generation_started')
    failed.length = 0
    failing.add(method)
    await run.finish('1')
    await eventually(() => assert.notEqual(failed.length, 0), 10_000)
    failing.clear()
    await last(receiver, 'generation_complete')
    t.same(names(receiver), ['generation_started', 'generation_complete'])
    t.match(receiver.deliveries.at(-1)!.json, { job_id: id, job: { status: 'completed' } })
  })
}

t.test('a shutdown does not wait for records that fail', async t => {
  const failing = new Set<string>()
  const failed: string[] = []
  const { world, receiver } = await setUp(t, { wrapRecords: brokenJobs(failing, failed) })
  const job = await world.create({ webhook: { url: receiver.url } })
  failing.add('events')
  world.webhooks.follow(job)
  await eventually(() => assert.notEqual(failed.length, 0))
  await world.webhooks.close()
  failing.clear()
  t.equal(world.logged('jobs.webhook.failed').length, 1)
})

t.test('a job that is removed while it waits is cancelled first, and tells of it', async t => {
  const { world, receiver } = await setUp(t)
  const { id } = await world.create({ webhook: { url: receiver.url } })
  await world.service.remove(ALICE, id)
  t.equal(await world.records.jobs.get(id), undefined)
  await last(receiver, 'generation_cancelled')
  t.match(receiver.deliveries.at(-1)!.json, { job_id: id, seq: 2, data: { jobId: id }, job: { job_id: id, status: 'cancelled' } })
})

for (const state of ['queued', 'processing']) {
  t.test(`a job that is gone before a slow receiver heard of its end tells of it all the same: ${state}`, async t => {
    const { world, receiver } = await setUp(t)
    const held = Promise.withResolvers<void>()
    receiver.answer(response => void held.promise.then(() => response.end()))
    const job = await world.create({ webhook: { url: receiver.url } })
    if (state === 'processing') world.run()
    else world.webhooks.follow(job)
    await last(receiver, 'generation_started')
    if (state === 'processing') await world.pool.next()
    await world.service.remove(ALICE, job.id)
    t.equal(await world.records.jobs.get(job.id), undefined)
    held.resolve()
    await last(receiver, 'generation_cancelled')
    t.match(receiver.deliveries.at(-1)!.json, { job_id: job.id, data: { jobId: job.id }, job: { status: 'cancelled' } })
  })
}

t.test('a reaper tells of the jobs that it ended, and of no other that ends meanwhile', async t => {
  const meanwhile: (() => Promise<unknown>)[] = []
  const wrapRecords = (records: RecordStore): RecordStore => ({
    ...records,
    jobs: {
      ...records.jobs,
      async reapLost(options) {
        const lost = await records.jobs.reapLost(options)
        if (lost.reaped > 0) await meanwhile.pop()?.()
        return lost
      }
    }
  })
  const { world, receiver } = await setUp(t, { env: { JOB_MAX_ATTEMPTS: '1' }, wrapRecords })
  const lost = await world.create({ webhook: { url: receiver.url, events: [] } })
  await world.records.jobs.claim({ token: 'of a dead node', worker: 'dead', leaseMs: 1 })
  const other = await world.create({ cache: false, webhook: { url: receiver.url, events: [] } })
  meanwhile.push(() => world.service.cancel(ALICE, other.id))
  world.run({ pool: { ...world.pool, free: 0, onFree: () => () => {}, status: () => [] } })
  await eventually(() => assert.ok(names(receiver).includes('generation_failed')), 10_000)
  await delay(300)
  t.same(receiver.deliveries.map(({ event, json }) => [event, json.job_id]).toSorted(), [['generation_cancelled', other.id], ['generation_failed', lost.id]])
})

t.test('what a node that died had not told is told by another, in order, each event under the seq it had', async t => {
  const { world, receiver } = await setUp(t, { webhookLeaseMs: 1500 })
  const job = await world.create({ webhook: { url: receiver.url, events: ['generation_started'] } })
  await last(receiver, 'generation_started')
  const [lease, token] = ['of a dead node', 'of its attempt']
  await eventually(async () => assert.notEqual(await world.records.webhooks.take(job.id, lease, 1500), 'held'))
  await world.records.jobs.claim({ token, worker: 'dead', leaseMs: 60_000 })
  await world.records.jobs.progress(job.id, token, { stage: 'inference', progress: 50, message: null })
  await world.records.jobs.complete(job.id, token, { results: [], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } })
  t.same(names(receiver), ['generation_started'], 'the dead node still holds it')
  await last(receiver, 'generation_complete')
  await eventually(async () => assert.equal(await world.records.webhooks.take(job.id, 'anyone', 1), 'none'))
  t.same(receiver.deliveries.map(({ event, seq }) => [event, seq]), [['generation_started', 1], ['generation_complete', 3]])
  t.match(receiver.deliveries[1]!.json, { job_id: job.id, job: { status: 'completed' } })
})

t.test('of two nodes one delivers at a time: each event comes once, in order, whoever runs or ends the jobs', async t => {
  const { world, receiver } = await setUp(t)
  const other = await jobWorld(t, { beside: world, env })
  receiver.answer(response => setTimeout(() => response.end(), 30))
  for (const node of [world, other]) {
    node.pool.play(run => run.finish('1'))
    node.run()
  }
  const made = await Promise.all(Array.from({ length: 12 }, (_, index) => (index % 2 === 0 ? world : other).create({ cache: false, webhook: { url: receiver.url, events: ['generation_started'] } })))
  const seen = (id: string): string[] => receiver.deliveries.filter(({ json }) => json.job_id === id).map(({ event }) => event)
  await eventually(() => { for (const { id } of made) assert.equal(seen(id).at(-1), 'generation_complete') }, 15_000)
  await delay(300)
  for (const { id } of made) t.same(seen(id), ['generation_started', 'generation_complete'])
})

t.test('attempts that nodes died over count: what ends every node that delivers it is given up', async t => {
  const { world, receiver } = await setUp(t, { webhookLeaseMs: 600 })
  const { id } = await world.create({ webhook: { url: receiver.url, events: [] } })
  await eventually(async () => assert.notEqual(await world.records.webhooks.take(id, 'dead', 1000), 'held'))
  await world.records.jobs.requestCancel(id)
  await world.records.webhooks.note({ jobId: id, seq: 1, attempts: 5 }, 'dead', 1)
  await eventually(() => assert.equal(world.logged('jobs.webhook.failed').length, 1))
  t.match(world.logged('jobs.webhook.failed')[0], { job_id: id, event: 'generation_cancelled', attempt: 6 })
  t.same(receiver.deliveries, [])
  await eventually(async () => assert.equal(await world.records.webhooks.take(id, 'anyone', 1), 'none'))
})

t.test('a shutdown in the middle of a delivery leaves it to the next node', async t => {
  const { world, receiver } = await setUp(t)
  receiver.answer(() => {})
  const { id } = await world.create({ webhook: { url: receiver.url } })
  await world.service.cancel(ALICE, id)
  await eventually(() => assert.equal(receiver.deliveries.length, 1))
  await world.webhooks.close()
  receiver.deliveries.length = 0
  receiver.answer(response => response.end())
  await jobWorld(t, { beside: world, env })
  await last(receiver, 'generation_cancelled')
  t.same(receiver.deliveries.map(({ event, seq }) => [event, seq]), [['generation_started', 1], ['generation_cancelled', 2]])
})

t.test('a job that completed and was removed before anyone was told has completed', async t => {
  const { world, receiver } = await setUp(t)
  const held = Promise.withResolvers<void>()
  receiver.answer(response => void held.promise.then(() => response.end()))
  world.pool.play(run => run.finish('1'))
  world.run()
  const { id } = await world.create({ webhook: { url: receiver.url } })
  await last(receiver, 'generation_started')
  const { lastSeq } = await world.ended(id)
  await world.service.remove(ALICE, id)
  held.resolve()
  await last(receiver, 'generation_complete')
  t.match(receiver.deliveries.at(-1)!.json, { job_id: id, seq: lastSeq, data: { result: { name: 'output.json' } }, job: { status: 'completed' } })
})

t.test('a waiting job tells that it is there before anyone runs it', async t => {
  const { world, receiver } = await setUp(t)
  const { id } = await world.create({ webhook: { url: receiver.url } })
  await last(receiver, 'generation_started')
  t.match(await world.records.jobs.get(id), { status: 'queued' })
})

t.test('shutdown: what ended is told of, and a receiver that hangs does not hold it up', async t => {
  const { world, receiver } = await setUp(t)
  world.pool.play(run => run.finish('1'))
  const runner = world.run()
  await world.ended((await world.create({ webhook: { url: receiver.url, events: [] } })).id)
  await runner.stop()
  await world.webhooks.close()
  t.same(names(receiver), ['generation_complete'])
  const hanging = await setUp(t)
  hanging.receiver.answer(() => {})
  hanging.world.pool.play(run => run.finish('1'))
  hanging.world.run()
  await hanging.world.ended((await hanging.world.create({ webhook: { url: hanging.receiver.url, events: [] } })).id)
  await hanging.world.webhooks.close()
  await hanging.world.webhooks.close()
})
