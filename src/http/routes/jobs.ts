/**
 * Jobs over HTTP: made, looked at, watched, ended, and their results read. What a caller may reach, and what becomes of a job, is
 * decided by the JobService; here are only its words for HTTP.
 */
import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { PenstockError } from '../../errors.ts'
import { isUnchanged } from '../../files/conditions.ts'
import { callerOf } from '../../identity/guards.ts'
import type { Principal } from '../../identity/principal.ts'
import type { ListQuery as JobListQuery } from '../../jobs/port.ts'
import { showEventData, showJob } from '../../jobs/show.ts'
import type { JobRecord } from '../../records/jobs-port.ts'
import { page } from '../cursor.ts'
import { invalidFields } from '../error-translation.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { takeMultipart } from '../multipart.ts'
import { adminSecurity } from '../openapi.ts'
import { createFromMultipart, createJob, generate } from './jobs-create.ts'
import { createErrors, generateErrors, jobErrors, listErrors, retryErrors } from './jobs-errors.ts'
import { sendJobEvents } from './jobs-events.ts'
import { announce, apiLimit, jobIdOf, type JobRoutesOptions } from './jobs-family.ts'
import { downloadRoute, resultRoutes } from './jobs-results.ts'
import {
  AcceptedJob, Events, EventsHeaders, EventsQuery, GenerateAnswer, GenerateBody, IdempotencyHeaders, Job, JobBody, JobForm, JobParams, Jobs, JobWithETag,
  ListQuery, ModelParams, NoMoreEvents, Nothing, NotModified, Queue, RepeatedJob
} from './jobs-schemas.ts'
import { showQueue } from './queue-numbers.ts'

export async function jobRoutes(app: FastifyInstance, options: JobRoutesOptions): Promise<void> {
  await app.register(createRoutes, options)
  await app.register(readRoutes, options)
  await app.register(changeRoutes, options)
  await app.register(resultRoutes, options)
  await app.register(downloadRoute, options)
  refuseOtherMethods(app)
}

const jobs = { tags: ['jobs'], security: adminSecurity }

/** In a scope of its own: nothing else takes multipart bodies. */
async function createRoutes(app: FastifyInstance, options: JobRoutesOptions): Promise<void> {
  const { guards, config } = options
  const base = config.PUBLIC_BASE_URL
  await takeMultipart(app)
  app.post('/api/v1/jobs', {
    onRequest: guards.write,
    config: { ...apiLimit, streamsMultipart: true, errors: createErrors },
    // a multipart body has not been read when bodies are checked
    preValidation: async request => {
      if (request.isMultipart()) request.body = {}
    },
    schema: {
      ...jobs,
      summary: 'Make a job',
      headers: IdempotencyHeaders,
      body: { content: { 'application/json': { schema: JobBody }, 'multipart/form-data': { schema: JobForm } } },
      response: { 200: RepeatedJob, 202: AcceptedJob }
    }
  }, async (request, reply) => {
    const created = request.isMultipart() ? await createFromMultipart(options, request, reply, { withUser: true }) : await createJob(options, request, reply)
    return created === undefined ? reply : showJob(announce(reply, created, '/api/v1/jobs'), base)
  })

  app.post<{ Params: { model: string }, Body: GenerateBody | undefined }>('/generate/:model', {
    onRequest: guards.write,
    config: { ...apiLimit, errors: generateErrors },
    preValidation: async request => {
      if (request.isMultipart()) throw new PenstockError('UNSUPPORTED_MEDIA_TYPE', { message: 'the body must be JSON here; POST /api/v1/jobs takes files as multipart/form-data, and the model as its field "model"' })
    },
    schema: {
      ...jobs,
      summary: 'Make a job for a model, for callers of a media pipeline',
      description: 'Without an input for models that need none.',
      headers: IdempotencyHeaders,
      params: ModelParams,
      body: GenerateBody,
      response: { 200: GenerateAnswer, 202: GenerateAnswer }
    }
  }, async (request, reply) => {
    const { params, input } = request.body ?? {}
    const created = await generate(options, request, reply, { model: request.params.model, input, ...(params && { params }) })
    return created === undefined ? reply : { jobId: announce(reply, created, '/api/v1/jobs').id }
  })
}

