/** The promises of src/records/port.ts, held by every adapter. Two nodes are two stores over the same data. */
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { COLLECT_LEASE_MS, PROGRESS_ROWS_MAX } from '../../src/limits.ts'
import { RecordStoreFailed } from '../../src/records/port.ts'
import type { FinalizeInput, FinalizeOutcome, NewUpload, Owner, RecordStore, VersionInput } from '../../src/records/port.ts'

export interface Database {
  /** Another store over the same data, not migrated. It is closed when the test ends. */
  open(options?: { now?: () => number }): RecordStore
}

/** @param make an empty database of its own for one test */
export type MakeDatabase = (t: Test) => Promise<Database>

export async function recordStoreContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = { uploads, ends, finalizing, versions, finalizeRaces, collecting, collectRaces, lists, multiparts, nodes }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

// ---- builders

const nobody: Owner = { subject: null, account: null, clientId: null }
/** Far enough from now that no clock of a test reaches it. */
const PAST = 1000
const future = () => Date.now() + 1_000_000

async function migrated(t: Test, make: MakeDatabase, options?: { now?: () => number }): Promise<RecordStore> {
  const store = (await make(t)).open(options)
  await store.migrate()
  return store
}

async function twoNodes(t: Test, make: MakeDatabase): Promise<[RecordStore, RecordStore]> {
  const database = await make(t)
  const [first, second] = [database.open(), database.open()]
  await first.migrate()
  return [first, second]
}

function newUpload(changes: Partial<NewUpload> = {}): NewUpload {
  const id = changes.id ?? randomUUID()
  return { id, kind: 'object', stagingKey: `staging/${id}`, filename: 'a.bin', size: 3, declaredSha256: null, owner: nobody, ...changes }
}

async function receiving(store: RecordStore, changes: Partial<NewUpload> = {}): Promise<string> {
  const upload = newUpload(changes)
  if (!await store.uploads.create(upload)) throw new Error('the id is taken')
  return upload.id
}

async function staged(store: RecordStore, changes: Partial<NewUpload> = {}): Promise<string> {
  const id = await receiving(store, changes)
  if (!await store.uploads.stage(id, { sha256: 'a1', etag: 'etag', size: 3 })) throw new Error('not receiving')
  return id
}

/** As ingest does: claims the object, then finalizes. */
async function finalize(store: RecordStore, input: FinalizeInput): Promise<FinalizeOutcome> {
  const claim = await store.objects.claim({ ...input, key: input.canonicalKey })
  return await store.uploads.finalize({ ...input, claim: claim ?? 'none, the hash is being collected' })
}

function finalizeInput(uploadId: string, changes: Partial<FinalizeInput> = {}): FinalizeInput {
  const sha256 = changes.sha256 ?? 'a1'
  return { uploadId, sha256, canonicalKey: `canonical/${sha256}`, size: 3, contentType: 'text/plain', claim: '', result: rows => ({ sha256, ...rows }), ...changes }
}

function versionInput(changes: Partial<VersionInput> = {}): VersionInput {
  const contentHash = changes.contentHash ?? 'a1'
  return { publisher: 'acme', name: 'tool', version: '1.0.0', contentHash, canonicalKey: `canonical/${contentHash}`, manifest: { name: 'tool' }, signature: null, ...changes }
}

/** Stages an upload and finalizes it as this version. */
async function register(store: RecordStore, changes: Partial<VersionInput> = {}): Promise<FinalizeOutcome> {
  const version = versionInput(changes)
  return finalize(store, finalizeInput(await staged(store), { sha256: version.contentHash, version }))
}

const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))
const claimOf = (sha256: string) => ({ sha256, key: `canonical/${sha256}`, size: 3, contentType: 'text/plain' })

async function claimed(store: RecordStore, sha256: string): Promise<string> {
  const claim = await store.objects.claim(claimOf(sha256))
  if (claim === undefined) throw new Error('the hash is being collected')
  return claim
}

async function begun(store: RecordStore, sha256: string, claimedBefore = future()): Promise<string> {
  const lease = await store.objects.beginCollect(sha256, claimedBefore)
  if (lease === undefined) throw new Error('the hash is not to be collected')
  return lease
}

// ---- uploads

