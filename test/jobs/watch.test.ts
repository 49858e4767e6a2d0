import t, { type Test } from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { InferenceFailed } from '../../src/inference/port.ts'
import { jobWatchers } from '../../src/jobs/watch.ts'
import type { JobEvent, JobHint } from '../../src/records/jobs-port.ts'
import { ALICE, BOB, jobWorld, type World } from '../support/job-world.ts'

interface Seen { events: JobEvent[], over: Promise<void> }

function collect(watch: AsyncIterable<JobEvent>): Seen {
  const events: JobEvent[] = []
  const over = (async () => { for await (const event of watch) events.push(event) })()
  return { events, over }
}

function watcher(t: Test, world: World, id: string, after = 0): Promise<Seen> {
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  return world.service.watch(ALICE, id, after, stop.signal).then(collect)
}

const never = new AbortController().signal
const rising = (events: readonly JobEvent[]): boolean => events.every(({ seq }, index) => index === 0 || seq > events[index - 1]!.seq)

t.test('early, late and returning watchers see the same story, to its end', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const early = await watcher(t, world, id)
  const run = await world.pool.next()
  for (const progress of [10, 50, 90]) {
    run.hooks.onProgress?.({ stage: 'inference', progress, message: null })
    await delay(300)
  }
  const middle = early.events.at(-1)!.seq
  await run.finish('1')
  await early.over
  t.equal(early.events[0]!.event, 'generation_started')
  t.equal(early.events.at(-1)!.event, 'generation_complete')
  t.ok(rising(early.events))
  t.ok(early.events.filter(({ event }) => event === 'generation_progress').length >= 3, 'progress as it came')
  const late = await watcher(t, world, id)
  await late.over
  t.equal(late.events[0]!.seq, 1)
  t.equal(late.events.at(-1)!.seq, early.events.at(-1)!.seq)
  const again = await watcher(t, world, id, middle)
  await again.over
  t.ok(again.events.every(({ seq }) => seq > middle))
  t.equal(again.events.at(-1)!.event, 'generation_complete')
})

t.test('a seq of the future: ends at once where the job is over, else with it', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const waiting = await watcher(t, world, id, 1000)
  let over = false
  const ending = (async () => {
    await waiting.over
    over = true
  })()
  const run = await world.pool.next()
  await delay(300)
  t.equal(over, false)
  await run.finish('1')
  await ending
  t.same(waiting.events, [])
  const late = await watcher(t, world, id, 1000)
  await late.over
  t.same(late.events, [])
})

t.test('a job that another node runs, without a hint of it', async t => {
  const world = await jobWorld(t)
  const other = await jobWorld(t, { beside: world })
  other.run()
  const { id } = await world.create()
  const seen = await watcher(t, world, id)
  await (await other.pool.next()).finish('1')
  await seen.over
  t.equal(seen.events.at(-1)!.event, 'generation_complete')
})

t.test('a watcher of a job that is removed, or that gives up, ends', async t => {
  const world = await jobWorld(t)
  const { id } = await world.create()
  const removed = await watcher(t, world, id)
  const stop = new AbortController()
  const given = collect(await world.service.watch(ALICE, id, 0, stop.signal))
  await delay(50)
  stop.abort()
  await given.over
  t.equal(given.events.length, 1)
  await world.service.remove(ALICE, id)
  await removed.over
  t.same(removed.events.map(({ event }) => event), ['generation_started', 'generation_cancelled'], 'it is cancelled for it')
})

t.test('a watcher that comes to look only when the job is gone hears how it ended, once', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const watch = (await world.service.watch(ALICE, id, 0, never))[Symbol.asyncIterator]()
  t.equal((await watch.next()).value.event, 'generation_started')
  await (await world.pool.next()).finish('1')
  const { lastSeq } = await world.ended(id)
  await world.service.remove(ALICE, id)
  const rest: JobEvent[] = []
  for (let next = await watch.next(); next.done !== true; next = await watch.next()) rest.push(next.value)
  t.match(rest, [{ seq: lastSeq, event: 'generation_complete', data: { jobId: id } }])
})

t.test('a job of another is not there to be watched', async t => {
  const world = await jobWorld(t)
  const { id } = await world.create()
  await t.rejects(world.service.watch(BOB, id, 0, never), { code: 'JOB_NOT_FOUND' })
  await t.rejects(world.service.watch(ALICE, 'no id', 0, never), { code: 'JOB_NOT_FOUND' })
})

t.test('a hundred watchers of one job miss nothing, and ask together', async t => {
  const world = await jobWorld(t)
  world.run()
  let asked = 0
  const { jobs } = world.records
  const watchers = jobWatchers({ ...jobs, events: (...args) => { asked += 1; return jobs.events(...args) } })
  const { id } = await world.create()
  const all = Array.from({ length: 100 }, () => collect(watchers.watch(id, 0, never)))
  const run = await world.pool.next()
  await delay(100)
  run.hooks.onProgress?.({ stage: 'inference', progress: 50, message: null })
  await delay(400)
  await run.finish('1')
  await Promise.all(all.map(({ over }) => over))
  const [first] = all
  for (const { events } of all) t.same(events.map(({ seq }) => seq), first!.events.map(({ seq }) => seq))
  t.ok(asked < 40, `${asked} questions`)
})

t.test('a watcher that stalls misses nothing', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const watch = (await world.service.watch(ALICE, id, 0, never))[Symbol.asyncIterator]()
  t.equal((await watch.next()).value.event, 'generation_started')
  ;(await world.pool.next()).fail(new InferenceFailed('invalid_input', 'no'))
  await world.ended(id)
  await world.service.retry(ALICE, id)
  await (await world.pool.next()).finish('1')
  await world.ended(id)
  const rest: JobEvent[] = []
  for (let next = await watch.next(); next.done !== true; next = await watch.next()) rest.push(next.value)
  t.same(rest.map(({ event }) => event).filter(event => event !== 'generation_progress'), ['generation_failed', 'generation_started', 'generation_complete'])
})

t.test('a watcher that goes away is forgotten', async t => {
  const subscriptions = new Set<(hint: JobHint) => void>()
  const jobs = {
    events: async () => [], get: async () => undefined, farewell: async () => undefined,
    subscribe(listener: (hint: JobHint) => void): () => void {
      subscriptions.add(listener)
      return () => { subscriptions.delete(listener) }
    }
  }
  const watchers = jobWatchers(jobs)
  for await (const _ of watchers.watch('a', 0, never)) t.fail('no event')
  t.equal(subscriptions.size, 0)
})
