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
import { mediaRecordsContract, mediaUpgradeContract } from '../contract/media-records.ts'
import { secondSchema } from '../support/second-schema.ts'

t.test('the contract of media records', async t => {
  await mediaRecordsContract(t, 'sqlite', async t => {
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

t.test('results of jobs of a database before the library are in it', async t => {
  const file = join(t.testdir(), 'records.db')
  const raw = new DatabaseSync(file)
  raw.exec(secondSchema('text'))
  raw.close()
  const store = sqliteRecordStore({ file })
  t.teardown(() => store.close())
  await mediaUpgradeContract(t, store)
})

t.test('every query of media finds its rows by an index', async t => {
  const file = join(t.testdir(), 'records.db')
  const queries: CompiledQuery[] = []
  const db = new Kysely<Tables>({ dialect: nodeSqliteDialect(file), log: event => { queries.push(event.query) } })
  const { media, activity, migrate, close } = kyselyRecordStore({ name: 'sqlite', db, now: Date.now })
  t.teardown(() => close())
  await migrate()
  queries.length = 0
  for (const holder of [{ account: 'a', subject: 's' }, { account: null, subject: 's' }, { account: null, subject: null }]) {
    const id = randomUUID()
    await media.begin({ id, owner: { ...holder, clientId: null }, filename: 'f', contentType: 'text/plain', size: 1, uploadId: null, expiresAt: 1 })
    await media.pending(id)
    await media.store(id, 'u')
    await media.find(holder, `${id}/f`)
    for (const prefix of ['', 'images', 'images/x']) {
      await media.list({ holder, prefix, limit: 2 })
      await media.list({ holder, prefix, limit: 2, after: { createdAt: 1, id } })
    }
    await media.discard(id)
    await activity.read(holder, 0, 10)
    await activity.head(holder)
  }
  await media.prune(1, 10)
  await activity.prune(1, 10)
  const raw = new DatabaseSync(file)
  t.teardown(() => raw.close())
  const explained = new Set<string>()
  for (const { sql, parameters } of queries) {
    if (/^(begin|commit|rollback)/.test(sql) || explained.has(sql)) continue
    explained.add(sql)
    const plan = raw.prepare(`explain query plan ${sql}`).all(...parameters as string[]).map(row => String(row.detail))
    // the heads of three lists, and what a name finds, are sorted; the oldest rows are read along their key
    const steps = plan.filter(step => /^SCAN (?!CONSTANT|\d+ CONSTANT|head|fresh)/.test(step) && !/from "activity" order by "position"/.test(sql))
    t.strictSame(steps, [], sql)
    if (/"media_folder" = /.test(sql)) t.match(plan.join(), 'files_media (account=? AND subject=? AND media_folder=?', sql)
    else if (/"media_name" [=>]/.test(sql)) t.match(plan.join(), 'files_media_name (account=? AND subject=? AND media_name', sql)
  }
  t.ok(explained.size > 15, `${explained.size} different queries`)
})
