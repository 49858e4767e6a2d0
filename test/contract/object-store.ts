/**
 * The proof of the port to object storage: every promise of src/objects/port.ts, on any adapter.
 *
 * Each test has a store of its own, and says which keys it makes on purpose (`own`). When it is over those are deleted,
 * and nothing else may be there: a put that failed and left an object, or an upload that was not ended, fails the test.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import {
  MultipartNotFound, ObjectAlreadyExists, ObjectBodyInvalid, ObjectKeyInvalid, ObjectNotFound, ObjectPreconditionFailed,
  ObjectRangeNotSatisfiable, ObjectStoreFailed, type MultipartRef, type ObjectStore
} from '../../src/objects/port.ts'

export interface StoreUnderTest {
  /** Empty, its bucket is there. Closed by the suite. */
  store: ObjectStore
  /** Does copy({ createOnly }) hold when several race? */
  atomicCopy: boolean
  /** Least bytes of a part that is not the last. */
  partMinBytes: number
  /** Unfinished writes that no method of the port shows (temporary files, uploads of unknown keys). */
  leftovers?: () => Promise<string[]>
}

type Own = (key: string) => string
type Body = (t: Test, tested: StoreUnderTest, own: Own) => Promise<void>

const SOON_MS = 3000
const WRONG_ETAG = '0'.repeat(32)

export function objectStoreContract(t: Test, name: string, make: () => Promise<StoreUnderTest>): void {
  const scenario = (sentence: string, body: Body): void => {
    void t.test(`${name}: ${sentence}`, async t => {
      const tested = await make()
      const { store } = tested
      const owned = new Set<string>()
      t.teardown(() => store.close())
      await body(t, tested, key => {
        owned.add(key)
        return key
      })
      await inBatches([...owned], key => store.delete(key))
      t.same(await keysOf(store), [], 'no object is left')
      const unfinished = await Promise.all([...owned].slice(0, 20).map(key => store.listMultiparts(key)))
      t.same(unfinished.flat(), [], 'no upload is left')
      t.same(await tested.leftovers?.() ?? [], [], 'no unfinished write is left')
    })
  }
  for (const group of [puts, refusedPuts, reads, lists, copies, multiparts, uploads, keys]) group(scenario)
}

type Scenario = (sentence: string, body: Body) => void

