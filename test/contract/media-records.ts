/** The promises of src/records/access-port.ts for media libraries and activity, held by every adapter. Two nodes are two stores over the same data. */
import { randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import type { Test } from 'tap'
import { ACTIVITY_NUMBERED_MAX } from '../../src/limits.ts'
import type { Holder, MediaFile, MediaUpload, NewFile } from '../../src/records/access-port.ts'
import { userOf } from '../../src/records/holders.ts'
import type { JobHint, JobRecord, NewJob, NewResult } from '../../src/records/jobs-port.ts'
import type { Owner, PageCursor, RecordStore } from '../../src/records/port.ts'
import { PAST } from '../support/second-schema.ts'
import type { MakeDatabase } from './record-store.ts'

/** @param make an empty database of its own for one test */
export async function mediaRecordsContract(t: Test, name: string, make: MakeDatabase): Promise<void> {
  const sections = { uploading, completing, races, libraries, pages, resultsOfJobs, pruning, activity, numbering, activityHints, pruningActivity }
  for (const [title, section] of Object.entries(sections)) await t.test(`${name}: ${title}`, async section$ => section(section$, make))
}

/** Results of jobs of the past are in the library. @param store over a database that secondSchema() made */
export async function mediaUpgradeContract(t: Test, store: RecordStore): Promise<void> {
  await store.migrate()
  const found = names(await store.media.list({ holder: PAST.owner, limit: 10 }))
  t.strictSame(found.toSorted(), [`images/${PAST.job}_0.png`, `images/${PAST.job}_3.bin`, `videos/${PAST.job}_2.mp4`])
  t.match(await store.media.find(PAST.owner, `videos/${PAST.job}_2.mp4`), { id: 'file-2' })
  t.strictSame(await store.activity.read(PAST.owner, 0, 10), [], 'nothing happened')
  await store.jobs.remove(PAST.job)
  t.strictSame(await store.media.list({ holder: PAST.owner, limit: 10 }), [])
  t.match(await store.activity.read(PAST.owner, 0, 10), Array.from({ length: 5 }, (_, index) => ({ seq: index + 1 })))
}

// ---- builders

const ada: Owner = { subject: 'ada', account: 'acme', clientId: 'web' }
const bob: Owner = { subject: 'bob', account: null, clientId: null }
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index))
const keyOf = (sha256: string) => `canonical/${sha256}`
const EXECUTION = { provider: 'cpu', device: 'cpu', worker: 'w1', cached: false }

async function migrated(t: Test, make: MakeDatabase, options?: { now?: () => number }): Promise<RecordStore> {
  const store = (await make(t)).open(options)
  await store.migrate()
  return store
}

async function twoNodes(t: Test, make: MakeDatabase, options?: { now?: () => number }): Promise<[RecordStore, RecordStore]> {
  const database = await make(t)
  const [first, second] = [database.open(options), database.open(options)]
  await first.migrate()
  return [first, second]
}

async function claimed(store: RecordStore, sha256: string): Promise<string> {
  const claim = await store.objects.claim({ sha256, key: keyOf(sha256), size: 3, contentType: 'application/octet-stream' })
  if (claim === undefined) throw new Error('the hash is being collected')
  return claim
}

async function begun(store: RecordStore, changes: Partial<MediaUpload> = {}): Promise<string> {
  const id = randomUUID()
  await store.media.begin({ id, owner: ada, filename: 'a.png', contentType: 'image/png', size: 3, uploadId: null, expiresAt: 5000, ...changes })
  return id
}

async function staged(store: RecordStore, sha256: string, owner = ada): Promise<string> {
  const id = randomUUID()
  await store.uploads.create({ id, kind: 'object', stagingKey: `staging/${id}`, filename: 'a.png', size: 3, declaredSha256: null, owner })
  await store.uploads.stage(id, { sha256, etag: 'e', size: 3 })
  return id
}

function newFile(sha256: string, claim: string | null, changes: Partial<NewFile> = {}): Omit<NewFile, 'id'> {
  return { filename: 'a.png', contentType: 'image/png', size: 3, sha256, key: keyOf(sha256), access: 'restricted', owner: ada, claim, stagedUploadId: null, ...changes }
}

