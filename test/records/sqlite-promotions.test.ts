import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import type { CompiledQuery } from 'kysely'
import t from 'tap'
import { kyselyRecordStore } from '../../src/records/kysely-record-store.ts'
import type { Tables } from '../../src/records/schema.ts'
import { nodeSqliteDialect } from '../../src/records/sqlite-dialect.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { promotionRecordsContract } from '../contract/promotion-records.ts'

t.test('the promotion records contract', async t => {
  await promotionRecordsContract(t, 'sqlite', async t => {
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

t.test('every query of promotions, and of a job with them, finds its rows by an index and sorts by it', async t => {
  const file = join(t.testdir(), 'records.db')
  const queries: CompiledQuery[] = []
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(file), log: event => { queries.push(event.query) } })
  const store = kyselyRecordStore({ name: 'sqlite', db, now: Date.now })
  t.teardown(() => store.close())
  await store.migrate()
  const id = randomUUID()
  await store.jobs.create({
    id, owner: { subject: 'a', account: null, clientId: null }, userId: null, model: { name: 'm', version: '1', sha256: 'm' }, task: 't', params: {}, priority: 0, cache: true, memoKey: id,
    webhook: null, idempotency: null, reservation: null, queueMax: 10, stageTimings: {}, inputs: []
  })
  await store.jobs.claim({ token: 't', worker: 'w', leaseMs: 1000 })
  await store.jobs.complete(id, 't', { results: [], execution: { provider: 'p', device: 'd', worker: 'w', cached: false } })
  queries.length = 0
  const promotion = { jobId: id, source: 's', target: 't', size: 1, sha256: 'a' }
  const lease = { token: 't', leaseMs: 1000 }
  await store.promotions.begin(promotion, lease, 0)
  await store.promotions.touch(promotion, lease)
  await store.promotions.record(promotion, 't')
  await store.promotions.begin(promotion, lease, Number.POSITIVE_INFINITY)
  await store.promotions.release(promotion, 't')
  await store.jobs.get(id)
  const raw = new DatabaseSync(file)
  t.teardown(() => raw.close())
  const seen = new Set<string>()
  for (const { sql, parameters } of queries) {
    if (/^(begin|commit|rollback)/.test(sql)) continue
    seen.add(sql)
    const plan = raw.prepare(`explain query plan ${sql}`).all(...parameters as string[]).map(row => String(row.detail))
    t.strictSame(plan.filter(step => /TEMP B-TREE/.test(step) || step.startsWith('SCAN') && step !== 'SCAN part'), [], sql)
  }
  t.ok(seen.size >= 9)
})
