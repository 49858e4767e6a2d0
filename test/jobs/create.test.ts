import { createHash, randomUUID } from 'node:crypto'
import t from 'tap'
import type { JobRequest } from '../../src/jobs/port.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import { ADMIN, ALICE, BOB, jobWorld, SERVICE, TENSORS, type World } from '../support/job-world.ts'

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')

/** A finalized upload of Alice. */
async function upload(world: World, text: string): Promise<{ sha256: string, key: string }> {
  const digest = sha256(text)
  const key = canonicalKey(digest, 'object')
  const id = randomUUID()
  const owner = { subject: ALICE.subject, account: ALICE.account, clientId: ALICE.clientId }
  const size = text.length
  await world.store.put(key, Buffer.from(text), { size })
  await world.records.uploads.create({ id, kind: 'object', stagingKey: id, filename: 'x', size, declaredSha256: null, owner })
  await world.records.uploads.stage(id, { sha256: digest, etag: 'e', size })
  const claim = await world.records.objects.claim({ sha256: digest, key, size, contentType: 'image/png' })
  await world.records.uploads.finalize({ uploadId: id, sha256: digest, canonicalKey: key, size, contentType: 'image/png', claim: claim!, result: () => ({}) })
  return { sha256: digest, key }
}

t.test('tensors become one object, and the job waits', async t => {
  const world = await jobWorld(t)
  const { job, repeated } = await world.service.create(ALICE, { model: 'identity', input: { tensors: TENSORS } })
  t.equal(repeated, false)
  t.match(job, {
    status: 'queued', userId: 'alice', owner: { subject: 'alice', account: 'acme', clientId: 'app' }, task: 'tensor', params: {}, priority: 0, cache: true, attempt: 0,
    model: { name: 'identity', version: '1' }, inputs: [{ name: 'input', position: 0, contentType: 'application/json' }]
  })
  const text = JSON.stringify({ inputs: TENSORS })
  t.equal(job.inputs[0]!.sha256, sha256(text))
  t.equal(await new Response((await world.store.open(job.inputs[0]!.key)).body as unknown as ReadableStream).text(), text)
  t.same(await world.keys('sha256/_staging/'), [])
  t.ok(job.stageTimings.ingest!.finishedAt! >= job.stageTimings.ingest!.startedAt)
  t.equal(await world.records.objects.isGarbage(job.inputs[0]!.sha256, Date.now() + 1000), false, 'the job points at it')
})

t.test('whole numbers beyond 2^53 stay exact', async t => {
  const world = await jobWorld(t)
  const job = await world.create({ input: { tensors: [{ name: 'x', shape: [1], datatype: 'INT64', data: [2n ** 63n - 1n] }] } })
  const body = (await world.store.open(job.inputs[0]!.key)).body
  t.match(await new Response(body as unknown as ReadableStream).text(), /"data":\[9223372036854775807\]/)
})

t.test('what is not there or not right is refused, and nothing is written', async t => {
  const world = await jobWorld(t)
  const deep = (levels: number): unknown => levels === 0 ? 1 : [deep(levels - 1)]
  const cases: [string, Record<string, unknown>, string][] = [
    ['an unknown model', { model: 'nobody' }, 'MODEL_NOT_FOUND'],
    ['an unknown version', { version: '9' }, 'MODEL_NOT_FOUND'],
    ['a name that no model can have', { model: 'iden\0tity' }, 'MODEL_NOT_FOUND'],
    ['a priority out of range', { priority: 11 }, 'BAD_REQUEST'],
    ['a priority between two', { priority: 0.5 }, 'BAD_REQUEST'],
    ['unknown params', { params: { nonsense: 1 } }, 'BAD_REQUEST'],
    ['params that are a list', { params: [] }, 'BAD_REQUEST'],
    ['deep params', { params: { a: deep(40) } }, 'BAD_REQUEST'],
    ['very deep params', { params: { a: deep(5000) } }, 'BAD_REQUEST'],
    ['deep tensors', { input: { tensors: [{ name: 'x', data: deep(40) }] } }, 'BAD_REQUEST'],
    ['tensors for an image model', { model: 'resize' }, 'BAD_REQUEST'],
    ['a user id with a space', { user_id: 'a b' }, 'BAD_REQUEST'],
    ['another user', { user_id: 'bob' }, 'RBAC_FORBIDDEN'],
    ['a webhook without a secret', { webhook: { url: 'https://example.com/' } }, 'BAD_REQUEST'],
    ['an unknown hash', { input: { sha256: 'a'.repeat(64) } }, 'FILE_NOT_FOUND'],
    ['an unknown file', { input: { file_id: randomUUID() } }, 'FILE_NOT_FOUND'],
    ['a key that no store has', { input: { key: 'a\0b' } }, 'FILE_NOT_FOUND']
  ]
  for (const [what, request, code] of cases) await t.rejects(world.create(request as Partial<JobRequest>), { code }, what)
  t.same(await world.service.list(ALICE, { limit: 10 }), [])
  await t.rejects(world.create({}, { ...ALICE, scopes: [] }), { code: 'INSUFFICIENT_SCOPE' })
  await t.rejects(world.create({}, { ...ALICE, kind: 'guest' }), { code: 'RBAC_FORBIDDEN' })
})

