/** Bodies and answers of the job routes. A response schema is also the list of what may leave. */
import type { Readable } from 'node:stream'
import { Type, type Static } from 'typebox'
import { DATATYPES } from '../../inference/tensor-json.ts'
import {
  DOWNLOAD_TOKEN_DEFAULT_SECONDS, DOWNLOAD_TOKEN_MAX_SECONDS, IDEMPOTENCY_KEY_MAX_CHARACTERS, JOB_NAME_MAX_CHARACTERS, JOB_PRIORITY_MAX,
  PAGE_DEFAULT, PAGE_MAX, REF_IMAGES_MAX, TENSOR_RANK_MAX, TENSORS_MAX, USER_ID_MAX_CHARACTERS, WEBHOOK_URL_MAX_CHARACTERS
} from '../../limits.ts'
import type { JobEventName, JobStatus } from '../../records/jobs-port.ts'
import { eventDocs } from '../event-stream.ts'
import { describeParams } from './task-params.ts'

const EVENTS = ['generation_started', 'generation_progress', 'generation_complete', 'generation_failed', 'generation_cancelled'] as const satisfies JobEventName[]
const STATUSES = ['queued', 'processing', 'completed', 'failed', 'cancelled'] as const satisfies JobStatus[]

const jobId = '0f8fad5b-d9cb-469f-a165-70867728950e'
const fileId = '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11'
const sha256 = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'

/** It goes into look-ups, and into texts of errors. */
const NO_CONTROLS = String.raw`^[^\u0000-\u001f\u007f-\u009f]+$`
const Name = (description: string) => Type.String({ minLength: 1, maxLength: JOB_NAME_MAX_CHARACTERS, pattern: NO_CONTROLS, description })
const UserId = (description: string) => Type.String({ pattern: `^[A-Za-z0-9._-]{1,${USER_ID_MAX_CHARACTERS}}$`, description })
const Sha256 = Type.String({ pattern: '^[a-f0-9]{64}$' })
const Time = Type.String({ format: 'date-time' })
const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) => Type.Union([type, Type.Null()])

const Tensor = Type.Object({
  name: Type.String({ minLength: 1, maxLength: 255 }),
  shape: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: TENSOR_RANK_MAX }),
  datatype: Type.Enum(DATATYPES),
  data: Type.Unknown({ description: 'flat in row-major order, or nested' }),
  parameters: Type.Optional(Type.Object({}, { additionalProperties: true }))
}, { additionalProperties: false })

/** Exactly one of them: said by the number of properties, which makes for an error that can be read. */
const Input = Type.Object({
  file_id: Type.Optional(Type.String({ format: 'uuid' })),
  sha256: Type.Optional(Sha256),
  key: Type.Optional(Type.String({ minLength: 1, maxLength: 1024, pattern: NO_CONTROLS })),
  tensors: Type.Optional(Type.Array(Tensor, { minItems: 1, maxItems: TENSORS_MAX }))
}, { additionalProperties: false, minProperties: 1, maxProperties: 1, description: 'one of: a file, an object that a row of the caller points at, tensors as the Open Inference Protocol has its `inputs`' })

const Params = Type.Unsafe<Record<string, unknown>>(Type.Object({}, { additionalProperties: true, description: `as the task of the model takes them:\n\n${describeParams()}\n\nEach as a schema: \`properties.params\` of \`GET /v2/models/{name}\`.` }))
const Webhook = Type.Object({
  url: Type.String({ minLength: 1, maxLength: WEBHOOK_URL_MAX_CHARACTERS }),
  events: Type.Optional(Type.Array(Type.Enum(EVENTS), { maxItems: EVENTS.length, uniqueItems: true, description: 'without it all' }))
}, { additionalProperties: false })

