/** Results of jobs at the file gateway. What may be promoted, and what comes of it, is decided by the PromoteService. */
import type { FastifyInstance, onRequestAsyncHookHandler } from 'fastify'
import { Type, type Static } from 'typebox'
import type { ErrorName } from '../../errors.ts'
import { callerOf } from '../../identity/guards.ts'
import type { PromoteService } from '../../jobs/promote.ts'
import { showPromotion } from '../../jobs/show.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { adminSecurity } from '../openapi.ts'
import { whileWaiting } from '../while-waiting.ts'
import { jobErrors } from './jobs-errors.ts'
import { apiLimit, jobIdOf } from './jobs-family.ts'
import { JobParams, Promoted } from './jobs-schemas.ts'

export interface PromoteRoutesOptions { promotions: PromoteService, guard: onRequestAsyncHookHandler }

const errors = [
  ...jobErrors, 'JOB_NOT_READY_FOR_PROMOTE', 'SOURCE_NOT_AVAILABLE', 'INVALID_OBJECT_KEY', 'AUTH_SERVICE_UNAVAILABLE', 'FILE_GATEWAY_UNAVAILABLE', 'S3_GET_FAILED', 'BUCKET_NOT_FOUND'
] as const satisfies ErrorName[]

const PromoteBody = Type.Object({
  source: Type.String({ description: 'name of a result, or a stage that the job went through, which stands for its first result' }),
  target_object_key: Type.String({ description: 'key at the gateway: 1 to 1024 of A-Z a-z 0-9 . _ - /, without an empty segment, `.` or `..`; a segment has at most 255' }),
  force: Type.Optional(Type.Boolean({ description: 'true: sent again, though it is there' }))
}, { additionalProperties: false, examples: [{ source: 'image.png', target_object_key: 'campaigns/2026/hero.png' }] })
type PromoteBody = Static<typeof PromoteBody>

export async function promoteRoutes(app: FastifyInstance, { promotions, guard }: PromoteRoutesOptions): Promise<void> {
  app.post<{ Params: JobParams, Body: PromoteBody }>('/api/v1/jobs/:id/promote', {
    onRequest: guard,
    config: { ...apiLimit, errors },
    schema: {
      tags: ['jobs'], security: adminSecurity,
      summary: 'Copy a result to the file gateway',
      description: 'A repeat of the same source and key answers with what the first made, and sends nothing.',
      params: JobParams, body: PromoteBody, response: { 200: Promoted }
    }
  }, async (request, reply) => {
    const id = jobIdOf(request.params.id)
    const promotion = await whileWaiting(request, reply, 'jobs.promote.abandoned', signal => promotions.promote(callerOf(request), id, request.body, signal))
    return promotion === undefined ? reply : showPromotion(id, promotion)
  })
  refuseOtherMethods(app)
}
