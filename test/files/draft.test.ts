import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import t from 'tap'
import type { Test } from 'tap'
import { beginFile } from '../../src/files/draft.ts'
import { PROBE_PREFIX } from '../../src/objects/keys.ts'
import { ObjectStoreFailed, type ObjectStore } from '../../src/objects/port.ts'
import type { SharedFiles } from '../../src/records/access-port.ts'
import { RecordStoreFailed } from '../../src/records/port.ts'
import { ALICE, jobWorld, type WorldOptions } from '../support/job-world.ts'

const bytes = randomBytes(100_000)
const said = { filename: 'a.bin', access: 'account' as const }
const waiting = new AbortController().signal

async function start(t: Test, { add, ...options }: WorldOptions & { add?: (real: SharedFiles['add']) => SharedFiles['add'] } = {}) {
  const world = await jobWorld(t, {
    env: { MAX_CONCURRENT_UPLOADS: '1', MAX_FILE_SIZE_BYTES: '100000' }, ...options,
    ...add && { wrapRecords: records => ({ ...records, files: { ...records.files, add: add(records.files.add) } }) }
  })
  const receive = async (body = bytes) => {
    const draft = beginFile(world, ALICE)
    await draft.receive({ filename: 'a.bin', body: Readable.from([body.subarray(0, 10), body.subarray(10)]) }, waiting)
    return draft
  }
  /** Nothing in staging, no upload that still waits for something, and the one slot is free. */
  const isClean = async () => {
    t.strictSame(await world.keys('sha256/_staging/'), [])
    t.strictSame(await world.records.uploads.listStale(Date.now() + 60_000, 10), [])
    world.ingest.slots.take()()
  }
  return { ...world, receive, isClean, list: async () => await world.records.files.list({ holder: { subject: 'alice', account: 'acme' }, limit: 10 }) }
}

t.test('a draft becomes a file, once', async t => {
  const { receive, isClean, list, ingest } = await start(t)
  const draft = await receive()
  t.throws(() => ingest.slots.take(), { code: 'SERVICE_BUSY' }, 'it holds a slot')
  const file = await draft.commit({ ...said, contentType: 'text/plain' })
  t.match(await list(), [{ ...file, owner: { subject: 'alice', account: 'acme', clientId: 'app' } }])
  await draft.discard()
  await isClean()
  t.equal((await list()).length, 1)
})

t.test('a draft that is discarded, or got nothing, leaves nothing', async t => {
  const { receive, isClean, list, ...context } = await start(t)
  const draft = await receive()
  await draft.discard()
  await draft.discard()
  await isClean()
  await t.rejects(beginFile(context, ALICE).commit(said), { code: 'INVALID_MULTIPART' })
  await isClean()
  await t.rejects(receive(randomBytes(100_001)), { code: 'PAYLOAD_TOO_LARGE' })
  t.strictSame(await list(), [])
})

t.test('where the row cannot be written, the error is the row\'s, and the bytes are let go of', async t => {
  const { receive, isClean, list, records } = await start(t, { add: () => async () => { throw new RecordStoreFailed('gone') } })
  await t.rejects((await receive()).commit(said), { name: 'RecordStoreFailed', message: 'gone' })
  await isClean()
  t.strictSame(await list(), [])
  t.equal(await records.objects.isGarbage(createHash('sha256').update(bytes).digest('hex'), Date.now() + 60_000), true, 'nothing points at them: they are the collector\'s')
})

const breakCopies = (store: ObjectStore): ObjectStore => ({
  ...store,
  async copy(source, target, options) {
    if (!source.startsWith(PROBE_PREFIX)) throw new ObjectStoreFailed('cannot')
    return await store.copy(source, target, options)
  }
})

t.test('where the copy fails nothing is left', async t => {
  const { receive, isClean, list } = await start(t, { wrap: breakCopies })
  await t.rejects((await receive()).commit(said), { code: 'COPY_FAILED' })
  await isClean()
  t.strictSame(await list(), [])
})

t.test('a hash that is being collected is claimed and copied anew', async t => {
  let asked = 0
  const { receive, isClean, list } = await start(t, { add: real => async file => {
    asked += 1
    return asked === 1 ? 'reclaim' : await real(file)
  } })
  await (await receive()).commit(said)
  t.equal(asked, 2)
  await isClean()
  t.equal((await list()).length, 1)
})

t.test('who waits no longer ends the body', async t => {
  const { isClean, ...context } = await start(t)
  const draft = beginFile(context, ALICE)
  const leaving = new AbortController()
  const received = draft.receive({ filename: 'a', body: new Readable({ read() {} }) }, leaving.signal)
  leaving.abort(new Error('gone'))
  await t.rejects(received, { message: 'gone' })
  await draft.discard()
  await isClean()
})