function uploads(t: Test, make: MakeDatabase): void {
  t.test('a new upload is receiving and reads back as it was written', async t => {
    const store = await migrated(t, make, { now: () => 1_790_000_000_123 })
    const upload = newUpload({
      kind: 'model',
      filename: `Zoë 🦑 ${'ß'.repeat(100)} "quoted" \\ %_'--`,
      size: 5 * 1024 ** 4,
      declaredSha256: 'f'.repeat(64),
      owner: { subject: 'sub|1', account: 'Ä', clientId: null }
    })
    t.equal(await store.uploads.create(upload), true)
    t.strictSame(await store.uploads.get(upload.id), {
      ...upload, received: 0, sha256: null, etag: null, status: 'receiving', failure: null, canonicalKey: null, result: null,
      createdAt: 1_790_000_000_123, updatedAt: 1_790_000_000_123
    })
    t.equal(await store.uploads.get(randomUUID()), undefined)
  })

  t.test('an id is taken once, whatever became of that upload', async t => {
    const store = await migrated(t, make)
    const upload = newUpload()
    await store.uploads.create(upload)
    t.equal(await store.uploads.create({ ...upload, filename: 'other' }), false)
    await store.uploads.end(upload.id, 'aborted')
    t.equal(await store.uploads.create(upload), false)
    t.equal(await store.uploads.adopt(upload, { sha256: null, etag: 'e', size: 3 }), false)
    t.match(await store.uploads.get(upload.id), { status: 'aborted', filename: 'a.bin', etag: null })
  })

  t.test('of many that reserve one id at once, on two nodes, exactly one gets it', async t => {
    const nodes = await twoNodes(t, make)
    const upload = newUpload()
    const won = await Promise.all(times(20, index => nodes[index % 2]!.uploads.create(upload)))
    t.equal(won.filter(Boolean).length, 1)
  })

  t.test('an adopted upload is staged', async t => {
    const store = await migrated(t, make)
    const upload = newUpload({ size: 1 })
    t.equal(await store.uploads.adopt(upload, { sha256: null, etag: '"e"', size: 7 }), true)
    t.match(await store.uploads.get(upload.id), { status: 'staged', sha256: null, etag: '"e"', size: 7, received: 7 })
  })

  t.test('staging takes the hash, the ETag and the size, once', async t => {
    const store = await migrated(t, make)
    const id = await receiving(store)
    t.equal(await store.uploads.stage(id, { sha256: 'a1', etag: 'e1', size: 3 }), true)
    t.equal(await store.uploads.stage(id, { sha256: 'b2', etag: 'e2', size: 4 }), false)
    t.equal(await store.uploads.stage(randomUUID(), { sha256: 'b2', etag: 'e2', size: 4 }), false)
    t.match(await store.uploads.get(id), { status: 'staged', sha256: 'a1', etag: 'e1', size: 3, received: 3 })
  })

  t.test('a failed upload keeps its reason and its bytes, and cannot be staged', async t => {
    const store = await migrated(t, make)
    const id = await receiving(store)
    t.equal(await store.uploads.fail(id, 'idle_timeout', 2), true)
    t.equal(await store.uploads.fail(id, 'other', 1), false)
    t.equal(await store.uploads.stage(id, { sha256: 'a1', etag: 'e', size: 3 }), false)
    t.match(await store.uploads.get(id), { status: 'failed', failure: 'idle_timeout', received: 2, etag: null })
    t.equal(await store.uploads.fail(await staged(store), 'late', 0), false)
  })

  t.test('progress is noted of running uploads, and the others are named', async t => {
    let time = 100
    const store = await migrated(t, make, { now: () => time })
    const [running, ended, done, unknown] = [await receiving(store), await receiving(store), await staged(store), randomUUID()]
    await store.uploads.end(ended, 'aborted')
    time = 200
    const updates = [unknown, running, ended, done].map(id => ({ id, received: 2 }))
    t.strictSame(await store.uploads.progress(updates), [unknown, ended, done])
    t.match(await store.uploads.get(running), { received: 2, updatedAt: 200, createdAt: 100 })
    t.match(await store.uploads.get(ended), { received: 0, updatedAt: 100 })
    t.match(await store.uploads.get(done), { received: 3, updatedAt: 100 })
    t.strictSame(await store.uploads.progress([]), [])
  })

  t.test('progress of more uploads than one statement takes is noted', async t => {
    const store = await migrated(t, make)
    const ids = await Promise.all(times(PROGRESS_ROWS_MAX + 2, () => receiving(store)))
    const gone = randomUUID()
    t.strictSame(await store.uploads.progress([...ids, gone].map(id => ({ id, received: 3_000_000_000 }))), [gone])
    const notes = await Promise.all(ids.map(id => store.uploads.get(id)))
    t.ok(notes.every(upload => upload?.received === 3_000_000_000))
  })
}

function ends(t: Test, make: MakeDatabase): void {
  t.test('ending says what the upload was before, and leaves final ones as they are', async t => {
    const store = await migrated(t, make)
    const [first, second, third] = [await receiving(store), await staged(store), await staged(store)]
    t.equal(await store.uploads.end(first, 'aborted'), 'receiving')
    t.equal(await store.uploads.end(second, 'expired'), 'staged')
    t.equal(await store.uploads.end(first, 'expired'), 'aborted')
    await finalize(store, finalizeInput(third))
    t.equal(await store.uploads.end(third, 'aborted'), 'finalized')
    t.equal(await store.uploads.end(randomUUID(), 'aborted'), undefined)
    const statuses = await Promise.all([first, second, third].map(async id => (await store.uploads.get(id))?.status))
    t.strictSame(statuses, ['aborted', 'expired', 'finalized'])
  })

  t.test('of many that end one upload at once exactly one was first', async t => {
    const nodes = await twoNodes(t, make)
    const id = await staged(nodes[0])
    const before = await Promise.all(times(20, index => nodes[index % 2]!.uploads.end(id, index % 3 === 0 ? 'expired' : 'aborted')))
    t.equal(before.filter(status => status === 'staged').length, 1)
  })

  t.test('staging racing an abort: one of them wins, and both know which', async t => {
    const [first, second] = await twoNodes(t, make)
    for (const id of await Promise.all(times(25, () => receiving(first)))) {
      const [isStaged, before] = await Promise.all([first.uploads.stage(id, { sha256: 'a1', etag: 'e', size: 3 }), second.uploads.end(id, 'aborted')])
      // the abort ends it either way; only if it came first was the upload still receiving
      t.equal(before, isStaged ? 'staged' : 'receiving')
      t.equal((await first.uploads.get(id))?.status, 'aborted')
    }
  })

  t.test('stale uploads are those untouched and not final, oldest first', async t => {
    let time = 0
    const store = await migrated(t, make, { now: () => (time += 10) })
    const oldest = await receiving(store) // 10
    const finalized = await staged(store)
    const moved = await receiving(store)
    const stagedOne = await staged(store)
    await finalize(store, finalizeInput(finalized))
    await store.uploads.fail(await receiving(store), 'x', 0)
    await store.uploads.progress([{ id: moved, received: 1 }])
    const fresh = await receiving(store)
    const touched = (await store.uploads.get(fresh))!.updatedAt
    t.strictSame((await store.uploads.listStale(touched, 10)).map(upload => upload.id), [oldest, stagedOne, moved])
    t.strictSame((await store.uploads.listStale(touched + 1, 10)).map(upload => upload.id), [oldest, stagedOne, moved, fresh])
    t.strictSame((await store.uploads.listStale(touched, 1)).map(upload => upload.id), [oldest])
    const after = (await store.uploads.get(oldest))!
    t.strictSame((await store.uploads.listStale(touched, 10, after)).map(upload => upload.id), [stagedOne, moved])
    t.strictSame(await store.uploads.listStale(10, 10), [])
  })

  t.test('pruning deletes what failed, was aborted or expired, and nothing else', async t => {
    const store = await migrated(t, make)
    const [running, waiting, finalized] = [await receiving(store), await staged(store), await staged(store)]
    await finalize(store, finalizeInput(finalized))
    const ended = await Promise.all(times(5, () => staged(store)))
    await Promise.all(ended.map((id, index) => store.uploads.end(id, index % 2 ? 'aborted' : 'expired')))
    await store.uploads.fail(await receiving(store), 'x', 0)
    t.equal(await store.uploads.prune(PAST, 10), 0)
    t.equal(await store.uploads.prune(future(), 4), 4)
    t.equal(await store.uploads.prune(future(), 4), 2)
    t.equal(await store.uploads.prune(future(), 4), 0)
    for (const id of [running, waiting, finalized]) t.ok(await store.uploads.get(id))
    for (const id of ended) t.equal(await store.uploads.get(id), undefined)
  })
}

