/**
 * The media library over HTTP: init, the upload address of proxy mode, complete, and what is there. What a caller may see is
 * decided by the MediaService; here are only its words for HTTP, and the job that is made of a complete file.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../../config.ts'
import { holderOf } from '../../files/access.ts'
import { mediaAddress, mediaPath, pathOfTarget } from '../../files/media-path.ts'
import type { MediaService } from '../../files/media.ts'
import { callerOf } from '../../identity/guards.ts'
import { assertMayWriteJobs } from '../../identity/permissions.ts'
import type { Principal } from '../../identity/principal.ts'
import { ClientGone } from '../../ingest/upload.ts'
import { canonicalJson, sha256Of } from '../../jobs/canonical-json.ts'
import type { JobService } from '../../jobs/port.ts'
import type { ObjectStore } from '../../objects/port.ts'
import type { MediaFile } from '../../records/access-port.ts'
import { page } from '../cursor.ts'
import { writeContinue } from '../expect-continue.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { anySecurity } from '../openapi.ts'
import { limited } from '../rate-limits.ts'
import { sendFile } from '../send-file.ts'
import { lossOf } from './ingest-upload.ts'
import { FileBytes, FileRange, Nothing, NotModified } from './jobs-schemas.ts'
import { mediaCompleteErrors, mediaInitErrors, mediaListErrors, mediaPutErrors, mediaReadErrors, mediaRemoveErrors } from './media-errors.ts'
import {
  CompleteAnswer, CompleteBody, InitAnswer, InitBody, MediaItems, MediaListQuery, MediaParams, MediaReadQuery, Received, showMedia, TokenParams
} from './media-schemas.ts'

export interface MediaRoutesOptions {
  media: MediaService
  jobs: JobService
  store: ObjectStore
  config: Config
  guard: onRequestAsyncHookHandler
}

const tags = { tags: ['media'], security: anySecurity }
/** Whatever is in the library has just these parts. */
const MEDIA_FILE = '/media/:user/:folder/:name'
const readLimit = limited('file-read', 'media')

export async function mediaRoutes(app: FastifyInstance, options: MediaRoutesOptions): Promise<void> {
  await app.register(putRoute, options)
  await app.register(uploadRoutes, options)
  await app.register(readRoutes, options)
  refuseOtherMethods(app)
}

/** In a scope of its own: its body is only bytes, whatever its Content-Type says. The address is the credential, and the caller has been counted when it was made. */
async function putRoute(app: FastifyInstance, { media }: MediaRoutesOptions): Promise<void> {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.put<{ Params: TokenParams }>('/media/upload/:token', {
    config: { continueLater: true, errors: mediaPutErrors },
    schema: {
      tags: ['media'], security: [],
      summary: 'The bytes of a media upload',
      description: 'To the address that init gave, once, with the headers that it asks for.',
      consumes: ['application/octet-stream'],
      params: TokenParams,
      response: { 200: Received }
    }
  }, async (request, reply) => {
    const { 'content-type': contentType, 'content-length': length } = request.headers
    const body = { stream: request.raw, contentType, size: length === undefined ? undefined : Number(length) }
    try {
      const { etag, size } = await media.receive(request.params.token, body, { log: request.log, lost: lossOf(request, reply), onReady: () => writeContinue(request, reply) })
      request.log.info({ action: 'media.upload.received', size, duration_ms: Math.round(reply.elapsedTime) })
      return reply.code(200).header('etag', `"${etag}"`).send()
    } catch (error) {
      if (!(error instanceof ClientGone)) throw error
      request.log.info({ action: 'media.upload.client_aborted', bytes: error.received, duration_ms: Math.round(reply.elapsedTime) })
      return reply.hijack().raw.destroy()
    }
  })
}

