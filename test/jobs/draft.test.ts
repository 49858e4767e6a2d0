import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import type { JobDraft } from '../../src/jobs/port.ts'
import { ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import { ALICE, BOB, jobWorld, type World } from '../support/job-world.ts'
import { eventually } from '../support/raw-client.ts'

const MIB = 1024 * 1024
type Part = Parameters<JobDraft['receive']>[0]

const bodyOf = (bytes: Uint8Array | string): Readable => Readable.from([Buffer.from(bytes)], { objectMode: false })
const part = (body: Readable, more: Partial<Part> = {}): Part => ({ name: 'input', filename: 'a.png', contentType: 'image/png', body, maxBytes: 100 * MIB, ...more })

/** Nothing in staging, no upload under way, all slots and places free. */
async function nothingLeft(world: World): Promise<void> {
  await eventually(async () => {
    assert.deepEqual(await world.keys('sha256/_staging/'), [])
    assert.deepEqual((await world.records.uploads.listStale(Date.now() + 1000, 10)).map(({ status }) => status), [])
    assert.deepEqual(await world.records.multiparts.listStale(Date.now() + 1000, 10), [])
  })
}

t.test('parts of any length become inputs, and the job is made of them', async t => {
  const world = await jobWorld(t)
  const draft = await world.service.begin(ALICE, undefined)
  const bytes = Buffer.alloc(20 * MIB, 'x')
  await draft.receive(part(bodyOf(bytes)))
  await draft.receive(part(bodyOf('one'), { name: 'ref_images', contentType: 'nonsense' }))
  await draft.receive(part(bodyOf('two'), { name: 'ref_images' }))
  const { job, repeated } = await draft.commit({ model: 'command', priority: 3 })
  t.equal(repeated, false)
  t.match(job, { status: 'queued', priority: 3, userId: 'alice' })
  t.match(job.inputs.map(({ name, position, size, contentType }) => [name, position, size, contentType]), [
    ['input', 0, bytes.length, 'image/png'], ['ref_images', 0, 3, 'application/octet-stream'], ['ref_images', 1, 3, 'image/png']
  ])
  t.equal(job.inputs[0]!.sha256, createHash('sha256').update(bytes).digest('hex'))
  t.match(await world.store.head(job.inputs[0]!.key), { size: bytes.length })
  await nothingLeft(world)
  await draft.discard()
  t.ok(await world.records.jobs.get(job.id), 'a discard behind the commit does nothing')
})

t.test('a part over the limit is refused, at any size, and nothing is left', async t => {
  const world = await jobWorld(t, { env: { MAX_CONCURRENT_UPLOADS: '1' } })
  for (const [size, maxBytes] of [[11, 10], [9 * MIB, 9 * MIB - 1]] as const) {
    const draft = await world.service.begin(ALICE, undefined)
    await t.rejects(draft.receive(part(bodyOf(Buffer.alloc(size)), { maxBytes })), { code: 'PAYLOAD_TOO_LARGE', details: { field: 'input', limit_bytes: maxBytes } })
    await draft.discard()
    await draft.discard()
    await nothingLeft(world)
  }
  const exact = await world.service.begin(ALICE, undefined)
  await exact.receive(part(bodyOf('0123456789'), { maxBytes: 10 }))
  t.ok((await exact.commit({ model: 'command' })).job)
})

t.test('a part that the parser of the body cut off is too large as well', async t => {
  const world = await jobWorld(t)
  const draft = await world.service.begin(ALICE, undefined)
  await t.rejects(draft.receive(part(Object.assign(bodyOf('0123456789'), { truncated: true }))), { code: 'PAYLOAD_TOO_LARGE' })
  await draft.discard()
  await nothingLeft(world)
})

t.test('a body that breaks off, stalls, or is given up leaves nothing', async t => {
  const world = await jobWorld(t, { env: { UPLOAD_IDLE_TIMEOUT_MS: '100', MAX_CONCURRENT_UPLOADS: '1', ACTIVE_JOBS_PER_USER: '1' } })
  for (const size of [1000, 10 * MIB]) {
    // as the parser has it: the body may break off before anybody takes it
    const broken = new Readable({ read() {} }).on('error', () => {})
    broken.push(Buffer.alloc(size))
    const first = await world.service.begin(ALICE, undefined)
    setTimeout(() => broken.destroy(new Error('Unexpected end of multipart data')), 30)
    await t.rejects(first.receive(part(broken)), { code: 'INVALID_MULTIPART' })
    await first.discard()
    await nothingLeft(world)

    const stalled = new Readable({ read() {} })
    stalled.push(Buffer.alloc(size))
    const second = await world.service.begin(ALICE, undefined)
    await t.rejects(second.receive(part(stalled)), { code: 'REQUEST_TIMEOUT', details: { received: size } })
    t.ok(stalled.destroyed)
    await second.discard()
    await nothingLeft(world)

    const given = new Readable({ read() {} })
    given.push(Buffer.alloc(size))
    const third = await world.service.begin(ALICE, undefined)
    const receiving = third.receive(part(given))
    receiving.catch(() => {})
    await delay(20)
    await third.discard()
    await t.rejects(receiving)
    t.ok(given.destroyed)
    await nothingLeft(world)
  }
})

/** A store that wants to know lengths. */
function withoutUnsized(store: ObjectStore): ObjectStore {
  delete store.putUnsized
  return store
}

async function* slowly(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    await delay(700)
    yield chunk
  }
}

