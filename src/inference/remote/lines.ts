/**
 * What a GPU node says of a job while it runs it: one JSON object a line (application/x-ndjson).
 *
 *   processing …, then exactly one of completed | cancelled | failed
 *
 * `results`, `execution`, `code` and `retryable` are what our own nodes say besides; others may leave them out. A node is
 * another machine: what it says is checked here before anybody believes it.
 */
import { Type, type Static, type TSchema } from 'typebox'
import { Check } from 'typebox/value'
import { NODE_NAME_MAX_CHARACTERS, NODE_RESULT_MAX_BYTES, NODE_RESULTS_MAX } from '../../limits.ts'
import { InferenceFailed } from '../port.ts'

export const NODE_JOB_ID = '^[A-Za-z0-9_-]{1,128}$'
export const NODE_LINES = 'application/x-ndjson'

/** Say which task, version and bytes of a model are meant; a node that does not know these headers takes what it has by that name. */
export const NODE_HEADERS = { task: 'x-task', version: 'x-model-version', sha256: 'x-model-sha256' } as const

/** Where a node has the result of a job, and nowhere else. */
export function resultPath(jobId: string): string {
  return `/result/${jobId}`
}

const Bytes = Type.Integer({ minimum: 0, maximum: NODE_RESULT_MAX_BYTES })
const Sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' })
const NoControls = String.raw`^[^\u0000-\u001f\u007f]+$`
const Name = Type.String({ minLength: 1, maxLength: NODE_NAME_MAX_CHARACTERS, pattern: NoControls })

/** One of the files whose bytes, one behind the other, are the result. */
export const NodeFile = Type.Object({ name: Name, filename: Name, contentType: Name, fileSize: Bytes, sha256: Sha256 })
export type NodeFile = Static<typeof NodeFile>
const NodeExecution = Type.Object({ provider: Name, device: Name })

export interface NodeProcessing { status: 'processing', progress: number | null, currentFrame: number | null, totalFrames: number | null }
export interface NodeCompleted {
  status: 'completed'
  jobId?: string
  progress?: 100
  totalFrames?: number | null
  /** of the whole result */
  fileSize?: number
  sha256?: string
  resultDownloadUrl: string
  results?: NodeFile[]
  execution?: Static<typeof NodeExecution>
}
export interface NodeCancelled { status: 'cancelled', jobId?: string, progress?: number | null, error?: string }
export interface NodeFailed { status: 'failed', jobId?: string, error?: string, code?: string, retryable?: boolean }
export type NodeLine = NodeProcessing | NodeCompleted | NodeCancelled | NodeFailed

const Completed = Type.Object({
  status: Type.Literal('completed'),
  fileSize: Type.Optional(Bytes),
  sha256: Type.Optional(Sha256),
  resultDownloadUrl: Type.String(),
  results: Type.Optional(Type.Array(NodeFile, { minItems: 1, maxItems: NODE_RESULTS_MAX })),
  execution: Type.Optional(NodeExecution)
})

/** A GPU node that does not do as agreed. The text is for whoever made the job. */
export function nodeFailed(what: string, options: { cause?: unknown, retryable?: boolean } = {}): InferenceFailed {
  return new InferenceFailed('node_failed', `the GPU node ${what}`, options)
}

/** Undefined for a line of a status that is not known, which says nothing of the end. @throws InferenceFailed node_failed */
export function readLine(text: string, jobId: string): NodeLine | undefined {
  const value = parse(text)
  if (typeof value.status !== 'string') throw nodeFailed('sent a line without a status')
  if (value.status === 'processing') return processing(value)
  if (!['completed', 'cancelled', 'failed'].includes(value.status)) return undefined
  if (value.jobId !== undefined && value.jobId !== jobId) throw nodeFailed('spoke of another job')
  if (value.status !== 'completed') return ended(value)
  // what is null there, others mean to have left out
  const given = Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null))
  if (!Check(Completed, given)) throw nodeFailed('sent a last line that cannot be read')
  return given
}

function parse(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch (cause) {
    throw nodeFailed('sent a line that is no JSON', { cause })
  }
  throw nodeFailed('sent a line that is no JSON object')
}

function processing({ progress, currentFrame, totalFrames }: Record<string, unknown>): NodeProcessing {
  const fraction = typeof progress === 'number' && progress >= 0 && progress <= 100 ? progress : null
  return { status: 'processing', progress: fraction, currentFrame: countOf(currentFrame), totalFrames: countOf(totalFrames) }
}

function countOf(value: unknown): number | null {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? value as number : null
}

function ended({ status, error, code, retryable }: Record<string, unknown>): NodeCancelled | NodeFailed {
  return {
    status: status as 'cancelled' | 'failed',
    ...(isText(error) && { error }), ...(isText(code) && { code }), ...(typeof retryable === 'boolean' && { retryable })
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string'
}

/** For the documentation: the lines as our own nodes write them. */
export const NODE_LINE_SCHEMAS: Record<string, TSchema> = { completed: Completed }
