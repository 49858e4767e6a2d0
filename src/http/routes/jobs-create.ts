/**
 * Making a job, of JSON or of a multipart body on the same path.
 *
 * Multipart: user_id stands before the files. With the first file the job's place among the active ones of its user is taken
 * (JobDraft), then each file is streamed into staging as it arrives; with the end of the body the job is made of them. Whatever
 * ends it early, the draft is discarded, and with it what was staged.
 */
import type { MultipartFile, MultipartValue } from '@fastify/multipart'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../../config.ts'
import { PenstockError } from '../../errors.ts'
import { callerOf } from '../../identity/guards.ts'
import type { CreateOptions, JobDraft, JobInputRequest, JobRequest, JobService } from '../../jobs/port.ts'
import { JOB_PARAMS_MAX_BYTES, MULTIPART_FIELDS_MAX, MULTIPART_FRAME_MAX_BYTES, REF_IMAGE_MAX_BYTES, REF_IMAGES_MAX, TENSOR_RANK_MAX } from '../../limits.ts'
import type { JobRecord } from '../../records/jobs-port.ts'
import { clientGone } from '../client-gone.ts'
import { bodyTooLarge, invalidFields } from '../error-translation.ts'
import { writeContinue } from '../expect-continue.ts'
import { multipartBody, type MultipartBody } from '../multipart.ts'
import { JobFields, type IdempotencyHeaders, type JobBody } from './jobs-schemas.ts'

export interface CreateContext {
  jobs: JobService
  config: Config
}

export interface CreatedJob { job: JobRecord, repeated: boolean }

/** Undefined where the client has gone: its connection is closed, and nobody is left to tell. */
export async function createJob(context: CreateContext, request: FastifyRequest, reply: FastifyReply): Promise<CreatedJob | undefined> {
  const { body } = request
  if (body === undefined) throw invalidFields([{ field: 'body', message: 'is required' }])
  return await forClient(request, reply, options => createFromJson(context, request, body as JobBody, options))
}

async function createFromJson({ jobs, config }: CreateContext, request: FastifyRequest, { input, ...fields }: JobBody, options: CreateOptions): Promise<CreatedJob> {
  assertShallow(input)
  return await jobs.create(callerOf(request), { ...jobRequest(fields, config, 'tensors' in input ? 'tensors' : 'image'), input: input as JobInputRequest }, options)
}

/** A job for a model named by the path; without an input for models that need none. */
export async function generate({ jobs }: CreateContext, request: FastifyRequest, reply: FastifyReply, job: JobRequest & { input?: JobBody['input'] | undefined }): Promise<CreatedJob | undefined> {
  const { input, ...wanted } = job
  return await forClient(request, reply, async options => {
    if (input === undefined) return await createWithoutInput(jobs, request, wanted, options)
    assertShallow(input)
    return await jobs.create(callerOf(request), { ...wanted, input: input as JobInputRequest }, options)
  })
}

async function createWithoutInput(jobs: JobService, request: FastifyRequest, wanted: JobRequest, options: CreateOptions): Promise<CreatedJob> {
  const draft = await jobs.begin(callerOf(request), undefined, options)
  try {
    return await draft.commit(wanted)
  } catch (error) {
    await discard(draft, request)
    throw error
  }
}

/** The walks that write tensors recurse; what is deeper than a tensor can be is none. */
function assertShallow({ tensors = [] }: JobBody['input']): void {
  for (const [index, { data }] of tensors.entries()) {
    if (isDeeper(data, TENSOR_RANK_MAX + 1)) throw invalidFields([{ field: `input.tensors.${index}.data`, message: 'is nested too deeply' }])
  }
}

function isDeeper(value: unknown, levels: number): boolean {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > levels) return true
    const next: unknown[] = []
    for (const each of level) {
      for (const inner of Array.isArray(each) ? each : Object.values(Object(each) as object)) if (typeof inner === 'object' && inner !== null) next.push(inner)
    }
    level = next
  }
  return false
}

