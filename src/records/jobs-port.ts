/**
 * The port to job records: the one truth about jobs, their events, results and files.
 *
 * queued ─▶ processing ─▶ completed | failed | cancelled          failed | cancelled ─retry▶ queued (run + 1)
 *    ▲          │
 *    └──────────┘  lease lost, retryable failure, shutdown
 *
 * Every change of state is one transaction that compares (id, status, attempt token) before it sets, writes the event that
 * tells of it, and is durable when the method returns. A worker that is late changes nothing. Of each run exactly one
 * terminal event is written, and nothing behind it. Times are epoch milliseconds of the node that writes.
 */
import type { SharedFiles } from './access-port.ts'
import type { Owner, PageQuery } from './port.ts'
import type { Promotion } from './promotions-port.ts'

export type JobStatus = 'queued' | 'processing' | 'completed' | 'failed' | 'cancelled'
export type JobEventName = 'generation_started' | 'generation_progress' | 'generation_complete' | 'generation_failed' | 'generation_cancelled'

/** One object that a job reads. `name` is `input` or `ref_images`; `position` counts from 0 within a name. */
export interface JobInput {
  name: string
  position: number
  /** file that it was named by, where it was */
  fileId: string | null
  sha256: string
  /** canonical key */
  key: string
  /** bytes */
  size: number
  contentType: string
  /** cleaned, of an input that came with the job */
  filename?: string
}

/** A result as it is shown: a file of its own. */
export interface JobResult { name: string, fileId: string, sha256: string, key: string, size: number, contentType: string }

export interface StageTiming { startedAt: number, finishedAt: number | null }
/** How it was really run. `cached`: results of an earlier job. */
export interface JobExecution { provider: string, device: string, worker: string, cached: boolean }
export interface JobFailure { code: string, message: string }
/** Where events of a job are sent to; `events` undefined means all. */
export interface JobWebhook { url: string, events?: JobEventName[] }

export interface JobRecord {
  id: string
  /** from 1; a retry by the caller begins the next */
  run: number
  owner: Owner
  /** whom the job is for; the active-job limit counts by (owner.clientId, userId) */
  userId: string | null
  model: { name: string, version: string, sha256: string }
  task: string
  params: Record<string, unknown>
  status: JobStatus
  stage: string | null
  /** 0–100, never falls within a run, null while the total is unknown */
  progress: number | null
  priority: number
  /** of this run, from 1; 0 before the first */
  attempt: number
  /** fences late workers; null while nobody runs it */
  attemptToken: string | null
  worker: string | null
  cancelRequested: boolean
  inputs: JobInput[]
  results: JobResult[]
  /** the newest PROMOTIONS_SHOWN_MAX, oldest first */
  promotions: Promotion[]
  failure: JobFailure | null
  stageTimings: Record<string, StageTiming>
  execution: JobExecution | null
  /** may an earlier job's results be its own? */
  cache: boolean
  /** same model digest, input digests and params: same key */
  memoKey: string
  webhook: JobWebhook | null
  /** seq of its newest event */
  lastSeq: number
  createdAt: number
  updatedAt: number
  startedAt: number | null
  completedAt: number | null
}

export interface NewJob {
  id: string
  owner: Owner
  userId: string | null
  model: { name: string, version: string, sha256: string }
  task: string
  params: Record<string, unknown>
  priority: number
  inputs: readonly NewJobInput[]
  cache: boolean
  memoKey: string
  webhook: JobWebhook | null
  idempotency: { key: string, bodyHash: string } | null
  /** from reserve(), given back by this, but for `reclaim`, after which it is tried again */
  reservation: string | null
  /** most jobs that may wait */
  queueMax: number
  stageTimings: Record<string, StageTiming>
}

/**
 * `claim`: what objects.claim() gave for bytes that were staged for this job, `stagedUploadId` the upload that held them:
 * its row goes, the job's reference takes its place. Without them a row must already point at the hash.
 */
export interface NewJobInput extends JobInput { claim: string | null, stagedUploadId: string | null }

