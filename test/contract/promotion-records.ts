/** What every store of promotions promises. */
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { RecordStore } from '../../src/records/port.ts'
import { PROMOTIONS_SHOWN_MAX } from '../../src/limits.ts'
import type { NewPromotion } from '../../src/records/promotions-port.ts'

/** An empty database; stores opened on it are closed with the test. */
export type MakeDatabase = (t: Test) => Promise<{ open(options?: { now?: () => number }): RecordStore }>

interface World { store: RecordStore, other: RecordStore, now: { ms: number } }

/** Two stores over one database, with one clock. */
async function world(t: Test, make: MakeDatabase): Promise<World> {
  const now = { ms: 1_790_000_000_000 }
  const database = await make(t)
  const [store, other] = [database.open({ now: () => now.ms }), database.open({ now: () => now.ms })]
  await store.migrate()
  return { store, other, now }
}

const SHA256 = 'a'.repeat(64)

/** A job that is completed, or is not. */
async function jobIn({ store }: World, status: 'completed' | 'queued' = 'completed'): Promise<string> {
  const id = randomUUID()
  await store.jobs.create({
    id, owner: { subject: 'ada', account: null, clientId: null }, userId: null, model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0, cache: true, memoKey: id,
    webhook: null, idempotency: null, reservation: null, queueMax: 1000, stageTimings: {}, inputs: []
  })
  if (status === 'queued') return id
  const job = await store.jobs.claim({ token: id, worker: 'w', leaseMs: 1000 })
  await store.jobs.complete(job!.id, id, { results: [], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } })
  return job!.id
}

function promotionOf(jobId: string, changes: Partial<NewPromotion> = {}): NewPromotion {
  return { jobId, source: 'image.png', target: 'a/b', size: 5, sha256: SHA256, ...changes }
}

const ANY = 0
const NONE = Number.POSITIVE_INFINITY
const mine = { token: 'mine', leaseMs: 1000 }
const yours = { token: 'yours', leaseMs: 1000 }