async function completed(store: RecordStore, owner = ada, sha256: string = randomUUID()): Promise<MediaFile> {
  const file = await store.media.complete(await begun(store, { owner }), newFile(sha256, await claimed(store, sha256), { owner }))
  if (typeof file === 'string') throw new Error(file)
  return file
}

async function queued(store: RecordStore, owner = ada): Promise<JobRecord> {
  const job: NewJob = {
    id: randomUUID(), owner, userId: null, model: { name: 'edges', version: '1', sha256: 'm1' }, task: 'image-to-image', params: {}, priority: 0, inputs: [],
    cache: true, memoKey: 'memo', webhook: null, idempotency: null, reservation: null, queueMax: 10_000, stageTimings: {}
  }
  const made = await store.jobs.create(job)
  if (made.outcome !== 'created') throw new Error(made.outcome)
  return made.job
}

/** A completed job with results of these types. */
async function done(store: RecordStore, types: readonly string[], owner = ada): Promise<string> {
  const { id } = await queued(store, owner)
  const token = randomUUID()
  await store.jobs.claim({ token, worker: 'w1', leaseMs: 30_000 })
  const results = await Promise.all(types.map(async (contentType, index): Promise<NewResult> => {
    const sha256 = randomUUID()
    return { name: `r${index}`, filename: `r${index}`, sha256, key: keyOf(sha256), size: 3, contentType, claim: await claimed(store, sha256) }
  }))
  if (await store.jobs.complete(id, token, { results, execution: EXECUTION }) !== 'completed') throw new Error('not completed')
  return id
}

const names = (files: readonly MediaFile[]) => files.map(({ mediaName }) => mediaName)

// ---- on the way

function uploading(t: Test, make: MakeDatabase): void {
  t.test('an upload that was begun waits, and reads back as it was made', async t => {
    const store = await migrated(t, make, { now: () => 1_790_000_000_123 })
    const id = await begun(store, { owner: bob, size: null })
    t.strictSame(await store.media.pending(id), {
      id, owner: bob, filename: 'a.png', contentType: 'image/png', size: null, status: 'awaiting', uploadId: null, expiresAt: 5000, createdAt: 1_790_000_000_123
    })
    t.equal(await store.media.pending(randomUUID()), undefined)
  })

  t.test('of several that store its bytes one does, and it says which', async t => {
    const [first, second] = await twoNodes(t, make)
    const id = await begun(first)
    const stored = await Promise.all(times(6, n => [first, second][n % 2]!.media.store(id, `upload-${n}`)))
    t.equal(stored.filter(Boolean).length, 1)
    t.match(await second.media.pending(id), { status: 'stored', uploadId: `upload-${stored.indexOf(true)}` })
    t.equal(await first.media.store(randomUUID(), 'u'), false)
  })
}

// ---- completing

