/**
 * The port to the records: rows that point at objects. Every change of state is one transaction that compares before it
 * sets, so that two nodes (or a late one) cannot both win. When a method has returned, what it wrote is durable.
 *
 * Times are epoch milliseconds of the node that writes. Adapters throw RecordStoreFailed with the driver's error as
 * `cause` when the store cannot be reached or refuses; nothing else of the driver leaves them.
 */
import type { ActivityRecords, MediaRecords, SettingRecords, TokenRecords } from './access-port.ts'
import type { FileRecords, JobRecords, ModelRecord, ModelRecords, NewModel } from './jobs-port.ts'
import type { NodeRecords } from './nodes-port.ts'
import type { PromotionRecords } from './promotions-port.ts'
import type { WebhookRecords } from './webhooks-port.ts'

/** What an upload becomes (contract: ingest, profiles). */
export type UploadKind = 'bundle' | 'object' | 'model'

/**
 * receiving ─▶ staged ─▶ finalized
 *     │           └────▶ aborted | expired
 *     └─▶ failed | aborted
 * finalized, failed, aborted and expired are final.
 */
export type UploadStatus = 'receiving' | 'staged' | 'finalized' | 'failed' | 'aborted' | 'expired'

/** Who owns a row. `subject` is null for callers that are no user, `account` for callers outside any. */
export interface Owner { subject: string | null, account: string | null, clientId: string | null }

export interface UploadRecord {
  id: string
  kind: UploadKind
  stagingKey: string
  /** cleaned; for people, never part of a key */
  filename: string
  /** bytes: declared while receiving, stored afterwards */
  size: number
  /** bytes the store has taken so far */
  received: number
  declaredSha256: string | null
  /** Of what this service streamed; null when it did not pass through it. */
  sha256: string | null
  /** ETag that the staged bytes got; finalize is bound to it. */
  etag: string | null
  status: UploadStatus
  /** Slug of what ended it (failed only). */
  failure: string | null
  canonicalKey: string | null
  /** The answer of finalize, given again to repeats. */
  result: unknown
  owner: Owner
  createdAt: number
  updatedAt: number
}

export type NewUpload = Pick<UploadRecord, 'id' | 'kind' | 'stagingKey' | 'filename' | 'size' | 'declaredSha256' | 'owner'>

export interface StagedUpload { sha256: string | null, etag: string, size: number }

export interface VersionInput {
  /** null: no publisher */
  publisher: string | null
  name: string
  version: string
  contentHash: string
  canonicalKey: string
  manifest: unknown
  signature: unknown
}

export interface ExtensionRecord { id: string, name: string, publisher: string | null, latestVersion: string, createdAt: number }
export interface VersionRecord {
  id: string
  extensionId: string
  version: string
  contentHash: string
  canonicalKey: string
  manifest: unknown
  signature: unknown
  createdAt: number
}

export interface FinalizeInput {
  uploadId: string
  sha256: string
  canonicalKey: string
  size: number
  contentType: string
  /** What claim() gave before the copy. */
  claim: string
  version?: VersionInput
  model?: NewModel
  /** Makes the answer of finalize from the rows; it is stored with the upload in the same transaction. */
  result(rows: { extension?: ExtensionRecord, version?: VersionRecord, model?: ModelRecord }): unknown
}

export type FinalizeOutcome =
  | { outcome: 'finalized', result: unknown }
  /** Another finalize of this upload won; its answer. */
  | { outcome: 'repeated', result: unknown }
  /** Aborted, expired, failed or unknown: nothing was written. */
  | { outcome: 'gone' }
  /** The version exists with other content: nothing was written. */
  | { outcome: 'version_conflict', contentHash: string }
  /** The model's version exists with other content: nothing was written. */
  | { outcome: 'model_conflict', sha256: string }
  /** The claim does not hold any more: a collector has or had the hash, and may have deleted the copy. Nothing was written; claim and copy anew. */
  | { outcome: 'reclaim' }

/** Position in a list ordered newest first: (createdAt, id) of the last entry seen. */
export interface PageCursor { createdAt: number, id: string }
export interface PageQuery { limit: number, after?: PageCursor }

export interface MultipartIntent { id: string, key: string, uploadId: string | null, touchedAt: number }

