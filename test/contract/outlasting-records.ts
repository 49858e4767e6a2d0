/** What outlasts the node that knew it: the promises of webhooks-port.ts and nodes-port.ts, farewells and counts of jobs. */
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { FAREWELL_TTL_MS, NODE_FORGOTTEN_MS, UNTOLD_FAREWELL_TTL_MS } from '../../src/limits.ts'
import type { NewJob } from '../../src/records/jobs-port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import type { MakeDatabase } from './record-store.ts'

/** @param make an empty database of its own for one test */
export async function outlastingRecordsContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = { webhooks, leases, farewells, counts, nodes }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

const LEASE_MS = 30_000
const ada = { subject: 'ada', account: null, clientId: null }
const webhook = { url: 'https://ada.example/hook' }
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))

interface Clock { now: number }

async function twoNodes(t: Test, make: MakeDatabase): Promise<[RecordStore, RecordStore, Clock]> {
  const clock = { now: 1_000_000 }
  const database = await make(t)
  const options = { now: () => clock.now }
  const [first, second] = [database.open(options), database.open(options)]
  await first.migrate()
  return [first, second, clock]
}

async function queued(store: RecordStore, changes: Partial<NewJob> = {}): Promise<string> {
  const id = randomUUID()
  const made = await store.jobs.create({
    id, owner: ada, userId: null, model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0, inputs: [], cache: false, memoKey: 'k', webhook,
    idempotency: null, reservation: null, queueMax: 10_000, stageTimings: {}, ...changes
  })
  if (made.outcome !== 'created') throw new Error(made.outcome)
  return id
}

/** Ended so, with attempt token `t`. */
async function ended(store: RecordStore, status: 'completed' | 'failed' | 'cancelled', changes: Partial<NewJob> = {}): Promise<string> {
  const id = await queued(store, changes)
  if (status === 'cancelled') await store.jobs.requestCancel(id)
  else await store.jobs.claim({ token: 't', worker: 'w', leaseMs: LEASE_MS })
  if (status === 'completed') await store.jobs.complete(id, 't', { results: [], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } })
  if (status === 'failed') await store.jobs.fail(id, 't', { code: 'x', message: 'x' })
  return id
}

const due = async (store: RecordStore, lease = randomUUID()): Promise<string[]> => (await store.webhooks.takeDue(lease, LEASE_MS, 100)).map(({ jobId }) => jobId)

function webhooks(t: Test, make: MakeDatabase): void {
  t.test('a job has something to tell from its first event on, until all is told', async t => {
    const [store] = await twoNodes(t, make)
    await queued(store, { webhook: null })
    t.strictSame(await due(store), [])
    const id = await queued(store)
    t.strictSame(await store.webhooks.takeDue('a', LEASE_MS, 10), [{ jobId: id, seq: 0, attempts: 0 }])
    t.equal(await store.webhooks.note({ jobId: id, seq: 1, attempts: 0 }, 'a', LEASE_MS), true)
    await store.webhooks.giveBack({ jobId: id, seq: 1, attempts: 0 }, 'a')
    t.strictSame(await due(store), [], 'nothing to tell now')
    await store.jobs.requestCancel(id)
    t.strictSame(await store.webhooks.takeDue('b', LEASE_MS, 10), [{ jobId: id, seq: 1, attempts: 0 }])
    t.equal(await store.webhooks.end(id, 'b', 1), false, 'there is a newer event')
    t.equal(await store.webhooks.end(id, 'b', 2), true)
    t.equal(await store.webhooks.take(id, 'c', LEASE_MS), 'none')
    await store.jobs.retry(id)
    t.strictSame(await store.webhooks.takeDue('d', LEASE_MS, 10), [{ jobId: id, seq: 2, attempts: 0 }], 'of the next run')
    await store.webhooks.giveBack({ jobId: id, seq: 3, attempts: 0 }, 'd')
    t.match(await store.webhooks.take(id, 'e', LEASE_MS), { seq: 3 }, 'who runs it takes it before there is anything to tell')
  })

  t.test('a retry while the end is being told goes on where that ends', async t => {
    const [store] = await twoNodes(t, make)
    const id = await ended(store, 'failed')
    await store.webhooks.take(id, 'a', LEASE_MS)
    await store.jobs.retry(id)
    t.equal(await store.webhooks.end(id, 'a', 2), false)
    t.equal(await store.webhooks.note({ jobId: id, seq: 3, attempts: 0 }, 'a', LEASE_MS), true)
  })
}

