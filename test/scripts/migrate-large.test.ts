/** Objects over the limit of one request go by multipart: that limit is 5 GiB, so it is set lower here. */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { copyObject, type ObjectToCopy } from '../../scripts/migrate/between-stores.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import type { ObjectStore } from '../../src/objects/port.ts'

const bytes = randomBytes(3_000_000)
const sha256 = createHash('sha256').update(bytes).digest('hex')
const object: ObjectToCopy = { key: canonicalKey(sha256, 'object'), sha256, size: bytes.length, contentType: 'application/octet-stream' }
const abilities = { createOnlyPut: true, sourceCondition: true, createOnlyCopy: 'copy' } as const
const never = new AbortController().signal

async function pair(): Promise<{ source: ObjectStore, target: ObjectStore }> {
  const source = memoryObjectStore()
  await source.put(object.key, bytes, { size: bytes.length })
  return { source, target: { ...memoryObjectStore(), putMaxBytes: 1_000_000 } }
}

t.test('a large object goes in parts, and what a killed run has left of it goes', async t => {
  const { source, target } = await pair()
  await target.createMultipart(object.key)
  let moved = 0
  const options = { abilities, verify: true, onBytes: (count: number) => { moved += count } }
  t.match(await copyObject({ source, target }, object, options, never), { outcome: 'done', size: bytes.length, facts: { sha256 } })
  t.equal(moved, bytes.length)
  t.equal((await target.head(object.key))?.size, bytes.length)
  t.same(await target.listMultiparts(object.key), [])
  t.match(await copyObject({ source, target }, object, options, never), { outcome: 'skipped', reason: 'is there already, verified' })
})

t.test('a large object of other bytes than its hash says leaves nothing', async t => {
  const { source, target } = await pair()
  await source.put(object.key, Buffer.alloc(bytes.length), { size: bytes.length })
  t.match(await copyObject({ source, target }, object, { abilities, verify: false, onBytes() {} }, never), { outcome: 'failed', reason: /does not match the declared hash/, own: false })
  t.equal(await target.head(object.key), undefined)
  t.same(await target.listMultiparts(object.key), [])
})

t.test('what is under way when it is cut off leaves nothing', async t => {
  const { source, target } = await pair()
  const stop = new AbortController()
  const slow: ObjectStore = { ...target, async putPart(upload, number, body, options) {
    const part = await target.putPart(upload, number, body, options)
    stop.abort()
    return part
  } }
  t.match(await copyObject({ source, target: slow }, object, { abilities, verify: false, onBytes() {} }, stop.signal), { outcome: 'failed', reason: 'was cut off' })
  t.equal(await target.head(object.key), undefined)
  t.same(await target.listMultiparts(object.key), [])
})
