import t, { type Test } from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { collect } from '../../src/ingest/collect.ts'
import { COLLECT_LEASE_MS } from '../../src/limits.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { bundleBytes } from '../support/bundles.ts'
import { goesOn, startOverStub } from '../support/over-stub.ts'

const sha256 = 'd'.repeat(64)
const keys = [canonicalKey(sha256, 'bundle.tar.zst'), canonicalKey(sha256, 'object')]
const later = (): Date => new Date(Date.now() + 60_000)

interface Fixture { store: ObjectStore, records: RecordStore, clock: { ms: number } }

/** A store with two objects under one hash that nobody points at, and records whose clock the test sets. */
async function orphans(t: Test): Promise<Fixture> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-collect-'))
  const clock = { ms: Date.now() }
  const records = sqliteRecordStore({ file: join(folder, 'records.db'), now: () => clock.ms })
  t.teardown(async () => {
    await records.close()
    await rm(folder, { recursive: true, force: true })
  })
  await records.migrate()
  const store = memoryObjectStore()
  for (const key of keys) await store.put(key, Buffer.from('x'), { size: 1 })
  return { store, records, clock }
}

/** The store, which does something after each delete. */
function afterDelete(store: ObjectStore, run: (key: string) => unknown): ObjectStore {
  return {
    ...store,
    async delete(key, signal) {
      await store.delete(key, signal)
      await run(key)
    }
  }
}

const keysIn = async (store: ObjectStore): Promise<string[]> => (await Array.fromAsync(store.list(''))).map(({ key }) => key)

t.test('a finalize whose copy was collected before it was recorded is told to come again, and then stores its bytes', async t => {
  const over = await startOverStub(t)
  const [store, records] = [openObjectStore(over.app.config), openRecordStore(over.app.config)]
  t.teardown(async () => {
    await store.close()
    await records.close()
  })
  const upload = await over.app.upload(await bundleBytes(), { filename: 'a.tar.zst' })
  const { key } = upload.body.upload
  // a collector with no grace at all, or a clock ahead, comes between the copy and the record
  const undo = over.stub.fault({ operation: 'PutObject', key: /manifest\.json$/ }, {
    kind: 'before', run: async () => { await Array.fromAsync(collect({ store, records, before: later(), remove: true })) }
  })
  const refused = await over.app.post('/finalize', { key })
  t.match(refused, { status: 503, body: { code: 'SERVICE_BUSY' } })
  t.equal(refused.headers.get('retry-after'), '1')
  t.match(await (await fetch(`${over.app.url}/extensions`)).json(), { items: [] }, 'nothing was recorded')
  undo()
  const { status, body } = await over.app.post('/finalize', { key })
  t.equal(status, 200)
  t.ok(await store.head(body.canonicalKey))
  await goesOn(t, over, [body.canonicalKey, body.manifestKey])
})

t.test('a collector whose lease is half over deletes no more, and another finishes when it is over', async t => {
  const { store, records, clock } = await orphans(t)
  const slow = afterDelete(store, () => { clock.ms += COLLECT_LEASE_MS / 2 })
  t.same(await Array.fromAsync(collect({ store: slow, records, before: later(), remove: true })), [])
  t.same(await keysIn(store), keys.slice(1))
  t.same(await Array.fromAsync(collect({ store, records, before: later(), remove: true })), [], 'the lease is not over')
  clock.ms += COLLECT_LEASE_MS / 2 + 1
  t.match(await Array.fromAsync(collect({ store, records, before: later(), remove: true })), [{ sha256, keys: keys.slice(1), removed: true }])
  t.same(await keysIn(store), [])
})

t.test('a collector that lost its hash to another deletes nothing that came under it since', async t => {
  const { store, records, clock } = await orphans(t)
  const first = afterDelete(store, async () => {
    clock.ms += COLLECT_LEASE_MS + 1
    await Array.fromAsync(collect({ store, records, before: later(), remove: true }))
    t.ok(await records.objects.claim({ sha256, key: keys[1]!, size: 1, contentType: 'x' }))
    await store.put(keys[1]!, Buffer.from('x'), { size: 1 })
  })
  t.same(await Array.fromAsync(collect({ store: first, records, before: later(), remove: true })), [])
  t.same(await keysIn(store), keys.slice(1), 'the new bytes are there')
  t.equal(await records.objects.isGarbage(sha256, 0), false, 'and their claim holds')
})

t.test('a collector that is told to end finishes the hash that it has begun, and begins no other', async t => {
  const { store, records } = await orphans(t)
  const next = canonicalKey('e'.repeat(64), 'object')
  await store.put(next, Buffer.from('x'), { size: 1 })
  const stop = new AbortController()
  const stopping = afterDelete(store, () => stop.abort())
  const found = await Array.fromAsync(collect({ store: stopping, records, before: later(), remove: true, signal: stop.signal }))
  t.match(found, [{ sha256, keys, removed: true }])
  t.same(await keysIn(store), [next])
  t.ok(await records.objects.claim({ sha256, key: keys[1]!, size: 1, contentType: 'x' }), 'the hash is free again')
})