function completing(t: Test, make: MakeDatabase): void {
  t.test('a complete one is a file with a name, and its staged upload is gone', async t => {
    const store = await migrated(t, make, { now: () => 1_790_000_000_123 })
    const [id, upload] = [await begun(store), await staged(store, 'a1')]
    await store.media.store(id, upload)
    const file = await store.media.complete(id, newFile('a1', await claimed(store, 'a1'), { stagedUploadId: upload }))
    const expected = {
      id, filename: 'a.png', contentType: 'image/png', size: 3, sha256: 'a1', key: keyOf('a1'), access: 'restricted', owner: ada,
      createdAt: 1_790_000_000_123, mediaName: `${id}/a.png`
    }
    t.strictSame(file, expected)
    t.strictSame(await store.media.find(ada, `${id}/a.png`), expected)
    t.match(await store.files.get(id), { id, sha256: 'a1' })
    t.equal(await store.uploads.get(upload), undefined)
    t.equal(await store.media.pending(id), undefined)
    t.equal(await store.objects.beginCollect('a1', Date.now() + 1_000_000), undefined, 'the file keeps its bytes')
  })

  t.test('where the collector has the hash nothing is written, and it can be completed again', async t => {
    const store = await migrated(t, make)
    const id = await begun(store)
    const claim = await claimed(store, 'b1')
    const lease = await store.objects.beginCollect('b1', Date.now() + 1_000_000)
    t.equal(await store.media.complete(id, newFile('b1', claim)), 'reclaim')
    t.match(await store.media.pending(id), { id })
    t.equal(await store.media.find(ada, `${id}/a.png`), undefined)
    await store.objects.endCollect('b1', lease!)
    t.match(await store.media.complete(id, newFile('b1', await claimed(store, 'b1'))), { id })
  })

  t.test('one that was discarded is gone, and its staged bytes are nobody\'s', async t => {
    const store = await migrated(t, make)
    const [id, upload] = [await begun(store), await staged(store, 'c1')]
    await store.media.store(id, upload)
    t.equal(await store.media.discard(id), true)
    t.equal(await store.media.discard(id), false)
    t.match(await store.uploads.get(upload), { status: 'aborted' })
    t.equal(await store.media.complete(id, newFile('c1', await claimed(store, 'c1'))), 'gone')
  })
}

function races(t: Test, make: MakeDatabase): void {
  t.test('of several that complete one, one does', async t => {
    const [first, second] = await twoNodes(t, make)
    const [id, upload] = [await begun(first), await staged(first, 'a1')]
    await first.media.store(id, upload)
    const claim = await claimed(first, 'a1')
    const outcomes = await Promise.all(times(8, n => [first, second][n % 2]!.media.complete(id, newFile('a1', claim, { stagedUploadId: upload }))))
    t.equal(outcomes.filter(each => each === 'gone').length, 7)
    t.equal((await second.media.list({ holder: ada, limit: 10 })).length, 1)
  })
}

// ---- libraries

function libraries(t: Test, make: MakeDatabase): void {
  t.test('every holder has a library of their own, whatever of them is null', async t => {
    const store = await migrated(t, make)
    const holders: Holder[] = [{ subject: 'ada', account: 'acme' }, { subject: 'ada', account: null }, { subject: null, account: 'acme' }, { subject: null, account: null }, { subject: 'acme', account: 'ada' }]
    const files = await Promise.all(holders.map(holder => completed(store, { ...holder, clientId: 'web' })))
    for (const [index, holder] of holders.entries()) {
      t.strictSame(names(await store.media.list({ holder, limit: 10 })), [files[index]!.mediaName])
      for (const [other, { mediaName }] of files.entries()) t.equal((await store.media.find(holder, mediaName))?.id, other === index ? files[index]!.id : undefined)
    }
    t.equal(new Set(holders.map(userOf)).size, holders.length)
  })

  t.test('whatever client it came through, it is the holder\'s', async t => {
    const store = await migrated(t, make)
    const file = await completed(store, { ...ada, clientId: 'other' })
    t.match(await store.media.find(ada, file.mediaName), { id: file.id })
  })

  t.test('names do not mix up ids that look like separators', t => {
    const holders: Holder[] = [
      { subject: 'b', account: 'a/' }, { subject: '/b', account: 'a' }, { subject: 'a/b', account: null }, { subject: null, account: '~' },
      { subject: '~', account: null }, { subject: null, account: null }, { subject: '~', account: '~' }, { subject: '', account: '' }, { subject: '', account: null }
    ]
    t.equal(new Set(holders.map(userOf)).size, holders.length)
    for (const holder of holders) t.match(userOf(holder), /^[0-9a-f]{32}$/)
    t.end()
  })

  t.test('a file that is removed as a file is in no library any more', async t => {
    const store = await migrated(t, make)
    const file = await completed(store)
    await store.files.remove(file.id)
    t.equal(await store.media.find(ada, file.mediaName), undefined)
    t.strictSame(await store.media.list({ holder: ada, limit: 10 }), [])
  })

  t.test('a file that was uploaded as such is in none', async t => {
    const store = await migrated(t, make)
    const claim = await claimed(store, 'd1')
    await store.files.add({ ...newFile('d1', claim), id: randomUUID() })
    t.strictSame(await store.media.list({ holder: ada, limit: 10 }), [])
  })
}

