/** Files, and who owns a row that points at an object. */
import { fileOf } from './jobs-schema.ts'
import type { FileRecord, FileRecords } from './jobs-port.ts'
import type { Owner } from './port.ts'
import { sharedFiles } from './files-shared.ts'
import { FINALIZED, ownerText } from './schema.ts'
import type { Records } from './schema.ts'

export function fileRecords(records: Records): FileRecords {
  return {
    ...sharedFiles(records),
    get: id => readFile(records, id),
    findOwned: async (by, owner) => await ownedUpload(records, by, owner) ?? await ownedFile(records, by, owner) ?? await ownedInput(records, by, owner)
  }
}

async function readFile({ db }: Records, id: string): Promise<FileRecord | undefined> {
  const row = await db.selectFrom('files').selectAll().where('id', '=', id).executeTakeFirst()
  return row && fileOf(row)
}

type By = { sha256: string } | { key: string }
type Found = Awaited<ReturnType<FileRecords['findOwned']>>

/** Any of them: the same bytes may have come as several kinds, under several keys. */
async function ownedUpload({ db }: Records, by: By, owner: Owner | undefined): Promise<Found> {
  const upload = await db.selectFrom('uploads').select(['sha256', 'canonical_key', 'size'])
    .where('key' in by ? 'canonical_key' : 'sha256', '=', 'key' in by ? by.key : by.sha256).where(FINALIZED)
    .$if(owner !== undefined, query => query.where('owner', '=', ownerText(owner!))).limit(1).executeTakeFirst()
  if (upload === undefined) return undefined
  const object = await db.selectFrom('objects').select('content_type').where('key', '=', upload.canonical_key!).executeTakeFirst()
  return { sha256: upload.sha256!, key: upload.canonical_key!, size: upload.size, contentType: object?.content_type ?? 'application/octet-stream' }
}

/** Any of them: files of one key are the same bytes. */
async function ownedFile({ db }: Records, by: By, owner: Owner | undefined): Promise<Found> {
  const row = await db.selectFrom('files').selectAll().where('key' in by ? 'key' : 'sha256', '=', 'key' in by ? by.key : by.sha256)
    .$if(owner !== undefined, query => query.where('owner', '=', ownerText(owner!))).limit(1).executeTakeFirst()
  return row && { sha256: row.sha256, key: row.key, size: row.size, contentType: row.content_type }
}

/** What a job of this owner was made of, while the job is there. */
async function ownedInput({ db }: Records, by: By, owner: Owner | undefined): Promise<Found> {
    const row = await db.selectFrom('job_inputs').innerJoin('jobs', 'jobs.id', 'job_inputs.job_id')
    .select(['job_inputs.sha256', 'job_inputs.key', 'job_inputs.size', 'job_inputs.content_type']).where('key' in by ? 'job_inputs.key' : 'job_inputs.sha256', '=', 'key' in by ? by.key : by.sha256)
    .$if(owner !== undefined, query => query.where('jobs.owner', '=', ownerText(owner!))).limit(1).executeTakeFirst()
  return row && { sha256: row.sha256, key: row.key, size: row.size, contentType: row.content_type }
}