// ---- finalize

function finalizing(t: Test, make: MakeDatabase): void {
  t.test('finalize makes the upload final with its object and its answer', async t => {
    const store = await migrated(t, make)
    const id = await staged(store)
    const outcome = await finalize(store, finalizeInput(id, { sha256: 'b2', size: 4, result: rows => ({ rows, 'ключ\u0000': ['\ud83e\udd91', null, 1.5] }) }))
    const result = { rows: {}, 'ключ\u0000': ['🦑', null, 1.5] }
    t.strictSame(outcome, { outcome: 'finalized', result })
    t.match(await store.uploads.get(id), { status: 'finalized', sha256: 'b2', canonicalKey: 'canonical/b2', size: 4, result, etag: 'etag' })
    t.equal(await store.objects.isGarbage('b2', future()), false)
  })

  t.test('a repeated finalize gets the first answer, whatever it asks for', async t => {
    const store = await migrated(t, make)
    const id = await staged(store)
    const first = await finalize(store, finalizeInput(id, { version: versionInput() }))
    const second = await finalize(store, finalizeInput(id, { sha256: 'b2', version: versionInput({ contentHash: 'b2' }), result: () => 'other' }))
    t.match(first, { outcome: 'finalized', result: { extension: { name: 'tool' }, version: { version: '1.0.0' } } })
    t.strictSame(second, { ...first, outcome: 'repeated' })
    t.equal(await store.objects.isGarbage('b2', future()), true)
  })

  t.test('an upload that is unknown or not staged is gone, and nothing is written', async t => {
    const store = await migrated(t, make)
    const [running, failed, aborted, expired] = [await receiving(store), await receiving(store), await staged(store), await staged(store)]
    await store.uploads.fail(failed, 'x', 0)
    await store.uploads.end(aborted, 'aborted')
    await store.uploads.end(expired, 'expired')
    for (const id of [running, failed, aborted, expired, randomUUID()]) {
      t.strictSame(await finalize(store, finalizeInput(id, { version: versionInput() })), { outcome: 'gone' })
    }
    t.strictSame(await store.extensions.list({ limit: 10 }), [])
    t.equal(await store.objects.isGarbage('a1', future()), true)
    t.equal((await store.uploads.get(running))?.status, 'receiving')
  })

  t.test('an error of the caller that makes the answer comes out as it is and undoes everything', async t => {
    const store = await migrated(t, make)
    const id = await staged(store)
    const fault = new TypeError('no answer')
    const result = () => { throw fault }
    await t.rejects(finalize(store, finalizeInput(id, { version: versionInput(), result })), fault)
    t.equal((await store.uploads.get(id))?.status, 'staged')
    t.strictSame(await store.extensions.list({ limit: 10 }), [])
    t.equal((await finalize(store, finalizeInput(id))).outcome, 'finalized')
  })

  t.test('the newest finalized upload of a key is found, of its owner where one is given', async t => {
    let time = 0
    const store = await migrated(t, make, { now: () => (time += 1) })
    const [ada, bob]: Owner[] = [{ subject: 'ada', account: null, clientId: 'cli' }, { subject: 'bob', account: 'x', clientId: null }]
    const done = async (owner: Owner) => {
      const id = await staged(store, { owner })
      await finalize(store, finalizeInput(id))
      return id
    }
    const ids = [await done(ada!), await done(ada!), await done(bob!)]
    await staged(store, { owner: ada! })
    const find = async (owner?: Owner) => (await store.uploads.findFinalized('canonical/a1', owner))?.id
    t.equal(await find(), ids[2])
    t.equal(await find(ada), ids[1])
    t.equal(await find(bob), ids[2])
    t.equal(await find({ ...ada!, clientId: null }), undefined)
    t.equal(await find({ ...ada!, account: 'x' }), undefined)
    t.equal(await find(nobody), undefined)
    t.equal(await store.uploads.findFinalized('canonical/b2'), undefined)
  })
}

