/** Multipart uploads that may have been begun at the store: written down before, so that a kill in between is found. */
import { randomUUID } from 'node:crypto'
import type { MultipartIntents } from './port.ts'
import type { Records } from './schema.ts'

export function multipartIntents({ db, now }: Records): MultipartIntents {
  return {
    async record(key) {
      const id = randomUUID()
      await db.insertInto('multipart_intents').values({ id, key, touched_at: now() }).execute()
      return { id }
    },
    async setUploadId(id, uploadId) {
      await db.updateTable('multipart_intents').set({ upload_id: uploadId }).where('id', '=', id).execute()
    },
    async touch(id) {
      await db.updateTable('multipart_intents').set({ touched_at: now() }).where('id', '=', id).execute()
    },
    async remove(id) {
      await db.deleteFrom('multipart_intents').where('id', '=', id).execute()
    },
    async listStale(before, limit, after) {
      const rows = await db.selectFrom('multipart_intents').selectAll().where('touched_at', '<', before)
        .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('touched_at', 'id'), '>', eb.tuple(after!.touchedAt, after!.id))))
        .orderBy('touched_at').orderBy('id').limit(limit).execute()
      return rows.map(row => ({ id: row.id, key: row.key, uploadId: row.upload_id, touchedAt: row.touched_at }))
    }
  }
}