const fields = {
  model: Type.Optional(Name('without it the default for images, or for videos')),
  version: Type.Optional(Name('without it the highest')),
  task: Type.Optional(Name('what the model is used for: `video-to-video` lets a model of images make a video of a video, which is meant too where a part is called `video` or has such a type; without it what the model is for')),
  params: Type.Optional(Params),
  user_id: Type.Optional(UserId('whom the job is for; the subject of a user token wins, and must agree')),
  priority: Type.Optional(Type.Integer({ minimum: -JOB_PRIORITY_MAX, maximum: JOB_PRIORITY_MAX, description: '0 without it' })),
  cache: Type.Optional(Type.Boolean({ description: 'false: results of an earlier job are not taken' })),
  webhook: Type.Optional(Webhook)
}

/** What can be said of a job besides its input. */
export const JobFields = Type.Object(fields, { additionalProperties: false })
export type JobFields = Static<typeof JobFields>

export const JobBody = Type.Object({ ...fields, input: Input }, {
  additionalProperties: false,
  examples: [
    { model: 'upscale-2x', input: { sha256 } },
    { model: 'identity', input: { tensors: [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2.5] }] }, priority: 5 }
  ]
})
export type JobBody = Static<typeof JobBody>

const File = (description: string) => Type.String({ format: 'binary', description })
/** For the documentation: the parts are read as they arrive. */
export const JobForm = Type.Object({
  ...fields,
  user_id: Type.Optional(UserId('before the files')),
  input: Type.Optional(File('the file; `image` and `video` are names for it too')),
  ref_images: Type.Optional(Type.Array(File('an image'), { maxItems: REF_IMAGES_MAX }))
}, { description: '`params` and `webhook` are JSON' })

export const LegacyForm = Type.Omit(JobForm, ['user_id'])

export const GenerateBody = Type.Union([
  Type.Object({ params: Type.Optional(Params), input: Type.Optional(Input) }, { additionalProperties: false }),
  Type.Null()
], { examples: [{ input: { sha256 }, params: {} }] })
export type GenerateBody = Static<typeof GenerateBody>

export const GenerateAnswer = Type.Object({ jobId: Type.String() }, { description: 'the job waits', examples: [{ jobId }] })

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(Type.String({ pattern: String.raw`^[\x21-\x7e]{1,${IDEMPOTENCY_KEY_MAX_CHARACTERS}}$`, description: 'the same key and body give the same job' }))
})
export interface IdempotencyHeaders { 'idempotency-key'?: string }

const Result = Type.Object({ name: Type.String(), file_id: Type.String(), url: Type.String(), size: Type.Integer(), sha256: Sha256, content_type: Type.String() })
export const Promoted = Type.Object({ job_id: Type.String(), source: Type.String(), target_object_key: Type.String(), size: Type.Integer(), sha256: Sha256, promoted_at: Time }, {
  description: 'the copy at the file gateway',
  examples: [{ job_id: jobId, source: 'image.png', target_object_key: 'campaigns/2026/hero.png', size: 9, sha256, promoted_at: '2026-01-31T12:05:00.000Z' }]
})
const StageTiming = Type.Object({ started_at: Time, finished_at: Nullable(Time), duration_ms: Nullable(Type.Integer()) })

const jobProperties = {
  job_id: Type.String(),
  user_id: Nullable(Type.String()),
  client_id: Nullable(Type.String()),
  model: Type.Object({ name: Type.String(), version: Type.String(), sha256: Sha256 }),
  status: Type.Enum(STATUSES),
  stage: Nullable(Type.String()),
  cancel_requested: Type.Optional(Type.Boolean({ description: 'there, and true, while a running job is being cancelled' })),
  progress: Nullable(Type.Number({ description: '0 to 100, null while the total is unknown' })),
  attempt: Type.Integer(),
  created_at: Time,
  updated_at: Time,
  started_at: Type.Optional(Time),
  completed_at: Type.Optional(Time),
  input: Type.Optional(Type.Object({ file_id: Type.Optional(Type.String()), sha256: Sha256, size: Type.Integer(), content_type: Type.String() })),
  results: Type.Array(Result),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
  stage_timings: Type.Record(Type.String(), StageTiming),
  execution: Type.Optional(Type.Object({ provider: Type.String(), device: Type.String(), worker: Type.String(), cached: Type.Boolean() })),
  promotions: Type.Array(Promoted)
}