function puts(scenario: Scenario): void {
  scenario('a body that comes in pieces is stored as it came', async (t, { store }, own) => {
    const bytes = randomBytes(700_001)
    const before = Date.now()
    const { etag } = await store.put(own('a/b'), pieces(bytes, 64_000), { size: bytes.length, contentType: 'text/plain' })
    const info = await store.head('a/b')
    t.match(info, { key: 'a/b', size: bytes.length, etag })
    t.ok(Math.abs(info!.lastModified.getTime() - before) < 60_000, 'it was made now')
    t.notMatch(etag, /["]/, 'the ETag is not quoted')
    const opened = await store.open('a/b')
    t.match(opened, { key: 'a/b', size: bytes.length, etag })
    t.ok(bytes.equals(await collect(opened.body)))
  })

  scenario('an empty object can be stored and read', async (t, { store }, own) => {
    await store.put(own('empty'), Readable.from([], { objectMode: false }), { size: 0 })
    await store.put(own('empty-bytes'), new Uint8Array(0), { size: 0 })
    for (const key of ['empty', 'empty-bytes']) {
      t.match(await store.head(key), { size: 0 })
      t.equal((await collect((await store.open(key)).body)).length, 0)
    }
  })

  scenario('a second put replaces the object and changes its ETag, also with bytes of the same length', async (t, { store }, own) => {
    const first = await store.put(own('k'), Buffer.from('one'), { size: 3 })
    const second = await store.put('k', Buffer.from('two'), { size: 3 })
    t.not(first.etag, second.etag)
    await store.delete('k')
    const third = await store.put('k', Buffer.from('six'), { size: 3 })
    t.not(second.etag, third.etag, 'also after a delete')
    t.equal(await text(store, 'k'), 'six')
  })

  scenario('a create-only put is refused where the key is taken, and what is there stays', async (t, { store }, own) => {
    await store.put(own('k'), Buffer.from('first'), { size: 5, createOnly: true })
    await t.rejects(store.put('k', Buffer.from('second'), { size: 6, createOnly: true }), ObjectAlreadyExists)
    await t.rejects(store.put('k', pieces(Buffer.from('second'), 2), { size: 6, createOnly: true }), ObjectAlreadyExists)
    t.equal(await text(store, 'k'), 'first')
  })

  scenario('of eight create-only writers of one key exactly one wins, and its bytes are stored', async (t, { store }, own) => {
    const bodies = Array.from({ length: 8 }, (_, index) => Buffer.alloc(100_000, `writer ${index}`))
    own('k')
    const results = await Promise.allSettled(bodies.map(body => store.put('k', pieces(body, 30_000), { size: body.length, createOnly: true })))
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
    for (const result of results) if (result.status === 'rejected') t.type(result.reason, ObjectAlreadyExists)
    const winner = bodies[results.findIndex(({ status }) => status === 'fulfilled')]!
    t.ok(winner.equals(await collect((await store.open('k')).body)))
  })

  scenario('the sha256 that is given is verified', async (t, { store }, own) => {
    const bytes = randomBytes(100_000)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    await store.put(own('right'), pieces(bytes, 30_000), { size: bytes.length, sha256 })
    await store.put(own('right-bytes'), bytes, { size: bytes.length, sha256 })
    const wrong = 'f'.repeat(64)
    await t.rejects(store.put('wrong', pieces(bytes, 30_000), { size: bytes.length, sha256: wrong }), ObjectBodyInvalid)
    await t.rejects(store.put('wrong', bytes, { size: bytes.length, sha256: wrong }), ObjectBodyInvalid)
  })
}

function refusedPuts(scenario: Scenario): void {
  const invalid: [string, () => Readable | Uint8Array][] = [
    ['that ends early', () => pieces(Buffer.alloc(999), 100)],
    ['that is longer', () => pieces(Buffer.alloc(1001), 100)],
    ['that goes on when all that was announced has come', () => Readable.from(pause([Buffer.alloc(1000), Buffer.alloc(1)]), { objectMode: false })],
    ['that fails', () => Readable.from(pause([Buffer.alloc(500), new Error('the source broke')]), { objectMode: false })],
    ['that is closed before its end', closing],
    ['that was destroyed before', () => new Readable({ read() {} }).destroy()],
    ['of bytes with another length', () => Buffer.alloc(1001)]
  ]
  for (const [which, body] of invalid) {
    scenario(`a body ${which} is refused, leaves nothing, and leaves alone what was there`, async (t, { store }, own) => {
      await store.put(own('there'), Buffer.from('before'), { size: 6 })
      for (const key of ['new', 'there']) {
        const given = body()
        if (given instanceof Readable) given.on('error', () => {})
        await t.rejects(store.put(key, given, { size: 1000 }), ObjectBodyInvalid)
      }
      t.equal(await store.head('new'), undefined)
      t.equal(await text(store, 'there'), 'before')
    })
  }

  scenario('a put that is cancelled in the middle rejects soon, leaves nothing, and does not destroy the body', async (t, { store }) => {
    const controller = new AbortController()
    const body = new Readable({ read() {} })
    body.push(Buffer.alloc(300_000))
    const put = store.put('k', body, { size: 1_000_000, signal: controller.signal })
    setTimeout(() => controller.abort(new Error('enough')), 50)
    await t.rejects(within(put), ObjectStoreFailed)
    t.equal(body.destroyed, false)
    t.equal(body.listenerCount('data') + body.listenerCount('readable') + body.listenerCount('close'), 0, 'nobody listens to it any more')
    t.equal(await store.head('k'), undefined)
  })

  scenario('what is cancelled before it begins does nothing', async (t, { store }, own) => {
    const { etag } = await store.put(own('there'), Buffer.from('x'), { size: 1 })
    const signal = AbortSignal.abort(new Error('enough'))
    const upload = { key: own('up'), ...await store.createMultipart('up') }
    const attempts: (() => Promise<unknown>)[] = [
      () => store.check(signal),
      () => store.put('k', Buffer.from('x'), { size: 1, signal }),
      () => store.put('k', pieces(Buffer.from('x'), 1), { size: 1, signal }),
      () => store.copy('there', 'k', { signal }),
      () => store.open('there', { signal }),
      () => store.head('there', signal),
      () => store.delete('there', signal),
      () => keysOf(store, '', signal),
      () => store.createMultipart('k', { signal }),
      () => store.putPart(upload, 1, Buffer.from('x'), { size: 1, signal }),
      () => store.copyPart(upload, 1, 'there', { signal }),
      () => store.completeMultipart(upload, [{ partNumber: 1, etag }], { signal }),
      () => store.abortMultipart(upload, signal),
      () => store.listMultiparts('up', signal)
    ]
    for (const attempt of attempts) await t.rejects(within(attempt()), ObjectStoreFailed)
    t.equal((await store.listMultiparts('up')).length, 1)
    await store.abortMultipart(upload)
  })
}

function reads(scenario: Scenario): void {
  scenario('a range is read as it was asked for, and says the size of the whole', async (t, { store }, own) => {
    const bytes = randomBytes(600_000)
    const { etag } = await store.put(own('k'), bytes, { size: bytes.length })
    for (const [start, end] of [[0, 0], [599_999, 599_999], [0, 599_999], [250_000, 550_000]] as const) {
      const opened = await store.open('k', { range: { start, end } })
      t.match(opened, { size: bytes.length, etag })
      t.ok(bytes.subarray(start, end + 1).equals(await collect(opened.body)), `${start}-${end}`)
    }
  })

  scenario('a range that does not lie inside the object is refused', async (t, { store }, own) => {
    await store.put(own('k'), Buffer.from('0123456789'), { size: 10 })
    await store.put(own('empty'), Buffer.alloc(0), { size: 0 })
    for (const range of [{ start: 10, end: 10 }, { start: 5, end: 10 }, { start: 5, end: 4 }, { start: -1, end: 4 }]) {
      await t.rejects(store.open('k', { range }), ObjectRangeNotSatisfiable, JSON.stringify(range))
    }
    await t.rejects(store.open('empty', { range: { start: 0, end: 0 } }), ObjectRangeNotSatisfiable)
  })

  scenario('open is bound to an ETag where one is given', async (t, { store }, own) => {
    const { etag } = await store.put(own('k'), Buffer.from('one'), { size: 3 })
    t.equal((await collect((await store.open('k', { ifMatch: etag })).body)).toString(), 'one')
    await store.put('k', Buffer.from('two'), { size: 3 })
    await t.rejects(store.open('k', { ifMatch: etag }), ObjectPreconditionFailed)
  })

  scenario('what is not there is not found', async (t, { store }) => {
    await t.rejects(store.open('no/such'), ObjectNotFound)
    await t.rejects(store.open('no/such', { range: { start: 0, end: 1 }, ifMatch: WRONG_ETAG }), ObjectNotFound)
    t.equal(await store.head('no/such'), undefined)
    await store.delete('no/such')
  })

  scenario('a folder of keys is no object', async (t, { store }, own) => {
    await store.put(own('a/b'), Buffer.from('x'), { size: 1 })
    t.equal(await store.head('a'), undefined)
    await t.rejects(store.open('a'), ObjectNotFound)
    await store.delete('a')
    t.equal(await text(store, 'a/b'), 'x')
  })

  scenario('bodies that are destroyed or cancelled in the middle give their connections back', async (t, { store }, own) => {
    const bytes = Buffer.alloc(3_000_000, 'x')
    await store.put(own('k'), bytes, { size: bytes.length })
    for (let round = 0; round < 12; round++) {
      const controller = new AbortController()
      const { body } = await store.open('k', { signal: controller.signal })
      body.on('error', () => {})
      await new Promise(done => body.once('readable', done))
      if (round % 2 === 0) body.destroy()
      else controller.abort()
      if (!body.closed) await within(new Promise(done => body.once('close', done)))
      t.equal(body.destroyed, true)
    }
    t.match(await within(store.head('k')), { size: bytes.length })
  })
}

function lists(scenario: Scenario): void {
  scenario('a list is in byte order of whole keys and holds only what begins with the prefix', async (t, { store }, own) => {
    const sorted = ['a', 'b-c', 'b.c', 'b/a', 'b/a!', 'b/a/b'.replace('a/b', 'c/d'), 'b/é', 'b/ﬁ', 'b/😀', 'b0', 'bb/x']
    for (const key of sorted.toReversed()) await store.put(own(key), Buffer.from('x'), { size: 1 })
    t.same(await keysOf(store), sorted)
    t.same(await keysOf(store, 'b/'), sorted.filter(key => key.startsWith('b/')))
    t.same(await keysOf(store, 'b'), sorted.filter(key => key.startsWith('b')))
    t.same(await keysOf(store, 'b/c/'), ['b/c/d'])
    t.same(await keysOf(store, 'no/such/'), [])
    for await (const info of store.list('a')) t.match(info, { key: 'a', size: 1, etag: (await store.head('a'))!.etag })
  })

  scenario('a list goes on over the end of a page', async (t, { store }, own) => {
    const names = Array.from({ length: 1003 }, (_, index) => own(`many/${String(index).padStart(4, '0')}`))
    await inBatches(names, key => store.put(key, Buffer.from('x'), { size: 1 }))
    t.same(await keysOf(store, 'many/'), names)
    let seen = 0
    for await (const _ of store.list('many/')) if (++seen === 5) break
    t.equal(seen, 5, 'who has enough can stop')
  })

  scenario('objects that vanish while they are listed do not disturb the list', async (t, { store }, own) => {
    const names = ['v/1', 'v/2/x', 'v/3/x', 'v/4'].map(own)
    for (const key of names) await store.put(key, Buffer.from('x'), { size: 1 })
    const seen: string[] = []
    for await (const { key } of store.list('v/')) {
      seen.push(key)
      await Promise.all(names.slice(1).map(name => store.delete(name)))
    }
    t.equal(seen[0], 'v/1')
  })

  scenario('delete takes one object and leaves its neighbours', async (t, { store }, own) => {
    for (const key of ['a/b/c', 'a/b/d', 'a/e']) await store.put(own(key), Buffer.from('x'), { size: 1 })
    await store.delete('a/b/c')
    await store.delete('a/b/c')
    t.same(await keysOf(store), ['a/b/d', 'a/e'])
  })
}

function copies(scenario: Scenario): void {
  scenario('a copy has the bytes, and does not change with its source', async (t, { store }, own) => {
    const { etag } = await store.put(own('from/x'), Buffer.from('bytes'), { size: 5, contentType: 'text/plain' })
    const copied = await store.copy('from/x', own('to/x'), { sourceETag: etag, contentType: 'application/gzip' })
    t.match(await store.head('to/x'), { size: 5, etag: copied.etag })
    await store.put('from/x', Buffer.from('other'), { size: 5 })
    t.equal(await text(store, 'to/x'), 'bytes')
    await store.delete('from/x')
    t.equal(await text(store, 'to/x'), 'bytes')
  })

  scenario('a copy is refused where the source has another ETag, or is not there', async (t, { store }, own) => {
    const { etag } = await store.put(own('from'), Buffer.from('one'), { size: 3 })
    await store.put('from', Buffer.from('two'), { size: 3 })
    await t.rejects(store.copy('from', 'to', { sourceETag: etag }), ObjectPreconditionFailed)
    await t.rejects(store.copy('from', 'to', { sourceETag: etag, createOnly: true }), ObjectPreconditionFailed)
    await t.rejects(store.copy('no/such', 'to'), ObjectNotFound)
    await t.rejects(store.copy('no/such', 'to', { sourceETag: etag, createOnly: true }), ObjectNotFound)
  })

  scenario('a copy replaces what is there, also when that is a copy of the same source', async (t, { store }, own) => {
    await store.put(own('from'), Buffer.from('new'), { size: 3 })
    await store.put(own('to'), Buffer.from('old'), { size: 3 })
    await store.copy('from', 'to')
    await store.copy('from', 'to')
    t.equal(await text(store, 'to'), 'new')
  })

  scenario('a create-only copy is refused where the key is taken, and of eight exactly one wins', async (t, { store, atomicCopy }, own) => {
    if (!atomicCopy) return t.comment('this store does not promise it')
    const { etag } = await store.put(own('from'), Buffer.from('new'), { size: 3 })
    await store.put(own('to'), Buffer.from('old'), { size: 3 })
    await t.rejects(store.copy('from', 'to', { createOnly: true }), ObjectAlreadyExists)
    await t.rejects(store.copy('from', 'to', { createOnly: true, sourceETag: etag }), ObjectAlreadyExists)
    t.equal(await text(store, 'to'), 'old')
    own('raced/x')
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => store.copy('from', 'raced/x', { createOnly: true, sourceETag: etag })))
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
    for (const result of results) if (result.status === 'rejected') t.type(result.reason, ObjectAlreadyExists)
  })
}