t.test('a model that was unloaded takes no jobs', async t => {
  const world = await jobWorld(t)
  await world.records.models.setLoaded('identity', undefined, false)
  await t.rejects(world.create(), { code: 'MODEL_NOT_FOUND' })
  await t.rejects(world.create({ version: '1' }), { code: 'MODEL_NOT_FOUND' })
})

t.test('an object by hash or key only where a row of the caller points there', async t => {
  const world = await jobWorld(t)
  const known = await upload(world, 'picture')
  for (const input of [{ sha256: known.sha256 }, { key: known.key }]) {
    const job = await world.create({ model: 'resize', input })
    t.match(job.inputs, [{ sha256: known.sha256, key: known.key, size: 7, contentType: 'image/png', fileId: null }])
    await t.rejects(world.create({ model: 'resize', input }, BOB), { code: 'FILE_NOT_FOUND' }, 'knowing a hash is no way in')
    t.ok(await world.create({ model: 'resize', input }, ADMIN))
  }
})

t.test('an object of 0 bytes is no image', async t => {
  const world = await jobWorld(t)
  const { sha256 } = await upload(world, '')
  await t.rejects(world.create({ model: 'resize', input: { sha256 } }), { code: 'BAD_REQUEST', details: { fields: [{ field: 'input', message: /^is empty/ }] } })
  t.ok(await world.create({ model: 'command', input: { sha256 } }))
})

t.test('a result of one job is the input of the next, by its file', async t => {
  const world = await jobWorld(t)
  world.pool.play(run => run.finish('first', 'a.json'))
  world.run()
  const first = await world.ended((await world.create()).id)
  const { fileId, sha256 } = first.results[0]!
  const next = await world.create({ model: 'command', input: { file_id: fileId } })
  t.match(next.inputs, [{ fileId, sha256 }])
  await t.rejects(world.create({ model: 'command', input: { file_id: fileId } }, BOB), { code: 'FILE_NOT_FOUND' })
})

t.test('idempotency: the same key and body is the same job, another body is a conflict, another caller is another', async t => {
  const world = await jobWorld(t)
  const create = (request: object, principal = ALICE) => world.service.create(principal, { model: 'identity', input: { tensors: TENSORS }, ...request }, { idempotencyKey: 'k 1' })
  const first = await create({ priority: 1, params: {} })
  const again = await create({ params: {}, priority: 1 })
  t.same([again.repeated, again.job.id], [true, first.job.id])
  await t.rejects(create({ priority: 2 }), { code: 'IDEMPOTENCY_CONFLICT' })
  await t.rejects(create({ priority: 1, params: {}, input: { tensors: [] } }), { code: 'IDEMPOTENCY_CONFLICT' })
  t.not((await create({}, BOB)).job.id, first.job.id)
  for (const key of ['', ' k', 'k\n', 'k'.repeat(129)]) {
    await t.rejects(world.service.create(ALICE, { model: 'identity', input: { tensors: TENSORS } }, { idempotencyKey: key }), { code: 'BAD_REQUEST' }, JSON.stringify(key))
  }
})

