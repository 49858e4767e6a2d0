/** The promises of src/records/jobs-port.ts, held by every adapter. Two nodes are two stores over the same data. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { RESERVATION_TTL_MS } from '../../src/limits.ts'
import type { JobEvent, JobHint, JobRecord, NewJob, NewJobInput, NewModel, NewResult } from '../../src/records/jobs-port.ts'
import type { FinalizeOutcome, Owner, PageCursor, RecordStore } from '../../src/records/port.ts'
import type { MakeDatabase } from './record-store.ts'

/** @param make an empty database of its own for one test */
export async function jobRecordsContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = {
    creation, idempotency, reservations, queueLimit, claims, leases, progressing, completion, failing, fencing, cancelling,
    retrying, lists, events, memo, downloads, files, models, references, hints, clocks
  }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

// ---- builders

const ada: Owner = { subject: 'ada', account: 'acme', clientId: 'web' }
const bob: Owner = { subject: 'bob', account: null, clientId: 'web' }
const LEASE_MS = 30_000
const EXECUTION = { provider: 'cpu', device: 'cpu', worker: 'w1', cached: false }
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))
const future = () => Date.now() + 1_000_000_000

async function migrated(t: Test, make: MakeDatabase, options?: { now?: () => number }): Promise<RecordStore> {
  const store = (await make(t)).open(options)
  await store.migrate()
  return store
}

async function twoNodes(t: Test, make: MakeDatabase, options?: { now?: () => number }): Promise<[RecordStore, RecordStore]> {
  const database = await make(t)
  const [first, second] = [database.open(options), database.open(options)]
  await first.migrate()
  return [first, second]
}

function newJob(changes: Partial<NewJob> = {}): NewJob {
  return {
    id: randomUUID(), owner: ada, userId: 'u1', model: { name: 'edges', version: '1', sha256: 'm1' }, task: 'image-to-image', params: {}, priority: 0,
    inputs: [], cache: true, memoKey: 'memo', webhook: null, idempotency: null, reservation: null, queueMax: 10_000, stageTimings: {}, ...changes
  }
}

async function queued(store: RecordStore, changes: Partial<NewJob> = {}): Promise<JobRecord> {
  const made = await store.jobs.create(newJob(changes))
  if (made.outcome !== 'created') throw new Error(made.outcome)
  return made.job
}

interface Running { id: string, token: string }

async function claimNext(store: RecordStore, leaseMs = LEASE_MS): Promise<JobRecord | undefined> {
  return store.jobs.claim({ token: randomUUID(), worker: 'w1', leaseMs })
}

async function running(store: RecordStore, changes: Partial<NewJob> = {}): Promise<Running> {
  const { id } = await queued(store, changes)
  const job = await claimNext(store)
  if (job?.id !== id) throw new Error('another job was waiting')
  return { id, token: job.attemptToken! }
}

async function claimed(store: RecordStore, sha256: string): Promise<string> {
  const claim = await store.objects.claim({ sha256, key: keyOf(sha256), size: 3, contentType: 'text/plain' })
  if (claim === undefined) throw new Error('the hash is being collected')
  return claim
}

const keyOf = (sha256: string) => `canonical/${sha256}`

function input(sha256: string, claim: string | null, changes: Partial<NewJobInput> = {}): NewJobInput {
  return { name: 'input', position: 0, fileId: null, sha256, key: keyOf(sha256), size: 3, contentType: 'image/png', claim, stagedUploadId: null, ...changes }
}

async function result(store: RecordStore, sha256: string, changes: Partial<NewResult> = {}): Promise<NewResult> {
  return { name: 'output', filename: 'output.png', sha256, key: keyOf(sha256), size: 3, contentType: 'image/png', claim: await claimed(store, sha256), ...changes }
}

async function completed(store: RecordStore, changes: Partial<NewJob> = {}, sha256: string = randomUUID()): Promise<JobRecord> {
  const { id, token } = await running(store, changes)
  const done = await store.jobs.complete(id, token, { results: [await result(store, sha256)], execution: EXECUTION })
  if (done !== 'completed') throw new Error(done)
  return (await store.jobs.get(id))!
}

async function failed(store: RecordStore, changes: Partial<NewJob> = {}): Promise<string> {
  const { id, token } = await running(store, changes)
  await store.jobs.fail(id, token, { code: 'invalid_input', message: 'no image' })
  return id
}

/** A finalized upload. */
async function finalized(store: RecordStore, sha256: string, owner: Owner, model?: NewModel): Promise<FinalizeOutcome> {
  const id = randomUUID()
  await store.uploads.adopt({ id, kind: 'object', stagingKey: id, filename: 'a', size: 3, declaredSha256: null, owner }, { sha256, etag: 'e', size: 3 })
  const claim = await claimed(store, sha256)
  return store.uploads.finalize({
    uploadId: id, sha256, canonicalKey: keyOf(sha256), size: 3, contentType: 'text/plain', claim, ...model && { model }, result: rows => rows
  })
}

/** Everything that a runner can say. */
async function sayAll(store: RecordStore, id: string, token: string): Promise<unknown[]> {
  return [
    await store.jobs.progress(id, token, { stage: 'late', progress: 50, message: null }),
    await store.jobs.complete(id, token, { results: [await result(store, 'late')], execution: EXECUTION }),
    await store.jobs.fail(id, token, { code: 'x', message: 'x' }),
    await store.jobs.fail(id, token, { code: 'x', message: 'x' }, { at: 0, maxAttempts: 99 }),
    await store.jobs.release(id, token),
    await store.jobs.confirmCancel(id, token),
    (await store.jobs.heartbeat([{ id, token }], LEASE_MS)).lost
  ]
}

async function pages(store: RecordStore, limit: number, between: () => Promise<unknown> = async () => {}): Promise<string[]> {
  const ids: string[] = []
  for (let after: PageCursor | undefined; ;) {
    const page = await store.jobs.list({ limit, ...after && { after } })
    ids.push(...page.map(({ id }) => id))
    if (page.length < limit) return ids
    after = page.at(-1)!
    await between()
  }
}

/** Hints as they come. */
function listen(store: RecordStore) {
  const heard: JobHint[] = []
  const stop = store.jobs.subscribe(hint => heard.push(hint))
  const until = async (wanted: JobHint) => {
    for (const deadline = Date.now() + 20_000; Date.now() < deadline; await sleep(2)) {
      if (heard.some(hint => JSON.stringify(hint) === JSON.stringify(wanted))) return true
    }
    return false
  }
  return { heard, stop, until }
}

function newModel(version: string, changes: Partial<NewModel> = {}): NewModel {
  const sha256 = changes.sha256 ?? `m-${version}`
  return { name: 'edges', version, task: 'image-to-image', sha256, key: keyOf(sha256), size: 3, manifest: { name: 'edges', '\0': [1.5] }, signature: { inputs: [] }, ...changes }
}

const addModel = async (store: RecordStore, model: NewModel) => store.models.add({ ...model, claim: await claimed(store, model.sha256) })

const TERMINAL = ['generation_complete', 'generation_failed', 'generation_cancelled']
const all = (store: RecordStore, id: string) => store.jobs.events(id, 0, 1000)
const namesOf = (list: JobEvent[]) => list.map(({ event }) => event)
const terminals = async (store: RecordStore, id: string) => namesOf(await all(store, id)).filter(event => TERMINAL.includes(event))

// ---- creation

