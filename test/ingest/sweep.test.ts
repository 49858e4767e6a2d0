import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { sweep, type SweepReport } from '../../src/ingest/sweep.ts'
import { COLLECT_LEASE_MS, SWEEP_BATCH, SWEEP_FAILURES_LOGGED_MAX } from '../../src/limits.ts'
import { canonicalKey, stagingKey } from '../../src/objects/keys.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import { ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import { withIntent } from '../../src/objects/with-intent.ts'
import { RecordStoreFailed, type RecordStore } from '../../src/records/port.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'

const HOUR_MS = 3_600_000
const NOTHING: SweepReport = { uploads: 0, multiparts: 0, objects: 0, temporaries: 0, claims: 0, collections: 0, rows: 0, failed: 0 }
const owner = { subject: null, account: null, clientId: null }

interface Fixture {
  store: ObjectStore
  records: RecordStore
  /** The same records, used by a node an hour ago. */
  old: RecordStore
  logged: Record<string, unknown>[]
  /** Sweeps what is older than half an hour, or than `olderThanMs`. */
  run(changes?: { store?: ObjectStore, records?: RecordStore, olderThanMs?: number }): Promise<SweepReport>
}

async function fixture(t: Test): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-sweep-'))
  const file = join(folder, 'records.db')
  const [records, old] = [sqliteRecordStore({ file }), sqliteRecordStore({ file, now: () => Date.now() - HOUR_MS })]
  t.teardown(async () => {
    await Promise.all([records.close(), old.close()])
    await rm(folder, { recursive: true, force: true })
  })
  await records.migrate()
  const store = memoryObjectStore()
  const logged: Record<string, unknown>[] = []
  const log = { debug() {}, info() {}, error() {}, warn: (fields: Record<string, unknown>) => void logged.push(fields) }
  return {
    store, records, old, logged,
    run: ({ olderThanMs = HOUR_MS / 2, ...changes } = {}) => sweep({ store, records, log, ...changes }, new Date(Date.now() - olderThanMs), AbortSignal.timeout(20_000))
  }
}

async function reserve(records: RecordStore): Promise<{ id: string, key: string }> {
  const id = randomUUID()
  const key = stagingKey(id, 'object')
  await records.uploads.create({ id, kind: 'object', stagingKey: key, filename: 'a', size: 3, declaredSha256: null, owner })
  return { id, key }
}

async function begin({ store, old }: Fixture, key: string): Promise<string> {
  const { id } = await old.multiparts.record(key)
  const { uploadId } = await store.createMultipart(key)
  await old.multiparts.setUploadId(id, uploadId)
  return uploadId
}

/** Every object as old as an hour. */
function aged(store: ObjectStore): ObjectStore {
  return {
    ...store,
    async* list(prefix, options) {
      for await (const object of store.list(prefix, options)) yield { ...object, lastModified: new Date(Date.now() - HOUR_MS) }
    }
  }
}

function fail(): Promise<never> {
  return Promise.reject(new RecordStoreFailed('no'))
}

function claim(records: RecordStore, sha256: string): Promise<string | undefined> {
  return records.objects.claim({ sha256, key: canonicalKey(sha256, 'object'), size: 1, contentType: 'x' })
}

t.test('a multipart upload that was begun long ago is left alone as long as its upload arrives', async t => {
  const all = await fixture(t)
  const { id, key } = await reserve(all.old)
  const uploadId = await begin(all, key)
  await all.records.uploads.progress([{ id, received: 1 }])
  t.same(await all.run(), NOTHING)
  t.match(await all.store.listMultiparts(key), [{ uploadId }])
  await all.records.uploads.fail(id, 'client_aborted', 1)
  t.same(await all.run(), { ...NOTHING, multiparts: 1 })
  t.same(await all.store.listMultiparts(key), [])
})

t.test('a copy that takes longer than uploads are kept is left alone', async t => {
  const { store, records, run } = await fixture(t)
  const key = canonicalKey('a'.repeat(64), 'object')
  await withIntent(store, records.multiparts, key, {}, async upload => {
    const part = await store.putPart(upload, 1, Buffer.from('abc'), { size: 3 })
    await delay(2500)
    t.same(await run({ olderThanMs: 1500 }), NOTHING)
    await store.completeMultipart(upload, [part])
  })
  t.ok(await store.head(key))
  await delay(1100)
  t.same(await records.multiparts.listStale(Date.now() + HOUR_MS, 10), [], 'its record is gone and does not come back')
})

t.test('a multipart upload that the store calls too young is not forgotten', async t => {
  const { store, old, run } = await fixture(t)
  const key = canonicalKey('a'.repeat(64), 'object')
  await old.multiparts.record(key) // the node died before it knew the upload id
  await store.createMultipart(key)
  t.same(await run(), NOTHING, 'by the clock of the store it was begun just now')
  t.equal((await store.listMultiparts(key)).length, 1)
  const olderStore = { ...store, listMultiparts: async (asked: string) => (await store.listMultiparts(asked)).map(each => ({ ...each, initiated: new Date(Date.now() - HOUR_MS) })) }
  t.same(await run({ store: olderStore }), { ...NOTHING, multiparts: 1 })
  t.same(await store.listMultiparts(key), [])
})