function multiparts(scenario: Scenario): void {
  scenario('an upload is invisible until it is completed, and then is its parts in order', async (t, { store, partMinBytes }, own) => {
    const first = randomBytes(partMinBytes)
    const last = randomBytes(1234)
    const upload = await begin(store, own('big/x'))
    const two = await store.putPart(upload, 2, pieces(last, 500), { size: last.length })
    await store.putPart(upload, 1, Buffer.alloc(partMinBytes), { size: partMinBytes })
    const one = await store.putPart(upload, 1, pieces(first, 65_536), { size: first.length })
    t.equal(await store.head('big/x'), undefined)
    t.same(await keysOf(store), [])
    const { etag } = await store.completeMultipart(upload, [one, two], { createOnly: true })
    t.match(await store.head('big/x'), { size: first.length + last.length, etag })
    t.ok(Buffer.concat([first, last]).equals(await collect((await store.open('big/x')).body)))
  })

  scenario('parts can come from other objects, whole and by range, bound to an ETag', async (t, { store, partMinBytes }, own) => {
    const source = randomBytes(partMinBytes + 1000)
    const { etag } = await store.put(own('source'), source, { size: source.length })
    const upload = await begin(store, own('made'))
    await t.rejects(store.copyPart(upload, 1, 'source', { sourceETag: WRONG_ETAG }), ObjectPreconditionFailed)
    await t.rejects(store.copyPart(upload, 1, 'no/such'), ObjectNotFound)
    await t.rejects(store.copyPart(upload, 1, 'source', { range: { start: 0, end: source.length } }), ObjectRangeNotSatisfiable)
    const whole = await store.copyPart(upload, 1, 'source', { sourceETag: etag })
    const range = await store.copyPart(upload, 2, 'source', { sourceETag: etag, range: { start: 500, end: 599 } })
    await store.completeMultipart(upload, [whole, range])
    t.ok(Buffer.concat([source, source.subarray(500, 600)]).equals(await collect((await store.open('made')).body)))
  })

  scenario('an upload of one part that is another object makes a copy of it', async (t, { store }, own) => {
    const { etag } = await store.put(own('source'), Buffer.from('bytes'), { size: 5 })
    const upload = await begin(store, own('copy'))
    const part = await store.copyPart(upload, 1, 'source', { sourceETag: etag })
    const completed = await store.completeMultipart(upload, [part], { createOnly: true })
    t.equal((await store.head('copy'))?.etag, completed.etag)
    await store.put('source', Buffer.from('other'), { size: 5 })
    t.equal(await text(store, 'copy'), 'bytes')
  })

  scenario('a create-only completion is refused where the key is taken; the upload stays and can be aborted', async (t, { store }, own) => {
    await store.put(own('k'), Buffer.from('first'), { size: 5 })
    const upload = await begin(store, 'k')
    const part = await store.putPart(upload, 1, Buffer.from('second'), { size: 6 })
    await t.rejects(store.completeMultipart(upload, [part], { createOnly: true }), ObjectAlreadyExists)
    t.equal(await text(store, 'k'), 'first')
    t.same((await store.listMultiparts('k')).map(({ uploadId }) => uploadId), [upload.uploadId])
    await store.abortMultipart(upload)
  })

  scenario('of eight create-only completions exactly one wins', async (t, { store }, own) => {
    await store.put(own('source'), Buffer.from('bytes'), { size: 5 })
    own('raced')
    const ready = await Promise.all(Array.from({ length: 8 }, async () => {
      const upload = await begin(store, 'raced')
      return { upload, part: await store.copyPart(upload, 1, 'source') }
    }))
    const results = await Promise.allSettled(ready.map(({ upload, part }) => store.completeMultipart(upload, [part], { createOnly: true })))
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
    for (const result of results) if (result.status === 'rejected') t.type(result.reason, ObjectAlreadyExists)
    for (const { upload } of ready) await store.abortMultipart(upload)
    t.equal(await text(store, 'raced'), 'bytes')
  })
}