function creation(t: Test, make: MakeDatabase): void {
  t.test('a new job waits, and reads back as it was made', async t => {
    const store = await migrated(t, make, { now: () => 1_790_000_000_123 })
    const claim = await claimed(store, 'a1')
    const job = newJob({
      params: { name: 'Zoë \0 🦑', deep: [{ a: null }] }, priority: -3, cache: false, webhook: { url: 'https://example.org/', events: ['generation_complete'] },
      stageTimings: { ingest: { startedAt: 5, finishedAt: 9 } },
      inputs: [input('a1', null, { name: 'ref_images', position: 1, size: 5_000_000_000 }), input('a1', claim, { fileId: 'f1' }), input('a1', null, { name: 'ref_images' })]
    })
    const made = await store.jobs.create(job)
    const expected = {
      id: job.id, run: 1, owner: ada, userId: 'u1', model: job.model, task: job.task, params: job.params, status: 'queued', stage: null, progress: null, priority: -3,
      attempt: 0, attemptToken: null, worker: null, cancelRequested: false, results: [], promotions: [], failure: null, stageTimings: job.stageTimings, execution: null, cache: false,
      memoKey: 'memo', webhook: job.webhook, lastSeq: 1, createdAt: 1_790_000_000_123, updatedAt: 1_790_000_000_123, startedAt: null, completedAt: null,
      inputs: [
        { name: 'input', position: 0, fileId: 'f1', sha256: 'a1', key: 'canonical/a1', size: 3, contentType: 'image/png' },
        { name: 'ref_images', position: 0, fileId: null, sha256: 'a1', key: 'canonical/a1', size: 3, contentType: 'image/png' },
        { name: 'ref_images', position: 1, fileId: null, sha256: 'a1', key: 'canonical/a1', size: 5_000_000_000, contentType: 'image/png' }
      ]
    }
    t.strictSame(made, { outcome: 'created', job: expected })
    t.strictSame(await store.jobs.get(job.id), expected)
    t.strictSame(await all(store, job.id), [{ seq: 1, event: 'generation_started', data: { jobId: job.id }, createdAt: 1_790_000_000_123 }])
    t.equal(await store.jobs.get(randomUUID()), undefined)
  })

  t.test('an input whose hash no row points at makes nothing, nor does a claim that is over', async t => {
    const store = await migrated(t, make)
    const claim = await claimed(store, 'a1')
    const [first, second, third] = [newJob({ inputs: [input('a1', null)] }), newJob({ inputs: [input('a1', claim), input('b2', null, { position: 1 })] }), newJob({ inputs: [input('a1', 'over')] })]
    for (const job of [first, second, third]) {
      t.strictSame(await store.jobs.create(job), { outcome: 'reclaim' })
      t.equal(await store.jobs.get(job.id), undefined)
      t.strictSame(await all(store, job.id), [])
    }
    t.match(await store.jobs.create({ ...third, inputs: [input('a1', claim)] }), { outcome: 'created' })
  })

  t.test('the job takes the place of the upload that held its input', async t => {
    const store = await migrated(t, make)
    const id = randomUUID()
    await store.uploads.create({ id, kind: 'object', stagingKey: id, filename: 'a', size: 3, declaredSha256: null, owner: ada })
    await store.uploads.stage(id, { sha256: 'a1', etag: 'e', size: 3 })
    const claim = await claimed(store, 'a1')
    t.strictSame(await store.jobs.create(newJob({ inputs: [input('a1', 'over', { stagedUploadId: id })] })), { outcome: 'reclaim' })
    t.match(await store.uploads.get(id), { status: 'staged' })
    await queued(store, { inputs: [input('a1', claim, { stagedUploadId: id })] })
    t.equal(await store.uploads.get(id), undefined)
    t.equal(await store.objects.isGarbage('a1', future()), false)
  })
}

function idempotency(t: Test, make: MakeDatabase): void {
  const key = { key: 'k1', bodyHash: 'h1' }

  t.test('the same key and body is the same job, another body a conflict, another owner another job', async t => {
    const store = await migrated(t, make)
    const first = await queued(store, { idempotency: key })
    t.strictSame(await store.jobs.create(newJob({ idempotency: key, priority: 5 })), { outcome: 'repeated', job: first })
    t.strictSame(await store.jobs.create(newJob({ idempotency: { ...key, bodyHash: 'h2' } })), { outcome: 'idempotency_conflict' })
    t.match(await store.jobs.create(newJob({ idempotency: key, owner: bob })), { outcome: 'created' })
    t.match(await store.jobs.create(newJob({ idempotency: { ...key, key: 'k2' } })), { outcome: 'created' })
    t.strictSame(await store.jobs.findIdempotent(ada, 'k1'), { job: first, bodyHash: 'h1' })
    t.equal(await store.jobs.findIdempotent(ada, 'k3'), undefined)
    t.equal((await store.jobs.stats()).waiting, 3)
  })

  t.test('of twenty at once, on two nodes, one is made and the others are told of it', async t => {
    const nodes = await twoNodes(t, make)
    const made = await Promise.all(times(20, index => nodes[index % 2]!.jobs.create(newJob({ idempotency: key }))))
    const jobs = made.map(each => ('job' in each ? each.job.id : each.outcome))
    t.equal(new Set(jobs).size, 1)
    t.equal(made.filter(({ outcome }) => outcome === 'created').length, 1)
    t.equal((await nodes[0].jobs.stats()).waiting, 1)
  })

  t.test('a repeat is answered while the queue is full, and a removed job frees its key', async t => {
    const store = await migrated(t, make)
    const first = await queued(store, { idempotency: key, queueMax: 1 })
    t.match(await store.jobs.create(newJob({ idempotency: key, queueMax: 1 })), { outcome: 'repeated' })
    t.strictSame(await store.jobs.create(newJob({ queueMax: 1 })), { outcome: 'queue_full', waiting: 1 })
    await store.jobs.remove(first.id)
    t.match(await store.jobs.create(newJob({ idempotency: { ...key, bodyHash: 'h2' }, queueMax: 1 })), { outcome: 'created' })
  })
}

function reservations(t: Test, make: MakeDatabase): void {
  const who = { clientId: 'web', userId: 'u1' }

  t.test('of twenty who want one place at once, on two nodes, one gets it', async t => {
    const nodes = await twoNodes(t, make)
    const got = await Promise.all(times(20, index => nodes[index % 2]!.jobs.reserve(who, 1)))
    t.equal(got.filter(each => 'reservation' in each).length, 1)
    t.strictSame(got.find(each => 'active' in each), { active: null })
    t.ok('reservation' in await nodes[0].jobs.reserve({ ...who, userId: 'u2' }, 1), 'another user has a place of their own')
    t.ok('reservation' in await nodes[0].jobs.reserve({ clientId: null, userId: 'u1' }, 1), 'and so has another client')
  })

  t.test('a place goes over to the job, and is free again when that has ended', async t => {
    const store = await migrated(t, make)
    const got = await store.jobs.reserve(who, 1) as { reservation: string }
    const job = await queued(store, { reservation: got.reservation })
    t.strictSame(await store.jobs.reserve(who, 1), { active: job })
    t.ok('reservation' in await store.jobs.reserve(who, 2))
    t.match(await store.jobs.reserve(who, 2), { active: { id: job.id } })
    const { attemptToken } = (await claimNext(store))!
    t.match(await store.jobs.reserve(who, 2), { active: { id: job.id, status: 'processing' } })
    await store.jobs.fail(job.id, attemptToken!, { code: 'x', message: 'x' })
    t.ok('reservation' in await store.jobs.reserve(who, 2))
  })

  t.test('a place is given back by release, and by a creation that comes to nothing', async t => {
    const store = await migrated(t, make)
    const take = async () => (await store.jobs.reserve(who, 1) as { reservation: string }).reservation
    const first = await take()
    await store.jobs.releaseReservation(first)
    await store.jobs.releaseReservation(first)
    const second = await take()
    t.match(await store.jobs.create(newJob({ reservation: second, queueMax: 0 })), { outcome: 'queue_full' })
    await queued(store, { userId: 'u2', idempotency: { key: 'k', bodyHash: 'h' } })
    t.match(await store.jobs.create(newJob({ reservation: await take(), idempotency: { key: 'k', bodyHash: 'x' } })), { outcome: 'idempotency_conflict' })
    const last = await take()
    t.match(await store.jobs.create(newJob({ reservation: last, inputs: [input('a1', null)] })), { outcome: 'reclaim' })
    t.strictSame(await store.jobs.reserve(who, 1), { active: null }, 'kept for the next try with new claims')
  })

  t.test('a place lapses without a sign of life', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const got = await store.jobs.reserve(who, 1) as { reservation: string }
    time += RESERVATION_TTL_MS - 1
    await store.jobs.touchReservation(got.reservation)
    time += RESERVATION_TTL_MS - 1
    t.strictSame(await store.jobs.reserve(who, 1), { active: null })
    t.equal(await store.jobs.pruneLapsed(10), 0)
    time += 1
    const next = await store.jobs.reserve(who, 1) as { reservation: string }
    t.ok(next.reservation)
    await store.jobs.touchReservation(got.reservation)
    await store.jobs.releaseReservation(next.reservation)
    t.ok('reservation' in await store.jobs.reserve(who, 1), 'a late sign of life takes no place back')
    t.equal(await store.jobs.pruneLapsed(10), 1)
  })
}