function versions(t: Test, make: MakeDatabase): void {
  t.test('a version with other content undoes the whole finalize', async t => {
    const store = await migrated(t, make)
    await register(store)
    const id = await staged(store)
    const input = finalizeInput(id, { sha256: 'b2', version: versionInput({ contentHash: 'b2' }) })
    t.strictSame(await finalize(store, input), { outcome: 'version_conflict', contentHash: 'a1' })
    t.match(await store.uploads.get(id), { status: 'staged', sha256: 'a1', canonicalKey: null, result: null })
    t.equal(await store.objects.isGarbage('b2', future()), true)
    t.match(await store.extensions.findVersion({ publisher: 'acme', name: 'tool', version: '1.0.0' }), { contentHash: 'a1' })
    const again = await finalize(store, { ...input, version: versionInput({ contentHash: 'b2', version: '1.0.1' }) })
    t.equal(again.outcome, 'finalized')
  })

  t.test('the same content under the same version is the same version', async t => {
    const store = await migrated(t, make)
    const [first, second] = [await register(store), await register(store, { manifest: { other: true } })]
    t.equal(second.outcome, 'finalized')
    t.strictSame((second as { result: unknown }).result, (first as { result: unknown }).result)
  })

  t.test('the latest version is the highest, in whatever order they come', async t => {
    const store = await migrated(t, make)
    const steps = [['1.0.0-rc.1', '1.0.0-rc.1'], ['1.0.0-rc.10', '1.0.0-rc.10'], ['1.0.0-rc.9', '1.0.0-rc.10'], ['1.10.0', '1.10.0'], ['1.9.0', '1.10.0'], ['1.10.0-beta', '1.10.0']]
    for (const [version, latestVersion] of steps) {
      const outcome = await register(store, { version: version! })
      t.match(outcome, { outcome: 'finalized', result: { extension: { latestVersion }, version: { version } } })
    }
    const [extension] = await store.extensions.list({ limit: 10 })
    t.match(extension, { name: 'tool', publisher: 'acme', latestVersion: '1.10.0' })
    t.equal((await store.extensions.listVersions(extension!.id, { limit: 10 })).length, steps.length)
  })

  t.test('an extension is its publisher and its name; no publisher is a publisher of its own', async t => {
    const store = await migrated(t, make)
    for (const publisher of ['acme', null, 'Acme', null]) await register(store, { publisher })
    await register(store, { publisher: null, name: 'Werkzeug 🔧' })
    const extensions = await store.extensions.list({ limit: 10 })
    t.strictSame(extensions.map(each => `${each.publisher}/${each.name}`).toSorted(), ['Acme/tool', 'acme/tool', 'null/Werkzeug 🔧', 'null/tool'])
    const found = await store.extensions.findVersion({ publisher: null, name: 'tool', version: '1.0.0' })
    t.equal(found?.extensionId, extensions.find(each => each.publisher === null && each.name === 'tool')?.id)
    t.equal(await store.extensions.findVersion({ publisher: 'nobody', name: 'tool', version: '1.0.0' }), undefined)
    t.equal(await store.extensions.findVersion({ publisher: null, name: 'tool', version: '1.0' }), undefined)
    t.strictSame(await store.extensions.get(extensions[0]!.id), extensions[0])
    t.equal(await store.extensions.get(randomUUID()), undefined)
  })

  t.test('the first version with some content is the oldest, of whatever extension', async t => {
    let time = 2000
    const store = await migrated(t, make, { now: () => time })
    await register(store, { version: '2.0.0', contentHash: 'b2' })
    await register(store, { version: '1.0.0' })
    time = 3000
    await register(store, { version: '0.9.0' })
    await register(store, { name: 'other' })
    t.match(await store.extensions.firstWithContent('a1'), { version: '1.0.0', contentHash: 'a1', createdAt: 2000 })
    t.equal(await store.extensions.firstWithContent('c3'), undefined)
  })

  t.test('manifest and signature are given back as they came', async t => {
    const store = await migrated(t, make)
    const manifest = { 'name': 'ü', '__proto_': [], 'long': '🦑'.repeat(200_000), 'numbers': [0, -1, 1e21, 0.1], 'nul': '\u0000', 'nested': { a: [null, true, { b: '' }] } }
    const signature = { text: 'c2ln', algorithm: 'ed25519' }
    await register(store, { manifest, signature })
    const found = await store.extensions.findVersion(versionInput())
    t.strictSame(found?.manifest, manifest)
    t.strictSame(found?.signature, signature)
    t.match(found, { version: '1.0.0', contentHash: 'a1', canonicalKey: 'canonical/a1', createdAt: Number })
  })
}