const model = { name: 'upscale-2x', version: '1', sha256 }
const queued = {
  job_id: jobId, user_id: null, client_id: null, model, status: 'queued', stage: null, progress: null, attempt: 0,
  created_at: '2026-01-31T12:00:00.000Z', updated_at: '2026-01-31T12:00:00.000Z',
  input: { sha256, size: 5, content_type: 'image/png' }, results: [], stage_timings: {}, promotions: []
}
const completed = {
  ...queued, status: 'completed', stage: 'persist', progress: 100, attempt: 1, updated_at: '2026-01-31T12:00:02.000Z',
  started_at: '2026-01-31T12:00:01.000Z', completed_at: '2026-01-31T12:00:02.000Z',
  results: [{ name: 'image.png', file_id: fileId, url: `/api/v1/jobs/${jobId}/results/image.png`, size: 9, sha256, content_type: 'image/png' }],
  stage_timings: { inference: { started_at: '2026-01-31T12:00:01.000Z', finished_at: '2026-01-31T12:00:01.900Z', duration_ms: 900 } },
  execution: { provider: 'cpu', device: 'cpu', worker: 'worker-1', cached: false }
}

export const Job = Type.Object(jobProperties, { description: 'the job', examples: [completed] })
const location = { Location: { type: 'string', description: 'of the job' } }
export const AcceptedJob = Type.Object(jobProperties, { description: 'the job waits', headers: location, examples: [queued] })
export const RepeatedJob = Type.Object(jobProperties, { description: 'the job that this idempotency key and body made before', headers: location, examples: [queued] })
export const JobWithETag = Type.Object(jobProperties, {
  description: 'the job', headers: { ETag: { type: 'string', description: 'of its state; `If-None-Match` with it gives 304 while nothing changed' } }, examples: [completed]
})
export const ModelParams = Type.Object({ model: Name('of a model') })
export const Nothing = Type.Null({ description: 'done' })
export const NotModified = Type.Null({ description: 'it is as the caller has it' })
export const Jobs = Type.Object({ items: Type.Array(Type.Object(jobProperties)), next_cursor: Nullable(Type.String()) }, {
  description: 'one page', examples: [{ items: [completed], next_cursor: null }]
})

export const JobParams = Type.Object({ id: Type.String({ maxLength: 128 }) })
export type JobParams = Static<typeof JobParams>
export const ResultParams = Type.Object({ id: Type.String({ maxLength: 128 }), name: Name('of the result') })
export type ResultParams = Static<typeof ResultParams>

export const ListQuery = Type.Object({
  user_id: Type.Optional(UserId('service tokens must give it')),
  status: Type.Optional(Type.Enum(STATUSES)),
  model: Type.Optional(Name('of this model')),
  limit: Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_DEFAULT }),
  cursor: Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: 'next_cursor of the page before' }))
}, { additionalProperties: false })
export type ListQuery = Static<typeof ListQuery>

export const LegacyParams = Type.Object({ jobId: Type.String({ maxLength: 128 }) })
export type LegacyParams = Static<typeof LegacyParams>
export const LegacyResultParams = Type.Object({ jobId: Type.String({ maxLength: 128 }), filename: Name('of the result') })
export type LegacyResultParams = Static<typeof LegacyResultParams>
export const LegacyListQuery = Type.Omit(ListQuery, ['user_id'], { additionalProperties: false })
export type LegacyListQuery = Static<typeof LegacyListQuery>

