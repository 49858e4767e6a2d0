/** The way of a byte over whatever stores the environment names: the same suite over files + SQLite and over MinIO + Postgres. */
import type { Test } from 'tap'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { collect } from '../../src/ingest/collect.ts'
import { sweep } from '../../src/ingest/sweep.ts'
import { COLLECT_LEASE_MS } from '../../src/limits.ts'
import { canonicalKey, stagingKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { openObjectStore, openRecordStore, recordsFile } from '../../src/stores.ts'
import { bundleBytes } from '../support/bundles.ts'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

/** The stores of a started app, opened a second time. */
function storesOf(t: Test, app: StartedApp): { store: ObjectStore, records: RecordStore } {
  const store = openObjectStore(app.config)
  const records = openRecordStore(app.config)
  t.teardown(async () => {
    await store.close()
    await records.close()
  })
  return { store, records }
}

/** The records of a started app, as a node would use them whose clock stands at this time. */
function recordsAt(t: Test, { config }: StartedApp, ms: number): RecordStore {
  const now = (): number => ms
  const records = config.DATABASE_URL === undefined
    ? sqliteRecordStore({ file: recordsFile(config), now })
    : postgresRecordStore({ url: config.DATABASE_URL, now })
  t.teardown(() => records.close())
  return records
}

async function uploaded(app: StartedApp, bytes: Uint8Array, query: Record<string, string> = {}): Promise<string> {
  const { status, body } = await app.upload(bytes, query)
  if (status !== 200) throw new Error(`upload answered ${status} ${JSON.stringify(body)}`)
  return body.upload.key as string
}

/** `makeEnv` gives the environment of fresh, empty stores. */
export function ingestContract(t: Test, name: string, makeEnv: (t: Test) => Promise<Record<string, string>>): void {
  const start = async (t: Test, env: Record<string, string> = {}): Promise<StartedApp> => await startApp(t, { ...await makeEnv(t), ...env })

  t.test(`${name}: finalize makes an immutable object at its sha256 and empties staging`, async t => {
    const app = await start(t)
    const bytes = randomBytes(700_000)
    const sha256 = digest(bytes)
    const key = await uploaded(app, bytes)
    const answer = await app.post('/finalize', { key, size: bytes.length, declaredHash: sha256 })
    t.equal(answer.status, 200)
    t.same(answer.body, { contentHash: sha256, canonicalKey: `sha256/${sha256}/object`, size: bytes.length, contentType: 'application/octet-stream', deduplicated: false })
    await nothingLeft(app, [`sha256/${sha256}/object`])
    t.same((await app.post('/finalize', { key })).body, answer.body, 'a repeat gets the same answer')
    t.same((await app.post('/finalize', { key: answer.body.canonicalKey })).body, answer.body, 'so does its canonical key')
    t.match(await app.post('/finalize', { key, size: 1 }), { status: 400, body: { code: 'SIZE_MISMATCH' } }, 'a repeat is still checked')
    t.match(await app.post('/finalize', { key, declaredHash: 'a'.repeat(64) }), { status: 400, body: { code: 'HASH_MISMATCH' } })
  })

  t.test(`${name}: equal bytes are stored once`, async t => {
    const app = await start(t)
    const bytes = randomBytes(10_000)
    const first = await app.post('/finalize', { key: await uploaded(app, bytes) })
    const second = await app.post('/api/ext-bundles/finalize', { key: await uploaded(app, bytes) })
    t.match([first.body.deduplicated, second.body.deduplicated], [false, true])
    t.equal(first.body.canonicalKey, second.body.canonicalKey)
    await nothingLeft(app, [first.body.canonicalKey])
  })

  t.test(`${name}: what finalize refuses stays staged, and can be finalized afterwards`, async t => {
    const app = await start(t)
    const bytes = randomBytes(1000)
    const key = await uploaded(app, bytes)
    t.match(await app.post('/finalize', { key, size: 999 }), { status: 400, body: { code: 'SIZE_MISMATCH', details: { expected: 999, actual: 1000 } } })
    t.match(await app.post('/finalize', { key, declaredHash: 'b'.repeat(64) }), { status: 400, body: { code: 'HASH_MISMATCH', details: { computed: digest(bytes) } } })
    t.same(await keysOf(app), [key])
    t.equal((await app.post('/finalize', { key })).status, 200)
  })

  t.test(`${name}: a key that is almost a staging key is refused`, async t => {
    const app = await start(t)
    const id = randomUUID()
    const bad = ['', 'x', `/sha256/_staging/${id}/object`, `sha256/_staging/${id}/object/`, `sha256/_staging/${id}/../object`, `sha256/_staging/${id}/other`,
      `sha256/_staging/${id.toUpperCase()}/object`, `sha256/_staging/${id}/object\n`, `sha256/_staging/${id}%2fobject`, `sha256//_staging/${id}/object`,
      `sha256/${'a'.repeat(63)}/object`, `sha256/${'a'.repeat(64)}/manifest.json`, `sha256/${'a'.repeat(64)}/../x`, '_probe/x', 'a'.repeat(2000)]
    for (const key of bad) t.match(await app.post('/finalize', { key }), { status: 400, body: { code: 'BAD_REQUEST' } }, JSON.stringify(key).slice(0, 80))
    for (const key of [`sha256/_staging/${id}/object`, `sha256/${'a'.repeat(64)}/object`]) {
      t.match(await app.post('/finalize', { key }), { status: 400, body: { code: 'STAGING_NOT_FOUND' } }, 'well formed, but not there')
    }
    for (const body of [[], 'x', null, {}, { key: 1 }, { key: stagingKey(id, 'object'), size: 0 }, { key: stagingKey(id, 'object'), size: '5x' }, { key: stagingKey(id, 'object'), declaredHash: '' }, { key: stagingKey(id, 'object'), signature: { algorithm: 'rot13' } }]) {
      t.match(await app.post('/finalize', body), { status: 400, body: { code: 'BAD_REQUEST' } }, JSON.stringify(body))
    }
  })

  t.test(`${name}: abort deletes what is staged, says so again, and never touches canonical objects`, async t => {
    const app = await start(t)
    const key = await uploaded(app, randomBytes(1000))
    const deleted = { status: 200, body: { status: 'deleted', key, area: 'staging' } }
    t.match(await app.post('/abort', { key, reason: 'not needed' }), deleted)
    t.match(await app.post('/api/ext-bundles/abort', { key }), deleted)
    await nothingLeft(app)
    t.match(await app.post('/finalize', { key }), { status: 400, body: { code: 'STAGING_NOT_FOUND' } })
    const kept = await app.post('/finalize', { key: await uploaded(app, randomBytes(1000)) })
    const { canonicalKey: canonical } = kept.body
    t.match(await app.post('/abort', { key: canonical }), { status: 200, body: { status: 'noop', key: canonical, area: 'canonical' } })
    t.same(await keysOf(app), [canonical])
    for (const body of [{ key: 'elsewhere' }, { key: 'sha256/_staging/x/object' }, { key: 'sha256/_staging' }, { key: 'sha256/_staging/' }, { key: 'sha256/../x' }, { key, reason: 'x'.repeat(501) }, { key, reason: 'a\nb' }, {}]) {
      t.match(await app.post('/abort', body), { status: 400, body: { code: 'BAD_REQUEST' } }, JSON.stringify(body).slice(0, 60))
    }
  })

  t.test(`${name}: of 50 finalizes of one key all succeed, and it is one object`, async t => {
    const app = await start(t)
    const key = await uploaded(app, randomBytes(50_000))
    const answers = await Promise.all(Array.from({ length: 50 }, () => app.post('/finalize', { key })))
    for (const answer of answers) t.same([answer.status, answer.body], [200, answers[0]!.body])
    await nothingLeft(app, [answers[0]!.body.canonicalKey])
  })

  t.test(`${name}: 50 keys with equal bundles make one object, one version`, async t => {
    const app = await start(t)
    const bytes = await bundleBytes({ name: 'race', version: '1.0.0', runtime: 'node@24' })
    const keys = await Promise.all(Array.from({ length: 50 }, () => uploaded(app, bytes, { filename: 'a.tar.zst' })))
    const answers = await Promise.all(keys.map(key => app.post('/finalize', { key })))
    t.same(answers.map(answer => answer.status), answers.map(() => 200))
    t.equal(new Set(answers.map(answer => answer.body.version.id)).size, 1)
    const { canonicalKey: canonical, manifestKey } = answers[0]!.body
    await nothingLeft(app, [canonical, manifestKey])
  })

  t.test(`${name}: finalize racing abort ends as one of the two`, async t => {
    const app = await start(t)
    const { store, records } = storesOf(t, app)
    for (let round = 0; round < 15; round++) {
      const bytes = randomBytes(2000)
      const key = await uploaded(app, bytes)
      const [finalized, aborted] = await Promise.all([
        delay(round % 5).then(() => app.post('/finalize', { key })),
        delay(round % 3).then(() => app.post('/abort', { key }))
      ])
      t.equal(aborted.status, 200)
      const row = await records.uploads.get(key.split('/')[2]!)
      if (finalized.status === 200) {
        t.equal(row?.status, 'finalized')
        t.ok(await store.head(canonicalKey(digest(bytes), 'object')))
      } else {
        t.match(finalized, { status: 400, body: { code: 'STAGING_NOT_FOUND' } })
        t.equal(row?.status, 'aborted')
      }
      t.notOk(await store.head(key))
    }
  })

  t.test(`${name}: bytes that changed in staging are never copied`, async t => {
    const app = await start(t)
    const { store } = storesOf(t, app)
    const key = await uploaded(app, randomBytes(1000))
    await store.put(key, randomBytes(1000), { size: 1000 })
    t.match(await app.post('/finalize', { key }), { status: 409, body: { code: 'STAGING_CHANGED' } })
    t.same(await keysOf(app), [key])
  })

  t.test(`${name}: bytes that came in past the service are read and hashed`, async t => {
    const app = await start(t, { MAX_OBJECT_SIZE_BYTES: '2000' })
    const { store } = storesOf(t, app)
    const bytes = randomBytes(2000)
    const key = stagingKey(randomUUID(), 'object')
    await store.put(key, bytes, { size: bytes.length })
    t.match(await app.post('/finalize', { key }), { status: 200, body: { contentHash: digest(bytes), size: 2000 } })
    const tooLarge = stagingKey(randomUUID(), 'object')
    await store.put(tooLarge, randomBytes(2001), { size: 2001 })
    t.match(await app.post('/finalize', { key: tooLarge }), { status: 400, body: { code: 'BAD_REQUEST', details: { limit_bytes: 2000 } } })
    await store.delete(tooLarge)
  })

  t.test(`${name}: FINALIZE_REHASH=always reads again and gets the same`, async t => {
    const app = await start(t, { FINALIZE_REHASH: 'always' })
    const bytes = randomBytes(300_000)
    t.match(await app.post('/finalize', { key: await uploaded(app, bytes) }), { status: 200, body: { contentHash: digest(bytes) } })
  })

  t.test(`${name}: a bundle becomes an extension and a version`, async t => {
    const app = await start(t)
    const bytes = await bundleBytes({ name: 'demo', publisher: 'acme', version: '1.2.0', runtime: 'node@24' })
    const key = await uploaded(app, bytes, { filename: 'demo.tar.zst' })
    const { status, body } = await app.post('/finalize', { key })
    t.equal(status, 200)
    t.match(body, {
      canonicalKey: `sha256/${digest(bytes)}/bundle.tar.zst`, manifestKey: `sha256/${digest(bytes)}/manifest.json`, contentType: 'application/zstd',
      extension: { name: 'demo', publisher: 'acme' }, version: { version: '1.2.0' }, signature: { required: false, verified: false }
    })
    await nothingLeft(app, [body.canonicalKey, body.manifestKey])
    const { store } = storesOf(t, app)
    const manifest = await store.open(body.manifestKey)
    t.match(JSON.parse(Buffer.concat(await manifest.body.toArray()).toString()), { name: 'demo', version: '1.2.0' })

    const other = await uploaded(app, await bundleBytes({ name: 'demo', publisher: 'acme', version: '1.2.0', runtime: 'node@22' }), { filename: 'x.tar.zst' })
    t.match(await app.post('/finalize', { key: other }), { status: 409, body: { code: 'EXTENSION_VERSION_ALREADY_EXISTS' } })
    t.ok((await keysOf(app)).includes(other), 'the refused one is still staged')
    const next = await app.post('/finalize', { key: other, manifestJson: JSON.stringify({ name: 'demo', publisher: 'acme', version: '1.10.0', runtime: 'node@22' }) })
    t.equal(next.status, 200, 'a manifest in the request goes before the one in the archive')
    t.equal(next.body.extension.id, body.extension.id)

    const get = async (path: string): Promise<any> => await (await fetch(`${app.url}${path}`)).json() // eslint-disable-line typescript/no-explicit-any
    t.match(await get('/extensions'), { items: [{ id: body.extension.id, name: 'demo', latest_version: '1.10.0' }], next_cursor: null })
    const first = await get(`/extensions/${body.extension.id}/versions?limit=1`)
    t.match(first.items, [{ version: '1.10.0', content_hash: next.body.contentHash }])
    const second = await get(`/extensions/${body.extension.id}/versions?limit=1&cursor=${first.next_cursor}`)
    t.match(second, { items: [{ version: '1.2.0' }], next_cursor: null })
    t.equal((await fetch(`${app.url}/extensions?cursor=nonsense`)).status, 400)
    t.equal((await fetch(`${app.url}/extensions/${randomUUID()}/versions`)).status, 404)
  })

  t.test(`${name}: MANIFEST_REQUIRED can be answered with the same key`, async t => {
    const app = await start(t)
    const key = await uploaded(app, randomBytes(5000), { filename: 'x.tar.zst' })
    t.match(await app.post('/finalize', { key, manifestJson: ' ' }), { status: 400, body: { code: 'MANIFEST_REQUIRED', details: { reason: 'not_a_tar_zst' } } })
    t.match(await app.post('/finalize', { key, manifestJson: '{"name":""}' }), { status: 400, body: { code: 'INVALID_MANIFEST', details: { issues: [{ path: String, message: String }] } } })
    t.same(await keysOf(app), [key], 'nothing durable was written')
    t.equal((await app.post('/finalize', { key, manifestJson: '{"name":"a","version":"1.0.0","runtime":"node@24"}' })).status, 200)
  })

  t.test(`${name}: the sweeper takes what was never finalized, and only that`, async t => {
    const app = await start(t)
    const { store, records } = storesOf(t, app)
    const kept = await app.post('/finalize', { key: await uploaded(app, randomBytes(1000)) })
    const key = await uploaded(app, randomBytes(1000))
    const unowned = stagingKey(randomUUID(), 'object')
    await store.put(unowned, randomBytes(10), { size: 10 })
    const half = canonicalKey('c'.repeat(64), 'object')
    const known = await records.multiparts.record(half)
    const { uploadId } = await store.createMultipart(half)
    await records.multiparts.setUploadId(known.id, uploadId)
    await records.multiparts.record(half) // died before it knew the id
    await store.createMultipart(half)
    await delay(1100) // stores keep whole seconds
    const tooSoon = await sweep({ store, records, log: quiet }, new Date(Date.now() - 60_000), AbortSignal.timeout(30_000))
    t.match(tooSoon, { uploads: 0, objects: 0, multiparts: 0 })
    const report = await sweep({ store, records, log: quiet }, new Date(), AbortSignal.timeout(30_000))
    t.match(report, { uploads: 1, objects: 1, multiparts: 2 })
    t.same(await store.listMultiparts(half), [])
    await nothingLeft(app, [kept.body.canonicalKey])
    t.match(await app.post('/finalize', { key }), { status: 400, body: { code: 'STAGING_NOT_FOUND' } })
  })

  t.test(`${name}: the collector takes canonical objects that no row points at, and only those`, async t => {
    const app = await start(t)
    const { store, records } = storesOf(t, app)
    const kept = await app.post('/finalize', { key: await uploaded(app, randomBytes(1000)) })
    const orphan = canonicalKey('d'.repeat(64), 'object')
    await store.put(orphan, randomBytes(10), { size: 10 })
    await delay(1100)
    const found = async (remove: boolean, before: Date): Promise<unknown[]> => await Array.fromAsync(collect({ store, records, remove, before }))
    t.same(await found(true, new Date(Date.now() - 60_000)), [], 'within the grace period nothing goes')
    t.match(await found(false, new Date()), [{ sha256: 'd'.repeat(64), bytes: 10, removed: false }])
    t.ok(await store.head(orphan), 'a dry run removes nothing')
    t.match(await found(true, new Date()), [{ sha256: 'd'.repeat(64), removed: true }])
    t.same(await keysOf(app), [kept.body.canonicalKey])
  })

  t.test(`${name}: a collection that was cut off is finished by the next one`, async t => {
    const app = await start(t)
    const { store, records } = storesOf(t, app)
    const bytes = randomBytes(1000)
    const sha256 = digest(bytes)
    t.ok(await records.objects.beginCollect(sha256, Date.now() + 1000), 'a collector that dies here has deleted everything')
    const key = await uploaded(app, bytes)
    t.match(await app.post('/finalize', { key }), { status: 503, body: { code: 'SERVICE_BUSY' } })
    await Array.fromAsync(collect({ store, records, remove: true, before: new Date(Date.now() + 1000) }))
    t.match(await app.post('/finalize', { key }), { status: 503, body: { code: 'SERVICE_BUSY' } }, 'it may still be at work')
    const later = recordsAt(t, app, Date.now() + COLLECT_LEASE_MS + 1000)
    await Array.fromAsync(collect({ store, records: later, remove: true, before: new Date(Date.now() + 1000) }))
    t.equal((await app.post('/finalize', { key })).status, 200)
  })
}