function finalizeRaces(t: Test, make: MakeDatabase): void {
  t.test('of 50 finalizes of one upload at once one wins and 49 get its answer', async t => {
    const nodes = await twoNodes(t, make)
    const id = await staged(nodes[0])
    const outcomes = await Promise.all(times(50, index =>
      finalize(nodes[index % 2]!, finalizeInput(id, { version: versionInput(), result: rows => ({ index, rows }) }))))
    const winner = outcomes.find(each => each.outcome === 'finalized') as { result: unknown }
    t.equal(outcomes.filter(each => each.outcome === 'finalized').length, 1)
    t.strictSame(outcomes.filter(each => each.outcome === 'repeated'), times(49, () => ({ outcome: 'repeated', result: winner.result })))
  })

  t.test('50 uploads of equal bytes and one version finalize at once to one version', async t => {
    const nodes = await twoNodes(t, make)
    const ids = await Promise.all(times(50, index => staged(nodes[index % 2]!)))
    const outcomes = await Promise.all(ids.map((id, index) => finalize(nodes[index % 2]!, finalizeInput(id, { version: versionInput() }))))
    t.ok(outcomes.every(each => each.outcome === 'finalized'))
    t.equal(new Set(outcomes.map(each => JSON.stringify((each as { result: unknown }).result))).size, 1)
    const [extension, ...others] = await nodes[0].extensions.list({ limit: 10 })
    t.strictSame(others, [])
    t.equal((await nodes[0].extensions.listVersions(extension!.id, { limit: 100 })).length, 1)
  })

  t.test('20 contents that want one version at once: one gets it, the others are told whose it is', async t => {
    const nodes = await twoNodes(t, make)
    const ids = await Promise.all(times(20, () => staged(nodes[0])))
    const outcomes = await Promise.all(ids.map((id, index) =>
      finalize(nodes[index % 2]!, finalizeInput(id, { sha256: `c${index}`, version: versionInput({ contentHash: `c${index}` }) }))))
    const winner = outcomes.findIndex(each => each.outcome === 'finalized')
    t.ok(outcomes.every((each, index) => index === winner || (each.outcome === 'version_conflict' && each.contentHash === `c${winner}`)))
    const statuses = await Promise.all(ids.map(async id => (await nodes[0].uploads.get(id))?.status))
    t.ok(statuses.every((status, index) => status === (index === winner ? 'finalized' : 'staged')))
  })

  t.test('20 versions of one extension at once leave the highest as the latest', async t => {
    const nodes = await twoNodes(t, make)
    const order = times(20, index => (index * 7) % 20)
    const outcomes = await Promise.all(order.map((minor, index) => register(nodes[index % 2]!, { version: `1.${minor}.0`, contentHash: `c${minor}` })))
    t.ok(outcomes.every(each => each.outcome === 'finalized'))
    const extensions = await nodes[0].extensions.list({ limit: 10 })
    t.match(extensions, [{ latestVersion: '1.19.0' }])
    t.equal(extensions.length, 1)
  })

  t.test('finalize racing abort: exactly one wins, and no version is left without its upload', async t => {
    const [first, second] = await twoNodes(t, make)
    const rounds = 40
    const won = { finalize: 0, abort: 0 }
    for (let round = 0; round < rounds; round += 1) {
      const id = await staged(first)
      const version = versionInput({ version: `1.0.${round}`, contentHash: `c${round}` })
      const claim = await claimed(first, version.contentHash)
      const finalize = () => first.uploads.finalize(finalizeInput(id, { sha256: version.contentHash, claim, version }))
      const abort = () => second.uploads.end(id, 'aborted')
      // alternately first, so that both orders are seen even where one node always gets ahead
      const [one, other] = round % 2 ? [finalize(), abort()] : [abort(), finalize()]
      const results = await Promise.all([one, other])
      const [outcome, before] = (round % 2 ? results : results.toReversed()) as [FinalizeOutcome, string]
      const finalized = outcome.outcome === 'finalized'
      won[finalized ? 'finalize' : 'abort'] += 1
      t.strictSame([outcome.outcome, before], finalized ? ['finalized', 'finalized'] : ['gone', 'staged'])
      t.equal((await first.uploads.get(id))?.status, finalized ? 'finalized' : 'aborted')
      t.equal(await first.extensions.findVersion(version) !== undefined, finalized)
      t.equal(await first.objects.isGarbage(version.contentHash, future()), !finalized)
    }
    t.equal(won.finalize + won.abort, rounds)
    t.comment(`finalize won ${won.finalize}, abort ${won.abort}`)
  })
}

// ---- objects