function queueLimit(t: Test, make: MakeDatabase): void {
  t.test('of more than fit at once, on two nodes, exactly as many are made', async t => {
    const nodes = await twoNodes(t, make)
    const made = await Promise.all(times(30, index => nodes[index % 2]!.jobs.create(newJob({ queueMax: 12 }))))
    t.equal(made.filter(({ outcome }) => outcome === 'created').length, 12)
    t.strictSame(made.find(({ outcome }) => outcome === 'queue_full'), { outcome: 'queue_full', waiting: 12 })
    await claimNext(nodes[0])
    t.match(await nodes[1].jobs.create(newJob({ queueMax: 12 })), { outcome: 'created' })
    t.match(await nodes[1].jobs.create(newJob({ queueMax: 12 })), { outcome: 'queue_full' })
    t.equal((await nodes[0].jobs.stats()).waiting, 12)
  })
}

// ---- running

function claims(t: Test, make: MakeDatabase): void {
  t.test('no two claimants get the same job, and together they get all of them', async t => {
    const nodes = await twoNodes(t, make)
    const ids = (await Promise.all(times(100, index => queued(nodes[index % 2]!)))).map(({ id }) => id)
    const got: string[] = []
    await Promise.all(times(20, async index => {
      for (let job = await claimNext(nodes[index % 2]!); job !== undefined; job = await claimNext(nodes[index % 2]!)) got.push(job.id)
    }))
    // a claimant that passes over a row which another is taking may find nothing: whoever is left takes it
    for (let job = await claimNext(nodes[0]); job !== undefined; job = await claimNext(nodes[0])) got.push(job.id)
    t.strictSame(got.toSorted(), ids.toSorted())
  })

  t.test('the highest priority comes first, then the oldest, also with equal times', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const order: string[] = []
    for (const [priority, at, rank] of [[0, 1000, 3], [-10, 1000, 6], [10, 3000, 1], [0, 2000, 5], [10, 2000, 0], [1, 5000, 2]] as const) {
      time = at
      order[rank] = (await queued(store, { priority })).id
    }
    time = 1000
    order[4] = (await queued(store, { id: 'zzz' })).id
    const got = []
    for (let job = await claimNext(store); job !== undefined; job = await claimNext(store)) got.push(job.id)
    t.strictSame(got, order)
  })

  t.test('a claimant leaves jobs of tasks that it cannot run to others', async t => {
    const store = await migrated(t, make)
    const command = await queued(store, { task: 'exec', priority: 10 })
    const image = await queued(store)
    const without = { worker: 'w1', leaseMs: LEASE_MS, exceptTasks: ['exec', 'other'] }
    t.match(await store.jobs.claim({ token: 't1', ...without }), { id: image.id })
    t.equal(await store.jobs.claim({ token: 't2', ...without }), undefined)
    t.match(await store.jobs.claim({ token: 't3', ...without, exceptTasks: [] }), { id: command.id })
  })

  t.test('a claimed job is processing under its token', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const { id } = await queued(store)
    time = 1500
    const job = await store.jobs.claim({ token: 't1', worker: 'node/3', leaseMs: 100 })
    t.match(job, { id, status: 'processing', attempt: 1, attemptToken: 't1', worker: 'node/3', startedAt: 1500, updatedAt: 1500, createdAt: 1000, progress: null, stage: null })
    t.strictSame(await store.jobs.get(id), job)
    t.equal(await claimNext(store), undefined)
    t.strictSame(namesOf(await all(store, id)), ['generation_started'])
  })

  t.test('a job that waits for its time is no one else\'s turn, and then has the rank it had', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const first = await running(store, { priority: 5 })
    await store.jobs.fail(first.id, first.token, { code: 'x', message: 'x' }, { at: 3000, maxAttempts: 3 })
    const second = await queued(store)
    time = 1001
    const third = await queued(store)
    t.equal((await claimNext(store))?.id, second.id)
    time = 2999
    const other = (await claimNext(store))!
    t.equal(other.id, third.id)
    t.equal(await claimNext(store), undefined)
    await store.jobs.release(other.id, other.attemptToken!)
    time = 3000
    t.match(await claimNext(store), { id: first.id, attempt: 2 })
    t.match(await claimNext(store), { id: third.id })
  })
}

function leases(t: Test, make: MakeDatabase): void {
  const reaping = { maxAttempts: 3, retryAt: (attempt: number) => attempt * 10_000, limit: 10 }

  t.test('a heartbeat extends leases and names what is lost or to be cancelled', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const [first, second, third] = [await running(store), await running(store), await running(store)]
    await store.jobs.fail(third.id, third.token, { code: 'x', message: 'x' })
    await store.jobs.requestCancel(second.id)
    const before = await store.jobs.get(first.id)
    time += LEASE_MS
    const unknown = { id: randomUUID(), token: 't' }
    t.strictSame(await store.jobs.heartbeat([third, first, unknown, second, { ...first, token: 'late' }], LEASE_MS), { lost: [third.id, unknown.id], cancelled: [second.id] })
    t.strictSame(await store.jobs.get(first.id), before, 'which nobody sees')
    time += LEASE_MS
    t.match(await store.jobs.reapLost(reaping), { reaped: 0 })
    time += 1
    t.match(await store.jobs.reapLost(reaping), { reaped: 2 })
    t.strictSame(await store.jobs.heartbeat([first], LEASE_MS), { lost: [first.id], cancelled: [] })
    t.strictSame(await store.jobs.heartbeat([], LEASE_MS), { lost: [], cancelled: [] })
  })

  t.test('a lost job waits for its next attempt, and fails behind the last', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const { id } = await queued(store, { stageTimings: { ingest: { startedAt: 1, finishedAt: 2 } } })
    for (const attempt of [1, 2, 3]) {
      const job = await store.jobs.claim({ token: `t${attempt}`, worker: 'w', leaseMs: 100 })
      t.match(job, { id, attempt, startedAt: 1000, stageTimings: { ingest: { startedAt: 1, finishedAt: 2 } } })
      t.equal(Object.keys(job!.stageTimings).length, 1, 'timings of lost attempts are gone')
      await store.jobs.progress(id, `t${attempt}`, { stage: 'inference', progress: 50 - attempt, message: null })
      time += 101
      t.strictSame(await store.jobs.reapLost(reaping), { reaped: 1, ended: attempt === 3 ? [id] : [] })
      if (attempt === 3) break
      t.match(await store.jobs.get(id), { status: 'queued', attempt, attemptToken: null, worker: null, stage: null, progress: 49, failure: null })
      t.equal(await claimNext(store), undefined)
      time = attempt * 10_000
    }
    t.match(await store.jobs.get(id), { status: 'failed', failure: { code: 'worker_lost' }, completedAt: time, progress: 49 })
    t.strictSame(namesOf(await all(store, id)), ['generation_started', 'generation_progress', 'generation_failed'])
    t.match(await store.jobs.reapLost(reaping), { reaped: 0 })
  })

  t.test('a lost job that was to be cancelled is cancelled', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const { id } = await running(store)
    await store.jobs.requestCancel(id)
    time += LEASE_MS + 1
    t.strictSame(await store.jobs.reapLost({ ...reaping, maxAttempts: 1 }), { reaped: 1, ended: [id] })
    t.match(await store.jobs.get(id), { status: 'cancelled', attemptToken: null, failure: null })
    t.strictSame(await terminals(store, id), ['generation_cancelled'])
  })

  t.test('reaping takes no more than it is told, and of many reapers each job is one\'s', async t => {
    let time = 1000
    const nodes = await twoNodes(t, make, { now: () => time })
    for (const _ of times(12, () => 0)) await running(nodes[0])
    time += LEASE_MS + 1
    t.match(await nodes[0].jobs.reapLost({ ...reaping, limit: 2 }), { reaped: 2 })
    const reaped = await Promise.all(times(6, index => nodes[index % 2]!.jobs.reapLost({ ...reaping, retryAt: () => 0 })))
    t.equal(reaped.reduce((sum, each) => sum + each.reaped, 0), 10)
    t.match(await nodes[0].jobs.stats(), { waiting: 12, running: 0 })
  })

  t.test('an error of the caller\'s own retryAt leaves as it is, and changes nothing', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const { id } = await running(store)
    time += LEASE_MS + 1
    await t.rejects(store.jobs.reapLost({ ...reaping, retryAt: () => { throw new TypeError('mine') } }), { name: 'TypeError', message: 'mine' })
    t.match(await store.jobs.get(id), { status: 'processing' })
  })
}

