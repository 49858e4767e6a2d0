/**
 * Files over HTTP: brought, read, listed, changed, shared. What a caller may do is decided by the FileService; here are only its
 * words for HTTP.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../../config.ts'
import { PenstockError } from '../../errors.ts'
import { dispositionOf } from '../../files/content-disposition.ts'
import { credentialOf } from '../../files/forwarded-credential.ts'
import type { FileService } from '../../files/service.ts'
import { callerOf } from '../../identity/guards.ts'
import { REDIRECT_EXPIRES_SECONDS, SIGNED_URL_DEFAULT_SECONDS } from '../../limits.ts'
import type { ObjectStore } from '../../objects/port.ts'
import { presigns } from '../../objects/presign.ts'
import type { FileRecord } from '../../records/jobs-port.ts'
import { decodeCursor, encodeCursor } from '../cursor.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { takeMultipart } from '../multipart.ts'
import { anySecurity } from '../openapi.ts'
import { limited } from '../rate-limits.ts'
import { sendFile, sentType } from '../send-file.ts'
import { signInAddress } from '../sign-in.ts'
import { whileWaiting } from '../while-waiting.ts'
import { permissionRoute } from './attachments.ts'
import { fileErrors, fileListErrors, fileReadErrors, fileUploadErrors } from './files-errors.ts'
import {
  Elsewhere, File, FileChange, FileForm, FileListQuery, FileParams, FileQuery, Files, GrantParams, NewFile, showFile, SignAnswer, SignBody
} from './files-schemas.ts'
import { receiveFile } from './files-upload.ts'
import { FileBytes, FileRange, Nothing, NotModified } from './jobs-schemas.ts'

export interface FileRoutesOptions {
  files: FileService
  store: ObjectStore
  config: Config
  /** Lets every caller through. */
  guard: onRequestAsyncHookHandler
}

export const filesTag = { tags: ['files'], security: anySecurity }
export const fileReadLimit = limited('file-read', 'files')

export async function fileRoutes(app: FastifyInstance, options: FileRoutesOptions): Promise<void> {
  await app.register(uploadRoute, options)
  await app.register(readRoutes, options)
  await app.register(changeRoutes, options)
  await app.register(shareRoutes, options)
  await app.register(permissionRoute, options)
  refuseOtherMethods(app)
}

/** What is no id is not looked up: it is a file that is not there. @throws FILE_NOT_FOUND */
function fileIdOf(id: string): string {
  if (!isFileId(id)) throw new PenstockError('FILE_NOT_FOUND')
  return id.toLowerCase()
}

function isFileId(id: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)
}

/** In a scope of its own: the other routes take no multipart bodies. */
async function uploadRoute(app: FastifyInstance, options: FileRoutesOptions): Promise<void> {
  await takeMultipart(app)
  app.post('/files/upload', {
    onRequest: options.guard,
    config: { ...limited('file-upload', 'files'), streamsMultipart: true, errors: fileUploadErrors },
    // a multipart body has not been read when bodies are checked
    preValidation: async request => {
      if (request.isMultipart()) request.body = {}
    },
    schema: {
      ...filesTag,
      summary: 'Share a file',
      body: { content: { 'multipart/form-data': { schema: FileForm } } },
      response: { 201: NewFile }
    }
  }, async (request, reply) => {
    const file = await receiveFile(options, request, reply)
    if (file === undefined) return reply
    return reply.code(201).header('location', `/files/${file.id}`).send(showFile(file, options.config.PUBLIC_BASE_URL))
  })
}

