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
import { tokenRecordsContract } from '../contract/token-records.ts'

t.test('the token records contract', async t => {
  await tokenRecordsContract(t, 'sqlite', async t => {
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

t.test('every query of tokens finds its rows by an index and sorts by it', async t => {
  const file = join(t.testdir(), 'records.db')
  const queries: CompiledQuery[] = []
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(file), log: event => { queries.push(event.query) } })
  const store = kyselyRecordStore({ name: 'sqlite', db, now: Date.now })
  t.teardown(() => store.close())
  await store.migrate()
  queries.length = 0
  const id = randomUUID()
  await store.tokens.create({ id, kind: 'api', account: 'a', subject: 's', scopes: [], expiresAt: 1, tokenHash: 'h' })
  await store.tokens.find('h')
  await store.tokens.list({ limit: 1 })
  await store.tokens.list({ limit: 1, after: { createdAt: 1, id } })
  await store.tokens.remove('x')
  await store.tokens.prune(1, 1)
  const raw = new DatabaseSync(file)
  t.teardown(() => raw.close())
  const seen = new Set<string>()
  for (const { sql, parameters } of queries) {
    if (/^(begin|commit|rollback)/.test(sql)) continue
    seen.add(sql)
    const plan = raw.prepare(`explain query plan ${sql}`).all(...parameters as string[]).map(row => String(row.detail))
    // the list without a cursor walks along its index from the end
    t.strictSame(plan.filter(step => /TEMP B-TREE/.test(step) || step.startsWith('SCAN') && step !== 'SCAN tokens USING INDEX tokens_newest'), [], sql)
  }
  t.equal(seen.size, 6)
})