export type CreateOutcome =
  | { outcome: 'created', job: JobRecord }
  /** Same idempotency key, same body. */
  | { outcome: 'repeated', job: JobRecord }
  | { outcome: 'idempotency_conflict' }
  | { outcome: 'queue_full', waiting: number }
  /** The collector has or had a hash that no row points at any more: nothing was written. */
  | { outcome: 'reclaim' }

export interface JobQuery extends PageQuery {
  /** undefined: everybody's */
  owner?: Owner
  userId?: string
  status?: JobStatus
  model?: string
}

export interface JobEvent { seq: number, event: JobEventName, data: Record<string, unknown>, createdAt: number }

/** Who claims: `token` is fresh for every claim, `worker` is for people; jobs of `exceptTasks` are left to other nodes. */
export interface Claimant { token: string, worker: string, leaseMs: number, exceptTasks?: readonly string[] }

/** A result that the worker has put into staging and that was copied to its canonical key. */
export interface NewResult { name: string, filename: string, sha256: string, key: string, size: number, contentType: string, claim: string | null }

export interface Progress { stage: string, progress: number | null, message: string | null }

export interface QueueStats {
  waiting: number
  running: number
  completed: number
  failed: number
  /** createdAt of the oldest that waits */
  oldestCreatedAt: number | null
  perModel: { model: string, waiting: number, running: number }[]
}

/** A hint to look again; it can be lost, and says nothing that the rows do not. */
export type JobHint = { kind: 'queued' } | { kind: 'job', jobId: string } | { kind: 'activity', user: string }

export interface JobRecords {
  /**
   * Takes one of `max` places of (clientId, userId) before a body is read; unfinished jobs hold theirs. The id goes into
   * create(), or back by release(); it lapses after RESERVATION_TTL_MS without touch().
   */
  reserve(owner: { clientId: string | null, userId: string | null }, max: number): Promise<{ reservation: string } | { active: JobRecord | null }>
  touchReservation(reservation: string): Promise<void>
  releaseReservation(reservation: string): Promise<void>
  /** Writes job and event `generation_started` (seq 1), or nothing. */
  create(job: NewJob): Promise<CreateOutcome>
  /** The job of this key of this owner, and the hash of the body that made it. */
  findIdempotent(owner: Owner, key: string): Promise<{ job: JobRecord, bodyHash: string } | undefined>
  get(id: string): Promise<JobRecord | undefined>
  /** Newest first. Cost does not grow with the table. */
  list(query: JobQuery): Promise<JobRecord[]>
  /** Events with a seq above `after`, in order. */
  events(jobId: string, after: number, limit: number): Promise<JobEvent[]>
  /** Of a job that was removed: its last event, and what it was then. Only for a while. */
  farewell(id: string): Promise<{ event: JobEvent, job: JobRecord } | undefined>

  /** The waiting job of highest priority, then oldest, whose time has come: queued → processing, attempt + 1. No two callers get the same. */
  claim(claimant: Claimant): Promise<JobRecord | undefined>
  /** Extends leases. Returns of those given the ids that are no longer this token's, and those whose cancel was asked for. */
  heartbeat(held: readonly { id: string, token: string }[], leaseMs: number): Promise<{ lost: string[], cancelled: string[] }>
  /** Notes progress (a lower one than before is raised to it, and 100 comes only with completion), the stage and its timing; `event` writes generation_progress, which supersedes an older one of the same stage. False: not this token's any more. */
  progress(id: string, token: string, progress: Progress): Promise<boolean>
  /** processing → completed with progress 100, files and results, event generation_complete; all or nothing. `reclaim`: a result's bytes are being collected. */
  complete(id: string, token: string, done: { results: readonly NewResult[], execution: JobExecution }): Promise<'completed' | 'late' | 'reclaim'>
  /** processing → failed, or back to queued at `retryAt` where that is given and attempts are left of `maxAttempts` (→ cancelled where that was asked for). Undefined: late. */
  fail(id: string, token: string, failure: JobFailure, retry?: { at: number, maxAttempts: number }): Promise<JobStatus | undefined>
  /** processing → queued (cancelled where that was asked for) without using up the attempt: the node shuts down. False: late. */
  release(id: string, token: string): Promise<boolean>
  /** queued → cancelled; processing: notes the wish, which the runner's heartbeat or hint sees. Terminal: no change. Undefined: unknown. */
  requestCancel(id: string): Promise<JobRecord | undefined>
  /** processing → cancelled by whoever runs it. False: late. */
  confirmCancel(id: string, token: string): Promise<boolean>
  /** Jobs whose lease is over: back to queued, cancelled where that was asked for, or failed `worker_lost` without attempts left. Returns how many, and the ids of those that ended. */
  reapLost(options: { maxAttempts: number, retryAt(attempt: number): number, limit: number }): Promise<{ reaped: number, ended: string[] }>
  /** failed | cancelled → queued, run + 1, attempt 0, event generation_started. False: not in such a state. */
  retry(id: string): Promise<boolean>
  /** Removes a job that is not processing with events, inputs, results and their files; one that waits is cancelled. Undefined: unknown. `running`: cancel it first. */
  remove(id: string): Promise<'removed' | 'running' | undefined>
  /** The newest completed job of this memo key (and owner) whose results are all there. */
  findMemo(memoKey: string, owner: Owner): Promise<JobRecord | undefined>
  /** Finished before `before`, oldest first. */
  listFinished(before: number, limit: number): Promise<string[]>
  /** Cost does not grow with what has ended. */
  stats(): Promise<QueueStats>

