/** The extension registry as it is read. It is written in finalize.ts only. */
import type { ExtensionRecord, ExtensionRecords, PageQuery, VersionRecord } from './port.ts'
import { extensionOf, versionOf } from './schema.ts'
import type { Records } from './schema.ts'

export function extensionRecords(records: Records): ExtensionRecords {
  return {
    list: page => listExtensions(records, page),
    async get(id) {
      const row = await records.db.selectFrom('extensions').selectAll().where('id', '=', id).executeTakeFirst()
      return row && extensionOf(row)
    },
    listVersions: (extensionId, page) => listVersions(records, extensionId, page),
    findVersion: identity => findVersion(records, identity),
    firstWithContent: contentHash => firstWithContent(records, contentHash)
  }
}

async function listExtensions({ db }: Records, { limit, after }: PageQuery): Promise<ExtensionRecord[]> {
  const rows = await db.selectFrom('extensions').selectAll()
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  return rows.map(extensionOf)
}

async function listVersions({ db }: Records, extensionId: string, { limit, after }: PageQuery): Promise<VersionRecord[]> {
  const rows = await db.selectFrom('extension_versions').selectAll().where('extension_id', '=', extensionId)
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  return rows.map(versionOf)
}

async function findVersion({ db }: Records, identity: { publisher: string | null, name: string, version: string }): Promise<VersionRecord | undefined> {
  const row = await db.selectFrom('extension_versions').selectAll('extension_versions')
    .innerJoin('extensions', 'extensions.id', 'extension_versions.extension_id')
    .where('extensions.publisher', '=', identity.publisher ?? '').where('extensions.name', '=', identity.name)
    .where('extension_versions.version', '=', identity.version).executeTakeFirst()
  return row && versionOf(row)
}

async function firstWithContent({ db }: Records, contentHash: string): Promise<VersionRecord | undefined> {
  const row = await db.selectFrom('extension_versions').selectAll().where('content_hash', '=', contentHash)
    .orderBy('created_at').orderBy('id').limit(1).executeTakeFirst()
  return row && versionOf(row)
}
