/** Downloads that are good once: taking one removes it. */
import { NODE_FORGOTTEN_MS } from '../limits.ts'
import { fileOf } from './jobs-schema.ts'
import type { FileRecord } from './jobs-port.ts'
import type { Records } from './schema.ts'
import { transact } from './transact.ts'

export async function createDownload({ db }: Records, download: { tokenHash: string, fileId: string, expiresAt: number }): Promise<void> {
  await db.insertInto('downloads').values({ token_hash: download.tokenHash, file_id: download.fileId, expires_at: download.expiresAt }).execute()
}

export async function takeDownload(records: Records, tokenHash: string): Promise<FileRecord | undefined> {
  return transact(records, async ({ trx }) => {
    const taken = await trx.deleteFrom('downloads').where('token_hash', '=', tokenHash).where('expires_at', '>', records.now())
      .returning('file_id').executeTakeFirst()
    if (taken === undefined) return undefined
    const row = await trx.selectFrom('files').selectAll().where('id', '=', taken.file_id).executeTakeFirst()
    return row && fileOf(row)
  })
}

/** Downloads and farewells that are over, reservations that lapsed, and nodes that are gone, at most `limit` of each. */
export async function pruneLapsed({ db, now }: Records, limit: number): Promise<number> {
  const time = now()
  const downloads = await db.deleteFrom('downloads').where('token_hash', 'in', query => query.selectFrom('downloads').select('token_hash')
    .where('expires_at', '<=', time).orderBy('expires_at').orderBy('token_hash').limit(limit)).executeTakeFirstOrThrow()
  const reservations = await db.deleteFrom('job_reservations').where('expires_at', '<=', time).where('id', 'in', query => query.selectFrom('job_reservations').select('id')
    .where('expires_at', '<=', time).orderBy('expires_at').orderBy('id').limit(limit)).executeTakeFirstOrThrow()
  const farewells = await db.deleteFrom('job_farewells').where('job_id', 'in', query => query.selectFrom('job_farewells').select('job_id')
    .where('expires_at', '<=', time).orderBy('expires_at').orderBy('job_id').limit(limit)).executeTakeFirstOrThrow()
  const nodes = await db.deleteFrom('nodes').where('id', 'in', query => query.selectFrom('nodes').select('id')
    .where('seen_at', '<', time - NODE_FORGOTTEN_MS).orderBy('seen_at').orderBy('id').limit(limit)).executeTakeFirstOrThrow()
  return Number(downloads.numDeletedRows + reservations.numDeletedRows + farewells.numDeletedRows + nodes.numDeletedRows)
}
