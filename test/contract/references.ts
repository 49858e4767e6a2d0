/**
 * What keeps bytes and what lets them go, with the collector and real bytes: they live while a row points at them, whatever
 * became of others of the same bytes, and go after the grace period when none does. Held by every adapter of records.
 */
import { createHash, randomUUID } from 'node:crypto'
import { setImmediate as othersTurn } from 'node:timers/promises'
import type { Test } from 'tap'
import { isPenstockError } from '../../src/errors.ts'
import { collect } from '../../src/ingest/collect.ts'
import { publishStaged } from '../../src/ingest/publish.ts'
import { canonicalKey, stagingKey } from '../../src/objects/keys.ts'
import { memoryObjectStore } from '../../src/objects/memory.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { StoreAbilities } from '../../src/objects/probe.ts'
import type { NewFile } from '../../src/records/access-port.ts'
import type { NewJobInput, NewResult } from '../../src/records/jobs-port.ts'
import type { Owner, RecordStore } from '../../src/records/port.ts'
import type { MakeDatabase } from './record-store.ts'

const HOUR_MS = 3_600_000
const CONTENT_TYPE = 'application/octet-stream'
const owner: Owner = { subject: 'u1', account: 'acme', clientId: null }
const other: Owner = { subject: 'u2', account: 'acme', clientId: null }
const abilities: StoreAbilities = { createOnlyPut: true, sourceCondition: true, createOnlyCopy: 'copy' }

interface World { records: RecordStore, store: ObjectStore }
interface Published { sha256: string, key: string, size: number, claim: string, uploadId: string }

/** @param make an empty database of its own for one test */
export async function referencesContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = { files, jobs, media, ingest, races, listing }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

async function world(t: Test, make: MakeDatabase): Promise<World> {
  const records = (await make(t)).open()
  await records.migrate()
  return { records, store: memoryObjectStore() }
}

/** Bytes as an upload leaves them before its row is written. Undefined while they are being collected. */
async function publish({ records, store }: World, text: string, who = owner): Promise<Published | undefined> {
  const sha256 = hashOf(text)
  const uploadId = randomUUID()
  const staging = stagingKey(uploadId, 'object')
  const size = Buffer.byteLength(text)
  await records.uploads.create({ id: uploadId, kind: 'object', stagingKey: staging, filename: 'f', size, declaredSha256: null, owner: who })
  const { etag } = await store.put(staging, Buffer.from(text), { size })
  await records.uploads.stage(uploadId, { sha256, etag, size })
  const published = await publishStaged({ records, store }, abilities, { key: staging, etag, size, sha256 }, { name: 'object', contentType: CONTENT_TYPE })
  await store.delete(staging)
  return published && { sha256, key: published.key, size, claim: published.claim, uploadId }
}

