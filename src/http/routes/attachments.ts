/** The other side of PERMISSION_CALLBACK_URL: may this caller read that file, by the rules of this service alone? */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { PenstockError } from '../../errors.ts'
import type { FileService } from '../../files/service.ts'
import { callerOf } from '../../identity/guards.ts'
import { PERMISSION_BODY_MAX_BYTES } from '../../limits.ts'
import type { FileRoutesOptions } from './files.ts'
import { PermissionForm } from './files-schemas.ts'
import { Nothing } from './jobs-schemas.ts'
import { anySecurity } from '../openapi.ts'
import { limited } from '../rate-limits.ts'

/** In a scope of its own: nothing else takes forms of this kind. */
export async function permissionRoute(app: FastifyInstance, { files, guard }: FileRoutesOptions): Promise<void> {
  app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => {
    done(null, Object.fromEntries(new URLSearchParams(body as string)))
  })
  app.post<{ Body: PermissionForm }>('/attachments/check-permission', {
    onRequest: guard,
    bodyLimit: PERMISSION_BODY_MAX_BYTES,
    config: { ...limited('file-read', 'files'), errors: ['RBAC_FORBIDDEN', 'RECORDS_UNAVAILABLE'] },
    schema: {
      tags: ['files'], security: anySecurity,
      summary: 'May the caller read a file?',
      description: '204: yes, 403: no, or there is no such file.',
      body: { content: { 'application/x-www-form-urlencoded': { schema: PermissionForm }, 'application/json': { schema: PermissionForm } } },
      response: { 204: Nothing }
    }
  }, async (request, reply) => {
    if (!await mayRead(files, request)) throw new PenstockError('RBAC_FORBIDDEN')
    return reply.code(204).send()
  })
}

async function mayRead(files: FileService, request: FastifyRequest): Promise<boolean> {
  const form = request.body as PermissionForm | undefined // a request without a Content-Type has no body, and no schema of one
  if (form === undefined) throw new PenstockError('BAD_REQUEST', { message: 'file_id is missing' })
  return await files.mayRead(form.file_id.toLowerCase(), callerOf(request))
}
