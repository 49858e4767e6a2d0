/**
 * POST /files/upload: fields, then one file, streamed into staging as it arrives. Only with the end of the body, when nothing
 * is wrong with any of it, does it become a file; whatever ends it before leaves nothing.
 */
import type { MultipartValue } from '@fastify/multipart'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../../config.ts'
import { PenstockError } from '../../errors.ts'
import type { FileDraft } from '../../files/draft.ts'
import type { FileService } from '../../files/service.ts'
import { callerOf } from '../../identity/guards.ts'
import { MULTIPART_FRAME_MAX_BYTES } from '../../limits.ts'
import type { FileRecord } from '../../records/jobs-port.ts'
import { bodyTooLarge, invalidFields } from '../error-translation.ts'
import { writeContinue } from '../expect-continue.ts'
import { multipartBody, type MultipartBody } from '../multipart.ts'
import { whileWaiting } from '../while-waiting.ts'
import { FileFields } from './files-schemas.ts'

interface Form {
  fields: Record<string, unknown>
  file?: { filename: string, contentType: string }
}

const NAME_SHOWN_CHARACTERS = 64

function invalid(message: string): PenstockError {
  return new PenstockError('INVALID_MULTIPART', { message })
}

function shown(name: string | undefined): string {
  return JSON.stringify(name?.slice(0, NAME_SHOWN_CHARACTERS) ?? '')
}

/** Undefined where the client has gone. */
export async function receiveFile({ files, config }: { files: FileService, config: Config }, request: FastifyRequest, reply: FastifyReply): Promise<FileRecord | undefined> {
  if (!request.isMultipart()) throw new PenstockError('UNSUPPORTED_MEDIA_TYPE', { message: 'a file comes as multipart/form-data' })
  const maxBytes = config.MAX_FILE_SIZE_BYTES + MULTIPART_FRAME_MAX_BYTES
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes)
  return await whileWaiting(request, reply, 'files.upload.client_aborted', async signal => {
    const draft = files.begin(callerOf(request))
    const body = multipartBody(request, { idleMs: config.UPLOAD_IDLE_TIMEOUT_MS, maxBytes })
    try {
      writeContinue(request, reply)
      const form = await readForm(body, draft, signal)
      const { access = 'account', filename } = checked(request, form.fields)
      const file = await draft.commit({ filename: filename ?? form.file.filename, contentType: form.file.contentType, access })
      body.release(true)
      return file
    } catch (error) {
      body.release(false)
      throw error
    } finally {
      await draft.discard()
    }
  })
}

async function readForm(body: MultipartBody, draft: FileDraft, signal: AbortSignal): Promise<Required<Form>> {
  const form: Form = { fields: {} }
  for await (const part of body.parts()) {
    if (part.type === 'field') {
      addField(form, part)
      continue
    }
    const { fieldname, mimetype: contentType, file } = part
    const filename = unescaped(part.filename)
    if (fieldname !== 'file') throw invalid(`the file ${shown(fieldname)} is not known here: its name is "file"`)
    if (form.file !== undefined) throw invalid('there is more than one file')
    form.file = { filename, contentType }
    await body.take(part, () => draft.receive({ filename, body: file }, signal))
  }
  if (form.file === undefined) throw invalid('the file "file" is missing')
  return { ...form, file: form.file }
}

/** As browsers and curl write names (HTML, multipart/form-data encoding algorithm): three characters, and no others, are escaped. */
function unescaped(filename: string | undefined): string {
  return filename?.replaceAll(/%(?:22|0d|0a)/gi, decodeURIComponent) ?? ''
}

function addField({ fields, file }: Form, { fieldname, value, valueTruncated }: MultipartValue): void {
  if (fieldname === 'file') throw invalid('file must be a file with a filename')
  if (!Object.hasOwn(FileFields.properties, fieldname)) throw invalid(`the field ${shown(fieldname)} is not known here`)
  if (file !== undefined) throw invalid(`${fieldname} must stand before the file`)
  if (Object.hasOwn(fields, fieldname)) throw invalid(`there is more than one ${fieldname}`)
  if (valueTruncated) throw invalidFields([{ field: fieldname, message: 'is too long' }])
  fields[fieldname] = value
}

/** @throws what a JSON body of them would be answered with */
function checked(request: FastifyRequest, fields: Form['fields']): FileFields {
  const fits = request.getValidationFunction(FileFields) ?? request.compileValidationSchema(FileFields, 'body')
  if (fits(fields) === false) throw Object.assign(new Error('the fields are not valid'), { validation: fits.errors, validationContext: 'body' })
  return fields
}
