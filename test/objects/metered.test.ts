import t from 'tap'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { fsObjectStore } from '../../src/objects/fs.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import { meteredStore, type StoreObserver } from '../../src/objects/metered.ts'
import { stagingKey } from '../../src/objects/keys.ts'
import { sweepsTemporaries, type ObjectStore } from '../../src/objects/port.ts'
import { objectStoreContract } from '../contract/object-store.ts'

objectStoreContract(t, 'memory, metered', async () => ({ store: meteredStore(memoryObjectStore(), () => {}), atomicCopy: true, partMinBytes: 1000 }))

const KEY = stagingKey('0f8fad5b-d9cb-469f-a165-70867728950e', 'object')

function metered(store: ObjectStore = memoryObjectStore()): { store: ObjectStore, seen: Parameters<StoreObserver>[0][] } {
  const seen: Parameters<StoreObserver>[0][] = []
  return { store: meteredStore(store, request => void seen.push(request)), seen }
}

void t.test('each request is told of with its outcome and its time', async t => {
  const { store, seen } = metered()
  await store.put(KEY, Readable.from([Buffer.from('hello')]), { size: 5 })
  t.equal(String(await buffer((await store.open(KEY)).body)), 'hello')
  await t.rejects(store.put(KEY, Buffer.from('x'), { size: 1, createOnly: true }))
  await t.rejects(store.open(`${KEY}x`))
  await t.rejects(store.put(KEY, Buffer.from('x'), { size: 1, signal: AbortSignal.abort() }))
  t.same(seen.map(({ operation, outcome }) => `${operation} ${outcome}`), ['put ok', 'open ok', 'put object_already_exists', 'open object_not_found', 'put aborted'])
  for (const { seconds } of seen) t.ok(seconds >= 0 && seconds < 60)
})

void t.test('a list is told of when it ends, is left, or fails, without the time of its reader', async t => {
  const { store, seen } = metered()
  for (const n of [1, 2]) await store.put(`${KEY}${n}`, Buffer.from('x'), { size: 1 })
  for await (const { size } of store.list('sha256/')) t.equal(size, 1)
  for await (const _ of store.list('sha256/')) {
    await new Promise(resolve => setTimeout(resolve, 50))
    break
  }
  t.same(seen.slice(2).map(({ operation, outcome }) => `${operation} ${outcome}`), ['list ok', 'list ok'])
  t.ok(seen[3]!.seconds < 0.05)
})

void t.test('what an adapter can do beyond the port, it still can', t => {
  t.ok(sweepsTemporaries(metered(fsObjectStore({ root: t.testdir() })).store))
  t.notOk(sweepsTemporaries(metered().store))
  t.end()
})
