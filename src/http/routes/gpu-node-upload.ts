/** POST /process-upload: fields, then the input, streamed into staging as it arrives. With the end of the body the job can run. */
import type { MultipartFile, MultipartValue } from '@fastify/multipart'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { extname } from 'node:path'
import type { Config } from '../../config.ts'
import { PenstockError } from '../../errors.ts'
import type { NodeJob } from '../../gpu-node/job.ts'
import type { CheckedRequest } from '../../gpu-node/request.ts'
import type { GpuNode } from '../../gpu-node/service.ts'
import { JOB_PARAMS_MAX_BYTES, MULTIPART_FRAME_MAX_BYTES, REF_IMAGE_MAX_BYTES, REF_IMAGES_MAX } from '../../limits.ts'
import { bodyTooLarge, invalidFields } from '../error-translation.ts'
import { writeContinue } from '../expect-continue.ts'
import { multipartBody, type MultipartBody } from '../multipart.ts'
import { whileWaiting } from '../while-waiting.ts'
import { askedBy, NodeFields, type NodeRequestHeaders } from './gpu-node-schemas.ts'

const MIB = 1024 * 1024

/** Endings of videos; one that is none of them is taken for mp4. */
const VIDEO_TYPES: Readonly<Record<string, string>> = {
  '.mp4': 'video/mp4', '.avi': 'video/x-msvideo', '.mkv': 'video/x-matroska', '.mov': 'video/quicktime', '.wmv': 'video/x-ms-wmv', '.webm': 'video/webm'
}
const MEDIA_TYPE = /^[a-z0-9!#$&^_.+-]{1,127}\/[a-z0-9!#$&^_.+-]{1,127}$/

/** `gone` aborts when the client has gone before it was answered. */
export interface ReceivedJob { job: NodeJob, checked: CheckedRequest, gone: AbortSignal }

type BegunJob = Omit<ReceivedJob, 'gone'>

function invalid(message: string): PenstockError {
  return new PenstockError('INVALID_MULTIPART', { message })
}

/** Undefined where the client has gone. */
export async function receiveNodeJob({ node, config }: { node: GpuNode, config: Config }, request: FastifyRequest, reply: FastifyReply): Promise<ReceivedJob | undefined> {
  if (!request.isMultipart()) throw new PenstockError('UNSUPPORTED_MEDIA_TYPE', { message: 'an input comes as multipart/form-data' })
  const maxBytes = config.MAX_FILE_SIZE_MB * MIB + REF_IMAGES_MAX * REF_IMAGE_MAX_BYTES + MULTIPART_FRAME_MAX_BYTES
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes)
  return await whileWaiting(request, reply, 'node.upload.client_aborted', async signal => {
    const giveBack = node.takeSlot()
    const body = multipartBody(request, { idleMs: config.UPLOAD_IDLE_TIMEOUT_MS, maxBytes })
    let job: NodeJob | undefined
    const gone = (): void => job?.stop('client_gone')
    signal.addEventListener('abort', gone)
    try {
      writeContinue(request, reply)
      const received = await receive(node, config, request, body, begun => { job = begun })
      body.release(true)
      return { ...received, gone: signal }
    } catch (error) {
      body.release(false)
      await job?.end()
      throw error
    } finally {
      signal.removeEventListener('abort', gone)
      giveBack()
    }
  })
}

async function receive(node: GpuNode, config: Config, request: FastifyRequest, body: MultipartBody, onBegun: (job: NodeJob) => void): Promise<BegunJob> {
  const fields: Record<string, unknown> = {}
  const files: string[] = []
  let begun: BegunJob | undefined
  for await (const part of body.parts()) {
    if (part.type === 'field') {
      if (begun !== undefined) throw invalid(`${shown(part.fieldname)} must stand before the files`)
      addField(fields, part)
      continue
    }
    const { name, contentType, filename } = fileOf(part, files)
    files.push(part.fieldname)
    begun ??= await begin(node, request, fields, part.fieldname === 'video', onBegun)
    const { job } = begun
    await body.take(part, () => job.receive({ name, filename, contentType, body: part.file, maxBytes: name === 'input' ? config.MAX_FILE_SIZE_MB * MIB : REF_IMAGE_MAX_BYTES }))
  }
  if (begun === undefined || !files.some(isInput)) throw invalid('the file "video" or "input" is missing')
  return begun
}

async function begin(node: GpuNode, request: FastifyRequest, fields: Record<string, unknown>, video: boolean, onBegun: (job: NodeJob) => void): Promise<BegunJob> {
  const { jobId, ...wanted } = checkedFields(request, fields)
  const job = node.begin(jobId)
  onBegun(job)
  return { job, checked: await node.check({ ...wanted, ...askedBy(request.headers as NodeRequestHeaders), video }) }
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 64))
}

function isInput(name: string): boolean {
  return name === 'video' || name === 'input'
}

/** Minds the names and the number of files. */
function fileOf({ fieldname, filename = '', mimetype }: MultipartFile, files: readonly string[]): { name: 'input' | 'ref_images', filename: string, contentType: string } {
  const contentType = MEDIA_TYPE.test(mimetype) ? mimetype : 'application/octet-stream'
  if (fieldname === 'ref_images') {
    if (files.filter(name => name === fieldname).length === REF_IMAGES_MAX) throw invalid(`there are more than ${REF_IMAGES_MAX} ref_images`)
    return { name: fieldname, filename: fieldname, contentType }
  }
  if (!isInput(fieldname)) throw invalid(`the file ${shown(fieldname)} is not known here`)
  if (files.some(isInput)) throw invalid('there is more than one input')
  const ending = extname(filename).toLowerCase()
  return fieldname === 'video' ? { name: 'input', filename: 'input', contentType: VIDEO_TYPES[ending] ?? 'video/mp4' } : { name: 'input', filename: 'input', contentType }
}

function addField(fields: Record<string, unknown>, { fieldname, value, valueTruncated }: MultipartValue): void {
  if (isInput(fieldname) || fieldname === 'ref_images') throw invalid(`${fieldname} must be a file with a filename`)
  if (!Object.hasOwn(NodeFields.properties, fieldname)) throw invalid(`the field ${shown(fieldname)} is not known here`)
  if (Object.hasOwn(fields, fieldname)) throw invalid(`there is more than one ${fieldname}`)
  if (valueTruncated) throw invalidFields([{ field: fieldname, message: `must not have more than ${JOB_PARAMS_MAX_BYTES} bytes` }])
  fields[fieldname] = fieldname === 'params' ? readParams(String(value)) : value
}

function readParams(text: string): unknown {
  try {
    return JSON.parse(text, (key, value: unknown) => {
      if (key === '__proto__') throw new SyntaxError('__proto__ is not allowed')
      return value
    })
  } catch (cause) {
    throw invalidFields([{ field: 'params', message: 'is not valid JSON' }], cause)
  }
}

/** @throws what a JSON body of them would be answered with */
function checkedFields(request: FastifyRequest, fields: Record<string, unknown>): NodeFields {
  const fits = request.getValidationFunction(NodeFields) ?? request.compileValidationSchema(NodeFields, 'body')
  if (fits(fields) === false) throw Object.assign(new Error('the fields are not valid'), { validation: fits.errors, validationContext: 'body' })
  return fields as NodeFields
}
