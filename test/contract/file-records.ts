/** The promises of src/records/access-port.ts for shared files and settings, held by every adapter. Two nodes are two stores over the same data. */
import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { FILE_SEARCH_ROWS_MAX } from '../../src/limits.ts'
import type { Holder, NewFile } from '../../src/records/access-port.ts'
import type { FileRecord } from '../../src/records/jobs-port.ts'
import type { PageCursor, RecordStore } from '../../src/records/port.ts'
import type { MakeDatabase } from './record-store.ts'

/** @param make an empty database of its own for one test */
export async function fileRecordsContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = { adding, collecting, listing, holders, searching, longSearches, changing, removing, resultsOfJobs, grants, grantRaces, settings }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

// ---- builders

const ada: Holder = { subject: 'ada', account: 'acme' }
const bob = { subject: 'bob', account: 'acme' }
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))
const future = () => Date.now() + 1_000_000_000
const keyOf = (sha256: string) => `canonical/${sha256}`

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

async function claimed(store: RecordStore, sha256: string): Promise<string> {
  const claim = await store.objects.claim({ sha256, key: keyOf(sha256), size: 3, contentType: 'application/octet-stream' })
  if (claim === undefined) throw new Error('the hash is being collected')
  return claim
}

function newFile(sha256: string, claim: string | null, { holder = ada, ...changes }: Partial<NewFile> & { holder?: Holder } = {}): NewFile {
  return {
    id: randomUUID(), filename: 'a.txt', contentType: 'text/plain', size: 3, sha256, key: keyOf(sha256), access: 'account',
    owner: { ...holder, clientId: null }, claim, stagedUploadId: null, ...changes
  }
}

type Changes = Parameters<typeof newFile>[2]

async function added(store: RecordStore, changes: Changes = {}, sha256: string = randomUUID()): Promise<FileRecord> {
  const file = await store.files.add(newFile(sha256, await claimed(store, sha256), changes))
  if (file === 'reclaim') throw new Error('reclaim')
  return file
}

/** Many of the same bytes, quickly. */
async function addMany(store: RecordStore, count: number, changes: Changes = {}): Promise<void> {
  const first = await added(store, changes)
  for (let left = count - 1; left > 0; left -= 50) {
    await Promise.all(times(Math.min(50, left), () => store.files.add(newFile(first.sha256, null, changes))))
  }
}

async function pages(store: RecordStore, limit: number, holder: Holder, between: () => Promise<unknown> = async () => {}): Promise<string[]> {
  const ids: string[] = []
  for (let after: PageCursor | undefined; ;) {
    const page = await store.files.list({ holder, limit, ...after && { after } })
    ids.push(...page.map(({ id }) => id))
    if (page.length < limit) return ids
    after = page.at(-1)!
    await between()
  }
}

// ---- sections

async function adding(t: Test, make: MakeDatabase): Promise<void> {
  const store = await migrated(t, make, { now: () => 5000 })
  const upload = randomUUID()
  await store.uploads.adopt({ id: upload, kind: 'object', stagingKey: upload, filename: 'a', size: 3, declaredSha256: null, owner: { ...ada, clientId: 'web' } }, { sha256: 'a1', etag: 'e', size: 3 })
  const file = newFile('a1', await claimed(store, 'a1'), { owner: { ...ada, clientId: 'web' }, filename: 'ü \u{1F600}.txt', access: 'restricted', stagedUploadId: upload })
  const { claim: _, stagedUploadId: __, ...shown } = file
  t.strictSame(await store.files.add(file), { ...shown, createdAt: 5000 })
  t.strictSame(await store.files.get(file.id), { ...shown, createdAt: 5000 })
  t.equal(await store.uploads.get(upload), undefined, 'the upload that held the bytes is gone')
  t.match(await store.files.findOwned({ sha256: 'a1' }, file.owner), { key: keyOf('a1') })
  t.equal(await store.files.get(randomUUID()), undefined)
  const nul = await added(store, { filename: 'a\0b', contentType: 'text/\0plain' })
  t.match(nul, { filename: 'ab', contentType: 'text/plain' })
}