export interface UploadRecords {
  /** Reserves the id. False where it is taken, whatever became of that upload. */
  create(upload: NewUpload): Promise<boolean>
  /** A row for staged bytes that did not pass through the service. False where the id is taken. */
  adopt(upload: NewUpload, staged: StagedUpload): Promise<boolean>
  get(id: string): Promise<UploadRecord | undefined>
  /** The newest finalized upload of this canonical key; of this owner where one is given. */
  findFinalized(canonicalKey: string, owner?: Owner): Promise<UploadRecord | undefined>
  /** Notes bytes received of running uploads, in one transaction. Returns the ids of those that are no longer receiving. */
  progress(updates: readonly { id: string, received: number }[]): Promise<string[]>
  /** receiving → staged. False where it is not receiving any more. */
  stage(id: string, staged: StagedUpload): Promise<boolean>
  /** receiving → failed. False where it is not receiving any more. */
  fail(id: string, failure: string, received: number): Promise<boolean>
  /** receiving | staged → aborted (or expired). Returns the status it had before, undefined for an unknown id. */
  end(id: string, status: 'aborted' | 'expired'): Promise<UploadStatus | undefined>
  /** Uploads receiving or staged and untouched since `before`, oldest first; those behind `after` where it is given. */
  listStale(before: number, limit: number, after?: { updatedAt: number, id: string }): Promise<UploadRecord[]>
  /** Deletes failed, aborted and expired rows untouched since `before`, at most `limit`. Returns how many. */
  prune(before: number, limit: number): Promise<number>
  /** staged → finalized with everything that belongs to it, or nothing at all. Also sets the object stored. */
  finalize(input: FinalizeInput): Promise<FinalizeOutcome>
}

export interface StoredObject { sha256: string, key: string, size: number, contentType: string }

export interface ObjectRecords {
  /**
   * Before the copy: keeps the collector from this hash. Returns what finalize is to show: all claims of a key share it, and
   * a collection of the hash ends it. Undefined while the hash is being collected: try again later.
   */
  claim(object: StoredObject): Promise<string | undefined>
  /** Removes claims older than `before` that no finalize completed, at most `limit`. Returns how many. A finalize that comes with one after all is told to claim anew. */
  pruneClaims(before: number, limit: number): Promise<number>
  /** Has anything ever been finalized? */
  anyStored(): Promise<boolean>
  /** For the collector's dry run: would beginCollect take this hash? Changes nothing. */
  isGarbage(sha256: string, claimedBefore: number): Promise<boolean>
  /**
   * For the collector: bars the hash for claims and finalizes, where no row points at it and any claim is older than
   * `claimedBefore`; also hashes without a row. Returns the collector's lease. Undefined where the hash must stay, and while
   * another collector's lease on it is younger than COLLECT_LEASE_MS.
   */
  beginCollect(sha256: string, claimedBefore: number): Promise<string | undefined>
  /** Takes over a collection whose lease is over. Undefined where there is none. */
  resumeCollect(sha256: string): Promise<string | undefined>
  /** Before each delete: is the lease still this collector's, and less than half of COLLECT_LEASE_MS used? */
  holdsCollect(sha256: string, lease: string): Promise<boolean>
  /** Removes the rows of the collected hash and lets claims come again. False, and nothing happens, where the lease is another's or gone. */
  endCollect(sha256: string, lease: string): Promise<boolean>
  /** Hashes whose collector's lease is over, oldest first: where it died after its last delete, no listing of the bucket finds them. */
  listCutOff(limit: number): Promise<string[]>
  /** Objects whose hash a row points at, in the order of their keys; those behind the key `after` where it is given. */
  listReferenced(limit: number, after?: string): Promise<StoredObject[]>
}

export interface ExtensionRecords {
  list(page: PageQuery): Promise<ExtensionRecord[]>
  get(id: string): Promise<ExtensionRecord | undefined>
  listVersions(extensionId: string, page: PageQuery): Promise<VersionRecord[]>
  /** The version of an identity (publisher, name), before anything is written. */
  findVersion(identity: { publisher: string | null, name: string, version: string }): Promise<VersionRecord | undefined>
  /** The oldest version with this content, of whatever extension. */
  firstWithContent(contentHash: string): Promise<VersionRecord | undefined>
}

export interface MultipartIntents {
  /** Before a multipart upload is created. */
  record(key: string): Promise<{ id: string }>
  /** After it was created. */
  setUploadId(id: string, uploadId: string): Promise<void>
  /** A sign of life, again and again while its maker is at work. Nothing where it was removed. */
  touch(id: string): Promise<void>
  /** After it was completed or aborted. Idempotent. */
  remove(id: string): Promise<void>
  /** Untouched since `before`, oldest first; those behind `after` where it is given. */
  listStale(before: number, limit: number, after?: { touchedAt: number, id: string }): Promise<MultipartIntent[]>
}

export interface RecordStore {
  /** For logs: `sqlite`, `postgres`. */
  readonly name: string
  readonly uploads: UploadRecords
  readonly objects: ObjectRecords
  readonly extensions: ExtensionRecords
  readonly multiparts: MultipartIntents
  readonly jobs: JobRecords
  readonly webhooks: WebhookRecords
  readonly nodes: NodeRecords
  readonly promotions: PromotionRecords
  readonly files: FileRecords
  readonly models: ModelRecords
  readonly tokens: TokenRecords
  readonly media: MediaRecords
  readonly activity: ActivityRecords
  readonly settings: SettingRecords
  /** Brings the schema up to date. Idempotent; safe when several nodes start at once. */
  migrate(): Promise<void>
  /** Rejects where the store cannot answer. */
  check(): Promise<void>
  close(): Promise<void>
}

export class RecordStoreFailed extends Error {
  readonly code = 'RECORD_STORE_FAILED'
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'RecordStoreFailed'
  }
}
