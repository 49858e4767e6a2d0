/**
 * The port to records of who may do what: tokens that administrators mint, files and who may read them, the media library,
 * and what a caller is told of. Same rules as port.ts: one transaction for each change, durable when the method returns.
 */
import type { FileAccess, FileRecord } from './jobs-port.ts'
import type { Owner, PageCursor, PageQuery } from './port.ts'

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
  /** Undefined: unknown or removed. One that is over is found until it is pruned: whoever asks looks at `expiresAt`. */
  find(tokenHash: string): Promise<TokenRecord | undefined>
  /** Newest first, those that are over too, until they are pruned. */
  list(page: PageQuery): Promise<TokenRecord[]>
  /** Idempotent. False: there was none. */
  remove(id: string): Promise<boolean>
  /** Removes those that were over by `before`, at most `limit`. Returns how many. */
  prune(before: number, limit: number): Promise<number>
}

export interface HeldFiles extends PageQuery { holder: Holder }
export interface FileQuery extends HeldFiles {
  /** content types that begin so, as `image/` */
  type?: string
  /** part of the name, whatever its case */
  text?: string
}
/** `next`: where to go on; null: that was the last. */
export interface FilePage { files: FileRecord[], next: PageCursor | null }

/** `claim`, `stagedUploadId`: as for a job's input (jobs-port.ts): the file's reference takes the upload's place. */
export interface NewFile extends Omit<FileRecord, 'createdAt'> { claim: string | null, stagedUploadId: string | null }

/** Of files that were uploaded as such, or are results of jobs: FileRecords (jobs-port.ts) extends it. */
export interface SharedFiles {
  /** `reclaim`: the collector has or had the hash: claim and copy anew. */
  add(file: NewFile): Promise<FileRecord | 'reclaim'>
  /** Newest first. Cost does not grow with the table. */
  list(query: HeldFiles): Promise<FileRecord[]>
  /** The same, of those that match. One call looks at FILE_SEARCH_ROWS_MAX files at most: a page may hold fewer than `limit`, or none, and yet have a next. */
  search(query: FileQuery): Promise<FilePage>
  /** Undefined: unknown. */
  update(id: string, change: { filename?: string, access?: FileAccess }): Promise<FileRecord | undefined>
  /**
   * Removes the row with its grants and media path. One-time downloads of it find nothing, a job that it is a result of shows
   * it no more. Idempotent. False: there was none.
   */
  remove(id: string): Promise<boolean>
  /** Idempotent. False: there is no such file. */
  grant(fileId: string, holder: { subject: string, account: string | null }): Promise<boolean>
  /** Idempotent. */
  revoke(fileId: string, holder: { subject: string, account: string | null }): Promise<void>
  isGranted(fileId: string, holder: { subject: string, account: string | null }): Promise<boolean>
}

/**
 * What is on its way into a media library:   awaiting ─▶ stored (bytes arrived, not shown) ─▶ gone, and a file in its place
 * An awaiting one with an `uploadId` is sent to the object store directly, into the staging of that id.
 */
export interface MediaUpload {
  /** also that of the file that it becomes */
  id: string
  owner: Owner
  /** cleaned */
  filename: string
  contentType: string
  /** bytes, where they were declared */
  size: number | null
  status: 'awaiting' | 'stored'
  /** the upload that holds the bytes */
  uploadId: string | null
  /** no byte is taken any more; what is there can still be completed */
  expiresAt: number
  createdAt: number
}

export type NewMediaUpload = Omit<MediaUpload, 'status' | 'createdAt'>

/** A file in a media library. `mediaName`: its path behind `media/<user>/`. */
export interface MediaFile extends FileRecord { mediaName: string }

/** @param prefix that names begin with: a folder (`images`, `videos`), or any text */
export interface MediaQuery extends HeldFiles { prefix?: string }

/** `<id>/<filename>` of uploads; `images/<job>_<index>.png`, `videos/<job>_<index>.mp4` of results of jobs, which are here by themselves. */
export interface MediaRecords {
  begin(upload: NewMediaUpload): Promise<void>
  /** Undefined: unknown, complete or removed. */
  pending(id: string): Promise<MediaUpload | undefined>
  /** awaiting → stored. False: it is not awaiting any more. */
  store(id: string, uploadId: string): Promise<boolean>
  /** Puts the file in the place of the upload, and its reference in that of the staged bytes. `gone`: somebody else completed or removed it. `reclaim`: as add() of files. */
  complete(id: string, file: Omit<NewFile, 'id'>): Promise<MediaFile | 'gone' | 'reclaim'>
  /** Undefined: this holder has none of this name. */
  find(holder: Holder, mediaName: string): Promise<MediaFile | undefined>
  /** Newest first. Cost does not grow with the library where the prefix is none or a folder. */
  list(query: MediaQuery): Promise<MediaFile[]>
  /** Removes what is on its way; its staged bytes are the sweeper's. False: there was none. */
  discard(id: string): Promise<boolean>
  /** The same of those begun before `before`, at most `limit`. Returns how many. */
  prune(before: number, limit: number): Promise<number>
}

/** Something a caller is told of. `seq` counts from 1 for each holder, without gaps, in an order in which nothing comes before what it followed. */
export interface ActivityEvent { seq: number, event: ActivityName, data: Record<string, unknown>, createdAt: number }
export type ActivityName =
  | 'job_queued' | 'job_started' | 'job_complete' | 'job_failed' | 'job_cancelled' | 'job_removed'
  | 'file_added' | 'file_removed' | 'media_added' | 'media_removed' | 'upload_finalized'

/** Written in the transactions that change jobs, files and uploads, by nobody's doing. */
export interface ActivityRecords {
  /** seq of the newest; 0 before the first */
  head(holder: Holder): Promise<number>
  /** Events with a seq above `after`, in order. Where the first is not the next, those between were pruned. */
  read(holder: Holder, after: number, limit: number): Promise<ActivityEvent[]>
  /** Looks at the `limit` oldest rows of all holders, and removes those from before `before`. Returns how many. */
  prune(before: number, limit: number): Promise<number>
}

export interface SettingRecords {
  /** A secret that all nodes share: made with `make` by the first that asks, and the same ever after. */
  secret(name: string, make: () => string): Promise<string>
}
