/** What the routes of a GPU node take and answer, and their errors. */
import { Type, type Static } from 'typebox'
import type { ErrorName } from '../../errors.ts'
import type { NodeRequest } from '../../gpu-node/request.ts'
import { NODE_HEADERS, NODE_JOB_ID, NODE_LINES } from '../../inference/remote/lines.ts'
import { JOB_NAME_MAX_CHARACTERS, NODE_PATH_MAX_BYTES } from '../../limits.ts'

const JobId = Type.String({ pattern: NODE_JOB_ID, examples: ['3f2a9c10'] })
const Model = Type.String({ minLength: 1, maxLength: JOB_NAME_MAX_CHARACTERS, description: 'name of a model of this node; without it `DEFAULT_VIDEO_MODEL` or `DEFAULT_IMAGE_MODEL`' })
const Params = Type.Object({}, { additionalProperties: true, description: 'of the task' })

/** The fields of a multipart body, `params` read as JSON. */
export const NodeFields = Type.Object({ jobId: JobId, model: Type.Optional(Model), params: Type.Optional(Params) }, { additionalProperties: false })
export type NodeFields = Static<typeof NodeFields>

export const NodeForm = Type.Object({
  jobId: Type.Optional(Type.String({ pattern: NODE_JOB_ID, description: 'required; not that of a job under way' })),
  model: Type.Optional(Model),
  params: Type.Optional(Type.String({ description: 'JSON object' })),
  video: Type.Optional(Type.String({ format: 'binary', description: 'a video; what has no ending of one is taken for `.mp4`' })),
  input: Type.Optional(Type.String({ format: 'binary', description: 'any other input' })),
  ref_images: Type.Optional(Type.Array(Type.String({ format: 'binary' })))
}, { description: 'fields stand before the files' })

export const NodeBody = Type.Object({
  jobId: JobId,
  inputPath: Type.String({ minLength: 1, maxLength: NODE_PATH_MAX_BYTES, description: 'object key under one of `OBJECT_PATH_PREFIXES`, or a file below `WORK_UPLOAD_DIR`' }),
  outputPath: Type.String({ minLength: 1, maxLength: NODE_PATH_MAX_BYTES, description: 'the same for the result, below `WORK_RESULT_DIR`' }),
  model: Type.Optional(Model),
  params: Type.Optional(Params)
}, { additionalProperties: false, examples: [{ jobId: '3f2a9c10', inputPath: 'media/in.mp4', outputPath: 'media/out.mp4', model: 'upscale-2x' }] })
export type NodeBody = Static<typeof NodeBody>

export const NodeRequestHeaders = Type.Object({
  [NODE_HEADERS.task]: Type.Optional(Type.String({ maxLength: 64, description: 'of the model, where it can be used for several' })),
  [NODE_HEADERS.version]: Type.Optional(Type.String({ maxLength: JOB_NAME_MAX_CHARACTERS, description: 'of the model; without it the highest' })),
  [NODE_HEADERS.sha256]: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$', description: 'that the model must have' }))
})
export type NodeRequestHeaders = Partial<Record<typeof NODE_HEADERS[keyof typeof NODE_HEADERS], string>>

/** What the headers say of the model. */
export function askedBy(headers: NodeRequestHeaders): Pick<NodeRequest, 'task' | 'version' | 'sha256'> {
  return { task: headers[NODE_HEADERS.task], version: headers[NODE_HEADERS.version], sha256: headers[NODE_HEADERS.sha256] }
}

const lines = [
  { status: 'processing', progress: 50, currentFrame: 150, totalFrames: 300 },
  { status: 'completed', jobId: '3f2a9c10', progress: 100, totalFrames: 300, fileSize: 1048576, sha256: '0'.repeat(64), resultDownloadUrl: '/result/3f2a9c10' }
]
export const NodeLines = {
  description: '`processing` whenever the whole percentage has changed, then one of `completed`, `cancelled` and `failed`',
  content: { [NODE_LINES]: { schema: { type: 'string' as const }, example: lines.map(line => `${JSON.stringify(line)}\n`).join('') } }
}

export const NodeResultParams = Type.Object({ jobId: Type.String({ maxLength: 1024 }) })
export type NodeResultParams = Static<typeof NodeResultParams>
export const NodeResultBytes = Type.String({
  format: 'binary', description: 'the bytes, of several files one behind the other',
  headers: { 'Repr-Digest': { type: 'string', description: 'sha256 of all of it' }, 'Content-Disposition': { type: 'string' } }
})

export const CancelBody = Type.Object({ jobId: JobId }, { additionalProperties: false, examples: [{ jobId: '3f2a9c10' }] })
export type CancelBody = Static<typeof CancelBody>
export const Cancelled = Type.Object({ status: Type.Literal('cancelled'), jobId: Type.String() }, { examples: [{ status: 'cancelled', jobId: '3f2a9c10' }] })

const sharedErrors = ['RBAC_FORBIDDEN', 'JOB_ID_IN_USE', 'MODEL_NOT_FOUND', 'MODEL_VERSION_EXISTS', 'MODEL_NOT_LOADED', 'UPLOAD_ABORTED', 'BUCKET_NOT_FOUND', 'S3_PUT_FAILED', 'STORAGE_FAILED', 'RECORDS_UNAVAILABLE'] as const satisfies ErrorName[]
export const processUploadErrors = [...sharedErrors, 'INVALID_MULTIPART', 'PAYLOAD_TOO_LARGE'] as const satisfies ErrorName[]
export const processErrors = [...sharedErrors, 'FILE_NOT_FOUND', 'S3_GET_FAILED'] as const satisfies ErrorName[]
export const resultErrors = ['RBAC_FORBIDDEN', 'RESULT_NOT_FOUND'] as const satisfies ErrorName[]
export const cancelErrors = ['RBAC_FORBIDDEN', 'JOB_NOT_FOUND'] as const satisfies ErrorName[]