async function readRoutes(app: FastifyInstance, { jobs: service, config, guards, events = {} }: JobRoutesOptions): Promise<void> {
  const base = config.PUBLIC_BASE_URL
  app.get<{ Querystring: ListQuery }>('/api/v1/jobs', {
    onRequest: guards.read,
    config: { ...apiLimit, errors: listErrors },
    schema: { ...jobs, summary: 'Jobs, newest first', querystring: ListQuery, response: { 200: Jobs } }
  }, async request => {
    const principal = callerOf(request)
    const wanted = filtersOf(principal, request.query)
    const { rows, next_cursor } = await page(request.query, query => service.list(principal, { ...wanted, ...query }))
    return { items: rows.map(job => showJob(job, base)), next_cursor }
  })

  app.get<{ Params: JobParams }>('/api/v1/jobs/:id', {
    onRequest: guards.read,
    config: { ...apiLimit, errors: jobErrors },
    schema: { ...jobs, summary: 'A job', params: JobParams, response: { 200: JobWithETag, 304: NotModified } }
  }, async (request, reply) => {
    const job = await service.get(callerOf(request), jobIdOf(request.params.id))
    const etag = etagOf(job)
    void reply.headers({ etag, 'cache-control': 'private, no-cache' })
    return isUnchanged({ 'if-none-match': request.headers['if-none-match'] }, { etag }) ? reply.code(304).send() : showJob(job, base)
  })

  app.get<{ Params: JobParams }>('/api/v1/jobs/:id/events', {
    onRequest: guards.read,
    exposeHeadRoute: false,
    config: { ...apiLimit, errors: jobErrors },
    schema: {
      ...jobs,
      summary: 'Watch a job',
      description: 'Server-sent events, with `Accept: application/x-ndjson` lines `{ seq, event, data }`. A completed job comes with its last event.',
      params: JobParams, querystring: EventsQuery, headers: EventsHeaders,
      produces: ['text/event-stream', 'application/x-ndjson'],
      response: { 200: Events, 204: NoMoreEvents }
    }
  }, (request, reply) => sendJobEvents(request, reply, jobIdOf(request.params.id), { ...events, jobs: service, render: (event, job) => showEventData(event, job, base) }))

  app.get('/api/v1/queue', {
    onRequest: guards.read,
    config: { ...apiLimit, errors: listErrors },
    schema: { ...jobs, summary: 'What waits and what runs', response: { 200: Queue } }
  }, async () => showQueue(await service.queue()))
}

/** A service token stands for many users, and has to say of whom it speaks. */
function filtersOf(principal: Principal, { user_id: userId, status, model }: ListQuery): Omit<JobListQuery, 'limit' | 'after'> {
  if (principal.kind === 'client' && userId === undefined) throw invalidFields([{ field: 'user_id', message: 'is required of service tokens' }])
  return { ...(userId !== undefined && { userId }), ...(status !== undefined && { status }), ...(model !== undefined && { model }) }
}

/** Of what can be seen of a job's state. */
function etagOf({ id, status, stage, progress, updatedAt, lastSeq }: JobRecord): string {
  return `"${createHash('sha256').update(JSON.stringify([id, status, stage, progress, updatedAt, lastSeq])).digest('base64url')}"`
}

async function changeRoutes(app: FastifyInstance, { jobs: service, config, guards }: JobRoutesOptions): Promise<void> {
  const base = config.PUBLIC_BASE_URL
  for (const [verb, summary, errors] of [
    ['cancel', 'End a job: what waits at once, what runs soon, what has ended not at all', jobErrors],
    ['retry', 'Let a failed or cancelled job run again', retryErrors]
  ] as const) {
    app.post<{ Params: JobParams }>(`/api/v1/jobs/:id/${verb}`, {
      onRequest: guards.write,
      config: { ...apiLimit, errors },
      schema: { ...jobs, summary, params: JobParams, response: { 200: Job } }
    }, async request => showJob(await service[verb](callerOf(request), jobIdOf(request.params.id)), base))
  }

  app.delete<{ Params: JobParams }>('/api/v1/jobs/:id', {
    onRequest: guards.write,
    config: { ...apiLimit, errors: jobErrors },
    schema: { ...jobs, summary: 'Remove a job with its events and results', params: JobParams, response: { 204: Nothing } }
  }, async (request, reply) => {
    await service.remove(callerOf(request), jobIdOf(request.params.id))
    return reply.code(204).send()
  })
}