function leases(t: Test, make: MakeDatabase): void {
  t.test('of many nodes that look at once each job is one\'s, no more than asked for', async t => {
    const [first, second] = await twoNodes(t, make)
    const ids = await Promise.all(times(30, () => queued(first)))
    const taken = await Promise.all(times(10, index => (index % 2 === 0 ? first : second).webhooks.takeDue(`node ${index}`, LEASE_MS, 4)))
    const found = taken.flat().map(({ jobId }) => jobId)
    t.ok(taken.every(each => each.length <= 4))
    t.equal(new Set(found).size, found.length)
    for (let rest = await due(second); rest.length > 0; rest = await due(second)) found.push(...rest)
    t.strictSame(found.toSorted(), ids.toSorted())
  })

  t.test('a lease that is over is the next one\'s, who counts the attempt that its holder died over; that one is late', async t => {
    const [first, second, clock] = await twoNodes(t, make)
    const id = await queued(first)
    t.match(await first.webhooks.take(id, 'dead', LEASE_MS), { attempts: 0 })
    t.equal(await second.webhooks.take(id, 'b', LEASE_MS), 'held')
    clock.now += LEASE_MS - 1
    t.strictSame(await first.webhooks.hold([id, 'another'], 'dead', LEASE_MS), ['another'])
    clock.now += LEASE_MS - 1
    t.strictSame(await due(second), [])
    clock.now += 1
    t.strictSame(await second.webhooks.takeDue('b', LEASE_MS, 10), [{ jobId: id, seq: 0, attempts: 1 }])
    t.equal(await first.webhooks.note({ jobId: id, seq: 1, attempts: 0 }, 'dead', LEASE_MS), false)
    await first.webhooks.giveBack({ jobId: id, seq: 1, attempts: 0 }, 'dead')
    t.equal(await first.webhooks.end(id, 'dead', 1), false)
    t.strictSame(await first.webhooks.hold([id], 'dead', LEASE_MS), [id])
    await second.webhooks.giveBack({ jobId: id, seq: 0, attempts: 1 }, 'b')
    t.match(await first.webhooks.take(id, 'c', LEASE_MS), { seq: 0, attempts: 1 }, 'what was given back costs no attempt')
  })
}

function farewells(t: Test, make: MakeDatabase): void {
  t.test('a job that is removed leaves its last event for those who were not told, as long as they may ask', async t => {
    const [store, , clock] = await twoNodes(t, make)
    const completed = await ended(store, 'completed')
    const waiting = await queued(store)
    const quiet = await ended(store, 'cancelled', { webhook: null })
    for (const id of [completed, waiting, quiet]) t.equal(await store.jobs.remove(id), 'removed')
    t.match(await store.jobs.farewell(completed), { event: { seq: 2, event: 'generation_complete' }, job: { id: completed, status: 'completed', lastSeq: 2, webhook } })
    t.match(await store.jobs.farewell(waiting), { event: { seq: 2, event: 'generation_cancelled', data: { jobId: waiting } }, job: { status: 'cancelled' } })
    t.match(await store.jobs.farewell(quiet), { event: { event: 'generation_cancelled' } })
    t.equal(await store.jobs.farewell(randomUUID()), undefined)
    clock.now += FAREWELL_TTL_MS
    await store.jobs.pruneLapsed(10)
    t.equal(await store.jobs.farewell(quiet), undefined)
    t.strictSame((await due(store)).toSorted(), [completed, waiting].toSorted(), 'still to be told')
    t.match(await store.jobs.farewell(completed), { job: { id: completed } })
    clock.now += UNTOLD_FAREWELL_TTL_MS
    await store.jobs.pruneLapsed(10)
    t.equal(await store.jobs.farewell(completed), undefined)
  })

  t.test('one that ended long ago, and whose end was told, leaves nothing', async t => {
    const [store, , clock] = await twoNodes(t, make)
    const id = await ended(store, 'completed')
    t.match(await store.webhooks.take(id, 'a', LEASE_MS), { seq: 0 })
    t.equal(await store.webhooks.end(id, 'a', 2), true)
    clock.now += FAREWELL_TTL_MS + 1
    t.equal(await store.jobs.remove(id), 'removed')
    t.equal(await store.jobs.farewell(id), undefined)
    t.strictSame(await due(store), [])
  })
}

