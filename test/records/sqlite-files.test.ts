import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import type { CompiledQuery } from 'kysely'
import t from 'tap'
import { kyselyRecordStore } from '../../src/records/kysely-record-store.ts'
import type { Tables } from '../../src/records/schema.ts'
import { nodeSqliteDialect } from '../../src/records/sqlite-dialect.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { fileRecordsContract } from '../contract/file-records.ts'
import { useFiles } from '../support/use-files.ts'

t.test('the contract of shared files', async t => {
  await fileRecordsContract(t, 'sqlite', async t => {
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

t.test('every query of shared files finds its rows by an index and sorts by it', async t => {
  const file = join(t.testdir(), 'records.db')
  const queries: CompiledQuery[] = []
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(file), log: event => { queries.push(event.query) } })
  const store = kyselyRecordStore({ name: 'sqlite', db, now: Date.now })
  t.teardown(() => store.close())
  await store.migrate()
  queries.length = 0
  await useFiles(store)
  const raw = new DatabaseSync(file)
  t.teardown(() => raw.close())
  const explained = new Set<string>()
  for (const { sql, parameters } of queries) {
    if (/^(begin|commit|rollback)/.test(sql) || explained.has(sql)) continue
    explained.add(sql)
    const plan = raw.prepare(`explain query plan ${sql}`).all(...parameters as string[]).map(row => String(row.detail))
    t.strictSame(plan.filter(step => /^SCAN (?!CONSTANT|\d+ CONSTANT)|TEMP B-TREE/.test(step)), [], sql)
    if (/from "files".*limit/s.test(sql)) t.match(plan.join(), 'files_held (account=? AND subject=?', sql)
  }
  t.ok(explained.size > 20, `${explained.size} different queries`)
})