function pages(t: Test, make: MakeDatabase): void {
  t.test('pages show every entry once, newest first, with any prefix', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const all: string[] = []
    for (let n = 0; n < 12; n++) {
      time += n % 3 // some of one time
      if (n % 4 === 3) all.push(...(await done(store, ['image/png', 'video/mp4']), []))
      else all.push((await completed(store)).mediaName)
    }
    const whole = await store.media.list({ holder: ada, limit: 100 })
    t.equal(whole.length, 9 + 6)
    t.strictSame(whole.map(({ createdAt, id }) => [createdAt, id]), whole.map(({ createdAt, id }) => [createdAt, id] as const).toSorted((a, b) => b[0] - a[0] || (a[1] < b[1] ? 1 : -1)))
    for (const prefix of ['', 'images', 'images/', 'videos', 'i', 'image', whole[0]!.mediaName.slice(0, 8)]) {
      const paged: string[] = []
      for (let after: PageCursor | undefined; ;) {
        const page = await store.media.list({ holder: ada, prefix, limit: 2, ...after && { after } })
        paged.push(...names(page))
        if (page.length < 2) break
        after = page.at(-1)!
      }
      t.strictSame(paged, names(whole).filter(name => name.startsWith(prefix)), `prefix '${prefix}'`)
    }
  })

  t.test('a prefix is text: nothing in it is a pattern', async t => {
    const store = await migrated(t, make)
    await done(store, ['image/png'])
    for (const prefix of ['%', '_mages', 'images%', 'IMAGES', '../images', '/images', '\u{10ffff}']) t.strictSame(await store.media.list({ holder: ada, prefix, limit: 10 }), [], prefix)
  })
}

function resultsOfJobs(t: Test, make: MakeDatabase): void {
  t.test('images and videos of a job are there by their index, and nothing else', async t => {
    const store = await migrated(t, make)
    const id = await done(store, ['image/png', 'application/json', 'video/mp4', 'image/jpeg', 'image/x-unknown'])
    t.strictSame(names(await store.media.list({ holder: ada, limit: 10 })).toSorted(), [`images/${id}_0.png`, `images/${id}_3.jpg`, `images/${id}_4.bin`, `videos/${id}_2.mp4`])
    t.match(await store.media.find(ada, `images/${id}_0.png`), { contentType: 'image/png', filename: 'r0' })
    t.equal(await store.media.find(bob, `images/${id}_0.png`), undefined)
  })

  t.test('they go with their job, and one of them alone leaves the others', async t => {
    const store = await migrated(t, make)
    const id = await done(store, ['image/png', 'image/png'])
    await store.files.remove((await store.media.find(ada, `images/${id}_0.png`))!.id)
    t.strictSame(names(await store.media.list({ holder: ada, prefix: 'images', limit: 10 })), [`images/${id}_1.png`])
    await store.jobs.remove(id)
    t.strictSame(await store.media.list({ holder: ada, limit: 10 }), [])
  })
}

function pruning(t: Test, make: MakeDatabase): void {
  t.test('what was begun long ago goes, with its staged bytes, and what is younger stays', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    const old = [await begun(store), await begun(store), await begun(store)]
    const upload = await staged(store, 'a1')
    await store.media.store(old[1]!, upload)
    time = 2000
    const young = await begun(store)
    t.equal(await store.media.prune(2000, 2), 2)
    t.equal(await store.media.prune(2000, 2), 1)
    t.equal(await store.media.prune(2000, 2), 0)
    t.match(await store.uploads.get(upload), { status: 'aborted' })
    t.match(await store.media.pending(young), { id: young })
  })
}

// ---- activity

const told = async (store: RecordStore, holder: Holder = ada, after = 0) => store.activity.read(holder, after, 1000)
const brief = async (store: RecordStore, holder: Holder = ada) => (await told(store, holder)).map(({ seq, event }) => `${seq} ${event}`)