function uploads(scenario: Scenario): void {
  scenario('an upload that does not exist is not found, and can be aborted', async (t, { store }, own) => {
    const real = await begin(store, own('k'))
    await store.abortMultipart(real)
    await store.put(own('source'), Buffer.from('x'), { size: 1 })
    for (const upload of [real, { key: 'k', uploadId: randomUUID() }]) {
      await t.rejects(store.putPart(upload, 1, Buffer.from('x'), { size: 1 }), MultipartNotFound)
      await t.rejects(store.copyPart(upload, 1, 'source'), MultipartNotFound)
      await t.rejects(store.completeMultipart(upload, [{ partNumber: 1, etag: WRONG_ETAG }]), MultipartNotFound)
      await store.abortMultipart(upload)
    }
  })

  scenario('the unfinished uploads of exactly one key are listed', async (t, { store }, own) => {
    const before = Date.now()
    const mine = [await begin(store, own('k')), await begin(store, 'k')]
    const others = [await begin(store, own('kk')), await begin(store, own('k.l'))]
    const found = await store.listMultiparts('k')
    t.same(found.map(({ uploadId }) => uploadId).toSorted(), mine.map(({ uploadId }) => uploadId).toSorted())
    for (const { initiated } of found) t.ok(Math.abs(initiated.getTime() - before) < 60_000)
    for (const upload of [...mine, ...others]) await store.abortMultipart(upload)
    t.same(await store.listMultiparts('k'), [])
  })

  scenario('an upload is completed only with the parts it has', async (t, { store }, own) => {
    const upload = await begin(store, own('k'))
    const part = await store.putPart(upload, 1, Buffer.from('x'), { size: 1 })
    await t.rejects(store.completeMultipart(upload, []), ObjectStoreFailed)
    await t.rejects(store.completeMultipart(upload, [{ partNumber: 1, etag: WRONG_ETAG }]), ObjectStoreFailed)
    await t.rejects(store.completeMultipart(upload, [part, { partNumber: 2, etag: part.etag }]), ObjectStoreFailed)
    await t.rejects(store.completeMultipart(upload, [{ partNumber: 2, etag: part.etag }, part]), ObjectStoreFailed)
    t.equal(await store.head('k'), undefined)
    await store.completeMultipart(upload, [part])
  })

  scenario('a part whose body is not of its size, or that is cancelled, is not stored', async (t, { store }, own) => {
    const upload = await begin(store, own('k'))
    await t.rejects(store.putPart(upload, 1, pieces(Buffer.alloc(99), 10), { size: 100 }), ObjectBodyInvalid)
    await t.rejects(store.putPart(upload, 1, pieces(Buffer.alloc(101), 10), { size: 100 }), ObjectBodyInvalid)
    const body = new Readable({ read() {} })
    const controller = new AbortController()
    setTimeout(() => controller.abort(), 50)
    await t.rejects(within(store.putPart(upload, 1, body, { size: 100, signal: controller.signal })), ObjectStoreFailed)
    await t.rejects(store.completeMultipart(upload, [{ partNumber: 1, etag: WRONG_ETAG }]), ObjectStoreFailed)
    await store.abortMultipart(upload)
  })
}

