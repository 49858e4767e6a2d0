import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'
import { jobsTables } from '../../src/records/jobs-tables.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { outlastingRecordsContract } from '../contract/outlasting-records.ts'
import { firstSchema } from '../support/first-schema.ts'

t.test('the contract of what outlasts a node', async t => {
  await outlastingRecordsContract(t, 'sqlite', async t => {
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

t.test('jobs of an older database keep their webhooks, and what has ended is counted', async t => {
  const file = join(t.testdir(), 'records.db')
  const old = new DatabaseSync(file)
  old.exec(firstSchema('text'))
  for (const statement of jobsTables('text')) old.exec(statement)
  old.exec("insert into schema_migrations (version, name, applied_at) values (2, 'jobs, files, models', 1)")
  const insert = old.prepare(`insert into jobs (id, run, owner, holder, model_name, model_version, model_sha256, task, params, status, priority, attempt, attempt_token, cancel_requested,
    first_timings, stage_timings, cache, memo_key, webhook, last_seq, available_at, lease_until, created_at, updated_at, completed_at)
    values (?, 1, '[null,null,null]', '[null,null]', 'm', '1', 'm', 't', '{}', ?, 0, ?, ?, 0, '{}', '{}', 0, 'k', ?, ?, ?, ?, 1, 1, ?)`)
  const hook = '{"url":"https://a.example/"}'
  insert.run('waits', 'queued', 0, null, hook, 1, 0, null, null)
  insert.run('runs', 'processing', 1, 'token', hook, 4, null, 1, null)
  insert.run('quiet', 'queued', 0, null, null, 1, 0, null, null)
  insert.run('over', 'completed', 1, null, hook, 3, null, null, 2)
  insert.run('failed', 'failed', 1, null, null, 3, null, null, 2)
  old.close()
  const store = sqliteRecordStore({ file })
  t.teardown(() => store.close())
  await store.migrate()
  t.same(await store.webhooks.takeDue('a', 1000, 10), [{ jobId: 'waits', seq: 0, attempts: 0 }])
  t.same(await store.webhooks.take('runs', 'a', 1000), { jobId: 'runs', seq: 4, attempts: 0 })
  for (const id of ['quiet', 'over', 'failed']) t.equal(await store.webhooks.take(id, 'a', 1000), 'none', id)
  t.match(await store.jobs.stats(), { waiting: 2, running: 1, completed: 1, failed: 1 })
})
