/** One line for each request when its answer is out, or when the client has gone. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { LogController } from 'fastify'
import { actorOf } from '../identity/principal.ts'

/** Keeps the framework from writing lines of its own about requests; what it alone knows of is said in our form. */
export class EdgeLogController extends LogController {
  override incomingRequest(): void {}
  override requestCompleted(): void {}
  override defaultErrorLog(): void {}
  override routeNotFound(): void {}
  override streamError(error: Error, request: FastifyRequest): void {
    // a client that goes away shows in the completion line
    if ((error as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE') return
    request.log.error({ action: 'http.response.cut', route: request.routeOptions.url, err: error }, 'an answer was cut off by an error')
  }
}

function bytesOf(value: unknown): number | undefined {
  return value === undefined ? undefined : Number(value)
}

/** Arranges for the line. The route is its pattern: the path may hold ids, the query may hold secrets. */
export function logCompletion(request: FastifyRequest, reply: FastifyReply): void {
  const start = performance.now()
  reply.raw.once('close', () => {
    request.log.info({
      action: 'http.request.completed',
      method: request.method,
      route: request.routeOptions.url ?? null,
      status: reply.raw.headersSent ? reply.raw.statusCode : null,
      duration_ms: Math.round(performance.now() - start),
      bytes_in: bytesOf(request.headers['content-length']),
      bytes_out: bytesOf(reply.raw.getHeader('content-length')),
      actor: request.principal ? actorOf(request.principal) : 'anonymous',
      ...(request.errorCode !== null && { error: request.errorCode }),
      ...(!reply.raw.writableFinished && { aborted: true })
    })
  })
}

export function logCompletions(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => logCompletion(request, reply))
}
