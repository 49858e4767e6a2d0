import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { sweepJobs } from '../../src/jobs/retention.ts'
import { RETENTION_BATCH, TOKENS_OVER_KEPT_MS } from '../../src/limits.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'

t.test('minted tokens that have been over for long go, in batches; all others stay', async t => {
  const records = sqliteRecordStore({ file: join(t.testdir(), 'records.db') })
  t.teardown(() => records.close())
  await records.migrate()
  const now = Date.now()
  const token = (expiresAt: number | null) => {
    const id = randomUUID()
    return records.tokens.create({ id, kind: 'public', account: 'acme', subject: null, scopes: [], expiresAt, tokenHash: id })
  }
  await Promise.all(Array.from({ length: RETENTION_BATCH + 1 }, () => token(now - TOKENS_OVER_KEPT_MS)))
  const kept = [await token(now - TOKENS_OVER_KEPT_MS + 1), await token(now + 1), await token(null)].map(({ id }) => id).toSorted()
  const context = { config: readConfig({}), records, log: pino({ level: 'silent' }) }
  t.equal(await sweepJobs(context, () => true, now), 0, 'stopped')
  t.equal((await records.tokens.list({ limit: 1000 })).length, RETENTION_BATCH + 4)
  t.equal(await sweepJobs(context, () => false, now), 0, 'no jobs')
  t.same((await records.tokens.list({ limit: 1000 })).map(({ id }) => id).toSorted(), kept)
})
