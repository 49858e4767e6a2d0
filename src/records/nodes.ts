/** The processes that run jobs: one small row each. Those that died are pruned with what lapsed (downloads.ts). */
import type { NodeRecords, NodeWorker } from './nodes-port.ts'
import { jsonText } from './schema.ts'
import type { Records } from './schema.ts'

export function nodeRecords({ db, now }: Records): NodeRecords {
  return {
    async beat(id, workers) {
      const row = { workers: jsonText(workers), seen_at: now() }
      await db.insertInto('nodes').values({ id, ...row }).onConflict(conflict => conflict.column('id').doUpdateSet(row)).execute()
    },
    async list(since, limit) {
      const rows = await db.selectFrom('nodes').selectAll().where('seen_at', '>=', since).orderBy('seen_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
      return rows.map(row => ({ id: row.id, workers: JSON.parse(row.workers) as NodeWorker[], seenAt: row.seen_at })).toSorted((a, b) => (a.id < b.id ? -1 : 1))
    },
    async leave(id) {
      await db.deleteFrom('nodes').where('id', '=', id).execute()
    }
  }
}
