/** What the edge asks of the jobs domain. Every method decides on rows: a job of another is `job_not_found`. */
import type { Readable } from 'node:stream'
import type { WireTensor } from '../inference/port.ts'
import type { Principal } from '../identity/principal.ts'
import type { FileRecord, JobEvent, JobRecord, JobWebhook, JobStatus, ModelRecord, QueueStats } from '../records/jobs-port.ts'
import type { PageQuery } from '../records/port.ts'
import type { ShownWorker } from './node-beats.ts'

export type JobInputRequest =
  | { file_id: string }
  | { sha256: string }
  | { key: string }
  /** OIP v2 `inputs`, checked by the task when it runs; kept as one object */
  | { tensors: unknown[] }

export interface JobRequest {
  model: string
  /** without it the highest that is loaded */
  version?: string
  /** What the model is to be used for, where it can be used for more than one thing: a model of images for `video-to-video` too. */
  task?: string
  /** The input is a video: a model that makes images of images is to make a video of it. */
  video?: boolean
  params?: Record<string, unknown>
  user_id?: string
  priority?: number
  cache?: boolean
  webhook?: JobWebhook
}

export interface CreateOptions {
  idempotencyKey?: string
  /** aborts when the client is gone before the job is there */
  signal?: AbortSignal
}

/** A job whose body is still arriving: it holds its upload slot and its place among the user's active jobs until it ends. */
export interface JobDraft {
  /** Streams one file part into staging, hashing. The stream is consumed or destroyed. @throws PAYLOAD_TOO_LARGE over `maxBytes`, and what ingest throws */
  receive(part: { name: 'input' | 'ref_images', filename: string, contentType: string, body: Readable, maxBytes: number }): Promise<void>
  /** Makes the job of what was received; without options those of begin count. Without an input only for tasks that take anything. A failure is a discard. @throws as create() */
  commit(request: JobRequest, options?: CreateOptions): Promise<{ job: JobRecord, repeated: boolean }>
  /** Gives everything back and removes what was staged. Idempotent; nothing after commit. */
  discard(): Promise<void>
}

/** The job of a synchronous inference, in the hands of whoever made it: nothing is asked of the caller any more. */
export interface InferenceJob {
  readonly id: string
  /** As watch() of the service, from the first event. */
  watch(signal: AbortSignal): AsyncIterable<JobEvent>
  /** @throws RESULT_NOT_FOUND */
  result(name: string): Promise<FileRecord>
  /** Cancels where needed, then removes. */
  remove(): Promise<void>
}

export interface ListQuery extends PageQuery { userId?: string, status?: JobStatus, model?: string }

export interface JobService {
  /** JSON creation. `repeated`: the same idempotency key and body. @throws MODEL_NOT_FOUND, BAD_REQUEST, USER_HAS_ACTIVE_JOB, IDEMPOTENCY_CONFLICT, QUEUE_FULL, FILE_NOT_FOUND … */
  create(principal: Principal, request: JobRequest & { input: JobInputRequest }, options?: CreateOptions): Promise<{ job: JobRecord, repeated: boolean }>
  /**
   * For synchronous inference alone: tensors through the model as it is, whatever task it is for, ahead of other jobs, never from
   * earlier results, and beside the active jobs of the user. @throws INSUFFICIENT_SCOPE, BAD_REQUEST, PAYLOAD_TOO_LARGE, QUEUE_FULL …
   */
  createInference(principal: Principal, request: { model: ModelRecord, tensors: readonly WireTensor[] }, options?: Pick<CreateOptions, 'signal'>): Promise<InferenceJob>
  /**
   * Multipart creation: takes slot and place. `userId` stands before the files. With an idempotency key that is known no place
   * is needed: no job comes of it. @throws SERVICE_BUSY, USER_HAS_ACTIVE_JOB
   */
  begin(principal: Principal, userId: string | undefined, options?: CreateOptions): Promise<JobDraft>
  get(principal: Principal, id: string): Promise<JobRecord>
  list(principal: Principal, query: ListQuery): Promise<JobRecord[]>
  /** Events behind `after`, first those that are there, then as they come; ends behind the terminal event of the latest run. */
  watch(principal: Principal, id: string, after: number, signal: AbortSignal): Promise<AsyncIterable<JobEvent>>
  cancel(principal: Principal, id: string): Promise<JobRecord>
  /** @throws JOB_NOT_RETRYABLE */
  retry(principal: Principal, id: string): Promise<JobRecord>
  /** Cancels where needed, then removes. */
  remove(principal: Principal, id: string): Promise<void>
  /** @throws RESULT_NOT_FOUND */
  result(principal: Principal, id: string, name: string): Promise<FileRecord>
  downloadToken(principal: Principal, id: string, request: { name: string, expires_in: number }): Promise<{ token: string, expiresAt: number }>
  /** @throws FILE_NOT_FOUND for a token that is unknown, used or over */
  takeDownload(token: string): Promise<FileRecord>
  /** Of all nodes; what they say of their workers is some seconds old. */
  queue(): Promise<QueueStats & { workers: ShownWorker[] }>
}
