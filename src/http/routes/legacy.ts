/**
 * Unversioned routes for an existing web UI in a trusted network (LEGACY_ROUTES): the same jobs, as one local user, without
 * credentials. Whether they are there at all is decided by the configuration.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { callerOf } from '../../identity/guards.ts'
import { showEventData, showJob, type ShownJob } from '../../jobs/show.ts'
import type { JobEvent, JobRecord } from '../../records/jobs-port.ts'
import { page } from '../cursor.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { takeMultipart } from '../multipart.ts'
import { sendFile } from '../send-file.ts'
import { createFromMultipart } from './jobs-create.ts'
import { createErrors, jobErrors, listErrors, resultErrors } from './jobs-errors.ts'
import { sendJobEvents } from './jobs-events.ts'
import { announce, apiLimit, jobIdOf, type JobRoutesOptions } from './jobs-family.ts'
import {
  AcceptedJob, Events, EventsHeaders, EventsQuery, FileBytes, FileRange, IdempotencyHeaders, Job, Jobs, LegacyForm, LegacyListQuery, LegacyParams,
  LegacyResultParams, NoMoreEvents, NotModified, QueueNumbers, RepeatedJob
} from './jobs-schemas.ts'
import { showQueues } from './queue-numbers.ts'

export interface LegacyRoutesOptions extends Omit<JobRoutesOptions, 'guards'> {
  /** lets in whoever can connect, as the local user */
  guard: onRequestAsyncHookHandler
}

export async function legacyRoutes(app: FastifyInstance, options: LegacyRoutesOptions): Promise<void> {
  await app.register(createRoute, options)
  await app.register(readRoutes, options)
  await app.register(downloadRoute, options)
  refuseOtherMethods(app)
}

const legacy = { tags: ['legacy'], security: [] }

/** The job, with results where these callers can read them. */
function show(job: JobRecord): ShownJob {
  const shown = showJob(job)
  return { ...shown, results: shown.results.map(result => ({ ...result, url: `/jobs/${job.id}/download/${encodeURIComponent(result.name)}` })) }
}

function showEvent(event: JobEvent, job: JobRecord | undefined): Record<string, unknown> {
  const data = showEventData(event, job)
  if (job === undefined) return data
  const shown = show(job)
  return { ...data, result: shown.results[0] ?? null, job: shown }
}

async function createRoute(app: FastifyInstance, options: LegacyRoutesOptions): Promise<void> {
  await takeMultipart(app)
  app.removeContentTypeParser('application/json')
  app.post('/jobs', {
    onRequest: options.guard,
    config: { ...apiLimit, streamsMultipart: true, errors: createErrors },
    preValidation: async request => { request.body = {} },
    schema: {
      ...legacy,
      summary: 'Make a job',
      headers: IdempotencyHeaders,
      body: { content: { 'multipart/form-data': { schema: LegacyForm } } },
      response: { 200: RepeatedJob, 202: AcceptedJob }
    }
  }, async (request, reply) => {
    const created = await createFromMultipart(options, request, reply, { withUser: false })
    return created === undefined ? reply : show(announce(reply, created, '/jobs'))
  })
}

async function readRoutes(app: FastifyInstance, { jobs, guard, events = {} }: LegacyRoutesOptions): Promise<void> {
  app.get<{ Querystring: LegacyListQuery }>('/jobs', {
    onRequest: guard,
    config: { ...apiLimit, errors: listErrors },
    schema: { ...legacy, summary: 'Jobs, newest first', querystring: LegacyListQuery, response: { 200: Jobs } }
  }, async request => {
    const { status, model } = request.query
    const { rows, next_cursor } = await page(request.query, query => jobs.list(callerOf(request), { ...query, ...(status !== undefined && { status }), ...(model !== undefined && { model }) }))
    return { items: rows.map(show), next_cursor }
  })

  app.get<{ Params: LegacyParams }>('/jobs/:jobId', {
    onRequest: guard,
    config: { ...apiLimit, errors: jobErrors },
    schema: { ...legacy, summary: 'A job', params: LegacyParams, response: { 200: Job } }
  }, async request => show(await jobs.get(callerOf(request), jobIdOf(request.params.jobId))))

  app.get<{ Params: LegacyParams }>('/jobs/:jobId/events', {
    onRequest: guard,
    exposeHeadRoute: false,
    config: { ...apiLimit, errors: jobErrors },
    schema: {
      ...legacy, summary: 'Watch a job', params: LegacyParams, querystring: EventsQuery, headers: EventsHeaders,
      produces: ['text/event-stream', 'application/x-ndjson'], response: { 200: Events, 204: NoMoreEvents }
    }
  }, (request, reply) => sendJobEvents(request, reply, jobIdOf(request.params.jobId), { ...events, jobs, render: showEvent }))

  app.get('/queues/stats', {
    onRequest: guard,
    config: { ...apiLimit, errors: listErrors },
    schema: { ...legacy, summary: 'Numbers of each queue', response: { 200: QueueNumbers } }
  }, async () => showQueues(await jobs.queue()))
}

async function downloadRoute(app: FastifyInstance, { jobs, store, guard }: LegacyRoutesOptions): Promise<void> {
  const send = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const { jobId, filename } = request.params as LegacyResultParams
    return await sendFile(request, reply, store, await jobs.result(callerOf(request), jobIdOf(jobId), filename))
  }
  const path = '/jobs/:jobId/download/:filename'
  const route = { onRequest: guard, config: { ...apiLimit, errors: resultErrors }, schema: { params: LegacyResultParams } }
  app.get(path, {
    ...route,
    exposeHeadRoute: false,
    schema: { ...route.schema, ...legacy, summary: 'The bytes of a result', produces: ['*/*'], response: { 200: FileBytes, 206: FileRange, 304: NotModified } }
  }, send)
  app.head(path, { ...route, schema: { ...route.schema, hide: true } }, send)
}
