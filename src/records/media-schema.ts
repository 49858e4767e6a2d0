/** The tables of the media library and of activity as Kysely sees them. media-tables.ts makes them. */
import { sql } from 'kysely'
import type { Generated, Selectable, SqlBool } from 'kysely'
import type { MediaUpload } from './access-port.ts'

export interface MediaUploadsTable {
  id: string
  subject: string | null
  account: string | null
  client_id: string | null
  filename: string
  content_type: string
  size: number | null
  status: MediaUpload['status']
  upload_id: string | null
  expires_at: number
  created_at: number
}

export interface ActivityTable {
  position: Generated<number>
  /** holderId() */
  holder: string
  /** null: not numbered yet */
  seq: number | null
  event: string
  data: string
  created_at: number
}

export interface ActivityHeadsTable { holder: string, last_seq: number }

/** Conditions of the partial indexes, word for word. */
export const IN_FOLDER = sql<SqlBool>`media_folder is not null`
export const NAMED = sql<SqlBool>`media_name is not null`
export const NEW = sql<SqlBool>`seq is null`
export const NUMBERED = sql<SqlBool>`seq is not null`

export function mediaUploadOf(row: Selectable<MediaUploadsTable>): MediaUpload {
  return {
    id: row.id,
    owner: { subject: row.subject, account: row.account, clientId: row.client_id },
    filename: row.filename,
    contentType: row.content_type,
    size: row.size,
    status: row.status,
    uploadId: row.upload_id,
    expiresAt: row.expires_at,
    createdAt: row.created_at
  }
}