  /** One-time download: notes a token's hash. */
  createDownload(download: { tokenHash: string, fileId: string, expiresAt: number }): Promise<void>
  /** The file of a token that was not used and is not over, used now. */
  takeDownload(tokenHash: string): Promise<FileRecord | undefined>
  /** Removes downloads and farewells that are over, reservations that lapsed, nodes that are gone; at most `limit` of each. */
  pruneLapsed(limit: number): Promise<number>

  /** Calls `listener` on hints until the returned function is called. With Postgres over LISTEN/NOTIFY, else within this process. */
  subscribe(listener: (hint: JobHint) => void): () => void
}

export type FileAccess = 'account' | 'public' | 'restricted'
/** A row that points at an object. */
export interface FileRecord {
  id: string
  filename: string
  contentType: string
  size: number
  sha256: string
  key: string
  access: FileAccess
  owner: Owner
  createdAt: number
}

export interface FileRecords extends SharedFiles {
  get(id: string): Promise<FileRecord | undefined>
  /** An object that a row of this owner (of anyone where undefined) points at: a finalized upload, a file. */
  findOwned(by: { sha256: string } | { key: string }, owner: Owner | undefined): Promise<{ sha256: string, key: string, size: number, contentType: string } | undefined>
}

/** A model is a row that points at an ONNX object. (name, version) is unique. */
export interface ModelRecord {
  id: string
  name: string
  version: string
  task: string
  sha256: string
  key: string
  /** bytes */
  size: number
  /** as given, checked */
  manifest: unknown
  /** what the file itself says of its inputs and outputs, from the load check */
  signature: unknown
  /** false after unload: known, not served */
  loaded: boolean
  createdAt: number
}

export interface ModelRecords {
  /** Every version, by name and then highest version first. */
  list(): Promise<ModelRecord[]>
  /** This version, or the highest of those that are loaded without one. */
  find(name: string, version?: string): Promise<ModelRecord | undefined>
  /** Loads or unloads one version, all without one. Returns how many rows there are of it. */
  setLoaded(name: string, version: string | undefined, loaded: boolean): Promise<number>
  /**
   * Inserts a model that came by no upload, its object copied under `claim` (null: another row must point at it already), and
   * sets the object stored. `same`: this version is there with these bytes, and stays as it is. `conflict`: with others.
   * `reclaim`: the collector has or had the hash; claim and copy anew.
   */
  add(model: NewModel & { claim: string | null }): Promise<'added' | 'same' | 'conflict' | 'reclaim'>
}
/** Part of FinalizeInput; the row is written in the transaction of finalize. */
export type NewModel = Pick<ModelRecord, 'name' | 'version' | 'task' | 'sha256' | 'key' | 'size' | 'manifest' | 'signature'>