function activity(t: Test, make: MakeDatabase): void {
  t.test('a job is told of from its queue to its end, and when it is removed', async t => {
    const store = await migrated(t, make, { now: () => 1_790_000_000_123 })
    const id = await done(store, ['image/png', 'text/plain'])
    t.strictSame((await told(store)).map(({ seq, event, data }) => [seq, event, data.job_id ?? data.media_name ?? data.filename]), [
      [1, 'job_queued', id], [2, 'job_started', id], [3, 'media_added', `images/${id}_0.png`], [4, 'file_added', 'r1'], [5, 'job_complete', id]
    ])
    t.equal((await told(store))[0]!.createdAt, 1_790_000_000_123)
    await store.jobs.remove(id)
    t.strictSame((await told(store, ada, 5)).map(({ event }) => event).toSorted(), ['file_removed', 'job_removed', 'media_removed'])
  })

  t.test('failed, cancelled, tried again', async t => {
    const store = await migrated(t, make)
    const { id } = await queued(store)
    await store.jobs.claim({ token: 't', worker: 'w', leaseMs: 30_000 })
    await store.jobs.progress(id, 't', { stage: 's', progress: 3, message: null })
    await store.jobs.release(id, 't')
    await store.jobs.claim({ token: 'u', worker: 'w', leaseMs: 30_000 })
    await store.jobs.fail(id, 'u', { code: 'c', message: 'm' })
    await store.jobs.retry(id)
    await store.jobs.requestCancel(id)
    t.strictSame(await brief(store), ['1 job_queued', '2 job_started', '3 job_queued', '4 job_started', '5 job_failed', '6 job_queued', '7 job_cancelled'])
  })

  t.test('what was undone is not told of, and takes no number', async t => {
    const store = await migrated(t, make)
    const job = await queued(store)
    t.equal((await store.jobs.create({ ...job, id: randomUUID(), queueMax: 1, stageTimings: {}, inputs: [], idempotency: null, reservation: null })).outcome, 'queue_full')
    const id = await begun(store)
    t.equal(await store.media.complete(id, newFile('never-there', null)), 'reclaim')
    await completed(store)
    t.strictSame(await brief(store), ['1 job_queued', '2 media_added'])
  })

  t.test('everyone is told of their own, and counted by themselves', async t => {
    const store = await migrated(t, make)
    const [first, second] = [await completed(store), await completed(store, bob)]
    const third = await completed(store, { ...ada, clientId: null })
    t.match(await told(store), [{ seq: 1, data: { file_id: first.id, media_name: first.mediaName } }, { seq: 2, data: { file_id: third.id } }])
    t.match(await told(store, bob), [{ seq: 1, data: { file_id: second.id } }])
    t.strictSame(await told(store, { subject: null, account: null }), [])
    t.equal(await store.activity.head({ subject: null, account: null }), 0)
  })

  t.test('ids of any kind are the holder\'s that they are', async t => {
    const store = await migrated(t, make)
    const holders = [{ subject: '~0', account: '/' }, { subject: '~', account: null }, { subject: null, account: '~' }, { subject: 'ü"\\\'\u{1f600}', account: 'a\nb' }]
    for (const holder of holders) await completed(store, { ...holder, clientId: null })
    for (const holder of holders) t.strictSame(await brief(store, holder), ['1 media_added'], JSON.stringify(holder))
  })

  t.test('a finalized upload is told of, and a file that comes and goes', async t => {
    const store = await migrated(t, make)
    const upload = await staged(store, 'e1')
    await store.uploads.finalize({ uploadId: upload, sha256: 'e1', canonicalKey: keyOf('e1'), size: 3, contentType: 'text/plain', claim: await claimed(store, 'e1'), result: () => ({}) })
    const id = randomUUID()
    await store.files.add({ ...newFile('e1', null, { filename: 'quote"\\.txt' }), id })
    await store.files.remove(id)
    t.match(await told(store), [
      { event: 'upload_finalized', data: { upload_id: upload, kind: 'object', sha256: 'e1' } },
      { event: 'file_added', data: { file_id: id, filename: 'quote"\\.txt', media_name: null } }, { event: 'file_removed', data: { file_id: id } }
    ])
  })
}