t.test('a body is only idle while it is waited for: a slow store is none of its fault', async t => {
  const slow: [number, (store: ObjectStore) => ObjectStore][] = [
    [3, store => ({ ...store, putUnsized: (key, body, options) => store.putUnsized!(key, slowly(body), options) })],
    [9 * MIB, store => withoutUnsized({ ...store, putPart: async (...args) => { await delay(700); return await store.putPart(...args) } })]
  ]
  for (const [size, wrap] of slow) {
    const world = await jobWorld(t, { env: { UPLOAD_IDLE_TIMEOUT_MS: '300' }, wrap })
    const draft = await world.service.begin(ALICE, undefined)
    await draft.receive(part(bodyOf(Buffer.alloc(size))))
    t.ok((await draft.commit({ model: 'command' })).job, `${size} bytes`)
  }
})

t.test('a commit that fails gives everything back', async t => {
  const world = await jobWorld(t, { env: { MAX_CONCURRENT_UPLOADS: '1', ACTIVE_JOBS_PER_USER: '1' } })
  for (const [request, code] of [[{ model: 'nobody' }, 'MODEL_NOT_FOUND'], [{ model: 'command', user_id: 'bob' }, 'RBAC_FORBIDDEN'], [{ model: 'command', params: { a: 1 } }, 'BAD_REQUEST']] as const) {
    const draft = await world.service.begin(ALICE, undefined)
    await draft.receive(part(bodyOf('abc')))
    await t.rejects(draft.commit(request), { code })
    await nothingLeft(world)
  }
  const empty = await world.service.begin(ALICE, undefined)
  await t.rejects(empty.commit({ model: 'resize' }), { code: 'BAD_REQUEST' }, 'an image model without an image')
})

t.test('a file of 0 bytes is refused with the body, but for tasks that take anything', async t => {
  const world = await jobWorld(t)
  for (const names of [['input'], ['input', 'ref_images']] as const) {
    const draft = await world.service.begin(ALICE, undefined)
    for (const name of names) await draft.receive(part(bodyOf(name === names.at(-1) ? '' : 'x'), { name }))
    await t.rejects(draft.commit({ model: 'resize' }), { code: 'BAD_REQUEST', details: { fields: [{ field: names.at(-1)!, message: /^is empty/ }] } })
    await nothingLeft(world)
  }
  const draft = await world.service.begin(ALICE, undefined)
  await draft.receive(part(bodyOf('')))
  const { job } = await draft.commit({ model: 'command' })
  t.equal(job.inputs[0]!.size, 0)
})

t.test('slot and place are taken before a byte is read', async t => {
  const world = await jobWorld(t, { env: { MAX_CONCURRENT_UPLOADS: '1', ACTIVE_JOBS_PER_USER: '1' } })
  const draft = await world.service.begin(ALICE, 'alice')
  await t.rejects(world.service.begin(BOB, undefined), { code: 'SERVICE_BUSY' })
  await t.rejects(world.create(), { code: 'USER_HAS_ACTIVE_JOB' }, 'a body that arrives counts as a job')
  await draft.receive(part(bodyOf('abc')))
  const { job } = await draft.commit({ model: 'command' })
  await t.rejects(world.service.begin(ALICE, undefined), { code: 'USER_HAS_ACTIVE_JOB', details: { active_job_id: job.id } })
  await (await world.service.begin(BOB, undefined)).discard()
})

t.test('the user must be named before the files', async t => {
  const world = await jobWorld(t)
  const admin = { ...ALICE, kind: 'admin' as const, subject: null }
  const draft = await world.service.begin(admin, undefined)
  await draft.receive(part(bodyOf('abc')))
  await t.rejects(draft.commit({ model: 'command', user_id: 'carol' }), { code: 'BAD_REQUEST' })
  const named = await world.service.begin(admin, 'carol')
  await named.receive(part(bodyOf('abc')))
  t.equal((await named.commit({ model: 'command' })).job.userId, 'carol')
})

