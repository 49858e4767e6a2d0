import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { Kysely } from 'kysely'
import type { CompiledQuery } from 'kysely'
import t from 'tap'
import type { Test } from 'tap'
import { kyselyRecordStore } from '../../src/records/kysely-record-store.ts'
import { RecordStoreFailed } from '../../src/records/port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import type { Tables } from '../../src/records/schema.ts'
import { nodeSqliteDialect } from '../../src/records/sqlite-dialect.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { recordStoreContract } from '../contract/record-store.ts'

function open(t: Test, file: string): RecordStore {
  const store = sqliteRecordStore({ file })
  t.teardown(() => store.close())
  return store
}

function openRaw(t: Test, file: string): DatabaseSync {
  const database = new DatabaseSync(file)
  t.teardown(() => database.close())
  return database
}

const upload = (id: string) => ({
  id, kind: 'object' as const, stagingKey: id, filename: 'a', size: 1, declaredSha256: null, owner: { subject: null, account: null, clientId: null }
})

t.test('the record store contract', async t => {
  await recordStoreContract(t, 'sqlite', async t => {
    const file = join(t.testdir(), 'records.db')
    return {
      open(options) {
        const store = sqliteRecordStore({ file, ...options })
        t.teardown(() => store.close())
        return store
      }
    }
  })
})

t.test('the file and its folder are made, for this user only', async t => {
  const folder = join(t.testdir(), 'data', 'records')
  const file = join(folder, 'records.db')
  const store = open(t, file)
  await store.migrate()
  t.equal(statSync(folder).mode & 0o777, 0o700)
  for (const name of [file, `${file}-wal`, `${file}-shm`]) t.equal(statSync(name).mode & 0o777, 0o600, name)
})

t.test('every commit is synced: WAL with synchronous=FULL, foreign keys on', async t => {
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(join(t.testdir(), 'records.db')) })
  t.teardown(() => db.destroy())
  const pragma = async (name: string) => (await db.executeQuery<Record<string, unknown>>({ sql: `pragma ${name}`, parameters: [] } as unknown as CompiledQuery<Record<string, unknown>>)).rows
  t.match(await pragma('journal_mode'), [{ journal_mode: 'wal' }])
  t.match(await pragma('synchronous'), [{ synchronous: 2 }])
  t.match(await pragma('foreign_keys'), [{ foreign_keys: 1 }])
})

t.test('a schema newer than the program is refused and left alone', async t => {
  const file = join(t.testdir(), 'records.db')
  const store = open(t, file)
  await store.migrate()
  openRaw(t, file).exec(`insert into schema_migrations values (1000, 'from the future', 0)`)
  await t.rejects(store.migrate(), { name: 'RecordStoreFailed', message: /schema of the database has version 1000/ })
})

t.test('a file that is no database is an error of the port, and the file stays as it is', async t => {
  const file = join(t.testdir(), 'records.db')
  writeFileSync(file, 'this is not a database, it is a text of some length'.repeat(100))
  const store = open(t, file)
  const error = await store.migrate().then(() => undefined, (thrown: Error) => thrown)
  t.ok(error instanceof RecordStoreFailed)
  t.match(error?.cause, { message: /not a database/ })
  t.equal(statSync(file).size, 5100)
})

t.test('a folder that cannot be made is an error of the port, and the store works once it can', async t => {
  const base = t.testdir({ taken: 'a file' })
  const store = open(t, join(base, 'taken', 'records.db'))
  await t.rejects(store.migrate(), RecordStoreFailed)
  await t.rejects(store.check(), RecordStoreFailed)
  const other = open(t, join(base, 'free', 'records.db'))
  mkdirSync(join(base, 'free'))
  await t.resolves(other.migrate())
})

