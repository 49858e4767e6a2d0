/** The record store over Kysely: one set of queries for SQLite and Postgres. The adapters bring the dialect. */
import { extensionRecords } from './extensions.ts'
import { migrate } from './migrations.ts'
import { multipartIntents } from './multiparts.ts'
import { objectRecords } from './objects.ts'
import type { RecordStore } from './port.ts'
import type { Records } from './schema.ts'
import { translateErrors } from './translate-errors.ts'
import { uploadRecords } from './uploads.ts'

export function kyselyRecordStore(records: Records): RecordStore {
  const { name, db } = records
  const own = translateErrors(name, {
    migrate: () => migrate(records),
    // asks for a row of ours, so that a database that was never migrated is not taken for a good one
    check: async () => { await db.selectFrom('schema_migrations').select('version').where('version', '=', 1).executeTakeFirstOrThrow() },
    close: () => db.destroy()
  })
  return {
    name,
    uploads: translateErrors(name, uploadRecords(records)),
    objects: translateErrors(name, objectRecords(records)),
    extensions: translateErrors(name, extensionRecords(records)),
    multiparts: translateErrors(name, multipartIntents(records)),
    ...own
  }
}