async function collecting(t: Test, make: MakeDatabase): Promise<void> {
  const [store, other] = await twoNodes(t, make)
  const { sha256, id } = await added(store)
  t.equal(await other.objects.beginCollect(sha256, future()), undefined, 'a file keeps the collector off')
  const again = await store.files.add(newFile(sha256, null))
  t.not(again, 'reclaim', 'a row that points there vouches for the hash')
  await store.files.remove(id)
  t.equal(await other.objects.beginCollect(sha256, future()), undefined, 'the other file still points there')
  await store.files.remove((again as FileRecord).id)

  const claim = await claimed(store, sha256)
  const lease = await other.objects.beginCollect(sha256, future())
  t.ok(lease)
  const upload = randomUUID()
  await store.uploads.adopt({ id: upload, kind: 'object', stagingKey: upload, filename: 'a', size: 3, declaredSha256: null, owner: { ...ada, clientId: null } }, { sha256, etag: 'e', size: 3 })
  const late = newFile(sha256, claim, { stagedUploadId: upload })
  t.equal(await store.files.add(late), 'reclaim')
  t.equal(await store.files.add(newFile(sha256, null)), 'reclaim')
  t.equal(await store.files.get(late.id), undefined)
  t.match(await store.uploads.get(upload), { status: 'staged' }, 'all of it is undone')
  await other.objects.endCollect(sha256, lease!)
  t.equal(await store.files.add(late), 'reclaim', 'the claim of before is none any more')
  t.not(await store.files.add({ ...late, claim: await claimed(store, sha256) }), 'reclaim')

  // of a collector and a new file one gets the hash, never both
  for (let round = 0; round < 10; round++) {
    const hash = randomUUID()
    const first = await claimed(store, hash)
    const [outcome, begun] = await Promise.all([store.files.add(newFile(hash, first)), other.objects.beginCollect(hash, future())])
    t.equal(outcome === 'reclaim', begun !== undefined)
  }
}

async function listing(t: Test, make: MakeDatabase): Promise<void> {
  let now = 1000
  const store = await migrated(t, make, { now: () => now })
  t.strictSame(await store.files.list({ holder: ada, limit: 10 }), [])
  const ids: string[] = []
  for (let each = 0; each < 7; each++) {
    // several in one millisecond
    now = 1000 + Math.floor(each / 3)
    ids.push((await added(store)).id)
  }
  await added(store, { holder: bob })
  const newestFirst = await pages(store, 100, ada)
  t.strictSame(newestFirst.toSorted(), ids.toSorted())
  t.strictSame(newestFirst.slice(0, 1), ids.slice(6))
  for (const limit of [1, 2, 3, 7]) t.strictSame(await pages(store, limit, ada), newestFirst, `pages of ${limit}`)
  now = 5000
  t.strictSame(await pages(store, 2, ada, () => added(store)), newestFirst, 'what comes meanwhile moves no page')
}

async function holders(t: Test, make: MakeDatabase): Promise<void> {
  const store = await migrated(t, make)
  const all: Holder[] = [
    ada, { subject: 'ada', account: null }, { subject: null, account: 'acme' }, { subject: null, account: null }, { subject: 'acme', account: 'ada' },
    { subject: 'null', account: 'acme' }, { subject: '', account: 'acme' }
  ]
  const files = new Map<Holder, string[]>()
  for (const holder of all) {
    const own = [await added(store, { owner: { ...holder, clientId: 'web' } }), await added(store, { owner: { ...holder, clientId: null } })]
    files.set(holder, own.map(({ id }) => id).toSorted())
  }
  for (const holder of all) {
    t.strictSame((await pages(store, 1, holder)).toSorted(), files.get(holder), `${JSON.stringify(holder)}: through whatever client they came`)
  }
}

