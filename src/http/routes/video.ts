/**
 * Routes of an application for videos: jobs by other names. A video is sent, its job watched, and the result played or
 * fetched. What a caller may reach is decided by the JobService.
 */
import { extname } from 'node:path'
import type { MultipartFile } from '@fastify/multipart'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PenstockError } from '../../errors.ts'
import { callerOf } from '../../identity/guards.ts'
import { showEventData } from '../../jobs/show.ts'
import type { FileRecord, JobRecord } from '../../records/jobs-port.ts'
import { invalidFields } from '../error-translation.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { takeMultipart } from '../multipart.ts'
import { adminSecurity } from '../openapi.ts'
import { sendFile } from '../send-file.ts'
import { createFromMultipart } from './jobs-create.ts'
import { createErrors, jobErrors, resultErrors } from './jobs-errors.ts'
import { sendJobEvents } from './jobs-events.ts'
import { apiLimit, jobIdOf, type JobRoutesOptions } from './jobs-family.ts'
import { Events, EventsHeaders, EventsQuery, FileBytes, FileRange, IdempotencyHeaders, NoMoreEvents, NotModified } from './jobs-schemas.ts'
import { StreamQuery, VideoAccepted, VideoForm, VideoParams, VideoRepeated, VideoResult, VideoStatus } from './video-schemas.ts'

export async function videoRoutes(app: FastifyInstance, options: JobRoutesOptions): Promise<void> {
  await app.register(uploadRoute, options)
  await app.register(readRoutes, options)
  await app.register(streamRoute, options)
  refuseOtherMethods(app)
}

const video = { tags: ['video'], security: adminSecurity }
const MIB = 1024 * 1024

/** In a scope of its own: nothing else takes multipart bodies. */
async function uploadRoute(app: FastifyInstance, options: JobRoutesOptions): Promise<void> {
  const { guards, config } = options
  await takeMultipart(app)
  app.removeContentTypeParser('application/json')

  function check({ filename }: MultipartFile): void {
    const allowed = config.ALLOWED_VIDEO_EXTENSIONS
    if (!allowed.includes(extname(filename ?? '').toLowerCase())) throw new PenstockError('UNSUPPORTED_MEDIA_TYPE', { message: `the name of a video ends with one of ${allowed.join(', ')}` })
  }

  app.post('/api/upload', {
    onRequest: guards.write,
    config: { ...apiLimit, streamsMultipart: true, errors: createErrors },
    // it has not been read when bodies are checked
    preValidation: async request => { request.body = { video: '' } },
    schema: {
      ...video,
      summary: 'Send a video through a model',
      headers: IdempotencyHeaders,
      body: { content: { 'multipart/form-data': { schema: VideoForm } } },
      response: { 200: VideoRepeated, 201: VideoAccepted }
    }
  }, async (request, reply) => {
    const only = { field: 'video', maxBytes: config.MAX_FILE_SIZE_MB * MIB, check }
    const created = await createFromMultipart(options, request, reply, { withUser: false, only })
    return created === undefined ? reply : reply.code(created.repeated ? 200 : 201).send({ jobId: created.job.id })
  })
}

function show({ id, status, progress, createdAt, updatedAt, failure }: JobRecord) {
  return { jobId: id, state: status, progress, createdAt: new Date(createdAt).toISOString(), updatedAt: new Date(updatedAt).toISOString(), ...(failure && { error: failure }) }
}

function assertCompleted({ status }: JobRecord): void {
  if (status !== 'completed') throw invalidFields([{ field: 'jobId', message: `is of a job that is ${status}, and has no result` }])
}

async function readRoutes(app: FastifyInstance, { jobs, config, guards, events = {} }: JobRoutesOptions): Promise<void> {
  const base = config.PUBLIC_BASE_URL ?? ''
  const reading = { onRequest: guards.read, config: { ...apiLimit, errors: jobErrors } }
  app.get<{ Params: VideoParams }>('/api/upload/status/:jobId', {
    ...reading, schema: { ...video, summary: 'How far a video is', params: VideoParams, response: { 200: VideoStatus } }
  }, async request => show(await jobs.get(callerOf(request), jobIdOf(request.params.jobId))))

  app.get<{ Params: VideoParams }>('/api/upload/result/:jobId', {
    ...reading, config: { ...apiLimit, errors: [...jobErrors, 'RESULT_NOT_FOUND'] }, schema: { ...video, summary: 'Where the result is', params: VideoParams, response: { 200: VideoResult } }
  }, async request => {
    const job = await jobs.get(callerOf(request), jobIdOf(request.params.jobId))
    assertCompleted(job)
    const name = resultOf(job)
    const path = `/api/v1/jobs/${job.id}/results/${encodeURIComponent(name)}`
    return { jobId: job.id, downloadUrl: `${base}${path}`, originalFilename: job.inputs[0]?.filename ?? null, outputFilename: name }
  })

  app.get<{ Params: VideoParams }>('/api/upload/events/:jobId', {
    ...reading,
    exposeHeadRoute: false,
    schema: {
      ...video, summary: 'Watch a video', params: VideoParams, querystring: EventsQuery, headers: EventsHeaders,
      produces: ['text/event-stream', 'application/x-ndjson'], response: { 200: Events, 204: NoMoreEvents }
    }
  }, (request, reply) => sendJobEvents(request, reply, jobIdOf(request.params.jobId), { ...events, jobs, render: (event, job) => showEventData(event, job, base) }))

  app.post<{ Params: VideoParams }>('/api/upload/cancel/:jobId', {
    ...reading, onRequest: guards.write, schema: { ...video, summary: 'End it: what has ended not at all', params: VideoParams, response: { 200: VideoStatus } }
  }, async request => show(await jobs.cancel(callerOf(request), jobIdOf(request.params.jobId))))
}

/** @throws RESULT_NOT_FOUND */
function resultOf({ results: [result] }: JobRecord): string {
  if (result === undefined) throw new PenstockError('RESULT_NOT_FOUND')
  return result.name
}

/** For players: any range, shown in place. */
async function streamRoute(app: FastifyInstance, { jobs, store, guards }: JobRoutesOptions): Promise<void> {
  async function fileOf(request: FastifyRequest): Promise<FileRecord> {
    const principal = callerOf(request)
    const job = await jobs.get(principal, jobIdOf((request.params as VideoParams).jobId))
    if ((request.query as StreamQuery).source === 'input') return original(job)
    assertCompleted(job)
    return await jobs.result(principal, job.id, resultOf(job))
  }
  const send = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => await sendFile(request, reply, store, await fileOf(request), { inline: true })
  const path = '/api/upload/stream/:jobId'
  const route = { onRequest: guards.read, config: { ...apiLimit, errors: resultErrors }, schema: { params: VideoParams, querystring: StreamQuery } }
  app.get(path, {
    ...route,
    exposeHeadRoute: false,
    schema: {
      ...route.schema, ...video,
      summary: 'The video itself, for a player',
      description: 'Conditions and one range as RFC 9110 has them.',
      produces: ['*/*'],
      response: { 200: FileBytes, 206: FileRange, 304: NotModified }
    }
  }, send)
  app.head(path, { ...route, schema: { ...route.schema, hide: true } }, send)
}

/** What came with the job, as if it were a file of its owner. @throws RESULT_NOT_FOUND where there is none */
function original({ id, owner, createdAt, inputs: [input] }: JobRecord): FileRecord {
  if (input === undefined) throw new PenstockError('RESULT_NOT_FOUND')
  const { sha256, key, size, contentType, filename = 'video' } = input
  return { id, filename, contentType, size, sha256, key, access: 'account', owner, createdAt }
}