t.test('a writer waits for the lock of another process without stopping the event loop', async t => {
  const file = join(t.testdir(), 'records.db')
  const store = open(t, file)
  await store.migrate()
  const other = openRaw(t, file)
  other.exec('begin immediate')
  let turns = 0
  const counting = setInterval(() => { turns += 1 }, 5)
  const created = store.uploads.create(upload('one'))
  const claimed = store.objects.claim({ sha256: 'a1', key: 'a1', size: 1, contentType: 'x' })
  setTimeout(() => other.exec('commit'), 300)
  t.match(await Promise.all([created, claimed]), [true, String])
  clearInterval(counting)
  t.ok(turns > 10, `the event loop turned ${turns} times`)
})

t.test('every query of the port finds its rows by an index and sorts by it', async t => {
  const file = join(t.testdir(), 'records.db')
  const queries: CompiledQuery[] = []
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(file), log: event => { queries.push(event.query) } })
  const store = kyselyRecordStore({ name: 'sqlite', db, now: Date.now })
  t.teardown(() => store.close())
  await store.migrate()
  queries.length = 0
  await useEverything(store)
  const raw = openRaw(t, file)
  const explained = new Set<string>()
  for (const { sql, parameters } of queries) {
    if (/^(begin|commit|rollback)/.test(sql) || explained.has(sql)) continue
    explained.add(sql)
    const plan = raw.prepare(`explain query plan ${sql}`).all(...parameters as string[]).map(row => String(row.detail))
    t.strictSame(plan.filter(step => !isFlat(step)), [], sql)
  }
  t.ok(explained.size > 30, `${explained.size} different queries`)
})

/**
 * A step that reads about as many rows as it returns: a search, the rows given with the statement, or a walk along the
 * index of a list that is read from its end (its query has a LIMIT).
 */
function isFlat(step: string): boolean {
  if (/^SCAN extensions USING (COVERING )?INDEX extensions_newest$/.test(step)) return true
  if (/^SCAN uploads USING (COVERING )?INDEX uploads_(canonical|owned|sha256|owned_sha256)$/.test(step)) return true
  return !/TEMP B-TREE/.test(step) && !/^SCAN (?!noted|\d+ CONSTANT ROW|CONSTANT ROW)/.test(step)
}

/** Calls every method whose queries differ. */
async function useEverything({ uploads, objects, extensions, multiparts, check }: RecordStore): Promise<void> {
  const owner = { subject: 'a', account: null, clientId: null }
  const after = { createdAt: 1, id: 'x' }
  await check()
  for (const id of ['one', 'two', 'three']) await uploads.create(upload(id))
  await uploads.adopt(upload('four'), { sha256: null, etag: 'e', size: 1 })
  await uploads.progress([{ id: 'one', received: 1 }, { id: 'two', received: 1 }])
  await uploads.stage('one', { sha256: 'a1', etag: 'e', size: 1 })
  await uploads.fail('two', 'x', 1)
  await uploads.end('three', 'aborted')
  const version = { publisher: null, name: 'n', version: '1.0.0', contentHash: 'a1', canonicalKey: 'c', manifest: {}, signature: null }
  const claim = await objects.claim({ sha256: 'a1', key: 'c', size: 1, contentType: 'x' }) ?? ''
  const input = { sha256: 'a1', canonicalKey: 'c', size: 1, contentType: 'x', claim, result: () => ({}) }
  await uploads.finalize({ ...input, uploadId: 'one', version })
  await uploads.finalize({ ...input, uploadId: 'four', version: { ...version, version: '2.0.0' } })
  await uploads.finalize({ ...input, uploadId: 'one', version })
  await uploads.finalize({ ...input, uploadId: 'five' })
  await uploads.adopt(upload('six'), { sha256: null, etag: 'e', size: 1 })
  await uploads.finalize({ ...input, uploadId: 'six', version })
  await uploads.finalize({ ...input, uploadId: 'six', claim: 'over' })
  await uploads.findFinalized('c')
  await uploads.findFinalized('c', owner)
  await uploads.get('one')
  await uploads.listStale(1, 1)
  await uploads.listStale(1, 1, { updatedAt: 1, id: 'x' })
  await uploads.prune(1, 1)
  await objects.claim({ sha256: 'b2', key: 'b2', size: 1, contentType: 'x' })
  await objects.isGarbage('b2', Date.now() + 1000)
  await objects.pruneClaims(1, 1)
  await objects.anyStored()
  const lease = await objects.beginCollect('b2', Date.now() + 1000) ?? ''
  await objects.resumeCollect('b2')
  await objects.holdsCollect('b2', lease)
  await objects.listCutOff(1)
  await objects.endCollect('b2', lease)
  await extensions.list({ limit: 1 })
  await extensions.list({ limit: 1, after })
  await extensions.get('x')
  await extensions.listVersions('x', { limit: 1 })
  await extensions.listVersions('x', { limit: 1, after })
  await extensions.firstWithContent('a1')
  await extensions.findVersion({ publisher: null, name: 'n', version: '1.0.0' })
  const { id } = await multiparts.record('k')
  await multiparts.setUploadId(id, 'u')
  await multiparts.touch(id)
  await multiparts.listStale(1, 1)
  await multiparts.listStale(1, 1, { touchedAt: 1, id: 'x' })
  await multiparts.remove(id)
}