t.test('what cannot be deleted is logged and counted, and keeps nothing else from being swept', async t => {
  const { store, old, logged, run } = await fixture(t)
  const [stuck, orphan] = [stagingKey('00000000-0000-4000-8000-000000000000', 'object'), stagingKey(randomUUID(), 'object')]
  for (const key of [stuck, orphan]) await store.put(key, Buffer.from('x'), { size: 1 })
  const { id } = await reserve(old)
  await old.uploads.fail(id, 'idle_timeout', 0)
  const faulty: ObjectStore = {
    ...aged(store),
    delete: (key, signal) => key === stuck ? Promise.reject(new ObjectStoreFailed('denied')) : store.delete(key, signal)
  }
  for (const round of [{ ...NOTHING, objects: 1, rows: 1, failed: 1 }, { ...NOTHING, failed: 1 }]) t.same(await run({ store: faulty }), round)
  t.match(logged, [{ action: 'ingest.sweep.failed', step: 'objects', item: stuck, err: { message: 'denied' } }, { item: stuck }])
  t.notOk(await store.head(orphan))
  t.same(await run({ store: aged(store) }), { ...NOTHING, objects: 1 })
})

t.test('a step that fails as a whole keeps no other from being done', async t => {
  const { store, records, old, logged, run } = await fixture(t)
  await reserve(old)
  await store.put(stagingKey(randomUUID(), 'object'), Buffer.from('x'), { size: 1 })
  const faulty: RecordStore = { ...records, multiparts: { ...records.multiparts, listStale: fail }, objects: { ...records.objects, listCutOff: fail } }
  t.same(await run({ store: aged(store), records: faulty }), { ...NOTHING, uploads: 1, objects: 1, failed: 2 })
  t.match(logged, [{ step: 'multiparts' }, { step: 'collections' }])
})

t.test('many failures are counted, and some of them logged', async t => {
  const { store, logged, run } = await fixture(t)
  const count = SWEEP_FAILURES_LOGGED_MAX + 5
  for (let n = 0; n < count; n++) await store.put(stagingKey(randomUUID(), 'object'), Buffer.from('x'), { size: 1 })
  t.match(await run({ store: { ...aged(store), delete: () => Promise.reject(new ObjectStoreFailed('denied')) } }), { objects: 0, failed: count })
  t.equal(logged.length, SWEEP_FAILURES_LOGGED_MAX)
})

t.test('keys that are none of ours are left alone', async t => {
  const { store, run } = await fixture(t)
  const foreign = ['sha256/_staging/Thumbs.db', `sha256/_staging/${randomUUID()}/notes.txt`, '_probe/README', '_probe/notes/source']
  const ours = [stagingKey(randomUUID(), 'object'), `_probe/${randomUUID()}/source`]
  for (const key of [...foreign, ...ours]) await store.put(key, Buffer.from('x'), { size: 1 })
  t.same(await run({ store: aged(store) }), { ...NOTHING, objects: 2 })
  t.same((await Array.fromAsync(store.list(''))).map(({ key }) => key), foreign.toSorted())
})

t.test('more than a batch of anything goes in one sweep, also where the first batch fails', async t => {
  const { store, records, old, run } = await fixture(t)
  const ended = await Promise.all(Array.from({ length: SWEEP_BATCH + 1 }, () => reserve(old)))
  await Promise.all(ended.map(({ id }) => old.uploads.end(id, 'aborted')))
  const key = canonicalKey('a'.repeat(64), 'object')
  await Promise.all(Array.from({ length: SWEEP_BATCH + 1 }, () => old.multiparts.record(key)))
  await Promise.all(Array.from({ length: SWEEP_BATCH + 1 }, (_, n) => claim(old, `${n}`)))
  const first = new Set((await records.multiparts.listStale(Date.now(), SWEEP_BATCH)).map(({ id }) => id))
  const faulty: RecordStore = {
    ...records,
    multiparts: { ...records.multiparts, remove: id => first.has(id) ? fail() : records.multiparts.remove(id) }
  }
  t.same(await run({ store, records: faulty }), { ...NOTHING, multiparts: 1, claims: SWEEP_BATCH + 1, rows: SWEEP_BATCH + 1, failed: SWEEP_BATCH })
})

t.test('a collection that was cut off is finished, so that its hash can be finalized again', async t => {
  const { store, records, old, run } = await fixture(t)
  const sha256 = 'b'.repeat(64)
  const object = { sha256, key: canonicalKey(sha256, 'object'), size: 1, contentType: 'x' }
  await store.put(object.key, Buffer.from('x'), { size: 1 })
  t.ok(HOUR_MS > COLLECT_LEASE_MS)
  t.ok(await old.objects.beginCollect(sha256, Date.now()))
  t.equal(await records.objects.claim(object), undefined)
  t.same(await run(), { ...NOTHING, collections: 1 })
  t.notOk(await store.head(object.key))
  t.ok(await records.objects.claim(object))
  t.same(await run(), NOTHING)
})

t.test('claims of finalizes that never recorded anything are removed', async t => {
  const { records, old, run } = await fixture(t)
  await claim(old, 'a'.repeat(64))
  const fresh = await claim(records, 'b'.repeat(64))
  t.same(await run(), { ...NOTHING, claims: 1 })
  t.equal(await claim(records, 'b'.repeat(64)), fresh)
})

t.test('a sweep that is cut off has not failed, and does not go on', async t => {
  const { store, records, old } = await fixture(t)
  const stop = new AbortController()
  await reserve(old)
  await old.multiparts.record(canonicalKey('a'.repeat(64), 'object'))
  const stopping: ObjectStore = {
    ...store,
    async delete(key, signal) {
      stop.abort()
      await store.delete(key, signal)
    }
  }
  const logged: unknown[] = []
  const log = { debug() {}, info() {}, error() {}, warn: (fields: unknown) => void logged.push(fields) }
  t.same(await sweep({ store: stopping, records, log }, new Date(), stop.signal), NOTHING)
  t.same(logged, [])
  t.equal((await records.multiparts.listStale(Date.now(), 10)).length, 1)
})
