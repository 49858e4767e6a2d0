/** Promotions where it matters what the store, another node or the clock does. */
import assert from 'node:assert'
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import t from 'tap'
import type { Test } from 'tap'
import { fileGateway } from '../../src/jobs/promote-gateway.ts'
import { serviceTokens } from '../../src/jobs/promote-token.ts'
import { promoteOnce } from '../../src/jobs/promote-turn.ts'
import { createPromoteService, type PromoteRequest, type PromoteService } from '../../src/jobs/promote.ts'
import { PROMOTIONS_MAX } from '../../src/limits.ts'
import { BucketNotFound, ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import type { JobRecord } from '../../src/records/jobs-port.ts'
import type { PromotionRecords } from '../../src/records/promotions-port.ts'
import { CLIENT_ID, CLIENT_SECRET, GATEWAY_AUDIENCE, hangs, says, startGateway, type TestGateway } from '../support/file-gateway.ts'
import { ALICE, BOB, jobWorld, SERVICE, type World } from '../support/job-world.ts'
import { eventually } from '../support/raw-client.ts'

const MIB = 1024 * 1024
const forEver = new AbortController().signal

function gatewayFor({ url, tokens }: TestGateway, store: Pick<ObjectStore, 'open'>) {
  const token = serviceTokens({ url: tokens.url, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET, audience: GATEWAY_AUDIENCE })
  return fileGateway({ baseUrl: url, store, tokens: token })
}

interface Promoting { waiting: Set<string>, world: World, gateway: TestGateway, service: PromoteService, job: JobRecord, promote(request?: Partial<PromoteRequest>): ReturnType<PromoteService['promote']> }

/** A job of Alice that really ran, with two results. */
async function promoting(t: Test, over: (store: ObjectStore) => Pick<ObjectStore, 'open'> = store => store): Promise<Promoting> {
  const world = await jobWorld(t)
  world.pool.play(async run => {
    run.done([await run.stage('the first', 'first.txt'), await run.stage('and another', 'sharpen.txt')])
  })
  world.run()
  const job = await world.ended((await world.create()).id)
  const gateway = await startGateway(t)
  /** those who found another at it */
  const waiting = new Set<string>()
  const promotions: PromotionRecords = {
    ...world.records.promotions,
    async begin(promotion, lease, after) {
      const begun = await world.records.promotions.begin(promotion, lease, after)
      if (begun.outcome === 'busy') waiting.add(lease.token)
      return begun
    }
  }
  const service = createPromoteService({ config: world.config, records: { jobs: world.records.jobs, promotions }, log: world.log, gateway: gatewayFor(gateway, over(world.store)) })
  t.teardown(() => service.close())
  return { waiting, world, gateway, service, job, promote: (request = {}) => service.promote(ALICE, job.id, { source: 'first.txt', target_object_key: 'a', ...request }, forEver) }
}

t.test('a source is the name of a result, or a stage that the job went through, which stands for the first', async t => {
  const { gateway, job, promote } = await promoting(t)
  for (const [source, size] of [['first.txt', 9], ['sharpen.txt', 11], ['inference', 9], ['persist', 9]] as const) {
    if (!source.includes('.')) assert(Object.hasOwn(job.stageTimings, source), `the job went through ${source}: ${Object.keys(job.stageTimings)}`)
    t.match(await promote({ source, target_object_key: source }), { source, size })
    t.match(gateway.files.get(source), { size })
  }
  for (const source of ['ingest', 'relight', 'first']) await t.rejects(promote({ source }), { code: 'SOURCE_NOT_AVAILABLE' }, source)
  t.ok(Object.hasOwn(job.stageTimings, 'ingest'), 'it went through ingest, whose outcome is no result')
})

t.test('it is for whoever may change jobs, and for a job of theirs', async t => {
  const { service, job, gateway } = await promoting(t)
  const promote = (principal: typeof ALICE) => service.promote(principal, job.id, { source: 'nothing', target_object_key: '/' }, forEver)
  for (const other of [BOB, SERVICE]) await t.rejects(promote(other), { code: 'JOB_NOT_FOUND' })
  await t.rejects(promote({ ...ALICE, scopes: ['penstock:job.read'] }), { code: 'INSUFFICIENT_SCOPE' })
  t.same(gateway.puts, [])
})

/** The first megabyte, and then a store that fails; or one that says it fails. */
for (const [name, fail] of Object.entries({
  'breaks off': () => Readable.from((async function* () { yield randomBytes(MIB); throw new Error('the store broke off') })()),
  'ends early': () => Readable.from([randomBytes(MIB)]),
  'goes on': () => Readable.from(Array.from({ length: 5 }, () => randomBytes(MIB)))
})) {
  t.test(`a store whose object ${name} on the way is at fault, and the gateway has nothing`, async t => {
    const gateway = await startGateway(t)
    const store = { open: async (key: string) => ({ key, size: 4 * MIB, etag: 'e', lastModified: new Date(), body: fail() }) }
    const object = { key: 'k', size: 4 * MIB, sha256: 'a'.repeat(64), contentType: 'text/plain' }
    await t.rejects(gatewayFor(gateway, store).put('a', object, forEver), { code: 'S3_GET_FAILED' })
    t.equal(gateway.files.size, 0)
    t.equal(gateway.puts.length, 1)
  })
}

t.test('a store that cannot be asked is at fault before the gateway is asked', async t => {
  const { gateway, promote } = await promoting(t, () => ({ open: async () => { throw new ObjectStoreFailed('no answer') } }))
  await t.rejects(promote(), { code: 'S3_GET_FAILED' })
  const other = await promoting(t, () => ({ open: async () => { throw new BucketNotFound('no bucket') } }))
  await t.rejects(other.promote(), { name: 'BucketNotFound' })
  t.same([...gateway.puts, ...other.gateway.puts], [])
})

t.test('the gateway sets the pace: what it does not take is not read', async t => {
  const gateway = await startGateway(t)
  const size = 256 * MIB
  let read = 0
  const body = new Readable({
    highWaterMark: 64 * 1024,
    read() {
      read += 64 * 1024
      this.push(read > size ? null : Buffer.alloc(64 * 1024))
    }
  })
  const store = { open: async (key: string) => ({ key, size, etag: 'e', lastModified: new Date(), body }) }
  gateway.next((response, request) => {
    response.writeContinue()
    request.pause()
  })
  const leaving = new AbortController()
  const sending = gatewayFor(gateway, store).put('a', { key: 'k', size, sha256: 'a'.repeat(64), contentType: 'text/plain' }, leaving.signal)
  let before = -1
  await eventually(() => {
    // it has come to rest when two looks see the same
    const settled = read > 0 && read === before
    before = read
    assert(settled)
  })
  t.ok(read < 32 * MIB, `${read} bytes were read for a gateway that took none: those are in the sockets`)
  leaving.abort()
  await t.rejects(sending, { code: 'FILE_GATEWAY_UNAVAILABLE' })
  t.ok(body.destroyed, 'the store is let go of')
})

t.test('a type that is none is sent as bytes', async t => {
  const gateway = await startGateway(t)
  const store = { open: async (key: string) => ({ key, size: 1, etag: 'e', lastModified: new Date(), body: Readable.from([Buffer.from('x')]) }) }
  for (const [contentType, sent] of [['text/plain; charset=utf-8', 'text/plain; charset=utf-8'], ['nonsense', 'application/octet-stream'], ['text/plain\r\nx: y', 'application/octet-stream']] as const) {
    await gatewayFor(gateway, store).put('a', { key: 'k', size: 1, sha256: 'a'.repeat(64), contentType }, forEver)
    t.equal(gateway.files.get('a')?.contentType, sent)
  }
})

t.test('a gateway that says yes before it has every byte is waited with, and believed when it has them', async t => {
  const { gateway, promote } = await promoting(t)
  gateway.next((response, request) => {
    response.writeHead(200, { 'content-length': 0 }).end()
    request.resume()
  })
  t.match(await promote(), { size: 9 })
})

t.test('is the gateway there?', async t => {
  const gateway = await startGateway(t)
  const { check } = gatewayFor(gateway, { open: async () => { throw new Error('nothing is read') } })
  await check()
  await gateway.down()
  await t.rejects(check(), { code: 'ECONNREFUSED' })
})

t.test('what a node left that died is sent by the next when its lease is over', async t => {
  const { world, job, promote, gateway } = await promoting(t)
  const dead = { jobId: job.id, source: 'first.txt', target: 'a', size: 9, sha256: job.results[0]!.sha256 }
  t.match(await world.records.promotions.begin(dead, { token: 'of a dead node', leaseMs: 600 }, 0), { outcome: 'begun' })
  const promotion = await promote()
  t.match(promotion, { source: 'first.txt', target: 'a' })
  t.equal(gateway.puts.length, 1)
})

t.test('of many that force the same at once one sends, on top of what was there before', async t => {
  const { gateway, promote, waiting } = await promoting(t)
  const before = await promote()
  gateway.next(async (response, request) => {
    await eventually(() => assert.equal(waiting.size, 5))
    request.resume()
    says(201)(response, request)
  })
  const all = await Promise.all(Array.from({ length: 6 }, () => promote({ force: true })))
  for (const each of all) t.same(each, all[0])
  t.ok(all[0]!.promotedAt > before.promotedAt)
  t.equal(gateway.puts.length, 2)
})

t.test('a node that takes longer than its lease keeps it, and others wait', async t => {
  const { world, job } = await promoting(t)
  const beside = await jobWorld(t, { beside: world })
  const wanted = { jobId: job.id, source: 'first.txt', target: 'a', size: 9, sha256: job.results[0]!.sha256 }
  const lease = { leaseMs: 300 }
  let sent = 0
  const done = Promise.withResolvers<void>()
  const send = async (): Promise<void> => {
    sent += 1
    await done.promise
  }
  const both = [world, beside].map(({ records, log }) => promoteOnce({ ...lease, promotions: records.promotions, log }, wanted, false, send, forEver))
  const until = performance.now() + 1000
  await eventually(() => assert(performance.now() > until))
  done.resolve()
  const [first, second] = await Promise.all(both)
  t.same(first, second)
  t.equal(sent, 1)
})

t.test('a job that is removed while it is being sent is gone', async t => {
  const { world, gateway, job, promote } = await promoting(t)
  gateway.onPut = () => void world.records.jobs.remove(job.id)
  gateway.next(async (response, request) => {
    await eventually(async () => assert.equal(await world.records.jobs.get(job.id), undefined))
    request.resume()
    says(201)(response, request)
  })
  await t.rejects(promote(), { code: 'JOB_NOT_FOUND' })
})

t.test('more than so many at once are told to come later; close ends all of them', async t => {
  const { gateway, service, promote } = await promoting(t)
  gateway.next(...Array.from({ length: PROMOTIONS_MAX }, () => hangs))
  const all = Array.from({ length: PROMOTIONS_MAX }, (_, index) => promote({ target_object_key: `k${index}` }).catch((error: unknown) => error))
  await eventually(() => assert.equal(gateway.puts.length, PROMOTIONS_MAX), 30_000)
  await t.rejects(promote({ target_object_key: 'one-more' }), { code: 'SERVICE_BUSY', retryAfterSeconds: Number })
  await service.close()
  for (const error of await Promise.all(all)) t.match(error, { code: 'SERVICE_BUSY' })
  await t.rejects(promote(), { code: 'SERVICE_BUSY' })
})