async function searching(t: Test, make: MakeDatabase): Promise<void> {
  let now = 1000
  const store = await migrated(t, make, { now: () => now++ })
  const names = ['Straße.PDF', 'ÜBER uns.png', '100%_a.png', 'x.txt', 'Ölbild.png']
  const types = ['application/pdf', 'image/png', 'image/png', 'text/plain', 'image/png']
  for (const [index, filename] of names.entries()) await added(store, { filename, contentType: types[index]! })
  await added(store, { holder: bob, filename: 'über.png', contentType: 'image/png' })
  const search = async (query: { type?: string, text?: string }) => {
    const { files, next } = await store.files.search({ holder: ada, limit: 10, ...query })
    t.equal(next, null)
    return files.map(({ filename }) => filename)
  }
  t.strictSame(await search({}), names.toReversed())
  t.strictSame(await search({ type: 'image/' }), ['Ölbild.png', '100%_a.png', 'ÜBER uns.png'])
  t.strictSame(await search({ type: 'image/png', text: 'ö' }), ['Ölbild.png'])
  t.strictSame(await search({ text: 'über' }), ['ÜBER uns.png'], 'whatever the case, also where it is no ASCII')
  t.strictSame(await search({ text: 'pdf' }), ['Straße.PDF'])
  t.strictSame(await search({ text: 'u\u0308ber' }), ['ÜBER uns.png'], 'and however it is composed')
  for (const text of ['%', '_']) t.strictSame(await search({ text }), ['100%_a.png'], 'no pattern')
  t.strictSame(await search({ text: 'nothing' }), [])
  t.strictSame(await search({ type: 'application/pdfx' }), [])

  const first = await store.files.search({ holder: ada, limit: 2, type: 'image/' })
  t.strictSame(first.files.map(({ filename }) => filename), ['Ölbild.png', '100%_a.png'])
  const second = await store.files.search({ holder: ada, limit: 2, type: 'image/', after: first.next! })
  t.strictSame(second.files.map(({ filename }) => filename), ['ÜBER uns.png'])
  t.equal(second.next, null)
  const exact = await store.files.search({ holder: ada, limit: 3, type: 'image/' })
  t.equal(exact.next, null, 'a full page that is the last says so')
  const plain = await store.files.search({ holder: ada, limit: 4 })
  t.strictSame((await store.files.search({ holder: ada, limit: 4, after: plain.next! })).files.map(({ filename }) => filename), ['Straße.PDF'])
}

async function longSearches(t: Test, make: MakeDatabase): Promise<void> {
  let now = 1000
  const store = await migrated(t, make, { now: () => now })
  await added(store, { filename: 'needle' })
  now = 2000
  await addMany(store, FILE_SEARCH_ROWS_MAX + 100, { filename: 'hay' })
  const first = await store.files.search({ holder: ada, limit: 10, text: 'needle' })
  t.strictSame(first.files, [], 'it looks at so many, and no more')
  const second = await store.files.search({ holder: ada, limit: 10, text: 'needle', after: first.next! })
  t.match(second, { files: [{ filename: 'needle' }], next: null })
}

async function changing(t: Test, make: MakeDatabase): Promise<void> {
  const store = await migrated(t, make)
  const file = await added(store)
  t.strictSame(await store.files.update(file.id, { filename: 'b.txt' }), { ...file, filename: 'b.txt' })
  t.strictSame(await store.files.update(file.id, { access: 'public' }), { ...file, filename: 'b.txt', access: 'public' })
  t.strictSame(await store.files.update(file.id, { filename: 'c\0', access: 'restricted' }), { ...file, filename: 'c', access: 'restricted' })
  t.strictSame(await store.files.update(file.id, {}), { ...file, filename: 'c', access: 'restricted' })
  t.strictSame(await store.files.get(file.id), { ...file, filename: 'c', access: 'restricted' })
  t.equal(await store.files.update(randomUUID(), { filename: 'd' }), undefined)
  t.equal(await store.files.update(randomUUID(), {}), undefined)
}

async function removing(t: Test, make: MakeDatabase): Promise<void> {
  const [store, other] = await twoNodes(t, make)
  const file = await added(store)
  await store.files.grant(file.id, bob)
  await store.jobs.createDownload({ tokenHash: 'h', fileId: file.id, expiresAt: future() })
  t.strictSame((await Promise.all([store.files.remove(file.id), other.files.remove(file.id)])).toSorted(), [false, true])
  t.equal(await store.files.get(file.id), undefined)
  t.equal(await store.files.isGranted(file.id, bob), false)
  t.equal(await store.jobs.takeDownload('h'), undefined)
  t.equal(await store.files.remove(file.id), false)
  t.ok(await store.objects.beginCollect(file.sha256, future()), 'nothing points at the bytes any more')
}