function numbering(t: Test, make: MakeDatabase): void {
  t.test('many who write and many who look see one story without gaps, whatever node they are at', async t => {
    const [first, second] = await twoNodes(t, make)
    const claim = await claimed(first, 'n1')
    const writes = Promise.all(times(60, async n => {
      const node = [first, second][n % 2]!
      const id = randomUUID()
      await node.files.add({ ...newFile('n1', claim), id })
      await node.files.remove(id)
    }))
    let over = false
    void writes.finally(() => { over = true })
    const watch = async (node: RecordStore) => {
      const seen: string[] = []
      for (let last = false; ;) {
        await turn() // SQLite answers at once: the writers want their turn
        const events = await node.activity.read(ada, seen.length, 7)
        for (const { seq, event, data } of events) {
          t.equal(seq, seen.length + 1)
          seen.push(`${event} ${String(data.file_id)}`)
        }
        if (last && events.length === 0) return seen
        last = over
      }
    }
    const stories = await Promise.all([watch(first), watch(second), watch(first), watch(second)])
    await writes
    for (const story of stories) t.strictSame(story, stories[0])
    t.equal(stories[0]!.length, 120)
    for (const [index, line] of stories[0]!.entries()) {
      if (line.startsWith('file_removed')) t.ok(stories[0]!.indexOf(line.replace('removed', 'added')) < index, 'nothing goes before it came')
    }
  })

  t.test('more than are numbered at once are numbered all the same', async t => {
    const store = await migrated(t, make)
    const claim = await claimed(store, 'n2')
    const count = ACTIVITY_NUMBERED_MAX + 20
    for (let n = 0; n < count; n += 26) await Promise.all(times(Math.min(26, count - n), () => store.files.add({ ...newFile('n2', claim), id: randomUUID() })))
    t.equal(await store.activity.head(ada), count)
    t.strictSame((await store.activity.read(ada, count - 2, 10)).map(({ seq }) => seq), [count - 1, count])
    t.equal(await store.activity.head(ada), count)
  })
}

function activityHints(t: Test, make: MakeDatabase): void {
  t.test('a hint says for whom there is something new', async t => {
    const store = await migrated(t, make)
    const users: string[] = []
    t.teardown(store.jobs.subscribe((hint: JobHint) => { if (hint.kind === 'activity') users.push(hint.user) }))
    const heard = async (work: () => Promise<unknown>) => {
      users.length = 0
      await work()
      await new Promise(resolve => setImmediate(resolve))
      return [...new Set(users)]
    }
    const user = userOf(ada)
    t.strictSame(await heard(() => completed(store)), [user])
    t.strictSame(await heard(() => done(store, ['image/png'], bob)), [userOf(bob)])
    const job = await queued(store)
    t.strictSame(await heard(() => store.jobs.requestCancel(job.id)), [user])
    t.strictSame(await heard(() => store.jobs.remove(job.id)), [user])
    const file = await completed(store)
    t.strictSame(await heard(() => store.files.remove(file.id)), [user])
    t.strictSame(await heard(() => store.media.complete(randomUUID(), newFile('x', null))), [])
  })
}

function pruningActivity(t: Test, make: MakeDatabase): void {
  t.test('old rows go, and their numbers are not given again, looked at or not', async t => {
    let time = 1000
    const store = await migrated(t, make, { now: () => time })
    for (const owner of [ada, bob, ada]) await completed(store, owner)
    t.equal(await store.activity.head(ada), 2)
    await completed(store)
    time = 2000
    await completed(store)
    t.equal(await store.activity.prune(2000, 3), 3)
    t.equal(await store.activity.prune(2000, 3), 1)
    t.equal(await store.activity.prune(2000, 3), 0)
    t.strictSame(await brief(store), ['4 media_added'])
    t.strictSame(await brief(store, bob), [])
    t.equal(await store.activity.head(bob), 1)
    await completed(store, bob)
    t.strictSame(await brief(store, bob), ['2 media_added'])
  })
}