async function uploadRoutes(app: FastifyInstance, { media, jobs, config, guard }: MediaRoutesOptions): Promise<void> {
  const base = config.PUBLIC_BASE_URL ?? ''
  app.post<{ Body: InitBody }>('/media/upload/init', {
    onRequest: guard,
    config: { ...limited('file-upload', 'media-init'), errors: mediaInitErrors },
    schema: { ...tags, summary: 'Begin a media upload', body: InitBody, response: { 201: InitAnswer } }
  }, async (request, reply) => {
    const { address, headers, path, expiresAt, maxBytes } = await media.init(callerOf(request), request.body)
    return reply.code(201).header('cache-control', 'no-store').send({
      uploadURL: address.startsWith('/') ? `${base}${address}` : address, objectPath: path, expiresAt: new Date(expiresAt).toISOString(), requiredHeaders: headers, maxBytes
    })
  })

  app.post<{ Body: CompleteBody }>('/media/upload/complete', {
    onRequest: guard,
    config: { ...limited('file-upload', 'media-complete'), errors: mediaCompleteErrors },
    schema: { ...tags, summary: 'Put an upload into the library', description: 'Can be repeated.', body: CompleteBody, response: { 200: CompleteAnswer } }
  }, async request => {
    const principal = callerOf(request)
    const { objectPath, process } = request.body
    // before anything has happened
    if (process !== undefined) assertMayWriteJobs(principal, config)
    const file = await media.complete(principal, objectPath)
    const path = mediaPath(holderOf(principal), file.mediaName)
    const answer = { url: `${base}${mediaAddress(path)}`, path }
    return process === undefined ? answer : { ...answer, jobId: await makeJob(jobs, principal, file, process) }
  })
}

/** The same file and the same wish make one job, however often they come. */
async function makeJob(jobs: JobService, principal: Principal, { id, contentType }: MediaFile, process: Exclude<CompleteBody['process'], undefined>): Promise<string> {
  const { model, version, params } = process
  const request = { model, ...version !== undefined && { version }, ...params !== undefined && { params }, ...contentType.startsWith('video/') && { video: true }, input: { file_id: id } }
  const { job } = await jobs.create(principal, request, { idempotencyKey: `media-${sha256Of(canonicalJson([id, process]))}` })
  return job.id
}

async function readRoutes(app: FastifyInstance, { media, store, config, guard }: MediaRoutesOptions): Promise<void> {
  app.get<{ Querystring: MediaListQuery }>('/media', {
    onRequest: guard,
    config: { ...readLimit, errors: mediaListErrors },
    schema: { ...tags, summary: 'Own media, newest first', querystring: MediaListQuery, response: { 200: MediaItems } }
  }, async request => {
    const principal = callerOf(request)
    const { prefix = '' } = request.query
    const { rows, next_cursor } = await page(request.query, query => prefix.includes('\0') ? Promise.resolve([]) : media.list(principal, { ...query, prefix }))
    return { items: rows.map(file => showMedia(principal, file, config.PUBLIC_BASE_URL)), next_cursor }
  })

  const send = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const file = await media.find(callerOf(request), pathOfTarget(request.raw.url ?? ''))
    return await sendFile(request, reply, store, file, { inline: (request.query as MediaReadQuery).inline === '1' })
  }
  const route = { onRequest: guard, config: { ...readLimit, errors: mediaReadErrors }, schema: { params: MediaParams, querystring: MediaReadQuery } }
  app.get(MEDIA_FILE, {
    ...route,
    exposeHeadRoute: false,
    schema: {
      ...route.schema, ...tags,
      summary: 'The bytes of a media file',
      description: 'Conditions and one range as RFC 9110 has them.',
      produces: ['*/*'],
      response: { 200: FileBytes, 206: FileRange, 304: NotModified }
    }
  }, send)
  // of its own: the framework would run the whole answer and drop it
  app.head(MEDIA_FILE, { ...route, schema: { ...route.schema, hide: true } }, send)

  app.delete(MEDIA_FILE, {
    onRequest: guard,
    config: { ...readLimit, errors: mediaRemoveErrors },
    schema: { ...tags, summary: 'Remove a media file, or an upload that is not complete', params: MediaParams, response: { 204: Nothing } }
  }, async (request, reply) => {
    await media.remove(callerOf(request), pathOfTarget(request.raw.url ?? ''))
    return reply.code(204).send()
  })
}