/** `like`: what the input is, for which there may be a default model. */
function jobRequest(fields: JobFields, config: Config, like: 'image' | 'video' | 'tensors'): JobRequest {
  if (fields.model === undefined && like === 'tensors') throw invalidFields([{ field: 'model', message: 'is required with tensors' }])
  const video = like === 'video' || fields.task === 'video-to-video'
  return { ...fields, model: fields.model ?? (video ? config.DEFAULT_VIDEO_MODEL : config.DEFAULT_IMAGE_MODEL), ...(like === 'video' && { video }) }
}

/** Runs `work` as long as the client waits for it. */
async function forClient<T>(request: FastifyRequest, reply: FastifyReply, work: (options: CreateOptions) => Promise<T>): Promise<T | undefined> {
  const key = (request.headers as IdempotencyHeaders)['idempotency-key']
  const gone = clientGone(reply)
  try {
    return await work({ signal: gone, ...(key !== undefined && { idempotencyKey: key }) })
  } catch (error) {
    if (!gone.aborted && !(request.raw.destroyed && !request.raw.complete)) throw error
    request.log.info({ action: 'jobs.create.client_aborted', duration_ms: Math.round(reply.elapsedTime) })
    reply.hijack().raw.destroy()
    return undefined
  }
}

async function discard(draft: JobDraft, request: FastifyRequest): Promise<void> {
  await draft.discard().catch((error: unknown) => request.log.warn({ action: 'jobs.create.discard_failed', err: error }))
}

export interface MultipartOptions {
  /** May the body name a user? */
  withUser: boolean
  /** The only file that is taken. Without it those of jobs, each with its limit. */
  only?: { field: string, maxBytes: number, check(file: MultipartFile): void }
}

/** @see createJob */
export async function createFromMultipart(context: CreateContext, request: FastifyRequest, reply: FastifyReply, options: MultipartOptions): Promise<CreatedJob | undefined> {
  const { config } = context
  const maxBytes = longestBody(config, options)
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes)
  return await forClient(request, reply, async create => {
    const body = multipartBody(request, { idleMs: config.UPLOAD_IDLE_TIMEOUT_MS, maxBytes })
    writeContinue(request, reply)
    return await receive(context, request, body, options, create)
  })
}

/** Bytes of the longest body that could become a job. */
function longestBody(config: Config, { only }: MultipartOptions): number {
  const files = only?.maxBytes ?? config.MULTIPART_INPUT_MAX_BYTES + REF_IMAGES_MAX * REF_IMAGE_MAX_BYTES
  return files + MULTIPART_FIELDS_MAX * JOB_PARAMS_MAX_BYTES + MULTIPART_FRAME_MAX_BYTES
}

async function receive({ jobs, config }: CreateContext, request: FastifyRequest, body: MultipartBody, { withUser, only }: MultipartOptions, create: CreateOptions): Promise<CreatedJob> {
  const form: Form = { fields: {}, files: [], video: false }
  let draft: JobDraft | undefined
  try {
    for await (const part of body.parts()) {
      if (part.type === 'field') {
        addField(form, part, withUser)
        continue
      }
      if (only !== undefined && part.fieldname !== only.field) throw invalid(`the file ${shown(part.fieldname)} is not known here: it must be ${only.field}`)
      const file = addFile(form, part)
      only?.check(part)
      const inputMaxBytes = only?.maxBytes ?? config.MULTIPART_INPUT_MAX_BYTES
      const begun = draft ??= await jobs.begin(callerOf(request), checked(request, form).user_id, create)
      await body.take(part, () => begun.receive({ ...file, body: part.file, maxBytes: file.name === 'input' ? inputMaxBytes : REF_IMAGE_MAX_BYTES }))
    }
    if (draft === undefined || !hasInput(form)) throw invalid(`the file "${only?.field ?? 'input'}" is missing`)
    const wanted = jobRequest(checked(request, form), config, form.video ? 'video' : 'image')
    const created = await draft.commit(wanted)
    body.release(true)
    return created
  } catch (error) {
    body.release(false)
    if (draft !== undefined) await discard(draft, request)
    throw error
  }
}