t.test('of equal requests at once one makes the job', async t => {
  const world = await jobWorld(t)
  const made = await Promise.all(Array.from({ length: 8 }, () => world.service.create(ALICE, { model: 'identity', input: { tensors: TENSORS } }, { idempotencyKey: 'k' })))
  t.equal(made.filter(({ repeated }) => !repeated).length, 1)
  t.equal(new Set(made.map(({ job }) => job.id)).size, 1)
})

t.test('who a job is for: users themselves, services whom they name', async t => {
  const world = await jobWorld(t)
  t.equal((await world.create({ user_id: 'alice' })).userId, 'alice')
  t.equal((await world.create({ user_id: 'carol' }, SERVICE)).userId, 'carol')
  t.equal((await world.create({}, SERVICE)).userId, null)
  await t.rejects(world.service.list(SERVICE, { limit: 10 }), { code: 'BAD_REQUEST' })
  t.equal((await world.service.list(SERVICE, { limit: 10, userId: 'carol' })).length, 1)
  t.equal((await world.service.list(ADMIN, { limit: 10 })).length, 3)
  t.equal((await world.service.list(ALICE, { limit: 10 })).length, 1)
})

t.test('one active job of a user: the second is told of the first; a creation that fails gives the place back', async t => {
  const world = await jobWorld(t, { env: { ACTIVE_JOBS_PER_USER: '1' } })
  await t.rejects(world.create({ model: 'command', input: { sha256: 'a'.repeat(64) } }), { code: 'FILE_NOT_FOUND' })
  const { job } = await world.service.create(ALICE, { model: 'identity', input: { tensors: TENSORS } }, { idempotencyKey: 'k' })
  await t.rejects(world.create(), { code: 'USER_HAS_ACTIVE_JOB', details: { active_job_id: job.id, active_job_status: 'queued' } })
  t.ok((await world.service.create(ALICE, { model: 'identity', input: { tensors: TENSORS } }, { idempotencyKey: 'k' })).repeated, 'a repeat needs no place')
  t.ok(await world.create({}, BOB), 'others have places of their own')
  await world.service.cancel(ALICE, job.id)
  const next = await world.create()
  await t.rejects(world.service.retry(ALICE, job.id), { code: 'USER_HAS_ACTIVE_JOB' })
  await world.service.cancel(ALICE, next.id)
  t.match(await world.service.retry(ALICE, job.id), { status: 'queued' })
  await t.rejects(world.create(), { code: 'USER_HAS_ACTIVE_JOB' })
})

t.test('a full queue takes no more, and the place is free again', async t => {
  const world = await jobWorld(t, { env: { QUEUE_MAX: '2', ACTIVE_JOBS_PER_USER: '3' } })
  await world.create()
  const second = await world.create()
  await t.rejects(world.create(), { code: 'QUEUE_FULL', retryAfterSeconds: 5 })
  await world.service.cancel(ALICE, second.id)
  t.ok(await world.create())
})

t.test('a client that is gone makes no job', async t => {
  const world = await jobWorld(t, { env: { ACTIVE_JOBS_PER_USER: '1' } })
  await t.rejects(world.service.create(ALICE, { model: 'identity', input: { tensors: TENSORS } }, { signal: AbortSignal.abort() }), { name: 'ClientGone' })
  t.same(await world.service.list(ALICE, { limit: 10 }), [])
  t.ok(await world.create(), 'its place is free')
})

t.test('webhooks: addresses that are literally private are refused, names only later', async t => {
  const world = await jobWorld(t, { env: { WEBHOOK_SECRET: 'a secret of the tests' } })
  for (const url of ['http://127.0.0.1/', 'http://2130706433/', 'http://0x7f.1/', 'http://[::1]/', 'http://[::ffff:10.0.0.1]/', 'http://169.254.169.254/latest', 'ftp://example.com/', 'http://a:b@example.com/', 'nonsense']) {
    await t.rejects(world.create({ webhook: { url } }), { code: 'BAD_REQUEST' }, url)
  }
  await t.rejects(world.create({ webhook: { url: 'https://example.com/', events: ['nothing' as 'generation_failed'] } }), { code: 'BAD_REQUEST' })
  t.match((await world.create({ webhook: { url: 'https://localhost/', events: ['generation_progress'] } })).webhook, { url: 'https://localhost/' })
})