export async function promotionRecordsContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  await t.test(`${name}: promotions`, async t => {
    t.test('what was begun and recorded is a promotion, and the job is shown with it', async t => {
      const here = await world(t, make)
      const { store, now } = here
      const id = await jobIn(here)
      const before = (await store.jobs.get(id))!
      t.same(before.promotions, [])
      const promotion = promotionOf(id, { size: 2 ** 40 })
      t.same(await store.promotions.begin(promotion, mine, ANY), { outcome: 'begun' })
      t.same(await store.jobs.get(id), before, 'none yet')
      now.ms += 5
      const { jobId: _jobId, ...shown } = { ...promotion, promotedAt: now.ms }
      t.same(await store.promotions.record(promotion, 'mine'), shown)
      t.same(await store.jobs.get(id), { ...before, promotions: [shown], updatedAt: now.ms })
      t.same(await store.promotions.begin(promotion, yours, ANY), { outcome: 'promoted', promotion: shown })
      t.match(await store.jobs.list({ limit: 10 }), [{ id, promotions: [shown] }])
    })

    t.test('the job changes with each, whatever the clock says', async t => {
      const here = await world(t, make)
      const { store, now } = here
      const id = await jobIn(here)
      const seen = [(await store.jobs.get(id))!.updatedAt]
      for (const target of ['a', 'b', 'c']) {
        now.ms -= 10_000
        await store.promotions.begin(promotionOf(id, { target }), mine, ANY)
        await store.promotions.record(promotionOf(id, { target }), 'mine')
        seen.push((await store.jobs.get(id))!.updatedAt)
      }
      t.same(seen, seen.toSorted((a, b) => a - b))
      t.equal(new Set(seen).size, 4)
    })

    t.test('of those that begin the same at once one may send', async t => {
      const here = await world(t, make)
      const id = await jobIn(here)
      const outcomes = await Promise.all(Array.from({ length: 8 }, (_, index) => (index % 2 === 0 ? here.store : here.other).promotions.begin(promotionOf(id), { token: `t${index}`, leaseMs: 1000 }, ANY)))
      t.same(outcomes.map(({ outcome }) => outcome).toSorted(), ['begun', ...Array.from({ length: 7 }, () => 'busy')])
      for (const outcome of outcomes) if (outcome.outcome === 'busy') t.equal(outcome.promotedAt, 0)
      for (const changes of [{ source: 'other' }, { target: 'a/B' }, { jobId: await jobIn(here) }]) {
        t.same(await here.store.promotions.begin(promotionOf(id, changes), mine, ANY), { outcome: 'begun' }, JSON.stringify(changes))
      }
    })

    t.test('what was let go of is as it was before, and the next may send', async t => {
      const here = await world(t, make)
      const { store } = here
      const id = await jobIn(here)
      const promotion = promotionOf(id)
      await store.promotions.begin(promotion, mine, ANY)
      await store.promotions.release(promotion, 'yours')
      t.same(await store.promotions.begin(promotion, yours, ANY), { outcome: 'busy', promotedAt: 0 }, 'not by another')
      await store.promotions.release(promotion, 'mine')
      t.same(await store.promotions.begin(promotion, yours, ANY), { outcome: 'begun' })
      const recorded = await store.promotions.record(promotion, 'yours')
      t.same(await store.promotions.begin(promotion, mine, NONE), { outcome: 'begun' })
      await store.promotions.release(promotion, 'mine')
      t.same((await store.jobs.get(id))!.promotions, [recorded], 'a promotion that is there stays')
      await store.promotions.release(promotionOf(randomUUID()), 'mine')
    })

    t.test('again, it is there once, and later; those who asked for a later one than they knew get that', async t => {
      const here = await world(t, make)
      const { store } = here
      const id = await jobIn(here)
      const promotion = promotionOf(id)
      await store.promotions.begin(promotion, mine, NONE)
      const first = await store.promotions.record(promotion, 'mine')
      t.same(await store.promotions.begin(promotion, mine, NONE), { outcome: 'begun' })
      t.same(await store.promotions.begin(promotion, yours, ANY), { outcome: 'promoted', promotion: first }, 'who wants any has the earlier one meanwhile')
      t.same(await store.promotions.begin(promotion, yours, NONE), { outcome: 'busy', promotedAt: first!.promotedAt })
      const second = await store.promotions.record(promotion, 'mine')
      t.ok(second!.promotedAt > first!.promotedAt, 'though the clock stood still')
      t.same(await store.promotions.begin(promotion, yours, first!.promotedAt), { outcome: 'promoted', promotion: second })
      t.same((await store.jobs.get(id))!.promotions, [second])
    })

    t.test('a lease that is not renewed is another\'s for the taking; what its holder sent counts all the same', async t => {
      const here = await world(t, make)
      const { store, other, now } = here
      const id = await jobIn(here)
      const promotion = promotionOf(id)
      await store.promotions.begin(promotion, mine, ANY)
      now.ms += 900
      t.equal(await store.promotions.touch(promotion, mine), true)
      t.equal(await store.promotions.touch(promotion, yours), false)
      now.ms += 900
      t.match(await other.promotions.begin(promotion, yours, ANY), { outcome: 'busy' })
      now.ms += 200
      t.same(await other.promotions.begin(promotion, yours, ANY), { outcome: 'begun' })
      t.equal(await store.promotions.touch(promotion, mine), false)
      const late = await store.promotions.record(promotion, 'mine')
      t.same((await store.jobs.get(id))!.promotions, [late])
      t.equal(await other.promotions.touch(promotion, yours), true, 'who sends now still does')
      t.ok((await other.promotions.record(promotion, 'yours'))!.promotedAt > late!.promotedAt)
    })

    t.test('of a job that is not completed, or not there, nothing begins', async t => {
      const here = await world(t, make)
      for (const id of [await jobIn(here, 'queued'), randomUUID()]) t.same(await here.store.promotions.begin(promotionOf(id), mine, ANY), { outcome: 'gone' })
    })

    t.test('a job that is removed takes them along, and one under way finds it gone', async t => {
      const here = await world(t, make)
      const { store } = here
      const id = await jobIn(here)
      await store.promotions.begin(promotionOf(id, { target: 'done' }), mine, ANY)
      await store.promotions.record(promotionOf(id, { target: 'done' }), 'mine')
      await store.promotions.begin(promotionOf(id), mine, ANY)
      t.equal(await store.jobs.remove(id), 'removed')
      t.equal(await store.promotions.record(promotionOf(id), 'mine'), undefined)
      t.equal(await store.promotions.touch(promotionOf(id), mine), false)
      t.match(await store.jobs.farewell(id), { job: { promotions: [{ target: 'done' }] } })
    })

    t.test('a job is shown with the newest, oldest first, and each is still known', async t => {
      const here = await world(t, make)
      const { store, now } = here
      const id = await jobIn(here)
      const targets = Array.from({ length: PROMOTIONS_SHOWN_MAX + 3 }, (_, index) => `t${String(index).padStart(3, '0')}`)
      for (const [index, target] of targets.entries()) {
        // some at one time
        if (index % 3 === 0) now.ms += 1
        await store.promotions.begin(promotionOf(id, { target }), mine, ANY)
        await store.promotions.record(promotionOf(id, { target }), 'mine')
      }
      t.same((await store.jobs.get(id))!.promotions.map(({ target }) => target), targets.slice(3))
      t.match(await store.promotions.begin(promotionOf(id, { target: targets[0]! }), mine, ANY), { outcome: 'promoted' })
    })
  })
}
