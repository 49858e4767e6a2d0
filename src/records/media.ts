/**
 * The media library. What is complete is a file with a name (media-tables.ts). Completing one is one transaction: the file
 * takes the place of the upload, under the lock of its row, so that of several that complete it one does.
 */
import { sql } from 'kysely'
import type { Selectable } from 'kysely'
import type { HeldFiles, Holder, MediaFile, MediaQuery, MediaRecords, MediaUpload, NewFile, NewMediaUpload } from './access-port.ts'
import { heldBy, userOf } from './holders.ts'
import { fileOf, withoutNul } from './jobs-schema.ts'
import type { FilesTable } from './jobs-schema.ts'
import type { MediaFolder } from './media-tables.ts'
import { IN_FOLDER, mediaUploadOf, NAMED } from './media-schema.ts'
import { ownerColumns } from './schema.ts'
import type { Records } from './schema.ts'
import { takeReferences } from './take-references.ts'
import { transact, Undo } from './transact.ts'

export function mediaRecords(records: Records): MediaRecords {
  return {
    begin: upload => begin(records, upload),
    pending: id => pending(records, id),
    store: (id, uploadId) => store(records, id, uploadId),
    complete: (id, file) => complete(records, id, file),
    find: (holder, mediaName) => find(records, holder, mediaName),
    list: query => list(records, query),
    discard: id => discard(records, id),
    prune: (before, limit) => prune(records, before, limit)
  }
}

function mediaFileOf(row: Selectable<FilesTable>): MediaFile {
  return { ...fileOf(row), mediaName: row.media_name! }
}

async function begin({ db, now }: Records, { owner, ...upload }: NewMediaUpload): Promise<void> {
  await db.insertInto('media_uploads').values({
    id: upload.id,
    subject: owner.subject,
    account: owner.account,
    client_id: owner.clientId,
    filename: withoutNul(upload.filename),
    content_type: withoutNul(upload.contentType),
    size: upload.size,
    status: 'awaiting',
    upload_id: upload.uploadId,
    expires_at: upload.expiresAt,
    created_at: now()
  }).execute()
}

async function pending({ db }: Records, id: string): Promise<MediaUpload | undefined> {
  const row = await db.selectFrom('media_uploads').selectAll().where('id', '=', id).executeTakeFirst()
  return row && mediaUploadOf(row)
}

async function store({ db }: Records, id: string, uploadId: string): Promise<boolean> {
  const { numUpdatedRows } = await db.updateTable('media_uploads').set({ status: 'stored', upload_id: uploadId })
    .where('id', '=', id).where('status', '=', 'awaiting').executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

async function complete(records: Records, id: string, { claim, stagedUploadId, ...file }: Omit<NewFile, 'id'>): Promise<MediaFile | 'gone' | 'reclaim'> {
  return transact<MediaFile | 'gone' | 'reclaim'>(records, async ({ trx, tell }) => {
    const upload = await trx.deleteFrom('media_uploads').where('id', '=', id).returningAll().executeTakeFirst()
    if (upload === undefined) return 'gone'
    // not one that was finalized: others may have been told that it is there
    if (stagedUploadId !== null) await trx.deleteFrom('uploads').where('id', '=', stagedUploadId).where('status', '<>', 'finalized').execute()
    if (!await takeReferences(records, trx, [{ ...file, claim }])) throw new Undo<'reclaim'>('reclaim')
    const filename = withoutNul(file.filename)
    const row = await trx.insertInto('files').values({
      ...ownerColumns(file.owner),
      id,
      filename,
      content_type: withoutNul(file.contentType),
      size: file.size,
      sha256: file.sha256,
      key: file.key,
      access: file.access,
      media_folder: 'uploads',
      media_name: `${id}/${filename}`,
      created_at: records.now()
    }).returningAll().executeTakeFirstOrThrow()
    tell({ kind: 'activity', user: userOf(file.owner) })
    return mediaFileOf(row)
  })
}

async function find({ db }: Records, holder: Holder, mediaName: string): Promise<MediaFile | undefined> {
  const row = await db.selectFrom('files').selectAll().where(heldBy(holder)).where(NAMED).where('media_name', '=', mediaName).executeTakeFirst()
  return row && mediaFileOf(row)
}

const FOLDERS: readonly MediaFolder[] = ['images', 'videos', 'uploads']

/** A list of one folder reads just its rows, and one of all merges the heads of three such lists. Any other prefix finds its rows by name. */
async function list(records: Records, { prefix = '', ...page }: MediaQuery): Promise<MediaFile[]> {
  const folder = FOLDERS.find(each => each !== 'uploads' && (prefix === each || prefix === `${each}/`))
  const ids = prefix === '' ? headsOf(records, page, FOLDERS) : folder === undefined ? namedIds(records, page, prefix) : headsOf(records, page, [folder])
  const rows = await records.db.selectFrom('files').selectAll().where('id', 'in', ids)
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(page.limit).execute()
  return rows.map(mediaFileOf)
}

function headsOf(records: Records, page: HeldFiles, folders: readonly MediaFolder[]) {
  const [first, ...others] = folders.map(folder => headOf(records, page, folder))
  const heads = others.reduce((all, head) => all.unionAll(head), first!)
  return records.db.selectFrom(heads.as('heads')).select('heads.id')
}

/** Within brackets of its own: SQLite takes no ORDER BY in a part of a union. All columns of the index stand in the order, since `is null` is no constant to a planner. */
function headOf({ db }: Records, { holder, limit, after }: HeldFiles, folder: MediaFolder) {
  const head = db.selectFrom('files').select(['created_at', 'id']).where(heldBy(holder)).where(IN_FOLDER).where('media_folder', '=', folder)
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
    .orderBy('account', 'desc').orderBy('subject', 'desc').orderBy('media_folder', 'desc').orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit)
  return db.selectFrom(head.as('head')).select(['head.created_at', 'head.id'])
}

/** The last character of Unicode: no name goes on with it. */
const LAST = '\u{10ffff}'

function namedIds({ db }: Records, { holder, after }: HeldFiles, prefix: string) {
  return db.selectFrom('files').select('id').where(heldBy(holder)).where(NAMED)
    .where('media_name', '>=', prefix).where('media_name', '<', prefix + LAST)
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
}

async function discard(records: Records, id: string): Promise<boolean> {
  return await discardAll(records, sql`(${id})`) === 1
}

async function prune(records: Records, before: number, limit: number): Promise<number> {
  const old = records.db.selectFrom('media_uploads').select('id').where('created_at', '<', before).orderBy('created_at').orderBy('id').limit(limit)
  return discardAll(records, sql`(${old})`)
}

/** The bytes of those that are stored are nobody's then: their upload ends. */
async function discardAll(records: Records, ids: ReturnType<typeof sql>): Promise<number> {
  return transact(records, async ({ trx }) => {
    const rows = await trx.deleteFrom('media_uploads').where(sql<boolean>`id in ${ids}`).returning('upload_id').execute()
    for (const { upload_id: uploadId } of rows.toSorted((a, b) => (a.upload_id ?? '') < (b.upload_id ?? '') ? -1 : 1)) {
      if (uploadId !== null) await trx.updateTable('uploads').set({ status: 'aborted', updated_at: records.now() }).where('id', '=', uploadId).where('status', '=', 'staged').execute()
    }
    return rows.length
  })
}
