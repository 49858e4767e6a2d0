/** The ingest family: flat error dialect, aliases under /api/ext-bundles, admin or upload scope. */
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { PenstockError } from '../../errors.ts'
import { actorOf } from '../../identity/principal.ts'
import { abortUpload } from '../../ingest/abort.ts'
import type { IngestContext } from '../../ingest/context.ts'
import { finalizeUpload, type Caller } from '../../ingest/finalize.ts'
import { flatErrors } from '../errors.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { adminSecurity } from '../openapi.ts'
import { limited } from '../rate-limits.ts'
import { uploadRoute, type IngestRouteOptions } from './ingest-upload.ts'
import { abortErrors, finalizeErrors } from './ingest-errors.ts'
import { AbortAnswer, AbortBody, FinalizeAnswer, FinalizeBody } from './ingest-schemas.ts'

function pathsOf(name: string): string[] {
  return [`/${name}`, `/api/ext-bundles/${name}`]
}

export async function ingestRoutes(app: FastifyInstance, { context, guard }: { context: IngestContext, guard: onRequestAsyncHookHandler }): Promise<void> {
  flatErrors(app)
  const options = (name: string): IngestRouteOptions =>
    ({ context, paths: pathsOf(name), guard, limit: limited('ingest', name) })
  await app.register(uploadRoute, options('upload-proxy'))
  await app.register(finalizeRoute, options('finalize'))
  await app.register(abortRoute, options('abort'))
  app.all('/api/ext-bundles/initiate-upload', { schema: { hide: true }, onRequest: refuseRetired }, refuseRetired)
  refuseOtherMethods(app)
}

/** Before the body is looked at, whatever it is. */
async function refuseRetired(): Promise<never> {
  throw new PenstockError('GONE', { message: 'this route was retired: stream the bytes to POST /upload-proxy' })
}

function callerOf(request: FastifyRequest): Caller {
  return { principal: request.principal!, log: request.log }
}

async function finalizeRoute(app: FastifyInstance, { context, paths, guard, limit }: IngestRouteOptions): Promise<void> {
  for (const path of paths) {
    app.post<{ Body: FinalizeBody }>(path, {
      onRequest: guard,
      config: { ...limit, errors: finalizeErrors },
      schema: { tags: ['ingest'], security: adminSecurity, summary: 'Turn a staged upload into an immutable object', body: FinalizeBody, response: { 200: FinalizeAnswer } }
    }, async request => {
      const startedAt = performance.now()
      const object = await finalizeUpload(context, request.body as Parameters<typeof finalizeUpload>[1], callerOf(request))
      request.log.info({
        action: 'ingest.finalize.success', actor: actorOf(request.principal!), key: request.body.key, canonical_key: object.canonicalKey,
        size: object.size, deduplicated: object.deduplicated, duration_ms: Math.round(performance.now() - startedAt)
      })
      return object
    })
  }
}

async function abortRoute(app: FastifyInstance, { context, paths, guard, limit }: IngestRouteOptions): Promise<void> {
  for (const path of paths) {
    app.post<{ Body: AbortBody }>(path, {
      onRequest: guard,
      config: { ...limit, errors: abortErrors },
      schema: { tags: ['ingest'], security: adminSecurity, summary: 'Drop a staged or arriving upload', body: AbortBody, response: { 200: AbortAnswer } }
    }, async request => {
      const { key, reason } = request.body
      const answer = await abortUpload(context, { key }, callerOf(request))
      request.log.info({ action: 'ingest.abort.success', actor: actorOf(request.principal!), ...answer, ...(reason === undefined ? {} : { reason }) })
      return answer
    })
  }
}