const Sequence = (description: string) => Type.Optional(Type.String({ pattern: String.raw`^\d{1,15}$`, description }))
export const EventsQuery = Type.Object({ after: Sequence('only events behind this sequence number') })
export type EventsQuery = Static<typeof EventsQuery>
export const EventsHeaders = Type.Object({ 'last-event-id': Sequence('the same, as browsers send it; it wins') })
export interface EventsHeaders { 'last-event-id'?: string }
export const Events = eventDocs('the events as they happen, up to the terminal one of the latest run', [
  { id: 2, event: 'generation_progress', data: { jobId, progress: 50, stage: 'inference', message: null } }
])
export const NoMoreEvents = Type.Null({ description: 'the job has ended, and the caller has seen all of it: browsers do not connect again' })

export const DownloadBody = Type.Object({
  name: Name('of the result'),
  expires_in: Type.Integer({ minimum: 1, maximum: DOWNLOAD_TOKEN_MAX_SECONDS, default: DOWNLOAD_TOKEN_DEFAULT_SECONDS, description: 'seconds' })
}, { additionalProperties: false, examples: [{ name: 'image.png', expires_in: 600 }] })
export type DownloadBody = Static<typeof DownloadBody>
export const DownloadAnswer = Type.Object({ url: Type.String({ description: 'good for one download, by whoever has it' }), expires_at: Time }, {
  description: 'the address', examples: [{ url: '/api/v1/downloads/Zm9yIG9uZSBkb3dubG9hZCBvbmx5', expires_at: '2026-01-31T12:10:00.000Z' }]
})
export const DownloadParams = Type.Object({ token: Type.String({ maxLength: 256 }) })
export type DownloadParams = Static<typeof DownloadParams>

const fileHeaders = {
  ETag: { type: 'string', description: 'the sha256, quoted' },
  'Last-Modified': { type: 'string' },
  'Repr-Digest': { type: 'string', description: 'sha256 of the whole file as RFC 9530 has it: sha-256=:<base64>:' },
  'Accept-Ranges': { type: 'string' },
  'Content-Disposition': { type: 'string' }
} as const
/** Of any media type, so that there is nothing to say of them: OpenAPI 3.1 has no schema for bytes. */
const bytes = (description: string, headers: Record<string, object>) => Type.Unsafe<Readable>({ description, headers })
export const FileBytes = bytes('the bytes', fileHeaders)
export const FileRange = bytes('the bytes of the range', { ...fileHeaders, 'Content-Range': { type: 'string' } })
export const FileOnce = bytes('the bytes, whole', { 'Repr-Digest': fileHeaders['Repr-Digest'], 'Content-Disposition': fileHeaders['Content-Disposition'] })

const Count = Type.Integer({ minimum: 0 })
const OldestAge = Nullable(Type.Integer({ minimum: 0, description: 'ms that the oldest of those that wait has waited' }))
export const Queue = Type.Object({
  waiting: Count, running: Count, completed: Count, failed: Count,
  oldest_age_ms: OldestAge,
  models: Type.Array(Type.Object({ name: Type.String(), waiting: Count, running: Count })),
  workers: Type.Array(Type.Object({ node: Type.String({ description: 'the process that it belongs to' }), id: Type.String(), state: Type.String(), provider: Nullable(Type.String()), device: Nullable(Type.String()), runs: Count }))
}, {
  description: 'of all nodes; workers of others as they were a few seconds ago',
  examples: [{
    waiting: 3, running: 1, completed: 40, failed: 2, oldest_age_ms: 1500, models: [{ name: 'upscale-2x', waiting: 3, running: 1 }],
    workers: [{ node: '3f2a9c10', id: '1.1', state: 'busy', provider: 'cpu', device: 'cpu', runs: 42 }]
  }]
})

export const QueueNumbers = Type.Object({
  queues: Type.Array(Type.Object({ name: Type.String(), waiting: Count, running: Count, completed: Count, failed: Count, oldest_age_ms: OldestAge }))
}, { description: 'each queue', examples: [{ queues: [{ name: 'jobs', waiting: 3, running: 1, completed: 40, failed: 2, oldest_age_ms: 1500 }] }] })