function collecting(t: Test, make: MakeDatabase): void {
  t.test('a claim keeps the collector off until it is older than the grace period', async t => {
    const store = await migrated(t, make, { now: () => 5000 })
    await claimed(store, 'a1')
    t.equal(await store.objects.isGarbage('a1', 5000), false)
    t.equal(await store.objects.beginCollect('a1', 5000), undefined)
    t.equal(await store.objects.isGarbage('a1', 5001), true)
    t.ok(await store.objects.beginCollect('a1', 5001))
  })

  t.test('a claim of known bytes counts from the last one', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    await store.objects.claim(claimOf('a1'))
    time = 2000
    await store.objects.claim({ ...claimOf('a1'), key: 'canonical/a1/other' })
    t.equal(await store.objects.isGarbage('a1', 1500), false)
    time = 3000
    await store.objects.claim(claimOf('a1'))
    t.equal(await store.objects.isGarbage('a1', 2500), false)
    t.equal(await store.objects.isGarbage('a1', 3001), true)
  })

  t.test('bytes that an upload or a version points at are never collected', async t => {
    const store = await migrated(t, make)
    await finalize(store, finalizeInput(await staged(store), { sha256: 'b2' }))
    // the version's content under another hash than the upload's, so that only the version refers to it
    await finalize(store, finalizeInput(await staged(store), { sha256: 'b3', version: versionInput({ contentHash: 'b4' }) }))
    for (const sha256 of ['b2', 'b3', 'b4']) {
      t.equal(await store.objects.isGarbage(sha256, future()), false)
      t.equal(await store.objects.beginCollect(sha256, future()), undefined)
      t.ok(await store.objects.claim(claimOf(sha256)))
    }
  })

  t.test('bytes of uploads that were staged or aborted only are garbage', async t => {
    const store = await migrated(t, make)
    await staged(store)
    await store.uploads.end(await staged(store), 'aborted')
    t.equal(await store.objects.isGarbage('a1', future()), true)
  })

  t.test('looking changes nothing', async t => {
    const store = await migrated(t, make)
    t.equal(await store.objects.isGarbage('a1', future()), true)
    t.equal(await store.objects.isGarbage('a1', future()), true)
    t.ok(await store.objects.claim(claimOf('a1')))
  })

  t.test('what is being collected cannot be claimed or finalized until it is collected', async t => {
    const store = await migrated(t, make)
    const id = await staged(store)
    const claim = await claimed(store, 'a1')
    const leases = new Map<string, string>()
    for (const sha256 of ['a1', 'without-a-row']) {
      leases.set(sha256, await begun(store, sha256))
      t.equal(await store.objects.claim(claimOf(sha256)), undefined)
      t.equal(await store.objects.claim({ ...claimOf(sha256), key: 'canonical/other' }), undefined)
    }
    t.ok(await store.objects.claim(claimOf('other')))
    t.strictSame(await store.uploads.finalize(finalizeInput(id, { claim, version: versionInput() })), { outcome: 'reclaim' })
    t.match(await store.uploads.get(id), { status: 'staged', canonicalKey: null, result: null })
    t.strictSame(await store.extensions.list({ limit: 10 }), [])
    for (const [sha256, lease] of leases) {
      t.equal(await store.objects.endCollect(sha256, lease), true)
      t.ok(await store.objects.claim(claimOf(sha256)))
    }
    t.equal((await finalize(store, finalizeInput(id))).outcome, 'finalized')
  })

  t.test('a claim that was collected in between does not finalize, though the hash was claimed anew', async t => {
    const store = await migrated(t, make)
    const [late, other] = [await staged(store), await staged(store)]
    const old = await claimed(store, 'a1')
    await store.objects.endCollect('a1', await begun(store, 'a1'))
    const input = finalizeInput(late, { claim: old, version: versionInput() })
    t.strictSame(await store.uploads.finalize(input), { outcome: 'reclaim' }, 'nobody has the hash')
    const fresh = await claimed(store, 'a1')
    t.not(fresh, old)
    t.strictSame(await store.uploads.finalize(input), { outcome: 'reclaim' }, 'another has claimed it')
    t.equal((await store.uploads.finalize(finalizeInput(other, { claim: fresh }))).outcome, 'finalized')
    t.strictSame(await store.uploads.finalize(input), { outcome: 'reclaim' }, 'another has finalized it')
    t.match(await store.uploads.get(late), { status: 'staged', canonicalKey: null, result: null })
    t.strictSame(await store.extensions.list({ limit: 10 }), [])
    t.equal((await finalize(store, input)).outcome, 'finalized')
  })

  t.test('all claims of one object are one, which stays after it is finalized', async t => {
    const store = await migrated(t, make)
    const claim = await claimed(store, 'a1')
    t.equal(await claimed(store, 'a1'), claim)
    const ids = [await staged(store), await staged(store)]
    for (const id of ids) t.equal((await store.uploads.finalize(finalizeInput(id, { claim }))).outcome, 'finalized')
    t.equal(await claimed(store, 'a1'), claim)
  })

  t.test('claims that no finalize completed are pruned, and then do not finalize', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const claim = await claimed(store, 'a1')
    for (const sha256 of ['b2', 'c3', 'd4']) await claimed(store, sha256)
    await finalize(store, finalizeInput(await staged(store), { sha256: 'd4' }))
    time = 2000
    const renewed = await claimed(store, 'b2')
    t.equal(await store.objects.pruneClaims(1000, 10), 0)
    t.equal(await store.objects.pruneClaims(2000, 1), 1)
    t.equal(await store.objects.pruneClaims(2000, 10), 1)
    t.equal(await store.objects.pruneClaims(2000, 10), 0)
    const id = await staged(store)
    t.strictSame(await store.uploads.finalize(finalizeInput(id, { claim })), { outcome: 'reclaim' })
    t.equal((await store.uploads.finalize(finalizeInput(id, { sha256: 'b2', claim: renewed }))).outcome, 'finalized')
    t.equal(await store.objects.pruneClaims(future(), 10), 0, 'what was finalized stays')
  })

  t.test('anything is stored from the first finalize on', async t => {
    const store = await migrated(t, make)
    const id = await staged(store)
    await claimed(store, 'a1')
    t.equal(await store.objects.anyStored(), false)
    await finalize(store, finalizeInput(id))
    t.equal(await store.objects.anyStored(), true)
  })

  t.test('one collector has a hash at a time; after an interruption it can be begun again', async t => {
    let time = 10_000_000
    const store = await migrated(t, make, { now: () => time })
    const first = await begun(store, 'a1', PAST)
    time += 1
    await begun(store, 'b2', PAST)
    for (const before of [PAST, time, time + COLLECT_LEASE_MS]) {
      t.equal(await store.objects.beginCollect('a1', before), undefined)
      t.equal(await store.objects.isGarbage('a1', before), false)
    }
    t.equal(await store.objects.resumeCollect('a1'), undefined)
    t.strictSame(await store.objects.listCutOff(10), [])
    time += COLLECT_LEASE_MS
    t.strictSame(await store.objects.listCutOff(10), ['a1'])
    time += 1
    t.strictSame(await store.objects.listCutOff(10), ['a1', 'b2'])
    t.strictSame(await store.objects.listCutOff(1), ['a1'])
    const second = await store.objects.resumeCollect('a1')
    t.ok(second)
    t.equal(await store.objects.resumeCollect('a1'), undefined)
    t.ok(await store.objects.beginCollect('b2', PAST), 'its lease is over')
    t.equal(await store.objects.beginCollect('b2', PAST), undefined)
    t.equal(await store.objects.endCollect('a1', first), false, 'the first is too late')
    t.equal(await store.objects.claim(claimOf('a1')), undefined)
    t.equal(await store.objects.endCollect('a1', second!), true)
    t.equal(await store.objects.endCollect('a1', second!), false)
    t.ok(await store.objects.claim(claimOf('a1')))
    t.equal(await store.objects.resumeCollect('a1'), undefined, 'there is nothing to resume')
  })

  t.test('a collection that was cut off is resumed, however short ago its hash was claimed', async t => {
    let time = 10_000_000
    const store = await migrated(t, make, { now: () => time })
    await claimed(store, 'a1')
    await begun(store, 'a1', time + 1)
    time += COLLECT_LEASE_MS + 1
    t.ok(await store.objects.resumeCollect('a1'))
  })

  t.test('a collector holds its hash for the first half of its lease', async t => {
    let time = 10_000_000
    const store = await migrated(t, make, { now: () => time })
    const lease = await begun(store, 'a1', PAST)
    t.equal(await store.objects.holdsCollect('a1', lease), true)
    t.equal(await store.objects.holdsCollect('a1', 'another'), false)
    t.equal(await store.objects.holdsCollect('b2', lease), false)
    time += COLLECT_LEASE_MS / 2
    t.equal(await store.objects.holdsCollect('a1', lease), false)
    time += COLLECT_LEASE_MS / 2 + 1
    const other = await store.objects.resumeCollect('a1')
    t.equal(await store.objects.holdsCollect('a1', lease), false)
    t.equal(await store.objects.holdsCollect('a1', other!), true)
    await store.objects.endCollect('a1', other!)
    t.equal(await store.objects.holdsCollect('a1', other!), false)
  })

  t.test('a late end of a collection that is over does not take away a claim', async t => {
    const store = await migrated(t, make)
    const lease = await begun(store, 'a1')
    await store.objects.endCollect('a1', lease)
    await claimed(store, 'a1')
    t.equal(await store.objects.endCollect('a1', lease), false)
    t.equal(await store.objects.isGarbage('a1', PAST), false)
  })
}