/** The job shows what is left, and is no earlier job of the same kind any more. */
async function resultsOfJobs(t: Test, make: MakeDatabase): Promise<void> {
  const store = await migrated(t, make)
  const owner = { ...ada, clientId: 'web' }
  const id = randomUUID()
  await store.jobs.create({
    id, owner, userId: null, model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0, cache: true, memoKey: 'k', webhook: null,
    idempotency: null, reservation: null, queueMax: 10, stageTimings: {}, inputs: []
  })
  await store.jobs.claim({ token: 't', worker: 'w', leaseMs: 10_000 })
  const result = async (name: string) => ({ name, filename: name, sha256: name, key: keyOf(name), size: 3, contentType: 'text/plain', claim: await claimed(store, name) })
  t.equal(await store.jobs.complete(id, 't', { results: [await result('r1'), await result('r2')], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } }), 'completed')
  const listed = await store.files.list({ holder: ada, limit: 10 })
  t.strictSame(listed.map(({ filename }) => filename).toSorted(), ['r1', 'r2'], 'results are files of whose job it is')
  t.match(await store.jobs.findMemo('k', owner), { id })
  const gone = (await store.jobs.get(id))!.results[0]!
  await store.files.grant(gone.fileId, bob)
  t.equal(await store.files.remove(gone.fileId), true)
  t.strictSame((await store.jobs.get(id))!.results.map(({ name }) => name), ['r2'])
  t.equal(await store.jobs.findMemo('k', owner), undefined)
  const left = (await store.jobs.get(id))!.results[0]!
  await store.files.grant(left.fileId, bob)
  t.equal(await store.jobs.remove(id), 'removed', 'a job goes with its files and their grants')
  t.equal(await store.files.isGranted(left.fileId, bob), false)
  t.strictSame(await store.files.list({ holder: ada, limit: 10 }), [])
}

async function grants(t: Test, make: MakeDatabase): Promise<void> {
  const [store, other] = await twoNodes(t, make)
  const file = await added(store)
  t.equal(await store.files.isGranted(file.id, bob), false)
  t.strictSame(await Promise.all([store.files.grant(file.id, bob), other.files.grant(file.id, bob)]), [true, true])
  t.equal(await store.files.grant(file.id, bob), true)
  t.equal(await store.files.isGranted(file.id, bob), true)
  t.equal(await store.files.isGranted(file.id, { ...bob, account: null }), false)
  t.equal(await store.files.isGranted(file.id, { ...bob, account: 'other' }), false)
  t.equal(await store.files.isGranted(randomUUID(), bob), false)
  await store.files.revoke(file.id, bob)
  await store.files.revoke(file.id, bob)
  t.equal(await store.files.isGranted(file.id, bob), false)
  t.equal(await store.files.grant(randomUUID(), bob), false)
  await store.files.revoke(randomUUID(), bob)
}

async function grantRaces(t: Test, make: MakeDatabase): Promise<void> {
  const [store, other] = await twoNodes(t, make)
  for (let round = 0; round < 20; round++) {
    const { id } = await added(store)
    const subjects = times(4, index => ({ subject: `s${index}`, account: null }))
    const [removed] = await Promise.all([store.files.remove(id), ...subjects.map(holder => other.files.grant(id, holder))])
    t.equal(removed, true)
    for (const holder of subjects) t.equal(await store.files.isGranted(id, holder), false)
  }
}

async function settings(t: Test, make: MakeDatabase): Promise<void> {
  const [store, other] = await twoNodes(t, make)
  const made = await Promise.all(times(8, index => (index % 2 === 0 ? store : other).settings.secret('s', () => `value ${index}`)))
  t.equal(new Set(made).size, 1, 'of many that ask at once, one makes it')
  t.equal(await other.settings.secret('s', () => { throw new Error('it is there') }), made[0])
  t.not(await store.settings.secret('another', () => 'other'), made[0])
  await t.rejects(store.settings.secret('bad', () => { throw new Error('cannot') }))
  t.equal(await store.settings.secret('bad', () => 'good'), 'good')
}