function progressing(t: Test, make: MakeDatabase): void {
  t.test('progress never falls, is null until it is known, and is 100 only at the end', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    const shown = []
    for (const progress of [null, 12.5, 7, null, 30, -5, Number.NaN, 100]) {
      t.equal(await store.jobs.progress(id, token, { stage: 'inference', progress, message: null }), true)
      shown.push((await store.jobs.get(id))!.progress)
    }
    t.strictSame(shown, [null, 12.5, 12.5, 12.5, 30, 30, 30, 99])
    const last = (await all(store, id)).at(-1)
    t.strictSame(last?.data, { jobId: id, progress: 99, stage: 'inference', message: null })
    await store.jobs.complete(id, token, { results: [], execution: EXECUTION })
    t.match(await store.jobs.get(id), { progress: 100 })
  })

  t.test('nor does it fall where an attempt begins anew, in the row or in any event; the next run knows nothing of it', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    const note = (by: string, stage: string, progress: number | null) => store.jobs.progress(id, by, { stage, progress, message: null })
    await note(token, 'inference', 60)
    await note(token, 'persist', null)
    t.equal(await store.jobs.fail(id, token, { code: 'worker_lost', message: 'lost' }, { at: 0, maxAttempts: 3 }), 'queued')
    t.match(await store.jobs.get(id), { status: 'queued', stage: null, progress: 60 })
    const second = (await claimNext(store))!
    t.match(second, { attempt: 2, progress: 60 })
    for (const progress of [null, 10, 59]) {
      await note(second.attemptToken!, 'inference', progress)
      t.equal((await store.jobs.get(id))!.progress, 60)
    }
    await note(second.attemptToken!, 'inference', 61)
    t.strictSame((await all(store, id)).map(({ data }) => [data.stage, data.progress]), [[undefined, undefined], ['persist', 60], ['inference', 61]])
    await store.jobs.fail(id, second.attemptToken!, { code: 'invalid_input', message: 'no image' })
    t.match(await store.jobs.get(id), { status: 'failed', progress: 61 })
    await store.jobs.retry(id)
    t.match(await store.jobs.get(id), { run: 2, progress: null })
    const third = (await claimNext(store))!
    await note(third.attemptToken!, 'inference', 5)
    t.match(await store.jobs.get(id), { progress: 5 })
  })

  t.test('of each stage the newest event stays, and seq grows', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    for (const [stage, message] of [['a', '1'], ['a', '2'], ['b', '3'], ['b', '4'], ['a', '5\0']]) {
      await store.jobs.progress(id, token, { stage: stage!, progress: null, message: message! })
    }
    await store.jobs.confirmCancel(id, token)
    const found = (await all(store, id)).map(({ seq, event, data }) => [seq, event, data.message])
    t.strictSame(found, [[1, 'generation_started', undefined], [5, 'generation_progress', '4'], [6, 'generation_progress', '5\0'], [7, 'generation_cancelled', undefined]])
    t.match(await store.jobs.get(id), { lastSeq: 7 })
  })

  t.test('stages begin and end with what is said of them', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => (time += 10) })
    const { id, token } = await running(store, { stageTimings: { ingest: { startedAt: 1, finishedAt: 2 } } })
    time = 2000
    for (const stage of ['inference', 'inference', '__proto__', 'persist\0']) await store.jobs.progress(id, token, { stage, progress: null, message: null })
    t.match(await store.jobs.get(id), { stage: 'persist' })
    await store.jobs.complete(id, token, { results: [], execution: EXECUTION })
    const { stageTimings } = (await store.jobs.get(id))!
    t.strictSame(Object.keys(stageTimings), ['ingest', 'inference', '__proto__', 'persist'])
    t.strictSame(stageTimings.ingest, { startedAt: 1, finishedAt: 2 })
    const stages = Object.entries(stageTimings).slice(1).map(([, stage]) => stage)
    for (const [index, stage] of stages.entries()) {
      t.ok(stage.finishedAt! >= stage.startedAt, `stage ${index} has ended`)
      if (index > 0) t.equal(stage.startedAt, stages[index - 1]!.finishedAt)
    }
  })
}

function completion(t: Test, make: MakeDatabase): void {
  t.test('a completed job has its results, each a file of its own', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    const results = [await result(store, 'b2', { name: 'second', filename: 'b.png' }), await result(store, 'a1', { name: 'first' }), { ...await result(store, 'a1', { name: 'third' }), claim: null }]
    t.equal(await store.jobs.complete(id, token, { results, execution: { ...EXECUTION, cached: true } }), 'completed')
    const job = (await store.jobs.get(id))!
    t.match(job, { status: 'completed', progress: 100, attemptToken: null, execution: { provider: 'cpu', device: 'cpu', worker: 'w1', cached: true } })
    t.strictSame(job.results.map(({ name, sha256, key, size, contentType }) => ({ name, sha256, key, size, contentType })), [
      { name: 'second', sha256: 'b2', key: 'canonical/b2', size: 3, contentType: 'image/png' },
      { name: 'first', sha256: 'a1', key: 'canonical/a1', size: 3, contentType: 'image/png' },
      { name: 'third', sha256: 'a1', key: 'canonical/a1', size: 3, contentType: 'image/png' }
    ])
    const file = await store.files.get(job.results[0]!.fileId)
    t.match(file, { id: job.results[0]!.fileId, filename: 'b.png', contentType: 'image/png', size: 3, sha256: 'b2', key: 'canonical/b2', access: 'restricted', owner: ada })
    t.equal(new Set(job.results.map(({ fileId }) => fileId)).size, 3)
    t.strictSame((await all(store, id)).at(-1)?.data, { jobId: id })
    t.equal((await all(store, id)).at(-1)?.event, 'generation_complete')
    for (const sha256 of ['a1', 'b2']) t.equal(await store.objects.isGarbage(sha256, future()), false)
  })

  t.test('where a result\'s bytes were collected nothing is written, and a new claim completes it', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    const [kept, lost] = [await result(store, 'a1'), await result(store, 'b2')]
    const lease = (await store.objects.beginCollect('b2', future()))!
    t.equal(await store.jobs.complete(id, token, { results: [kept, lost], execution: EXECUTION }), 'reclaim')
    await store.objects.endCollect('b2', lease)
    t.equal(await store.jobs.complete(id, token, { results: [kept, lost], execution: EXECUTION }), 'reclaim')
    t.equal(await store.jobs.complete(id, token, { results: [kept, { ...lost, claim: null }], execution: EXECUTION }), 'reclaim')
    t.match(await store.jobs.get(id), { status: 'processing', results: [], lastSeq: 1 })
    t.equal(await store.objects.isGarbage('a1', future()), true, 'no file points there')
    t.equal(await store.jobs.complete(id, token, { results: [kept, await result(store, 'b2')], execution: EXECUTION }), 'completed')
  })

  t.test('completions with the same objects in any order all go through', async t => {
    const nodes = await twoNodes(t, make)
    const hashes = times(6, index => `h${index}`)
    const claims = new Map(await Promise.all(hashes.map(async sha256 => [sha256, await claimed(nodes[0], sha256)] as const)))
    const jobs = []
    for (const _ of times(12, () => 0)) jobs.push(await running(nodes[0]))
    const done = await Promise.all(jobs.map(({ id, token }, index) => nodes[index % 2]!.jobs.complete(id, token, {
      results: (index % 3 ? hashes : hashes.toReversed()).map(sha256 => ({ name: sha256, filename: sha256, sha256, key: keyOf(sha256), size: 3, contentType: 'x', claim: claims.get(sha256)! })),
      execution: EXECUTION
    })))
    t.strictSame([...new Set(done)], ['completed'])
  })
}