interface Form {
  fields: Record<string, unknown>
  /** Names of the file parts so far, as they were given. */
  files: string[]
  /** Is the input a video, by its name or its type? */
  video: boolean
}

/** Names of file parts, and what they are to the job. */
const FILES = new Map<string, 'input' | 'ref_images'>([['input', 'input'], ['video', 'input'], ['image', 'input'], ['ref_images', 'ref_images']])
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]{1,127}\/[a-z0-9!#$&^_.+-]{1,127}$/
const NAME_SHOWN_CHARACTERS = 64

function invalid(message: string): PenstockError {
  return new PenstockError('INVALID_MULTIPART', { message })
}

function shown(name: string | undefined): string {
  return JSON.stringify(name?.slice(0, NAME_SHOWN_CHARACTERS) ?? '')
}

function hasInput({ files }: Form): boolean {
  return files.some(name => FILES.get(name) === 'input')
}

/** Minds the order, the names and the number of files. */
function addFile(form: Form, { fieldname, filename, mimetype }: MultipartFile): { name: 'input' | 'ref_images', filename: string, contentType: string } {
  const name = FILES.get(fieldname)
  if (name === undefined) throw invalid(fieldname in JobFields.properties ? `${fieldname} must be a field, and is a file` : `the file ${shown(fieldname)} is not known here`)
  if (name === 'input' && hasInput(form)) throw invalid('there is more than one input')
  if (name === 'ref_images' && form.files.filter(each => each === name).length === REF_IMAGES_MAX) throw invalid(`there are more than ${REF_IMAGES_MAX} ref_images`)
  form.files.push(fieldname)
  form.video ||= fieldname === 'video' || (name === 'input' && mimetype.startsWith('video/'))
  return { name, filename: filename ?? fieldname, contentType: MEDIA_TYPE.test(mimetype) ? mimetype : 'application/octet-stream' }
}

function addField({ fields, files }: Form, { fieldname, value, valueTruncated }: MultipartValue, withUser: boolean): void {
  if (FILES.has(fieldname)) throw invalid(`${fieldname} must be a file with a filename`)
  if (!Object.hasOwn(JobFields.properties, fieldname) || (fieldname === 'user_id' && !withUser)) throw invalid(`the field ${shown(fieldname)} is not known here`)
  if (Object.hasOwn(fields, fieldname)) throw invalid(`there is more than one ${fieldname}`)
  if (fieldname === 'user_id' && files.length > 0) throw invalid('user_id must stand before the files')
  if (valueTruncated) throw new PenstockError('PAYLOAD_TOO_LARGE', { message: `${fieldname} is over the limit of ${JOB_PARAMS_MAX_BYTES} bytes`, details: { field: fieldname, limit_bytes: JOB_PARAMS_MAX_BYTES } })
  fields[fieldname] = typeof value === 'string' ? readField(fieldname, value) : value
}

/** The value of a field as JSON would have it; what cannot be read stays a text, which the schema then refuses. */
function readField(name: string, text: string): unknown {
  switch (name) {
    case 'params':
    case 'webhook': return readJson(name, text)
    case 'priority': return /^-?\d{1,3}$/.test(text) ? Number(text) : text
    case 'cache': return text === 'true' || (text === 'false' ? false : text)
    default: return text
  }
}

function readJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text, refusePrototypes) as unknown
  } catch (cause) {
    throw invalidFields([{ field: name, message: 'is not valid JSON' }], cause)
  }
}

/** As the framework's parser of JSON bodies does. */
function refusePrototypes(key: string, value: unknown): unknown {
  if (key === '__proto__') throw new SyntaxError('__proto__ is not allowed')
  return value
}

/** The fields so far, which fit their schema. @throws what a JSON body of them would be answered with */
function checked(request: FastifyRequest, { fields }: Form): JobFields {
  const fits = request.getValidationFunction(JobFields) ?? request.compileValidationSchema(JobFields, 'body')
  if (fits(fields) === false) throw Object.assign(new Error('the fields are not valid'), { validation: fits.errors, validationContext: 'body' })
  return fields
}
