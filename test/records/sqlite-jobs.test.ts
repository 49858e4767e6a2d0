import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import type { CompiledQuery } from 'kysely'
import t from 'tap'
import type { NewJob } from '../../src/records/jobs-port.ts'
import { kyselyRecordStore } from '../../src/records/kysely-record-store.ts'
import type { RecordStore } from '../../src/records/port.ts'
import type { Tables } from '../../src/records/schema.ts'
import { nodeSqliteDialect } from '../../src/records/sqlite-dialect.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { jobRecordsContract } from '../contract/job-records.ts'
import { recordUpgradeContract } from '../contract/record-upgrade.ts'
import { firstSchema } from '../support/first-schema.ts'

t.test('the job records contract', async t => {
  await jobRecordsContract(t, 'sqlite', async t => {
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

t.test('a database of the first schema is brought up to date with its rows', async t => {
  const file = join(t.testdir(), 'records.db')
  const raw = new DatabaseSync(file)
  raw.exec(firstSchema('text'))
  raw.close()
  const store = sqliteRecordStore({ file })
  t.teardown(() => store.close())
  await recordUpgradeContract(t, store)
})

t.test('the first step of the schema is what it was when it was released', async t => {
  const folder = t.testdir()
  const old = new DatabaseSync(join(folder, 'old.db'))
  old.exec(firstSchema('text'))
  const store = sqliteRecordStore({ file: join(folder, 'new.db') })
  await store.migrate()
  await store.close()
  const fresh = new DatabaseSync(join(folder, 'new.db'))
  const now = schema(fresh)
  for (const [name, sql] of schema(old)) t.equal(now.get(name), sql, name)
  old.close()
  fresh.close()
})

t.test('every query of jobs, files and models finds its rows by an index and sorts by it', async t => {
  const file = join(t.testdir(), 'records.db')
  const queries: CompiledQuery[] = []
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(file), log: event => { queries.push(event.query) } })
  const store = kyselyRecordStore({ name: 'sqlite', db, now: Date.now })
  t.teardown(() => store.close())
  await store.migrate()
  queries.length = 0
  await useEverything(store)
  const raw = new DatabaseSync(file)
  t.teardown(() => raw.close())
  const explained = new Set<string>()
  for (const { sql, parameters } of queries) {
    if (/^(begin|commit|rollback)/.test(sql) || explained.has(sql)) continue
    explained.add(sql)
    const plan = raw.prepare(`explain query plan ${sql}`).all(...parameters as string[]).map(row => String(row.detail))
    t.strictSame(plan.filter(step => !isFlat(step, sql)), [], sql)
  }
  t.ok(explained.size > 60, `${explained.size} different queries`)
})

function schema(database: DatabaseSync): Map<string, string> {
  const rows = database.prepare(`select name, sql from sqlite_schema where sql is not null and name <> 'schema_migrations'`).all()
  return new Map(rows.map(row => [String(row.name), String(row.sql).replaceAll(/\s+/g, ' ')]))
}

/**
 * A step that reads about as many rows as it returns: a search, what a step before it made, a sort of one page, or a walk
 * along an index that is read from its end or holds unfinished jobs only.
 */
function isFlat(step: string, sql: string): boolean {
  if (/^SCAN jobs USING (COVERING )?INDEX jobs_(ready|delayed|leases|active_model|finished)$/.test(step)) return true
  if (/^SCAN (job_reservations|downloads) USING (COVERING )?INDEX (job_reservations|downloads)_oldest$/.test(step)) return true
  // there are few models, and they are read whole
  if (/from "models"/.test(sql) && step.startsWith('SCAN models USING INDEX')) return true
  // as many rows as there are shards and states
  if (step === 'SCAN job_counts') return true
  if (/^SCAN (part|held|noted|heads|head|ready|delayed|unfinished|\(subquery-\d+\)|\d+ CONSTANT ROWS?|CONSTANT ROW)$/.test(step)) return true
  if (/as "heads"/.test(sql)) return !step.startsWith('SCAN')
  return !/TEMP B-TREE/.test(step) && !step.startsWith('SCAN')
}

/** Calls every method whose queries differ. */
async function useEverything({ jobs, webhooks, nodes, files, models, objects }: RecordStore): Promise<void> {
  const owner = { subject: 'a', account: null, clientId: 'c' }
  const execution = { provider: 'p', device: 'd', worker: 'w', cached: false }
  const object = { sha256: 'a1', key: 'k', size: 1, contentType: 'x' }
  const job = (changes: Partial<NewJob> = {}): NewJob => ({
    id: randomUUID(), owner, userId: 'u', model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0, inputs: [], cache: true, memoKey: 'memo',
    webhook: null, idempotency: null, reservation: null, queueMax: 10_000, stageTimings: {}, ...changes
  })
  const claim = await objects.claim(object) ?? null
  const idempotency = { key: 'k', bodyHash: 'h' }
  const got = await jobs.reserve({ clientId: 'c', userId: 'u' }, 1) as { reservation: string }
  await jobs.touchReservation(got.reservation)
  const first = job({ reservation: got.reservation, idempotency, inputs: [{ ...object, name: 'input', position: 0, fileId: null, claim, stagedUploadId: 'up' }] })
  await jobs.create(first)
  await jobs.create(job({ idempotency }))
  await jobs.create(job({ queueMax: 0 }))
  await jobs.create(job({ inputs: [{ ...object, name: 'input', position: 0, fileId: null, claim: null, stagedUploadId: null }] }))
  await jobs.reserve({ clientId: 'c', userId: 'u' }, 1)
  await jobs.releaseReservation(got.reservation)
  await jobs.findIdempotent(owner, 'k')
  const statuses = [undefined, 'queued', 'completed'] as const
  for (const status of statuses) {
    for (const narrow of [{}, { owner }, { owner, userId: 'u' }, { userId: 'u' }, { model: 'm' }, { owner, model: 'm' }, { owner, userId: 'u', model: 'm' }]) {
      await jobs.list({ limit: 2, ...narrow, ...status && { status } })
      await jobs.list({ limit: 2, ...narrow, ...status && { status }, after: { createdAt: 5, id: 'x' } })
    }
  }
  await jobs.claim({ token: 't1', worker: 'w', leaseMs: 1000 })
  await jobs.claim({ token: 't2', worker: 'w', leaseMs: -1 })
  await jobs.heartbeat([{ id: first.id, token: 't1' }, { id: 'x', token: 'y' }], 1000)
  await jobs.progress(first.id, 't1', { stage: 's', progress: 1, message: null })
  await jobs.events(first.id, 0, 10)
  await jobs.reapLost({ maxAttempts: 3, retryAt: () => Date.now() + 10_000, limit: 10 })
  await jobs.complete(first.id, 't1', { results: [{ ...object, name: 'r', filename: 'r', claim }], execution })
  const done = await jobs.get(first.id)
  await jobs.findMemo('memo', owner)
  await jobs.requestCancel(first.id)
  await jobs.retry(first.id)
  await jobs.listFinished(1, 1)
  await jobs.stats()
  await jobs.createDownload({ tokenHash: 'h', fileId: done!.results[0]!.fileId, expiresAt: Date.now() + 1000 })
  await jobs.takeDownload('h')
  await jobs.pruneLapsed(10)
  for (const by of [{ sha256: 'a1' }, { key: 'k' }]) {
    await files.findOwned(by, owner)
    await files.findOwned(by, undefined)
  }
  await files.get('x')
  await models.add({ ...object, name: 'm', version: '1', task: 't', manifest: {}, signature: {}, claim: null })
  await models.list()
  await models.find('m')
  await models.find('m', '1')
  await models.setLoaded('m', '1', true)
  await models.setLoaded('m', undefined, true)
  const told = job({ webhook: { url: 'https://a.example/' } })
  await jobs.create(told)
  await webhooks.takeDue('l', 1000, 10)
  await webhooks.take(told.id, 'l', 1000)
  await webhooks.hold([told.id], 'l', 1000)
  await webhooks.note({ jobId: told.id, seq: 1, attempts: 0 }, 'l', 1000)
  await webhooks.end(told.id, 'l', 0)
  await webhooks.giveBack({ jobId: told.id, seq: 1, attempts: 0 }, 'l')
  await jobs.remove(told.id)
  await jobs.farewell(told.id)
  await nodes.beat('n', [])
  await nodes.list(0, 10)
  await nodes.leave('n')
  await jobs.remove(first.id)
}