function failing(t: Test, make: MakeDatabase): void {
  t.test('a failure is final where nothing is said of a retry, and says why', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    t.equal(await store.jobs.fail(id, token, { code: 'invalid_input', message: 'bad \0 bytes' }), 'failed')
    const job = await store.jobs.get(id)
    t.match(job, { status: 'failed', failure: { code: 'invalid_input', message: 'bad  bytes' }, attemptToken: null, worker: null })
    t.ok(job!.completedAt)
    t.match((await all(store, id)).at(-1), { seq: 2, event: 'generation_failed', data: { jobId: id, error: { code: 'invalid_input' } } })
  })

  t.test('a retryable failure waits, without an event, as long as attempts are left', async t => {
    const store = await migrated(t, make)
    const { id } = await queued(store)
    const retry = { at: 0, maxAttempts: 2 }
    const first = (await claimNext(store))!
    t.equal(await store.jobs.fail(id, first.attemptToken!, { code: 'storage_failed', message: 'x' }, retry), 'queued')
    t.match(await store.jobs.get(id), { status: 'queued', attempt: 1, failure: null, attemptToken: null, lastSeq: 1 })
    const second = (await claimNext(store))!
    t.equal(await store.jobs.fail(id, second.attemptToken!, { code: 'storage_failed', message: 'x' }, retry), 'failed')
    t.match(await store.jobs.get(id), { status: 'failed', attempt: 2, failure: { code: 'storage_failed' } })
    t.strictSame(namesOf(await all(store, id)), ['generation_started', 'generation_failed'])
  })

  t.test('a released attempt does not count', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    t.equal(await store.jobs.release(id, token), true)
    t.match(await store.jobs.get(id), { status: 'queued', attempt: 0 })
    t.match(await claimNext(store), { id, attempt: 1 })
  })

  t.test('a job that was to be cancelled does not wait again', async t => {
    const store = await migrated(t, make)
    const [first, second] = [await running(store), await running(store)]
    for (const { id } of [first, second]) await store.jobs.requestCancel(id)
    t.equal(await store.jobs.fail(first.id, first.token, { code: 'worker_lost', message: 'x' }, { at: 0, maxAttempts: 3 }), 'cancelled')
    t.equal(await store.jobs.release(second.id, second.token), true)
    for (const { id } of [first, second]) {
      t.match(await store.jobs.get(id), { status: 'cancelled' })
      t.strictSame(await terminals(store, id), ['generation_cancelled'])
    }
  })
}

function fencing(t: Test, make: MakeDatabase): void {
  t.test('a token that is over changes nothing, whatever became of the job', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const states: Record<string, (held: Running) => Promise<unknown>> = {
      'claimed by another': async () => {
        time += LEASE_MS + 1
        await store.jobs.reapLost({ maxAttempts: 3, retryAt: () => 0, limit: 10 })
        return claimNext(store, 1_000_000_000)
      },
      waiting: ({ id, token }) => store.jobs.release(id, token),
      completed: ({ id, token }) => store.jobs.complete(id, token, { results: [], execution: EXECUTION }),
      failed: ({ id, token }) => store.jobs.fail(id, token, { code: 'x', message: 'x' }),
      cancelled: ({ id, token }) => store.jobs.confirmCancel(id, token),
      'in its next run': async ({ id, token }) => {
        await store.jobs.confirmCancel(id, token)
        return store.jobs.retry(id)
      },
      removed: async ({ id, token }) => {
        await store.jobs.confirmCancel(id, token)
        return store.jobs.remove(id)
      }
    }
    for (const [state, bring] of Object.entries(states)) {
      const held = await running(store, { priority: 1 })
      await bring(held)
      const [before, eventsBefore] = [await store.jobs.get(held.id), await all(store, held.id)]
      t.strictSame(await sayAll(store, held.id, held.token), [false, 'late', undefined, undefined, false, false, [held.id]], state)
      t.strictSame(await store.jobs.get(held.id), before, state)
      t.strictSame(await all(store, held.id), eventsBefore, state)
      if (before?.status === 'queued') await store.jobs.requestCancel(held.id)
    }
    t.equal(await store.objects.isGarbage('late', future()), true, 'no late result was kept')
  })

  t.test('of a reaper and the runner that completes, one wins', async t => {
    let time = 1000
    const [first, second] = await twoNodes(t, make, { now: () => time })
    for (const _ of times(15, () => 0)) {
      const { id, token } = await running(first, { priority: 1 })
      time += LEASE_MS + 1
      const [done, reaped] = await Promise.all([
        first.jobs.complete(id, token, { results: [await result(first, 'a1')], execution: EXECUTION }), second.jobs.reapLost({ maxAttempts: 1, retryAt: () => 0, limit: 1 })
      ])
      const job = (await first.jobs.get(id))!
      t.equal(job.status, done === 'completed' ? 'completed' : 'failed')
      t.strictSame(reaped, done === 'completed' ? { reaped: 0, ended: [] } : { reaped: 1, ended: [id] })
      t.equal(job.results.length, done === 'completed' ? 1 : 0)
      t.equal((await terminals(first, id)).length, 1)
    }
  })
}

function cancelling(t: Test, make: MakeDatabase): void {
  t.test('a waiting job is cancelled at once, a running one is told, a final one stays', async t => {
    const store = await migrated(t, make)
    const waiting = await queued(store)
    t.match(await store.jobs.requestCancel(waiting.id), { status: 'cancelled', completedAt: Number, cancelRequested: false })
    t.equal(await claimNext(store), undefined)
    const { id, token } = await running(store)
    t.match(await store.jobs.requestCancel(id), { status: 'processing', cancelRequested: true })
    const asked = await store.jobs.requestCancel(id)
    t.strictSame(await terminals(store, id), [])
    t.equal(await store.jobs.confirmCancel(id, token), true)
    t.match(await store.jobs.get(id), { status: 'cancelled', worker: null })
    const ended = await store.jobs.get(id)
    t.strictSame(await store.jobs.requestCancel(id), ended)
    t.strictSame(await terminals(store, id), ['generation_cancelled'])
    t.ok(asked)
    t.equal(await store.jobs.requestCancel(randomUUID()), undefined)
  })

  t.test('cancel racing completion: in either order one terminal event, and all agree', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const index of times(20, each => each)) {
      const { id, token } = await running(first)
      await second.jobs.requestCancel(id)
      const calls = [
        async () => first.jobs.complete(id, token, { results: [await result(first, 'a1')], execution: EXECUTION }),
        async () => second.jobs.confirmCancel(id, token)
      ]
      if (index % 2) calls.reverse()
      const answers = await Promise.all(calls.map(call => call()))
      const job = (await first.jobs.get(id))!
      t.equal(job.status, answers.includes('completed') ? 'completed' : 'cancelled')
      t.equal(answers.includes('completed'), !answers.includes(true))
      t.equal(job.results.length, job.status === 'completed' ? 1 : 0)
      t.strictSame(await terminals(first, id), [job.status === 'completed' ? 'generation_complete' : 'generation_cancelled'])
      t.equal((await all(first, id)).at(-1)?.seq, job.lastSeq)
    }
  })

  t.test('cancel racing a claim: either nobody runs it, or the runner is told', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const _ of times(20, () => 0)) {
      const { id } = await queued(first)
      const [job, asked] = await Promise.all([claimNext(first), second.jobs.requestCancel(id)])
      if (job === undefined) t.equal(asked?.status, 'cancelled')
      else t.strictSame(await first.jobs.heartbeat([{ id, token: job.attemptToken! }], LEASE_MS), { lost: [], cancelled: [id] })
      if (job !== undefined) await first.jobs.confirmCancel(id, job.attemptToken!)
      t.strictSame(await terminals(first, id), ['generation_cancelled'])
    }
  })
}