function collectRaces(t: Test, make: MakeDatabase): void {
  t.test('claim racing the collector: exactly one gets the hash', async t => {
    const [first, second] = await twoNodes(t, make)
    for (let round = 0; round < 40; round += 1) {
      const sha256 = `c${round}`
      const race = [() => first.objects.claim(claimOf(sha256)), () => second.objects.beginCollect(sha256, PAST)]
      const [one, other] = await Promise.all((round % 2 ? race : race.toReversed()).map(step => step()))
      t.not(one === undefined, other === undefined, `round ${round}`)
    }
  })

  t.test('finalize racing the collector of an old claim: the bytes are either recorded or collected', async t => {
    const [first, second] = await twoNodes(t, make)
    for (let round = 0; round < 40; round += 1) {
      const sha256 = `c${round}`
      const id = await staged(first)
      const claim = await claimed(first, sha256)
      const version = round % 4 < 2 ? { version: versionInput({ contentHash: sha256, version: `1.0.${round}` }) } : {}
      const finalize = async () => (await first.uploads.finalize(finalizeInput(id, { sha256, claim, ...version }))).outcome
      const race = [finalize, () => second.objects.beginCollect(sha256, future())]
      const outcomes = await Promise.all((round % 2 ? race : race.toReversed()).map(step => step()))
      const [outcome, lease] = round % 2 ? outcomes : outcomes.toReversed()
      t.equal(outcome, lease === undefined ? 'finalized' : 'reclaim', `round ${round}`)
    }
  })

  t.test('of many collectors that want one hash at once exactly one gets it', async t => {
    const nodes = await twoNodes(t, make)
    const got = await Promise.all(times(20, index => nodes[index % 2]!.objects.beginCollect('a1', PAST)))
    t.equal(got.filter(Boolean).length, 1)
  })

  t.test('claims of one hash under many keys at once all hold', async t => {
    const nodes = await twoNodes(t, make)
    const got = await Promise.all(times(20, index => nodes[index % 2]!.objects.claim({ ...claimOf('a1'), key: `canonical/a1/${index % 5}` })))
    t.ok(got.every(Boolean))
  })

  t.test('claims, finalizes and pruning at once: what is answered finalized is stored, and nothing else is undone', async t => {
    const [first, second] = await twoNodes(t, make)
    const outcomes = await Promise.all(times(20, async index => {
      const id = await staged(first)
      const claim = await claimed(first, `c${index}`)
      const [{ outcome }] = await Promise.all([
        first.uploads.finalize(finalizeInput(id, { sha256: `c${index}`, claim })),
        second.objects.pruneClaims(future(), 1000)
      ])
      return [outcome, (await first.uploads.get(id))?.status, await first.objects.claim(claimOf(`c${index}`)) === claim].join()
    }))
    t.strictSame([...new Set(outcomes)].filter(each => each !== 'finalized,finalized,true' && each !== 'reclaim,staged,false'), [])
  })
}

// ---- lists

