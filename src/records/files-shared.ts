/**
 * Files that were uploaded as such: adding, listing, searching, changing, sharing them. Grants go with their file (a foreign
 * key says so), and granting holds the row of the file, so that none is left of one that is being removed.
 */
import type { FilePage, FileQuery, HeldFiles, Holder, NewFile, SharedFiles } from './access-port.ts'
import { FILE_SEARCH_BATCH, FILE_SEARCH_ROWS_MAX } from '../limits.ts'
import type { FileAccess, FileRecord } from './jobs-port.ts'
import { userOf } from './holders.ts'
import { fileOf, withoutNul } from './jobs-schema.ts'
import { ownerColumns } from './schema.ts'
import type { Records } from './schema.ts'
import { holderKey } from './sharing-schema.ts'
import { takeReferences } from './take-references.ts'
import { transact, Undo } from './transact.ts'

export function sharedFiles(records: Records): SharedFiles {
  return {
    add: file => addFile(records, file),
    list: query => listFiles(records, query),
    search: query => searchFiles(records, query),
    update: (id, change) => updateFile(records, id, change),
    remove: id => removeFile(records, id),
    grant: (fileId, holder) => grant(records, fileId, holder),
    revoke: (fileId, holder) => revoke(records, fileId, holder),
    isGranted: (fileId, holder) => isGranted(records, fileId, holder)
  }
}

/** The upload that held the bytes goes, the file's reference takes its place. */
async function addFile(records: Records, { claim, stagedUploadId, ...given }: NewFile): Promise<FileRecord | 'reclaim'> {
  const file = { ...given, filename: withoutNul(given.filename), contentType: withoutNul(given.contentType) }
  return transact<FileRecord | 'reclaim'>(records, async ({ trx, tell }) => {
    // not one that was finalized: others may have been told that it is there
    if (stagedUploadId !== null) await trx.deleteFrom('uploads').where('id', '=', stagedUploadId).where('status', '<>', 'finalized').execute()
    if (!await takeReferences(records, trx, [{ ...file, claim }])) throw new Undo<'reclaim'>('reclaim')
    const row = await trx.insertInto('files').values({
      ...ownerColumns(file.owner),
      id: file.id,
      filename: file.filename,
      content_type: file.contentType,
      size: file.size,
      sha256: file.sha256,
      key: file.key,
      access: file.access,
      created_at: records.now()
    }).returningAll().executeTakeFirstOrThrow()
    tell({ kind: 'activity', user: userOf(row) })
    return fileOf(row)
  })
}

/** All columns of the index stand in the order: neither database takes `is null` for one that is always the same. */
async function listFiles({ db }: Records, { holder, limit, after }: HeldFiles): Promise<FileRecord[]> {
  const rows = await db.selectFrom('files').selectAll()
    .where('account', holder.account === null ? 'is' : '=', holder.account)
    .where('subject', holder.subject === null ? 'is' : '=', holder.subject)
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
    .orderBy('account', 'desc').orderBy('subject', 'desc').orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  return rows.map(fileOf)
}

/** Reads the holder's files in batches and keeps what is asked for: the names of any script in any case, the same with both databases. */
async function searchFiles(records: Records, { limit, type, text, ...query }: FileQuery): Promise<FilePage> {
  const isWanted = matcher(type, text)
  const batch = type === undefined && text === undefined ? limit + 1 : FILE_SEARCH_BATCH
  const files: FileRecord[] = []
  let { after } = query
  for (let read = 0; read < FILE_SEARCH_ROWS_MAX; read += batch) {
    const rows = await listFiles(records, { ...query, limit: batch, ...after && { after } })
    files.push(...rows.filter(isWanted))
    if (files.length > limit) return { files: files.slice(0, limit), next: positionOf(files[limit - 1]!) }
    if (rows.length < batch) return { files, next: null }
    after = positionOf(rows.at(-1)!)
  }
  return { files, next: after! }
}

function positionOf({ createdAt, id }: FileRecord) {
  return { createdAt, id }
}

function matcher(type = '', text = ''): (file: FileRecord) => boolean {
  const part = folded(text)
  return ({ contentType, filename }) => contentType.startsWith(type) && folded(filename).includes(part)
}

function folded(text: string): string {
  return text.normalize('NFKC').toLowerCase()
}

async function updateFile({ db }: Records, id: string, { filename, access }: { filename?: string, access?: FileAccess }): Promise<FileRecord | undefined> {
  const changes = { ...filename !== undefined && { filename: withoutNul(filename) }, ...access !== undefined && { access } }
  const row = Object.keys(changes).length === 0
    ? await db.selectFrom('files').selectAll().where('id', '=', id).executeTakeFirst()
    : await db.updateTable('files').set(changes).where('id', '=', id).returningAll().executeTakeFirst()
  return row && fileOf(row)
}

/** What a job has of it stays: a row of its results that finds no file shows nothing, and keeps the job from being taken for a whole one. */
async function removeFile(records: Records, id: string): Promise<boolean> {
  return transact(records, async ({ trx, tell }) => {
    const row = await trx.deleteFrom('files').where('id', '=', id).returning(['account', 'subject']).executeTakeFirst()
    if (row !== undefined) tell({ kind: 'activity', user: userOf(row) })
    return row !== undefined
  })
}

async function grant(records: Records, fileId: string, holder: Holder): Promise<boolean> {
  return transact(records, async ({ trx }) => {
    const file = await trx.selectFrom('files').select('id').where('id', '=', fileId)
      .$if(records.name === 'postgres', query => query.forKeyShare()).executeTakeFirst()
    if (file === undefined) return false
    await trx.insertInto('file_grants').values({ file_id: fileId, holder: holderKey(holder), created_at: records.now() })
      .onConflict(conflict => conflict.columns(['file_id', 'holder']).doNothing()).execute()
    return true
  })
}

async function revoke({ db }: Records, fileId: string, holder: Holder): Promise<void> {
  await db.deleteFrom('file_grants').where('file_id', '=', fileId).where('holder', '=', holderKey(holder)).execute()
}

async function isGranted({ db }: Records, fileId: string, holder: Holder): Promise<boolean> {
  const row = await db.selectFrom('file_grants').select('file_id').where('file_id', '=', fileId).where('holder', '=', holderKey(holder)).executeTakeFirst()
  return row !== undefined
}