function retrying(t: Test, make: MakeDatabase): void {
  t.test('a retry begins the next run, which ends with an event of its own', async t => {
    const store = await migrated(t, make)
    const timings = { ingest: { startedAt: 1, finishedAt: 2 } }
    const { id, token } = await running(store, { stageTimings: timings })
    await store.jobs.progress(id, token, { stage: 'inference', progress: 80, message: null })
    await store.jobs.requestCancel(id)
    await store.jobs.fail(id, token, { code: 'x', message: 'x' })
    t.equal(await store.jobs.retry(id), true)
    t.equal(await store.jobs.retry(id), false)
    t.match(await store.jobs.get(id), {
      run: 2, status: 'queued', attempt: 0, progress: null, stage: null, failure: null, cancelRequested: false, startedAt: null, completedAt: null, stageTimings: timings
    })
    const again = (await claimNext(store))!
    t.match(again, { id, attempt: 1, run: 2 })
    await store.jobs.progress(id, again.attemptToken!, { stage: 'inference', progress: 10, message: null })
    t.match(await store.jobs.get(id), { progress: 10 })
    await store.jobs.complete(id, again.attemptToken!, { results: [], execution: EXECUTION })
    const list = await all(store, id)
    t.strictSame(namesOf(list), ['generation_started', 'generation_failed', 'generation_started', 'generation_progress', 'generation_complete'])
    t.strictSame(list.map(({ seq }) => seq), [1, 3, 4, 5, 6])
  })

  t.test('only what failed or was cancelled can be retried', async t => {
    const store = await migrated(t, make)
    const cancelled = await queued(store)
    await store.jobs.requestCancel(cancelled.id)
    const [waiting, done, active] = [await completed(store), await completed(store), await running(store)]
    for (const { id } of [waiting, done, active, { id: randomUUID() }]) t.equal(await store.jobs.retry(id), false)
    t.equal(await store.jobs.retry(cancelled.id), true)
  })

  t.test('a removed job is gone with everything of it, a running one stays', async t => {
    const store = await migrated(t, make)
    const claim = await claimed(store, 'a1')
    const job = await completed(store, { inputs: [input('a1', claim)] }, 'b2')
    const { id, token } = await running(store)
    t.equal(await store.jobs.remove(id), 'running')
    t.equal(await store.jobs.remove(job.id), 'removed')
    t.equal(await store.jobs.remove(job.id), undefined)
    t.equal(await store.jobs.get(job.id), undefined)
    t.equal(await store.files.get(job.results[0]!.fileId), undefined)
    t.strictSame(await all(store, job.id), [])
    for (const sha256 of ['a1', 'b2']) t.equal(await store.objects.isGarbage(sha256, future()), true)
    t.equal(await store.jobs.release(id, token), true)
    t.equal(await store.jobs.remove(id), 'removed')
    t.equal(await claimNext(store), undefined)
  })

  t.test('retry racing removal: afterwards the job waits, or is gone', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const _ of times(20, () => 0)) {
      const id = await failed(first)
      const [retried, removed] = await Promise.all([first.jobs.retry(id), second.jobs.remove(id)])
      t.equal(removed, 'removed', 'a waiting job can be removed too')
      t.equal(typeof retried, 'boolean')
      t.equal(await first.jobs.get(id), undefined)
      t.strictSame(await all(first, id), [])
      t.equal(await claimNext(first), undefined)
    }
  })
}

// ---- reading

function lists(t: Test, make: MakeDatabase): void {
  t.test('the newest come first, narrowed by whatever is asked for', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => (time += 1) })
    const made: JobRecord[] = []
    for (const owner of [ada, bob]) {
      for (const userId of ['u1', 'u2', null]) {
        for (const name of ['edges', 'upscale']) made.push(await queued(store, { owner, userId, model: { name, version: '1', sha256: 'm' } }))
      }
    }
    await store.jobs.requestCancel(made[0]!.id)
    const now = await Promise.all(made.map(async ({ id }) => (await store.jobs.get(id))!))
    const newest = now.toReversed()
    for (const owner of [undefined, ada, bob]) {
      for (const userId of [undefined, 'u1', 'nobody']) {
        for (const model of [undefined, 'edges']) {
          for (const status of [undefined, 'queued', 'cancelled', 'completed'] as const) {
            const query = { limit: 100, ...owner && { owner }, ...userId && { userId }, ...model && { model }, ...status && { status } }
            const expected = newest.filter(job => (!owner || job.owner.subject === owner.subject) && (!userId || job.userId === userId) && (!model || job.model.name === model) && (!status || job.status === status))
            t.strictSame(await store.jobs.list(query), expected, JSON.stringify(query))
          }
        }
      }
    }
    t.strictSame((await store.jobs.list({ limit: 3 })).map(({ id }) => id), newest.slice(0, 3).map(({ id }) => id))
  })

  t.test('pages hold each job once, whatever is inserted or ends between them, also with equal times', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const ids: string[] = []
    for (const index of times(25, each => each)) {
      time = 1000 + Math.floor(index / 10)
      ids.push((await queued(store)).id)
    }
    time = 2000
    const between = async () => {
      await queued(store)
      const job = (await claimNext(store))!
      await store.jobs.complete(job.id, job.attemptToken!, { results: [], execution: EXECUTION })
    }
    const read = await pages(store, 4, between)
    t.strictSame(read.toSorted(), ids.toSorted())
    t.strictSame(await pages(store, 100), await pages(store, 7))
  })

  t.test('what is finished is listed oldest first', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => (time += 10) })
    const [first, second] = [await completed(store), await failed(store)]
    const third = await queued(store)
    await store.jobs.requestCancel(third.id)
    await queued(store)
    const ended = (await store.jobs.get(third.id))!.completedAt!
    t.strictSame(await store.jobs.listFinished(ended, 10), [first.id, second])
    t.strictSame(await store.jobs.listFinished(ended + 1, 10), [first.id, second, third.id])
    t.strictSame(await store.jobs.listFinished(ended + 1, 1), [first.id])
  })

  t.test('the figures of the queue', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => (time += 10) })
    t.strictSame(await store.jobs.stats(), { waiting: 0, running: 0, completed: 0, failed: 0, oldestCreatedAt: null, perModel: [] })
    await completed(store)
    await failed(store)
    await running(store, { model: { name: 'upscale', version: '1', sha256: 'm' } })
    const oldest = await queued(store)
    await queued(store)
    t.strictSame(await store.jobs.stats(), {
      waiting: 2, running: 1, completed: 1, failed: 1, oldestCreatedAt: oldest.createdAt,
      perModel: [{ model: 'edges', waiting: 2, running: 0 }, { model: 'upscale', waiting: 0, running: 1 }]
    })
  })
}

