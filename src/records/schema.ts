/**
 * The tables as Kysely sees them, and the way from a row to a record of the port.
 *
 * Both databases hold the same: text, and whole numbers (bytes and epoch milliseconds) as bigint. JSON is text, because
 * it is only ever given back whole. `migrations.ts` makes the tables.
 */
import { sql } from 'kysely'
import type { Kysely, Selectable, SqlBool, Transaction } from 'kysely'
import type { HintSender } from './hints.ts'
import type { JobCountsTable, JobFarewellsTable, JobWebhooksTable, NodesTable } from './jobs-changes-schema.ts'
import type { DownloadsTable, FilesTable, JobEventsTable, JobInputsTable, JobReservationsTable, JobResultsTable, JobsTable, ModelsTable } from './jobs-schema.ts'
import type { ActivityHeadsTable, ActivityTable, MediaUploadsTable } from './media-schema.ts'
import type { FileGrantsTable, SettingsTable } from './sharing-schema.ts'
import type { PromotionsTable } from './promotions-schema.ts'
import type { ExtensionRecord, Owner, UploadKind, UploadRecord, UploadStatus, VersionRecord } from './port.ts'
import type { TokensTable } from './tokens-schema.ts'

export interface UploadsTable {
  id: string
  kind: UploadKind
  staging_key: string
  filename: string
  size: number
  received: number
  declared_sha256: string | null
  /** of a finalized row always that of its canonical object: what the collector asks for */
  sha256: string | null
  etag: string | null
  status: UploadStatus
  failure: string | null
  canonical_key: string | null
  result: string | null
  subject: string | null
  account: string | null
  client_id: string | null
  /** ownerText() of the three: found by equality, which NULLs are not */
  owner: string
  created_at: number
  updated_at: number
}

export interface ObjectsTable {
  key: string
  sha256: string
  size: number
  content_type: string
  /** pending: claimed, and not finalized yet */
  state: 'pending' | 'stored'
  /** random, new with each row: a finalize shows that the row is still the one that it claimed */
  claim: string
  claimed_at: number
  created_at: number
}

/** Hashes being collected, also those that have no row in objects. */
export interface CollectionsTable {
  sha256: string
  /** random, new with each collector */
  lease: string
  begun_at: number
}

export interface ExtensionsTable {
  id: string
  /** '' stands for none: NULLs are distinct in a unique index */
  publisher: string
  name: string
  latest_version: string
  created_at: number
}

export interface ExtensionVersionsTable {
  id: string
  extension_id: string
  version: string
  content_hash: string
  canonical_key: string
  manifest: string
  signature: string
  created_at: number
}

export interface MultipartIntentsTable {
  id: string
  key: string
  upload_id: string | null
  touched_at: number
}

export interface SchemaMigrationsTable {
  version: number
  name: string
  applied_at: number
}

export interface Tables {
  uploads: UploadsTable
  objects: ObjectsTable
  collections: CollectionsTable
  extensions: ExtensionsTable
  extension_versions: ExtensionVersionsTable
  multipart_intents: MultipartIntentsTable
  jobs: JobsTable
  job_inputs: JobInputsTable
  job_results: JobResultsTable
  job_events: JobEventsTable
  job_reservations: JobReservationsTable
  downloads: DownloadsTable
  job_webhooks: JobWebhooksTable
  job_farewells: JobFarewellsTable
  job_counts: JobCountsTable
  nodes: NodesTable
  promotions: PromotionsTable
  files: FilesTable
  models: ModelsTable
  media_uploads: MediaUploadsTable
  activity: ActivityTable
  activity_heads: ActivityHeadsTable
  file_grants: FileGrantsTable
  settings: SettingsTable
  tokens: TokensTable
  schema_migrations: SchemaMigrationsTable
}

export type DatabaseName = 'sqlite' | 'postgres'

/** What the query modules work with. */
export interface Records {
  readonly name: DatabaseName
  readonly db: Kysely<Tables>
  /** epoch milliseconds */
  readonly now: () => number
  /** tells those who subscribed to jobs, here and in other nodes */
  readonly hints: HintSender
}

/** Conditions of uploads, word for word as in the partial indexes: a planner proves nothing from a bound parameter. */
export const OPEN = sql<SqlBool>`status in ('receiving', 'staged')`
export const ENDED = sql<SqlBool>`status in ('failed', 'aborted', 'expired')`
export const FINALIZED = sql<SqlBool>`status = 'finalized'`
/** The same of objects. */
export const PENDING = sql<SqlBool>`state = 'pending'`
export const STORED = sql<SqlBool>`state = 'stored'`

export type RecordsTransaction = Transaction<Tables>

export function uploadOf(row: Selectable<UploadsTable>): UploadRecord {
  return {
    id: row.id,
    kind: row.kind,
    stagingKey: row.staging_key,
    filename: row.filename,
    size: row.size,
    received: row.received,
    declaredSha256: row.declared_sha256,
    sha256: row.sha256,
    etag: row.etag,
    status: row.status,
    failure: row.failure,
    canonicalKey: row.canonical_key,
    result: row.result === null ? null : JSON.parse(row.result),
    owner: { subject: row.subject, account: row.account, clientId: row.client_id },
    createdAt: row.created_at,
    updatedAt: row.updated_at
  }
}

export function extensionOf(row: Selectable<ExtensionsTable>): ExtensionRecord {
  return {
    id: row.id,
    name: row.name,
    publisher: row.publisher === '' ? null : row.publisher,
    latestVersion: row.latest_version,
    createdAt: row.created_at
  }
}

export function versionOf(row: Selectable<ExtensionVersionsTable>): VersionRecord {
  return {
    id: row.id,
    extensionId: row.extension_id,
    version: row.version,
    contentHash: row.content_hash,
    canonicalKey: row.canonical_key,
    manifest: JSON.parse(row.manifest),
    signature: JSON.parse(row.signature),
    createdAt: row.created_at
  }
}

/** The columns of an owner. */
export function ownerColumns(owner: Owner): { subject: string | null, account: string | null, client_id: string | null, owner: string } {
  return { subject: owner.subject, account: owner.account, client_id: owner.clientId, owner: ownerText(owner) }
}

/** One text for an owner, with its nulls. */
export function ownerText({ subject, account, clientId }: Owner): string {
  return JSON.stringify([subject, account, clientId])
}

/** JSON text of a value; undefined, which JSON has not, becomes null. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value) ?? 'null'
}