t.test('what was acknowledged before kill -9 is there, and nothing by halves', async t => {
  const file = join(t.testdir(), 'records.db')
  const modules = fileURLToPath(new URL('../../src/records/sqlite.ts', import.meta.url))
  const script = `
    const { sqliteRecordStore } = await import(${JSON.stringify(modules)})
    const { writeSync } = await import('node:fs')
    const store = sqliteRecordStore({ file: ${JSON.stringify(file)} })
    await store.migrate()
    const owner = { subject: null, account: null, clientId: null }
    for (let n = 0; ; n += 1) {
      const id = crypto.randomUUID()
      await store.uploads.create({ id, kind: 'bundle', stagingKey: id, filename: 'a', size: 1, declaredSha256: null, owner })
      await store.uploads.stage(id, { sha256: id, etag: 'e', size: 1 })
      const claim = await store.objects.claim({ sha256: id, key: id, size: 1, contentType: 'x' })
      const version = { publisher: null, name: id, version: '1.0.0', contentHash: id, canonicalKey: id, manifest: {}, signature: null }
      await store.uploads.finalize({ uploadId: id, sha256: id, canonicalKey: id, size: 1, contentType: 'x', claim, version, result: rows => ({ version: rows.version.id }) })
      writeSync(1, id + '\\n')
    }`
  const acknowledged: string[] = []
  for (const lines of [5, 50, 150]) acknowledged.push(...await runAndKill(script, lines))
  const store = open(t, file)
  await store.migrate()
  for (const id of acknowledged) {
    const row = await store.uploads.get(id)
    const version = await store.extensions.findVersion({ publisher: null, name: id, version: '1.0.0' })
    if (row?.status !== 'finalized' || (row.result as { version: string }).version !== version?.id) t.fail(`${id} was acknowledged and is not whole`)
  }
  t.ok(acknowledged.length >= 205, `${acknowledged.length} acknowledged`)
  const raw = openRaw(t, file)
  t.match(raw.prepare('pragma integrity_check').all(), [{ integrity_check: 'ok' }])
  t.match(raw.prepare(`select
    (select count(*) from uploads where status = 'finalized') - (select count(*) from extension_versions) as versions,
    (select count(*) from extensions) - (select count(*) from extension_versions) as extensions,
    (select count(*) from objects where state = 'stored') - (select count(*) from extension_versions) as objects`).all(), [{ versions: 0, extensions: 0, objects: 0 }])
})

/** Runs the script until it printed this many lines, kills it without warning, and returns all whole lines. */
async function runAndKill(script: string, lines: number): Promise<string[]> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', chunk => {
    text += chunk
    if (text.split('\n').length > lines) child.kill('SIGKILL')
  })
  const [, signal] = await once(child, 'close')
  if (signal !== 'SIGKILL') throw new Error('the writer ended by itself')
  return text.split('\n').slice(0, -1)
}