function events(t: Test, make: MakeDatabase): void {
  t.test('events come in order, behind a seq, no more than asked for', async t => {
    const store = await migrated(t, make)
    const { id, token } = await running(store)
    for (const stage of ['a', 'b', 'c']) await store.jobs.progress(id, token, { stage, progress: null, message: null })
    const seqs = async (after: number, limit: number) => (await store.jobs.events(id, after, limit)).map(({ seq }) => seq)
    t.strictSame(await seqs(0, 10), [1, 2, 3, 4])
    t.strictSame(await seqs(2, 10), [3, 4])
    t.strictSame(await seqs(1, 2), [2, 3])
    t.strictSame(await seqs(4, 10), [])
    t.strictSame(await seqs(1_000_000, 10), [])
    t.strictSame(await store.jobs.events(randomUUID(), 0, 10), [])
  })

  t.test('writers at once each get a seq of their own', async t => {
    const nodes = await twoNodes(t, make)
    const { id, token } = await running(nodes[0])
    await Promise.all(times(20, index => nodes[index % 2]!.jobs.progress(id, token, { stage: `s${index}`, progress: index, message: null })))
    t.strictSame((await all(nodes[0], id)).map(({ seq }) => seq), times(21, index => index + 1))
    const shown = (await all(nodes[0], id)).slice(1).map(({ data }) => data.progress as number)
    t.strictSame(shown, shown.toSorted((a, b) => a - b), 'and none says less than the one before')
  })
}

function memo(t: Test, make: MakeDatabase): void {
  t.test('the newest completed job of the key and owner whose results are there', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => (time += 10) })
    t.equal(await store.jobs.findMemo('memo', ada), undefined)
    await failed(store)
    const first = await completed(store)
    const second = await completed(store, { cache: false })
    await completed(store, { owner: bob })
    await completed(store, { memoKey: 'other' })
    await queued(store)
    t.strictSame(await store.jobs.findMemo('memo', ada), second)
    await store.jobs.remove(second.id)
    t.strictSame(await store.jobs.findMemo('memo', ada), first)
    t.match(await store.jobs.findMemo('memo', bob), { owner: bob })
  })

  t.test('its results can be another job\'s, for which no claim is needed', async t => {
    const store = await migrated(t, make)
    const first = await completed(store, {}, 'a1')
    const { id, token } = await running(store)
    const results = first.results.map(({ name, sha256, key, size, contentType }) => ({ name, filename: name, sha256, key, size, contentType, claim: null }))
    t.equal(await store.jobs.complete(id, token, { results, execution: { ...EXECUTION, cached: true } }), 'completed')
    await store.jobs.remove(first.id)
    t.equal(await store.objects.isGarbage('a1', future()), false)
    t.match(await store.jobs.get(id), { results: [{ sha256: 'a1' }] })
  })
}

// ---- files and models

function downloads(t: Test, make: MakeDatabase): void {
  t.test('a token is good once, also for twenty at once on two nodes', async t => {
    const nodes = await twoNodes(t, make)
    const { results } = await completed(nodes[0])
    const fileId = results[0]!.fileId
    await nodes[0].jobs.createDownload({ tokenHash: 'h1', fileId, expiresAt: future() })
    const taken = await Promise.all(times(20, index => nodes[index % 2]!.jobs.takeDownload('h1')))
    t.strictSame(taken.filter(file => file !== undefined), [await nodes[0].files.get(fileId)])
    t.equal(await nodes[0].jobs.takeDownload('unknown'), undefined)
  })

  t.test('a token that is over, or whose file is gone, is good for nothing', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const job = await completed(store)
    const fileId = job.results[0]!.fileId
    for (const tokenHash of ['h1', 'h2', 'h3']) await store.jobs.createDownload({ tokenHash, fileId, expiresAt: 2000 })
    await store.jobs.createDownload({ tokenHash: 'h4', fileId, expiresAt: 5000 })
    time = 1999
    t.match(await store.jobs.takeDownload('h1'), { id: fileId })
    t.equal(await store.jobs.pruneLapsed(10), 0)
    time = 2000
    t.equal(await store.jobs.takeDownload('h2'), undefined)
    t.equal(await store.jobs.pruneLapsed(1), 1)
    t.equal(await store.jobs.pruneLapsed(10), 1)
    await store.jobs.remove(job.id)
    t.equal(await store.jobs.takeDownload('h4'), undefined)
  })
}

function files(t: Test, make: MakeDatabase): void {
  t.test('an object is found by hash or key where a row of the owner points there', async t => {
    const store = await migrated(t, make)
    await finalized(store, 'a1', ada)
    await completed(store, { owner: bob }, 'b2')
    await claimed(store, 'c3')
    const upload = { sha256: 'a1', key: 'canonical/a1', size: 3, contentType: 'text/plain' }
    const file = { sha256: 'b2', key: 'canonical/b2', size: 3, contentType: 'image/png' }
    await queued(store, { owner: ada, inputs: [input('d4', await claimed(store, 'd4'))] })
    const { size, contentType } = input('d4', null)
    const read = { sha256: 'd4', key: input('d4', null).key, size, contentType }
    for (const [found, owner, other] of [[upload, ada, bob], [file, bob, ada], [read, ada, bob]] as const) {
      for (const by of [{ sha256: found.sha256 }, { key: found.key }]) {
        t.strictSame(await store.files.findOwned(by, owner), found)
        t.strictSame(await store.files.findOwned(by, undefined), found)
        t.equal(await store.files.findOwned(by, other), undefined)
      }
    }
    t.equal(await store.files.findOwned({ sha256: 'c3' }, undefined), undefined)
    t.equal(await store.files.get(randomUUID()), undefined)
  })
}