function keys(scenario: Scenario): void {
  scenario('keys with spaces, signs and Unicode survive everything that is done with them', async (t, { store }, own) => {
    for (const key of ['sp ace/pl+us', 'per%20cent/%2F', 'ünï/çödé/日本語/😀', `quo'te"/(&<>)`, 'a=b&c?d#e/f;g,h@i', '~tilde/$dollar!']) {
      const { etag } = await store.put(own(key), Buffer.from(key), { size: Buffer.byteLength(key) })
      t.same(await keysOf(store, key.slice(0, 3)), [key])
      await store.copy(key, own(`${key}.copy`), { sourceETag: etag })
      const upload = await begin(store, own(`${key}.parts`))
      t.equal((await store.listMultiparts(upload.key)).length, 1)
      await store.completeMultipart(upload, [await store.copyPart(upload, 1, key, { sourceETag: etag })])
      for (const each of [key, `${key}.copy`, `${key}.parts`]) t.equal(await text(store, each), key)
      await Promise.all([key, `${key}.copy`, `${key}.parts`].map(each => store.delete(each)))
    }
  })

  scenario('what cannot be a key is refused by every method', async (t, { store }, own) => {
    await store.put(own('there'), Buffer.from('x'), { size: 1 })
    const invalid = [
      '', '/', '/a', 'a/', 'a//b', '.', '..', '../a', 'a/../b', 'a/./b', 'a/..', '.tmp/a', 'a/.hidden', '.multipart/x', 'a\0b', 'a\\b', '\ud800', 'x'.repeat(256),
      `${'x/'.repeat(512)}x`
    ]
    for (const key of invalid) {
      const upload = { key, uploadId: 'x' }
      const attempts: (() => Promise<unknown>)[] = [
        () => store.put(key, Buffer.from('x'), { size: 1 }), () => store.copy('there', key), () => store.copy(key, 'k'), () => store.open(key),
        () => store.head(key), () => store.delete(key), () => store.createMultipart(key), () => store.putPart(upload, 1, Buffer.from('x'), { size: 1 }),
        () => store.completeMultipart(upload, [{ partNumber: 1, etag: 'x' }]), () => store.abortMultipart(upload), () => store.listMultiparts(key)
      ]
      for (const attempt of attempts) await t.rejects(attempt(), ObjectKeyInvalid, JSON.stringify(key.slice(0, 20)))
    }
    for (const prefix of ['../', '/', 'a/../', '.tmp/']) await t.rejects(keysOf(store, prefix), ObjectKeyInvalid)
  })

  scenario('a key may be as long as its limits', async (t, { store }, own) => {
    const key = own(`${'x'.repeat(255)}/${'y'.repeat(255)}/z`)
    await store.put(key, Buffer.from('x'), { size: 1 })
    t.equal(await text(store, key), 'x')
  })

  scenario('the bucket is there, making it again changes nothing, and closing twice is no error', async (t, { store }, own) => {
    await store.check()
    await store.put(own('k'), Buffer.from('x'), { size: 1 })
    await store.createBucket()
    t.equal(await text(store, 'k'), 'x')
    await store.delete('k')
    await store.close()
    await store.close()
  })
}