function counts(t: Test, make: MakeDatabase): void {
  t.test('what ends is counted once, however it ends, is retried, removed or undone, by many at once', async t => {
    const [first, second, clock] = await twoNodes(t, make)
    const numbers = async () => {
      const { completed, failed } = await second.jobs.stats()
      return [completed, failed]
    }
    const done = await ended(first, 'completed')
    const broken = await ended(first, 'failed')
    await ended(first, 'cancelled')
    t.strictSame(await numbers(), [1, 1])
    t.equal(await first.jobs.complete(done, 't', { results: [], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } }), 'late')
    await first.jobs.retry(broken)
    t.strictSame(await numbers(), [1, 0])
    await first.jobs.remove(broken)
    await first.jobs.remove(done)
    t.strictSame(await numbers(), [0, 0])
    await Promise.all(times(12, async index => {
      const store = index % 2 === 0 ? first : second
      await queued(store)
      const job = await store.jobs.claim({ token: `t${index}`, worker: 'w', leaseMs: index % 3 === 0 ? 1 : LEASE_MS })
      if (index % 3 === 1) await store.jobs.complete(job!.id, `t${index}`, { results: [], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } })
      if (index % 3 === 2) await store.jobs.fail(job!.id, `t${index}`, { code: 'x', message: 'x' })
    }))
    clock.now += 10
    await Promise.all([first, second].map(store => store.jobs.reapLost({ maxAttempts: 1, retryAt: () => 0, limit: 3 })))
    const { completed, failed, running } = await first.jobs.stats()
    t.strictSame([completed, failed, running], [4, 4 + (4 - running), running])
  })
}

const worker = (id: string, runs = 0) => ({ id, state: 'idle', provider: 'cpu', device: null, runs })

function nodes(t: Test, make: MakeDatabase): void {
  t.test('each node has one row with what it said last, until it leaves or is forgotten', async t => {
    const [first, second, clock] = await twoNodes(t, make)
    await first.nodes.beat('b', [worker('1.1')])
    await second.nodes.beat('a', [])
    clock.now += 10
    await first.nodes.beat('b', [worker('1.1', 7), worker('2.1')])
    t.strictSame(await second.nodes.list(0, 10), [{ id: 'a', workers: [], seenAt: clock.now - 10 }, { id: 'b', workers: [worker('1.1', 7), worker('2.1')], seenAt: clock.now }])
    t.strictSame((await second.nodes.list(clock.now, 10)).map(({ id }) => id), ['b'])
    t.equal((await second.nodes.list(0, 1)).length, 1)
    await second.nodes.leave('a')
    await second.nodes.leave('a')
    t.strictSame((await second.nodes.list(0, 10)).map(({ id }) => id), ['b'])
    clock.now += NODE_FORGOTTEN_MS + 1
    t.equal(await first.jobs.pruneLapsed(10), 1)
    t.strictSame(await second.nodes.list(0, 10), [])
  })
}