function lists(t: Test, make: MakeDatabase): void {
  t.test('extensions come newest first, page by page, though many were made at one time and more come in between', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const add = (name: string) => register(store, { name })
    for (const name of times(7, index => `first-${index}`)) await add(name)
    time = 2000
    for (const name of times(3, index => `second-${index}`)) await add(name)
    const before = await store.extensions.list({ limit: 100 })
    const seen = []
    for (let after; ;) {
      const page = await store.extensions.list({ limit: 2, ...(after && { after }) })
      if (page.length === 0) break
      seen.push(...page)
      after = page.at(-1)!
      await add(`new-${seen.length}`)
    }
    const known = new Set(before.map(each => each.id))
    t.equal(new Set(seen.map(each => each.id)).size, seen.length)
    t.strictSame(seen.filter(each => known.has(each.id)), before)
    t.strictSame(before.map(each => each.createdAt), [2000, 2000, 2000, ...times(7, () => 1000)])
  })

  t.test('versions of one extension come newest first, page by page', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    for (const version of ['1.0.0', '1.1.0', '1.2.0']) await register(store, { version })
    await register(store, { name: 'other' })
    time = 500
    await register(store, { version: '2.0.0' })
    const [extension] = (await store.extensions.list({ limit: 10 })).filter(each => each.name === 'tool')
    const all = await store.extensions.listVersions(extension!.id, { limit: 10 })
    t.strictSame(all.map(each => each.createdAt), [1000, 1000, 1000, 500])
    t.equal(all.at(-1)?.version, '2.0.0')
    const first = await store.extensions.listVersions(extension!.id, { limit: 2 })
    const second = await store.extensions.listVersions(extension!.id, { limit: 2, after: first[1]! })
    t.strictSame([...first, ...second], all)
    t.strictSame(await store.extensions.listVersions(extension!.id, { limit: 2, after: all[3]! }), [])
    t.strictSame(await store.extensions.listVersions(randomUUID(), { limit: 2 }), [])
  })
}

function multiparts(t: Test, make: MakeDatabase): void {
  t.test('an intent is there from before the upload id is known until it is removed', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const first = await store.multiparts.record('staging/one')
    time = 2000
    const second = await store.multiparts.record('staging/two')
    await store.multiparts.setUploadId(second.id, 'upload/2==')
    time = 3000
    await store.multiparts.record('staging/two')
    const stale = [
      { id: first.id, key: 'staging/one', uploadId: null, touchedAt: 1000 },
      { id: second.id, key: 'staging/two', uploadId: 'upload/2==', touchedAt: 2000 }
    ]
    t.strictSame(await store.multiparts.listStale(3000, 10), stale)
    t.strictSame(await store.multiparts.listStale(3000, 1), stale.slice(0, 1))
    t.strictSame(await store.multiparts.listStale(3000, 10, stale[0]), stale.slice(1))
    t.strictSame(await store.multiparts.listStale(3000, 10, stale[1]), [])
    t.strictSame(await store.multiparts.listStale(1000, 10), [])
    await store.multiparts.remove(first.id)
    await store.multiparts.remove(first.id)
    await store.multiparts.setUploadId(first.id, 'late')
    await store.multiparts.touch(first.id)
    t.strictSame(await store.multiparts.listStale(3000, 10), stale.slice(1))
    await store.multiparts.touch(second.id)
    t.strictSame(await store.multiparts.listStale(3000, 10), [])
    t.equal((await store.multiparts.listStale(3001, 10)).length, 2)
  })
}

// ---- nodes

function nodes(t: Test, make: MakeDatabase): void {
  t.test('nodes that migrate at once leave one schema, and migrating again changes nothing', async t => {
    const database = await make(t)
    const stores = times(4, () => database.open())
    await Promise.all(stores.map(store => store.migrate()))
    const id = await receiving(stores[0]!)
    await stores[1]!.migrate()
    for (const store of stores) t.equal((await store.uploads.get(id))?.status, 'receiving')
  })

  t.test('what was written is there after a restart', async t => {
    const database = await make(t)
    const before = database.open()
    await before.migrate()
    const id = await staged(before)
    const { result } = await finalize(before, finalizeInput(id, { version: versionInput() })) as { result: unknown }
    const upload = await before.uploads.get(id)
    await before.close()
    const after = database.open()
    await after.migrate()
    t.strictSame(await after.uploads.get(id), upload)
    t.strictSame(await finalize(after, finalizeInput(id)), { outcome: 'repeated', result })
    t.match(await after.extensions.list({ limit: 10 }), [{ name: 'tool' }])
  })

  t.test('a database that was never migrated does not pass the check', async t => {
    const store = (await make(t)).open()
    await t.rejects(store.check(), RecordStoreFailed)
    await store.migrate()
    await t.resolves(store.check())
  })

  t.test('what one node wrote the other reads at once', async t => {
    const [first, second] = await twoNodes(t, make)
    for (let round = 0; round < 20; round += 1) {
      const id = await receiving(first)
      t.equal((await second.uploads.get(id))?.status, 'receiving')
    }
  })

  t.test('a closed store rejects, and closes again without error', async t => {
    const store = await migrated(t, make)
    await store.close()
    await store.close()
    await t.rejects(store.uploads.get(randomUUID()), RecordStoreFailed)
    await t.rejects(store.migrate(), RecordStoreFailed)
    await t.rejects(store.check(), RecordStoreFailed)
  })

  t.test('heartbeats of two nodes beside aborts end in a state that both agree on', async t => {
    const pair = await twoNodes(t, make)
    const ids = await Promise.all(times(40, index => receiving(pair[index % 2]!)))
    const beats = times(40, async index => {
      await sleep(index % 10)
      return pair[index % 2]!.uploads.progress((index % 3 ? ids : ids.toReversed()).map(id => ({ id, received: index })))
    })
    const aborted = ids.filter((_, index) => index % 4 === 0)
    await Promise.all([...beats, ...aborted.map((id, index) => pair[index % 2]!.uploads.end(id, 'aborted'))])
    t.strictSame(await pair[0].uploads.progress(ids.map(id => ({ id, received: 3 }))), aborted)
  })
}
