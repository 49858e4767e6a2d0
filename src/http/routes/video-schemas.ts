/** Bodies and answers of the routes of the video application. */
import { Type, type Static } from 'typebox'
import type { JobStatus } from '../../records/jobs-port.ts'
import { JobForm } from './jobs-schemas.ts'

const STATES = ['queued', 'processing', 'completed', 'failed', 'cancelled'] as const satisfies JobStatus[]
const jobId = '0f8fad5b-d9cb-469f-a165-70867728950e'

/** For the documentation: the parts are read as they arrive. */
export const VideoForm = Type.Object({
  ...Type.Omit(JobForm, ['user_id', 'input', 'ref_images']).properties,
  video: Type.String({ format: 'binary', description: 'the video' })
}, { description: '`params` and `webhook` are JSON' })

export const VideoAccepted = Type.Object({ jobId: Type.String() }, { description: 'the job waits', examples: [{ jobId }] })
export const VideoRepeated = Type.Object({ jobId: Type.String() }, { description: 'the job that this idempotency key and body made before', examples: [{ jobId }] })

export const VideoStatus = Type.Object({
  jobId: Type.String(),
  state: Type.Enum(STATES),
  progress: Type.Union([Type.Number({ description: 'percent of the frames' }), Type.Null()], { description: 'null while the total is unknown' }),
  createdAt: Type.String({ format: 'date-time' }),
  updatedAt: Type.String({ format: 'date-time' }),
  error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() }))
}, { description: 'the state of the job', examples: [{ jobId, state: 'processing', progress: 40, createdAt: '2026-01-31T12:00:00.000Z', updatedAt: '2026-01-31T12:00:10.000Z' }] })

export const VideoResult = Type.Object({
  jobId: Type.String(), downloadUrl: Type.String(),
  originalFilename: Type.Union([Type.String(), Type.Null()], { description: 'null where the video was there before the job' }),
  outputFilename: Type.String()
}, { description: 'where the result is', examples: [{ jobId, downloadUrl: `/api/v1/jobs/${jobId}/results/video.mp4`, originalFilename: 'holiday.mov', outputFilename: 'video.mp4' }] })

export const VideoParams = Type.Object({ jobId: Type.String({ maxLength: 128 }) })
export type VideoParams = Static<typeof VideoParams>
export const StreamQuery = Type.Object({
  source: Type.Optional(Type.Enum(['input', 'result'], { default: 'result', description: 'input: the original' }))
}, { additionalProperties: false })
export type StreamQuery = Static<typeof StreamQuery>