async function readRoutes(app: FastifyInstance, { files, store, config, guard }: FileRoutesOptions): Promise<void> {
  app.get<{ Querystring: FileListQuery }>('/files', {
    onRequest: guard,
    config: { ...fileReadLimit, errors: fileListErrors },
    schema: { ...filesTag, summary: 'Own files, newest first', querystring: FileListQuery, response: { 200: Files } }
  }, async request => {
    const { limit, cursor, type, q } = request.query
    const { files: found, next } = await files.list(callerOf(request), {
      limit, ...cursor !== undefined && { after: decodeCursor(cursor) }, ...type !== undefined && { type: type.toLowerCase() }, ...q !== undefined && { text: q }
    })
    return { items: found.map(file => showFile(file, config.PUBLIC_BASE_URL)), next_cursor: next && encodeCursor(next) }
  })

  /** A signature is a credential of its own, and the only one that is looked at then. */
  const mayAsk: onRequestAsyncHookHandler = async function mayAskForFile(request, reply) {
    if ((request.query as FileQuery).signature !== undefined) return undefined
    const address = signInAddress(request, config)
    if (address !== undefined) return reply.header('vary', 'accept').header('cache-control', 'no-store').redirect(address, 302)
    return await guard.call(app, request, reply)
  }

  async function find(request: FastifyRequest, reply: FastifyReply): Promise<FileRecord | undefined> {
    const id = fileIdOf((request.params as FileParams).id)
    const query = request.query as FileQuery
    if (query.signature !== undefined) return await files.readSigned(id, query)
    const reader = { principal: callerOf(request), credential: credentialOf(request.headers) }
    return await whileWaiting(request, reply, 'files.read.client_aborted', signal => files.read(id, { ...reader, signal }))
  }

  async function send(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const file = await find(request, reply)
    if (file === undefined) return reply
    const query = request.query as FileQuery
    const inline = query.inline === '1'
    // an address that needs no credential may be shown by any page; elsewhere a cookie could be what lets it be read
    if (query.signature !== undefined) void reply.header('cross-origin-resource-policy', 'cross-origin')
    // what is signed is the method too: HEAD is answered here
    if (query.redirect !== '1' || request.method === 'HEAD' || !presigns(store)) return await sendFile(request, reply, store, file, { inline })
    const address = await store.presignGet(file.key, { expiresSeconds: REDIRECT_EXPIRES_SECONDS, contentType: sentType(file), disposition: dispositionOf(file, inline) })
    return reply.header('cache-control', 'no-store').redirect(address, 302)
  }

  const route = { onRequest: mayAsk, config: { ...fileReadLimit, errors: fileReadErrors }, schema: { params: FileParams, querystring: FileQuery } }
  app.get('/files/:id', {
    ...route,
    exposeHeadRoute: false,
    schema: {
      ...route.schema, ...filesTag,
      summary: 'The bytes of a file',
      description: 'Conditions and one range as RFC 9110 has them.',
      produces: ['*/*'],
      response: { 200: FileBytes, 206: FileRange, 302: Elsewhere, 304: NotModified }
    }
  }, send)
  // of its own: the framework would run the whole answer and drop it
  app.head('/files/:id', { ...route, schema: { ...route.schema, hide: true } }, send)
}

async function changeRoutes(app: FastifyInstance, { files, config, guard }: FileRoutesOptions): Promise<void> {
  app.patch<{ Params: FileParams, Body: FileChange }>('/files/:id', {
    onRequest: guard,
    config: { ...fileReadLimit, errors: fileErrors },
    schema: { ...filesTag, summary: 'Rename a file, or say who may read it', params: FileParams, body: FileChange, response: { 200: File } }
  }, async request => {
    const { filename, access } = request.body
    const file = await files.change(callerOf(request), fileIdOf(request.params.id), { ...filename !== undefined && { filename }, ...access !== undefined && { access } })
    return showFile(file, config.PUBLIC_BASE_URL)
  })

  app.delete<{ Params: FileParams }>('/files/:id', {
    onRequest: guard,
    config: { ...fileReadLimit, errors: fileListErrors },
    schema: { ...filesTag, summary: 'Remove a file', description: 'Also where there is none. Its bytes go when nothing points at them any more.', params: FileParams, response: { 204: Nothing } }
  }, async (request, reply) => {
    const { id } = request.params
    if (isFileId(id)) await files.remove(callerOf(request), id.toLowerCase())
    return reply.code(204).send()
  })
}

async function shareRoutes(app: FastifyInstance, { files, config, guard }: FileRoutesOptions): Promise<void> {
  for (const [method, verb, summary] of [['PUT', 'grant', 'Let a user read a restricted file'], ['DELETE', 'revoke', 'Let a user read it no more']] as const) {
    app.route<{ Params: GrantParams }>({
      method,
      url: '/files/:id/grants/:subject',
      onRequest: guard,
      config: { ...fileReadLimit, errors: fileErrors },
      schema: { ...filesTag, summary, params: GrantParams, response: { 204: Nothing } },
      handler: async (request, reply) => {
        await files[verb](callerOf(request), fileIdOf(request.params.id), request.params.subject)
        return reply.code(204).send()
      }
    })
  }

  app.post<{ Params: FileParams, Body: SignBody }>('/files/:id/signed-url', {
    onRequest: guard,
    config: { ...fileReadLimit, errors: fileErrors },
    schema: { ...filesTag, summary: 'An address that lets whoever has it read a file', params: FileParams, body: SignBody, response: { 200: SignAnswer } }
  }, async (request, reply) => {
    const { expires_in: expiresSeconds = SIGNED_URL_DEFAULT_SECONDS, inline = false } = request.body
    const { path, expiresAt } = await files.sign(callerOf(request), fileIdOf(request.params.id), { expiresSeconds, inline })
    void reply.header('cache-control', 'no-store')
    return { url: `${config.PUBLIC_BASE_URL ?? ''}${path}`, expires_at: new Date(expiresAt).toISOString() }
  })
}
