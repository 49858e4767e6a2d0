/** The tables of jobs, files and models as Kysely sees them, and the way from a row to a record. jobs-tables.ts makes them. */
import { sql } from 'kysely'
import type { Selectable, SqlBool } from 'kysely'
import type {
  FileAccess, FileRecord, JobEvent, JobEventName, JobInput, JobRecord, JobResult, JobStatus, ModelRecord, StageTiming
} from './jobs-port.ts'
import type { MediaFolder } from './media-tables.ts'
import type { Promotion } from './promotions-port.ts'

export interface JobsTable {
  id: string
  run: number
  subject: string | null
  account: string | null
  client_id: string | null
  /** ownerText() of the three */
  owner: string
  user_id: string | null
  /** holderText(): whose places among active jobs it takes */
  holder: string
  model_name: string
  model_version: string
  model_sha256: string
  task: string
  params: string
  status: JobStatus
  stage: string | null
  progress: number | null
  priority: number
  attempt: number
  attempt_token: string | null
  worker: string | null
  /** 0 or 1 */
  cancel_requested: number
  failure: string | null
  /** the timings it was made with: each attempt begins with these */
  first_timings: string
  stage_timings: string
  execution: string | null
  /** 0 or 1 */
  cache: number
  memo_key: string
  webhook: string | null
  idempotency_key: string | null
  idempotency_hash: string | null
  last_seq: number
  /** of those that wait. 0: ready, whatever a clock says. Above: a claim of that time or later makes it ready. */
  available_at: number | null
  /** of those that are processed */
  lease_until: number | null
  created_at: number
  updated_at: number
  started_at: number | null
  /** of those that are finished, however they ended */
  completed_at: number | null
}

export interface JobInputsTable {
  job_id: string
  name: string
  position: number
  file_id: string | null
  sha256: string
  key: string
  size: number
  content_type: string
  filename: string | null
}

export interface JobResultsTable { job_id: string, position: number, name: string, file_id: string }

export interface JobEventsTable {
  job_id: string
  seq: number
  event: JobEventName
  /** of progress: what supersedes what */
  stage: string | null
  data: string
  created_at: number
}

export interface JobReservationsTable { id: string, holder: string, expires_at: number }
export interface DownloadsTable { token_hash: string, file_id: string, expires_at: number }

export interface FilesTable {
  id: string
  filename: string
  content_type: string
  size: number
  sha256: string
  key: string
  access: FileAccess
  subject: string | null
  account: string | null
  client_id: string | null
  owner: string
  created_at: number
  /** where it is in the media library of its holder (media-tables.ts); null: not in it */
  media_folder: MediaFolder | null
  media_name: string | null
}

export interface ModelsTable {
  id: string
  name: string
  version: string
  task: string
  sha256: string
  key: string
  size: number
  manifest: string
  signature: string
  /** 0 or 1 */
  loaded: number
  created_at: number
}

/** Conditions of jobs, word for word as in the partial indexes. */
export const READY = sql<SqlBool>`available_at = 0`
export const DELAYED = sql<SqlBool>`available_at > 0`
export const LEASED = sql<SqlBool>`lease_until is not null`
export const ACTIVE = sql<SqlBool>`completed_at is null`
export const COMPLETED = sql<SqlBool>`status = 'completed'`
export const FINISHED = sql<SqlBool>`completed_at is not null`
export const HAS_IDEMPOTENCY_KEY = sql<SqlBool>`idempotency_key is not null`
/** Of events. */
export const PROGRESS = sql<SqlBool>`event = 'generation_progress'`

export type JobRow = Selectable<JobsTable>

/** With what belongs to it, as JSON. */
export interface WholeJobRow extends JobRow { inputs: string, results: string, promotions: string }

export function jobOf(row: WholeJobRow): JobRecord {
  return {
    id: row.id,
    run: row.run,
    owner: { subject: row.subject, account: row.account, clientId: row.client_id },
    userId: row.user_id,
    model: { name: row.model_name, version: row.model_version, sha256: row.model_sha256 },
    task: row.task,
    params: JSON.parse(row.params) as Record<string, unknown>,
    status: row.status,
    stage: row.stage,
    progress: row.progress,
    priority: row.priority,
    attempt: row.attempt,
    attemptToken: row.attempt_token,
    worker: row.worker,
    cancelRequested: row.cancel_requested === 1,
    inputs: inputsOf(row.inputs),
    results: JSON.parse(row.results) as JobResult[],
    promotions: (JSON.parse(row.promotions) as Promotion[]).toReversed(),
    failure: parsed(row.failure),
    stageTimings: timingsOf(row.stage_timings),
    execution: parsed(row.execution),
    cache: row.cache === 1,
    memoKey: row.memo_key,
    webhook: parsed(row.webhook),
    lastSeq: row.last_seq,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    startedAt: row.started_at,
    completedAt: row.completed_at
  }
}

function inputsOf(text: string): JobInput[] {
  return (JSON.parse(text) as (JobInput & { filename: string | null })[]).map(({ filename, ...input }) => ({ ...input, ...(filename !== null && { filename }) }))
}

export function timingsOf(text: string): Record<string, StageTiming> {
  return JSON.parse(text) as Record<string, StageTiming>
}

function parsed<T>(text: string | null): T | null {
  return text === null ? null : JSON.parse(text) as T
}

export function eventOf(row: Selectable<JobEventsTable>): JobEvent {
  return { seq: row.seq, event: row.event, data: JSON.parse(row.data) as Record<string, unknown>, createdAt: row.created_at }
}

export function fileOf(row: Selectable<FilesTable>): FileRecord {
  return {
    id: row.id,
    filename: row.filename,
    contentType: row.content_type,
    size: row.size,
    sha256: row.sha256,
    key: row.key,
    access: row.access,
    owner: { subject: row.subject, account: row.account, clientId: row.client_id },
    createdAt: row.created_at
  }
}

export function modelOf(row: Selectable<ModelsTable>): ModelRecord {
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    task: row.task,
    sha256: row.sha256,
    key: row.key,
    size: row.size,
    manifest: JSON.parse(row.manifest),
    signature: JSON.parse(row.signature),
    loaded: row.loaded === 1,
    createdAt: row.created_at
  }
}

/** One text for (client, user), with its nulls. */
export function holderText(clientId: string | null, userId: string | null): string {
  return JSON.stringify([clientId, userId])
}

/** Text that a worker made: Postgres keeps no NUL in a text. */
export function withoutNul(text: string): string {
  return text.replaceAll('\0', '')
}
