/**
 * The port to records of who may do what: tokens that administrators mint, files and who may read them, the media library,
 * and what a caller is told of. Same rules as port.ts: one transaction for each change, durable when the method returns.
 */
import type { FileAccess, FileRecord } from './jobs-port.ts'
import type { Owner, PageQuery } from './port.ts'

/** A user, or (subject null) all callers without a user id of an account. Files are owned by these, through whatever client they came. */
export interface Holder { subject: string | null, account: string | null }

export type TokenKind = 'api' | 'public'

/** A token that an administrator minted. Its value is nowhere: a row is found by its SHA-256. */
export interface TokenRecord {
  id: string
  kind: TokenKind
  account: string
  /** null for public ones */
  subject: string | null
  scopes: string[]
  createdAt: number
  /** null: until it is removed */
  expiresAt: number | null
}

export interface TokenRecords {
  /** @param tokenHash SHA-256 of the value, hex */
  create(token: Omit<TokenRecord, 'createdAt'> & { tokenHash: string }): Promise<TokenRecord>
  /** Undefined: unknown, removed, or over. */
  find(tokenHash: string): Promise<TokenRecord | undefined>
  /** Newest first, those that are over too, until they are pruned. */
  list(page: PageQuery): Promise<TokenRecord[]>
  /** Idempotent. False: there was none. */
  remove(id: string): Promise<boolean>
  /** Removes those that are over, at most `limit`. */
  prune(limit: number): Promise<number>
}

export interface FileQuery extends PageQuery {
  holder: Holder
  /** content types that begin so, as `image/` */
  type?: string
  /** part of the name, whatever its case */
  text?: string
}

/** `claim`, `stagedUploadId`: as for a job's input (jobs-port.ts): the file's reference takes the upload's place. */
export interface NewFile extends Omit<FileRecord, 'createdAt'> { claim: string | null, stagedUploadId: string | null }

/** Of files that were uploaded as such, or are results of jobs: FileRecords (jobs-port.ts) extends it. */
export interface SharedFiles {
  /** `reclaim`: the collector has or had the hash: claim and copy anew. */
  add(file: NewFile): Promise<FileRecord | 'reclaim'>
  /** Newest first. Cost does not grow with the table. */
  list(query: FileQuery): Promise<FileRecord[]>
  /** Undefined: unknown. */
  update(id: string, change: { filename?: string, access?: FileAccess }): Promise<FileRecord | undefined>
  /** Removes the row with its grants, downloads and media path. Idempotent. False: there was none. */
  remove(id: string): Promise<boolean>
  /** Idempotent. False: there is no such file. */
  grant(fileId: string, holder: { subject: string, account: string | null }): Promise<boolean>
  /** Idempotent. */
  revoke(fileId: string, holder: { subject: string, account: string | null }): Promise<void>
  isGranted(fileId: string, holder: { subject: string, account: string | null }): Promise<boolean>
}

/**
 * An entry of a media library:   awaiting ─▶ stored (bytes arrived, not shown) ─▶ complete (a file, shown)
 * `path` is `media/<user>/<uuid>/<filename>`, unique; `<user>` is made of the holder by the service.
 */
export interface MediaRecord {
  path: string
  holder: Holder
  status: 'awaiting' | 'stored' | 'complete'
  filename: string
  contentType: string
  /** of what arrived; null before */
  size: number | null
  /** the file of a complete one */
  fileId: string | null
  createdAt: number
  updatedAt: number
}

/** Something a caller is told of. `seq` counts from 1 for each holder, without gaps, in the order of commit. */
export interface ActivityEvent { seq: number, event: string, data: Record<string, unknown>, createdAt: number }

export interface SettingRecords {
  /** A secret that all nodes share: made with `make` by the first that asks, and the same ever after. */
  secret(name: string, make: () => string): Promise<string>
}

/** Who a row of activity is for. */
export type ActivityOwner = Pick<Owner, 'subject' | 'account'>