t.test('more than one input, or more than a hundred others, are refused', async t => {
  const world = await jobWorld(t)
  const draft = await world.service.begin(ALICE, undefined)
  await draft.receive(part(bodyOf('a')))
  const second = bodyOf('b')
  await t.rejects(draft.receive(part(second)), { code: 'INVALID_MULTIPART' })
  t.ok(second.destroyed)
  await draft.discard()
  await nothingLeft(world)
})

t.test('idempotency: the same parts are the same job, other bytes a conflict, and a repeat needs no place', async t => {
  const world = await jobWorld(t, { env: { ACTIVE_JOBS_PER_USER: '1' } })
  const make = async (text: string) => {
    const draft = await world.service.begin(ALICE, undefined, { idempotencyKey: 'k' })
    await draft.receive(part(bodyOf(text)))
    return await draft.commit({ model: 'command' })
  }
  const first = await make('abc')
  const again = await make('abc')
  t.same([again.repeated, again.job.id], [true, first.job.id])
  await t.rejects(make('abd'), { code: 'IDEMPOTENCY_CONFLICT' })
  await nothingLeft(world)
})

t.test('a repeat whose job is removed while its body arrives needs a place after all', async t => {
  const world = await jobWorld(t, { env: { ACTIVE_JOBS_PER_USER: '1' } })
  const begin = async () => {
    const draft = await world.service.begin(ALICE, undefined, { idempotencyKey: 'k' })
    await draft.receive(part(bodyOf('abc')))
    return draft
  }
  const first = await (await begin()).commit({ model: 'command' })
  const [late, later] = [await begin(), await begin()]
  await world.service.remove(ALICE, first.job.id)
  const other = await world.create()
  await t.rejects(late.commit({ model: 'command' }), { code: 'USER_HAS_ACTIVE_JOB', details: { active_job_id: other.id } })
  await world.service.remove(ALICE, other.id)
  const { job, repeated } = await later.commit({ model: 'command' })
  t.equal(repeated, false)
  await nothingLeft(world)
  await world.service.remove(ALICE, job.id)
  t.ok(await world.create(), 'and the place was given back')
})

t.test('bytes that are there already are not stored twice, nor lost with one of their jobs', async t => {
  const world = await jobWorld(t)
  const make = async () => {
    const draft = await world.service.begin(ALICE, undefined)
    await draft.receive(part(bodyOf('the same')))
    return (await draft.commit({ model: 'command' })).job
  }
  const [first, second] = await Promise.all([make(), make()])
  t.equal(first.inputs[0]!.key, second.inputs[0]!.key)
  await world.service.remove(ALICE, first.id)
  t.equal(await world.records.objects.isGarbage(second.inputs[0]!.sha256, Date.now() + 1000), false)
  await world.service.remove(ALICE, second.id)
  t.equal(await world.records.objects.isGarbage(second.inputs[0]!.sha256, Date.now() + 1000), true)
})

const noAnswer = async (): Promise<never> => { throw new ObjectStoreFailed('no answer') }

t.test('a store that fails under a part, or under the commit, leaves nothing that counts', async t => {
  for (const [method, size] of [['put', 10], ['putPart', 9 * MIB], ['putUnsized', 10]] as const) {
    const failing = new Set<string>()
    const world = await jobWorld(t, {
      env: { MAX_CONCURRENT_UPLOADS: '1' },
      wrap: ({ putUnsized, ...store }) => ({
        ...store,
        put: async (...args) => failing.has('put') ? await noAnswer() : await store.put(...args),
        putPart: async (...args) => failing.has('putPart') ? await noAnswer() : await store.putPart(...args),
        head: async (...args) => failing.has('head') ? await noAnswer() : await store.head(...args),
        // without it, it is a store that wants to know lengths
        ...(method === 'putUnsized' && { putUnsized: async (...args) => failing.has(method) ? await noAnswer() : await putUnsized!(...args) } satisfies Pick<ObjectStore, 'putUnsized'>)
      })
    })
    failing.add(method)
    const broken = await world.service.begin(ALICE, undefined)
    const body = bodyOf(Buffer.alloc(size))
    await t.rejects(broken.receive(part(body)), { code: 'S3_PUT_FAILED' }, method)
    t.ok(body.destroyed)
    await broken.discard()
    failing.clear()
    await nothingLeft(world)
    const draft = await world.service.begin(ALICE, undefined)
    await draft.receive(part(bodyOf('abc')))
    failing.add('head')
    await t.rejects(draft.commit({ model: 'command' }), { code: 'CANONICAL_MISSING' })
    failing.clear()
    await nothingLeft(world)
    t.same(await world.service.list(ALICE, { limit: 10 }), [])
  }
})