async function mustPublish(world: World, text: string, who = owner): Promise<Published> {
  const published = await publish(world, text, who)
  if (published === undefined) throw new Error('the hash is being collected')
  return published
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

function fileOf({ sha256, key, size, claim, uploadId }: Published, who = owner): NewFile {
  return { id: randomUUID(), filename: 'f.txt', contentType: 'text/plain', size, sha256, key, access: 'account', owner: who, claim, stagedUploadId: uploadId }
}

/** A file of these bytes. Returns its id. */
async function share(world: World, text: string, who = owner): Promise<string> {
  const added = await world.records.files.add(fileOf(await mustPublish(world, text, who), who))
  if (added === 'reclaim') throw new Error('the claim does not hold')
  return added.id
}

/** What the collector takes when everything that is there is older than its grace period, by the hash. */
async function collected({ records, store }: World): Promise<string[]> {
  const found = await Array.fromAsync(collect({ records, store, before: new Date(Date.now() + HOUR_MS), remove: true }))
  return found.map(({ sha256 }) => sha256)
}

async function isThere({ store }: World, text: string): Promise<boolean> {
  return await store.head(canonicalKey(hashOf(text), 'object')) !== undefined
}

const inputOf = ({ sha256, key, size }: Pick<Published, 'sha256' | 'key' | 'size'>, fileId: string | null): NewJobInput =>
  ({ name: 'input', position: 0, fileId, sha256, key, size, contentType: CONTENT_TYPE, claim: null, stagedUploadId: null })

async function makeJob({ records }: World, inputs: NewJobInput[]): Promise<string> {
  const { outcome, ...made } = await records.jobs.create({
    id: randomUUID(), owner, userId: 'u1', model: { name: 'm', version: '1', sha256: 'c'.repeat(64) }, task: 't', params: {}, priority: 0,
    inputs, cache: false, memoKey: randomUUID(), webhook: null, idempotency: null, reservation: null, queueMax: 100, stageTimings: {}
  })
  if (outcome !== 'created' || !('job' in made)) throw new Error(outcome)
  return made.job.id
}

async function finish({ records }: World, results: readonly NewResult[]): Promise<void> {
  const token = randomUUID()
  const job = await records.jobs.claim({ token, worker: 'w', leaseMs: 30_000 })
  const done = await records.jobs.complete(job!.id, token, { results, execution: { provider: 'cpu', device: 'cpu', worker: 'w', cached: false } })
  if (done !== 'completed') throw new Error(done)
}

// ---- sections

async function files(t: Test, make: MakeDatabase): Promise<void> {
  await t.test('the bytes of a file that was removed go after the grace period, and not before', async t => {
    const w = await world(t, make)
    const id = await share(w, 'one')
    t.same(await collected(w), [], 'a file keeps its bytes')
    t.equal(await w.records.files.remove(id), true)
    const young = await Array.fromAsync(collect({ ...w, before: new Date(Date.now() - HOUR_MS), remove: true }))
    t.same(young, [])
    t.ok(await isThere(w, 'one'))
    t.same(await collected(w), [hashOf('one')])
    t.notOk(await isThere(w, 'one'))
    t.ok(await share(w, 'one'), 'and they can come again')
    t.ok(await isThere(w, 'one'))
    t.same(await collected(w), [])
  })

  await t.test('of two files of the same bytes, whoever they belong to, either keeps them', async t => {
    const w = await world(t, make)
    const [mine, theirs] = [await share(w, 'same'), await share(w, 'same', other)]
    await w.records.files.remove(mine)
    t.same(await collected(w), [])
    t.ok(await isThere(w, 'same'))
    await w.records.files.remove(theirs)
    t.same(await collected(w), [hashOf('same')])
  })

  await t.test('grants, a new name and another access keep nothing', async t => {
    const w = await world(t, make)
    const id = await share(w, 'granted')
    await w.records.files.grant(id, { subject: 'u3', account: 'acme' })
    await w.records.files.update(id, { filename: 'g', access: 'restricted' })
    await w.records.jobs.createDownload({ tokenHash: 'h', fileId: id, expiresAt: Date.now() + HOUR_MS })
    await w.records.files.remove(id)
    t.same(await collected(w), [hashOf('granted')])
  })

  await t.test('a claim that nothing came of keeps its bytes for the grace period alone', async t => {
    const w = await world(t, make)
    await mustPublish(w, 'cut off')
    t.same(await Array.fromAsync(collect({ ...w, before: new Date(Date.now() - HOUR_MS), remove: true })), [])
    t.same(await collected(w), [hashOf('cut off')])
  })
}

async function jobs(t: Test, make: MakeDatabase): Promise<void> {
  await t.test('an input keeps the bytes of its file when that is removed, until the job goes', async t => {
    const w = await world(t, make)
    const id = await share(w, 'input')
    const file = (await w.records.files.get(id))!
    const job = await makeJob(w, [inputOf(file, id)])
    await w.records.files.remove(id)
    t.same(await collected(w), [])
    t.ok(await isThere(w, 'input'))
    await w.records.jobs.requestCancel(job)
    t.same(await collected(w), [], 'a job that has ended still shows what it was made of')
    t.equal(await w.records.jobs.remove(job), 'removed')
    t.same(await collected(w), [hashOf('input')])
  })

  await t.test('a result is a file: it goes when it is removed, or its job is, and not while a copy of it is somebody\'s', async t => {
    const w = await world(t, make)
    await share(w, 'input')
    const input = inputOf({ sha256: hashOf('input'), key: canonicalKey(hashOf('input'), 'object'), size: 5 }, null)
    const results = async (...texts: string[]): Promise<NewResult[]> => await Promise.all(texts.map(async text => {
      const { uploadId: _, ...published } = await mustPublish(w, text)
      return { name: text, filename: `${text}.png`, contentType: 'image/png', ...published }
    }))
    const job = await makeJob(w, [input])
    await finish(w, await results('first', 'second'))
    const copy = await share(w, 'second', other)
    const [first] = (await w.records.jobs.get(job))!.results
    await w.records.files.remove(first!.fileId)
    t.same(await collected(w), [hashOf('first')])
    await w.records.jobs.remove(job)
    t.same(await collected(w), [], 'the other has a file of the same bytes')
    await w.records.files.remove(copy)
    t.same(await collected(w), [hashOf('second')])
    t.ok(await isThere(w, 'input'), 'the file that it was made of is there as it was')
  })
}

async function media(t: Test, make: MakeDatabase): Promise<void> {
  await t.test('media and a file of the same bytes: either keeps them', async t => {
    const w = await world(t, make)
    const file = await share(w, 'picture')
    const id = await addMedia(w, 'picture')
    await w.records.files.remove(file)
    t.same(await collected(w), [])
    t.match(await w.records.media.list({ holder: owner, limit: 10 }), [{ id, sha256: hashOf('picture') }])
    await w.records.files.remove(id)
    t.same(await w.records.media.list({ holder: owner, limit: 10 }), [], 'a medium is its file')
    t.same(await collected(w), [hashOf('picture')])
  })

  await t.test('media that were never completed keep nothing', async t => {
    const w = await world(t, make)
    const { uploadId } = await mustPublish(w, 'unfinished')
    const id = randomUUID()
    await w.records.media.begin({ id, owner, filename: 'a.png', contentType: 'image/png', size: null, uploadId: null, expiresAt: Date.now() + HOUR_MS })
    await w.records.media.store(id, uploadId)
    t.same(await collected(w), [hashOf('unfinished')])
    const again = await mustPublish(w, 'unfinished')
    const { id: _, ...described } = fileOf(again)
    t.match(await w.records.media.complete(id, described), { sha256: hashOf('unfinished') })
    t.same(await collected(w), [])
  })
}

async function addMedia(w: World, text: string): Promise<string> {
  const published = await mustPublish(w, text)
  const id = randomUUID()
  await w.records.media.begin({ id, owner, filename: 'a.png', contentType: 'image/png', size: published.size, uploadId: null, expiresAt: Date.now() + HOUR_MS })
  await w.records.media.store(id, published.uploadId)
  const { id: _, ...file } = fileOf(published)
  const done = await w.records.media.complete(id, file)
  if (typeof done === 'string') throw new Error(done)
  return id
}

async function ingest(t: Test, make: MakeDatabase): Promise<void> {
  await t.test('versions and finalized uploads keep the bytes that they share with a file that goes', async t => {
    const w = await world(t, make)
    for (const kind of ['object', 'version'] as const) {
      const id = await share(w, kind)
      const { uploadId, sha256, key, size, claim } = await mustPublish(w, kind)
      const version = { publisher: null, name: 'n', version: '1.0.0', contentHash: sha256, canonicalKey: key, manifest: {}, signature: {} }
      const finalized = await w.records.uploads.finalize({ uploadId, sha256, canonicalKey: key, size, contentType: CONTENT_TYPE, claim, ...kind === 'version' && { version }, result: () => ({}) })
      t.equal(finalized.outcome, 'finalized')
      await w.records.files.remove(id)
      t.same(await collected(w), [], kind)
      t.ok(await isThere(w, kind))
    }
  })
}

async function races(t: Test, make: MakeDatabase): Promise<void> {
  await t.test('the last file of some bytes is removed and collected while the same bytes come again: they are there, or nothing says that they are', async t => {
    const database = await make(t)
    const [first, second] = [database.open(), database.open()]
    await first.migrate()
    const store = memoryObjectStore()
    const [uploader, collector] = [{ records: first, store }, { records: second, store }]
    let refused = 0
    for (let round = 0; round < 40; round++) {
      const text = `round ${round}`
      const old = await share(uploader, text)
      const uploads = Promise.all([1, 2].map(async () => {
        for (let turn = 0; turn < round % 8; turn++) await othersTurn()
        // a collector without grace may take the copy before it was looked at
        const published = await publish(uploader, text).catch(error => { if (!isPenstockError(error, 'CANONICAL_MISSING')) throw error })
        const added = published === undefined ? undefined : await uploader.records.files.add(fileOf(published))
        if (typeof added === 'object') return added.id
        refused += 1
        return undefined
      }))
      const removal = collector.records.files.remove(old).then(() => collected(collector))
      const [ids] = await Promise.all([uploads, removal])
      const there = await isThere(uploader, text)
      if (ids.some(id => id !== undefined) && !there) t.fail(`${text}: a file without bytes`)
      t.same((await collected(collector)).includes(hashOf(text)), there && ids.every(id => id === undefined), text)
      for (const id of ids) if (id !== undefined) t.equal((await first.files.get(id))?.sha256, hashOf(text))
    }
    t.comment(`${refused} of 80 were told to come again`)
  })

  await t.test('two remove the two files of some bytes while a job takes them as its input: the job has them, or was not made', async t => {
    const database = await make(t)
    const [first, second] = [database.open(), database.open()]
    await first.migrate()
    const w = { records: first, store: memoryObjectStore() }
    for (let round = 0; round < 20; round++) {
      const text = `input ${round}`
      const ids = [await share(w, text), await share(w, text, other)]
      const file = (await first.files.get(ids[0]!))!
      const removals = ids.map((id, index) => (index === 0 ? first : second).files.remove(id))
      const [job] = await Promise.all([makeJob(w, [inputOf(file, null)]).catch(() => undefined), ...removals])
      await collected({ records: second, store: w.store })
      t.equal(await isThere(w, text), job !== undefined, text)
    }
  })
}

async function listing(t: Test, make: MakeDatabase): Promise<void> {
  await t.test('objects that a row points at are listed by their keys, page by page, and no others', async t => {
    const w = await world(t, make)
    const texts = ['a', 'b', 'c', 'd', 'e']
    const ids = new Map<string, string>()
    for (const text of texts) ids.set(text, await share(w, text))
    await share(w, 'a', other)
    await mustPublish(w, 'claimed, and nothing more')
    await w.records.files.remove(ids.get('c')!)
    await w.records.files.remove(ids.get('a')!)
    const expected = ['a', 'b', 'd', 'e'].map(text => ({ sha256: hashOf(text), key: canonicalKey(hashOf(text), 'object'), size: 1 }))
      .toSorted((one, two) => one.key < two.key ? -1 : 1)
    t.match(await w.records.objects.listReferenced(10), expected)
    t.equal((await w.records.objects.listReferenced(10)).length, expected.length)
    const pages: string[] = []
    for (let after: string | undefined; ;) {
      const page = await w.records.objects.listReferenced(3, after)
      pages.push(...page.map(({ key }) => key))
      after = page.at(-1)?.key
      if (page.length < 3) break
    }
    t.same(pages, expected.map(({ key }) => key))
    t.same(await w.records.objects.listReferenced(3, pages.at(-1)), [])
  })
}
