/** GET /uploads/:id/events: one upload, watched while it arrives or told afterwards. */
import type { FastifyInstance, onRequestAsyncHookHandler } from 'fastify'
import { Type, type Static } from 'typebox'
import type { IngestContext } from '../../ingest/context.ts'
import { findUpload, watchUpload } from '../../ingest/watch.ts'
import { eventDocs, sendEvents } from '../event-stream.ts'
import { adminSecurity } from '../openapi.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'

const Params = Type.Object({ id: Type.String({ format: 'uuid' }) })

const example = { event: 'upload_progress', data: { id: '0f8fad5b-d9cb-469f-a165-70867728950e', received: 131_072, size: 300_000 } }

export async function uploadRoutes(app: FastifyInstance, { context, guard }: { context: IngestContext, guard: onRequestAsyncHookHandler }): Promise<void> {
  app.get<{ Params: Static<typeof Params> }>('/uploads/:id/events', {
    onRequest: guard,
    config: { errors: ['UPLOAD_NOT_FOUND', 'RECORDS_UNAVAILABLE'] },
    schema: {
      tags: ['ingest'],
      security: adminSecurity,
      summary: 'Watch one upload',
      description: 'Server-sent events `upload_started`, `upload_progress { received, size }` (bytes the store took), then `upload_complete` or `upload_failed`. `Accept: application/x-ndjson` gives lines instead.',
      params: Params,
      produces: ['text/event-stream', 'application/x-ndjson'],
      response: { 200: eventDocs('the events, as they happen', [example]) }
    }
  }, async (request, reply) => {
    const upload = await findUpload(context, request.params.id.toLowerCase(), request.principal!)
    return await sendEvents(request, reply, signal => watchUpload(context, upload, signal))
  })
  refuseOtherMethods(app)
}
