/** Results of jobs: read by whoever may see the job, or once by whoever has the address. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PenstockError } from '../../errors.ts'
import { callerOf } from '../../identity/guards.ts'
import { adminSecurity } from '../openapi.ts'
import { sendFile } from '../send-file.ts'
import { downloadErrors, resultErrors, tokenErrors } from './jobs-errors.ts'
import { DownloadAnswer, DownloadBody, DownloadParams, FileBytes, FileOnce, FileRange, JobParams, NotModified, ResultParams } from './jobs-schemas.ts'
import { apiLimit, jobIdOf, type JobRoutesOptions } from './jobs-family.ts'

export async function resultRoutes(app: FastifyInstance, { jobs, store, config, guards }: JobRoutesOptions): Promise<void> {
  const send = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const { id, name } = request.params as ResultParams
    return await sendFile(request, reply, store, await jobs.result(callerOf(request), jobIdOf(id), name))
  }
  const path = '/api/v1/jobs/:id/results/:name'
  const route = { onRequest: guards.read, config: { ...apiLimit, errors: resultErrors }, schema: { params: ResultParams } }
  app.get(path, {
    ...route,
    exposeHeadRoute: false,
    schema: {
      ...route.schema,
      tags: ['jobs'], security: adminSecurity,
      summary: 'The bytes of a result',
      description: 'Conditions and one range as RFC 9110 has them.',
      produces: ['*/*'],
      response: { 200: FileBytes, 206: FileRange, 304: NotModified }
    }
  }, send)
  // of its own: the framework would run the whole answer and drop it
  app.head(path, { ...route, schema: { ...route.schema, hide: true } }, send)

  app.post<{ Params: JobParams, Body: DownloadBody }>('/api/v1/jobs/:id/download-tokens', {
    onRequest: guards.read,
    config: { ...apiLimit, errors: tokenErrors },
    schema: { tags: ['jobs'], security: adminSecurity, summary: 'An address that gives a result once', params: JobParams, body: DownloadBody, response: { 200: DownloadAnswer } }
  }, async (request, reply) => {
    const { token, expiresAt } = await jobs.downloadToken(callerOf(request), jobIdOf(request.params.id), request.body)
    void reply.header('cache-control', 'no-store')
    return { url: `${config.PUBLIC_BASE_URL ?? ''}/api/v1/downloads/${token}`, expires_at: new Date(expiresAt).toISOString() }
  })
}

/** HEAD would use it up. */
export async function downloadRoute(app: FastifyInstance, { jobs, store }: JobRoutesOptions): Promise<void> {
  app.get<{ Params: DownloadParams }>('/api/v1/downloads/:token', {
    exposeHeadRoute: false,
    config: { ...apiLimit, errors: downloadErrors },
    schema: {
      tags: ['jobs'], security: [],
      summary: 'One download by its address',
      params: DownloadParams,
      produces: ['*/*'],
      response: { 200: FileOnce }
    }
  }, async (request, reply) => {
    const { token } = request.params
    if (!/^[A-Za-z0-9_-]{16,}$/.test(token)) throw new PenstockError('FILE_NOT_FOUND')
    return await sendFile(request, reply, store, await jobs.takeDownload(token), { once: true })
  })
}