async function begin(store: ObjectStore, key: string): Promise<MultipartRef> {
  return { key, ...await store.createMultipart(key) }
}

export async function keysOf(store: ObjectStore, prefix = '', signal?: AbortSignal): Promise<string[]> {
  const found: string[] = []
  for await (const { key } of store.list(prefix, signal && { signal })) found.push(key)
  return found
}

export async function collect(body: Readable): Promise<Buffer> {
  return Buffer.concat(await body.toArray() as Buffer[])
}

export async function text(store: ObjectStore, key: string): Promise<string> {
  return (await collect((await store.open(key)).body)).toString()
}

/** The bytes as a stream of chunks of this size. */
export function pieces(bytes: Buffer, chunkBytes: number): Readable {
  return Readable.from((function* () {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
  })(), { objectMode: false, highWaterMark: 2 * chunkBytes })
}

/** Chunks with a moment between them, so that each is sent before the next comes. An error is thrown. */
async function* pause(chunks: (Buffer | Error)[]): AsyncGenerator<Buffer> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk
    yield chunk
    await delay(40)
  }
}

/** A body that hangs up in the middle, without an error. */
function closing(): Readable {
  const body = new Readable({ read() {} })
  body.push(Buffer.alloc(500))
  setTimeout(() => body.destroy(), 40)
  return body
}

async function within<T>(promise: Promise<T>): Promise<T> {
  const late = delay(SOON_MS, undefined, { ref: false }).then(() => { throw new Error(`not within ${SOON_MS} ms`) })
  return await Promise.race([promise, late])
}

async function inBatches<T>(all: readonly T[], run: (each: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < all.length; at += 32) await Promise.all(all.slice(at, at + 32).map(run))
}
