/** The record store over Kysely: one set of queries for SQLite and Postgres. The adapters bring the dialect. */
import { activityRecords } from './activity.ts'
import { extensionRecords } from './extensions.ts'
import { fileRecords } from './files.ts'
import { jobHints } from './hints.ts'
import type { HintChannel } from './hints.ts'
import { jobRecords } from './jobs.ts'
import { mediaRecords } from './media.ts'
import { migrate } from './migrations.ts'
import { modelRecords } from './models.ts'
import { multipartIntents } from './multiparts.ts'
import { nodeRecords } from './nodes.ts'
import { objectRecords } from './objects.ts'
import type { RecordStore } from './port.ts'
import { promotionRecords } from './promotions.ts'
import type { Records } from './schema.ts'
import { settingRecords } from './settings.ts'
import { tokenRecords } from './tokens.ts'
import { translateErrors } from './translate-errors.ts'
import { uploadRecords } from './uploads.ts'
import { webhookRecords } from './webhooks.ts'

/** @param channel hints to and from other processes, where the database has a way for them */
export function kyselyRecordStore(database: Omit<Records, 'hints'>, channel?: HintChannel): RecordStore {
  const { name, db } = database
  const hints = jobHints(channel)
  const records: Records = { ...database, hints }
  const own = translateErrors(name, {
    migrate: () => migrate(records),
    // asks for a row of ours, so that a database that was never migrated is not taken for a good one
    check: async () => { await db.selectFrom('schema_migrations').select('version').where('version', '=', 1).executeTakeFirstOrThrow() },
    close: async () => { await Promise.all([hints.close(), db.destroy()]) }
  })
  return {
    name,
    uploads: translateErrors(name, uploadRecords(records)),
    objects: translateErrors(name, objectRecords(records)),
    extensions: translateErrors(name, extensionRecords(records)),
    multiparts: translateErrors(name, multipartIntents(records)),
    jobs: { ...translateErrors(name, jobRecords(records)), subscribe: listener => hints.subscribe(listener) },
    webhooks: translateErrors(name, webhookRecords(records)),
    nodes: translateErrors(name, nodeRecords(records)),
    promotions: translateErrors(name, promotionRecords(records)),
    files: translateErrors(name, fileRecords(records)),
    models: translateErrors(name, modelRecords(records)),
    media: translateErrors(name, mediaRecords(records)),
    activity: translateErrors(name, activityRecords(records)),
    tokens: translateErrors(name, tokenRecords(records)),
    settings: translateErrors(name, settingRecords(records)),
    ...own
  }
}