function models(t: Test, make: MakeDatabase): void {
  t.test('a model reads back as it was added, and the highest loaded version is found by number', async t => {
    const store = await migrated(t, make, { now: () => 5 })
    for (const version of ['9', '10', '2.11.0', '2.9.9', '11.0.1']) t.equal(await addModel(store, newModel(version)), 'added')
    await addModel(store, newModel('1', { name: 'a-first' }))
    t.strictSame((await store.models.list()).map(({ name, version }) => `${name} ${version}`), ['a-first 1', 'edges 11.0.1', 'edges 10', 'edges 9', 'edges 2.11.0', 'edges 2.9.9'])
    const found = (await store.models.find('edges'))!
    const { id, ...rest } = found
    t.ok(id)
    t.strictSame(rest, { ...newModel('11.0.1'), loaded: true, createdAt: 5 })
    t.strictSame(await store.models.find('edges', '11.0.1'), found)
    t.equal(await store.models.setLoaded('edges', '11.0.1', false), 1)
    t.match(await store.models.find('edges'), { version: '10' })
    t.match(await store.models.find('edges', '11.0.1'), { loaded: false })
    t.equal(await store.models.setLoaded('edges', undefined, false), 5)
    t.equal(await store.models.find('edges'), undefined)
    t.equal(await store.models.setLoaded('edges', undefined, true), 5)
    t.equal(await store.models.setLoaded('none', undefined, true), 0)
    t.equal(await store.models.find('edges', '3'), undefined)
  })

  t.test('a version stays with its bytes', async t => {
    const store = await migrated(t, make)
    await addModel(store, newModel('1'))
    await store.models.setLoaded('edges', '1', false)
    const first = await store.models.find('edges', '1')
    t.equal(await addModel(store, newModel('1', { task: 'other' })), 'same')
    t.equal(await store.models.add({ ...newModel('1'), claim: 'over' }), 'same')
    t.equal(await addModel(store, newModel('1', { sha256: 'x9' })), 'conflict')
    t.strictSame(await store.models.find('edges', '1'), first)
    t.equal(await store.objects.isGarbage('x9', future()), true)
    t.equal(await store.objects.isGarbage('m-1', future()), false)
    t.equal(await store.models.add({ ...newModel('2'), claim: null }), 'reclaim')
    t.equal(await store.models.add({ ...newModel('2'), claim: 'over' }), 'reclaim')
    t.equal(await store.models.find('edges', '2'), undefined)
    t.equal(await store.models.add({ ...newModel('2', { sha256: 'm-1' }), claim: null }), 'added')
  })

  t.test('of many nodes that add one version at once one adds it, of two contents one wins', async t => {
    const nodes = await twoNodes(t, make)
    const same = await Promise.all(times(10, index => addModel(nodes[index % 2]!, newModel('1'))))
    t.equal(same.filter(outcome => outcome === 'added').length, 1)
    t.equal(same.filter(outcome => outcome === 'same').length, 9)
    const other = await Promise.all(times(10, index => addModel(nodes[index % 2]!, newModel('2', { sha256: `x${index % 2}` }))))
    t.equal(other.filter(outcome => outcome === 'added').length, 1)
    t.equal(other.filter(outcome => outcome === 'same').length, 4)
    t.equal(other.filter(outcome => outcome === 'conflict').length, 5)
  })

  t.test('a name with a NUL in it is that of no model', async t => {
    const store = await migrated(t, make)
    t.equal(await store.models.find('\0'), undefined)
    t.equal(await store.models.find('n', '1\0'), undefined)
    t.equal(await store.models.setLoaded('n\0', undefined, false), 0)
  })

  t.test('finalize makes the model in its transaction, and says where the version has other bytes', async t => {
    const store = await migrated(t, make)
    const first = await finalized(store, 'm-1', ada, newModel('1'))
    t.match(first, { outcome: 'finalized', result: { model: { name: 'edges', version: '1', sha256: 'm-1', loaded: true } } })
    const again = await finalized(store, 'm-1', bob, newModel('1'))
    t.strictSame((again as { result: { model: unknown } }).result.model, (first as { result: { model: unknown } }).result.model)
    t.strictSame(await finalized(store, 'x9', ada, newModel('1', { sha256: 'x9' })), { outcome: 'model_conflict', sha256: 'm-1' })
    t.equal(await store.objects.isGarbage('x9', future()), true)
    t.equal((await store.models.list()).length, 1)
  })

  t.test('finalize and add of one version at once end, with one row', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const index of times(8, each => `${each + 1}`)) {
      const [made, added] = await Promise.all([finalized(first, 'f1', ada, newModel(index, { sha256: 'f1' })), addModel(second, newModel(index, { sha256: 'a1' }))])
      t.equal(made.outcome === 'finalized', added === 'conflict')
      t.equal(made.outcome === 'model_conflict', added === 'added')
    }
  })
}

function references(t: Test, make: MakeDatabase): void {
  t.test('files, inputs and models keep the collector away, and what is removed lets it come', async t => {
    const store = await migrated(t, make)
    const claim = await claimed(store, 'in')
    const job = await completed(store, { inputs: [input('in', claim)] }, 'out')
    t.equal(await store.objects.anyStored(), true, 'a job alone shows whose records these are')
    await store.models.add({ name: 'n', version: '1', task: 't', sha256: 'model', key: 'canonical/model', size: 3, manifest: {}, signature: {}, claim: await claimed(store, 'model') })
    for (const sha256 of ['in', 'out', 'model']) t.equal(await store.objects.beginCollect(sha256, future()), undefined, sha256)
    await store.jobs.remove(job.id)
    for (const sha256 of ['in', 'out']) t.ok(await store.objects.beginCollect(sha256, future()), sha256)
    t.equal(await store.objects.beginCollect('model', future()), undefined)
  })

  t.test('a collector racing a job that takes up the object: one of them has it', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const _ of times(20, () => 0)) {
      const sha256 = randomUUID()
      const old = await completed(first, {}, sha256)
      await first.objects.pruneClaims(future(), 100)
      const [, made] = await Promise.all([second.jobs.remove(old.id), first.jobs.create(newJob({ inputs: [input(sha256, null)] }))])
      const lease = await second.objects.beginCollect(sha256, future())
      t.equal(lease === undefined, made.outcome === 'created', made.outcome)
      if (made.outcome === 'created') await first.jobs.requestCancel(made.job.id)
    }
  })

  t.test('a collection that has begun keeps jobs from its hash', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const _ of times(20, () => 0)) {
      const sha256 = randomUUID()
      const claim = await claimed(first, sha256)
      const [lease, made] = await Promise.all([second.objects.beginCollect(sha256, future()), first.jobs.create(newJob({ inputs: [input(sha256, claim)] }))])
      t.equal(made.outcome, lease === undefined ? 'created' : 'reclaim')
    }
  })
}

// ---- hints

function hints(t: Test, make: MakeDatabase): void {
  t.test('who subscribed hears of new jobs and of every event, behind the commit', async t => {
    const store = await migrated(t, make)
    const ear = listen(store)
    const { id } = await queued(store)
    t.ok(await ear.until({ kind: 'queued' }))
    const { attemptToken } = (await claimNext(store))!
    const changes: [string, () => Promise<unknown>][] = [
      ['progress', () => store.jobs.progress(id, attemptToken!, { stage: 's', progress: 1, message: null })],
      ['a wish to cancel', () => store.jobs.requestCancel(id)],
      ['the end', () => store.jobs.confirmCancel(id, attemptToken!)],
      ['a retry', () => store.jobs.retry(id)],
      ['removal', () => store.jobs.remove(id)]
    ]
    for (const [change, bring] of changes) {
      ear.heard.length = 0
      await bring()
      t.ok(await ear.until({ kind: 'job', jobId: id }), change)
    }
  })

  t.test('nothing is heard of what was undone, nor behind the end of a subscription', async t => {
    const store = await migrated(t, make)
    const [first, second] = [listen(store), listen(store)]
    await queued(store, { id: 'before' })
    t.ok(await first.until({ kind: 'queued' }))
    // hints come in order: with this one all that was sent before has been heard
    await queued(store, { id: 'marked' })
    await store.jobs.requestCancel('marked')
    for (const ear of [first, second]) t.ok(await ear.until({ kind: 'job', jobId: 'marked' }))
    first.heard.length = 0
    second.heard.length = 0
    await store.jobs.create(newJob({ queueMax: 0 }))
    const { id } = (await claimNext(store))!
    await store.jobs.fail(id, 'late', { code: 'x', message: 'x' })
    first.stop()
    first.stop()
    await store.jobs.requestCancel(id)
    t.ok(await second.until({ kind: 'job', jobId: id }))
    t.strictSame(first.heard, [])
    t.strictSame(second.heard, [{ kind: 'job', jobId: id }])
  })
}

function clocks(t: Test, make: MakeDatabase): void {
  t.test('a clock that goes back holds up no claim, and no time of a job goes back with it', async t => {
    let time = 1_000_000
    const store = await migrated(t, make, { now: () => time })
    const { id } = await queued(store)
    time = 500_000
    const second = await queued(store)
    const job = (await claimNext(store))!
    t.equal(job.id, second.id, 'the order is that of the times')
    const first = (await claimNext(store))!
    t.equal(first.id, id)
    t.equal(first.updatedAt, 1_000_000)
    await store.jobs.progress(id, first.attemptToken!, { stage: 's', progress: 1, message: null })
    time = 400_000
    await store.jobs.release(id, first.attemptToken!)
    const again = (await claimNext(store))!
    t.match(again, { id, attempt: 1 })
    await store.jobs.progress(id, again.attemptToken!, { stage: 's', progress: 1, message: null })
    time = 300_000
    await store.jobs.complete(id, again.attemptToken!, { results: [], execution: EXECUTION })
    const done = (await store.jobs.get(id))!
    t.ok(done.completedAt! >= done.startedAt! && done.updatedAt >= done.createdAt)
    t.ok(Object.values(done.stageTimings).every(stage => stage.finishedAt! >= stage.startedAt))
    t.match(await store.jobs.reapLost({ maxAttempts: 3, retryAt: () => 0, limit: 10 }), { reaped: 0 })
  })
}
