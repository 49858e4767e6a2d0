/** Tells of every request that was answered, or whose client has gone, by the pattern of its route. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

/** `status` is `none` where no answer had begun. */
export type HttpObserver = (request: { route: string, method: string, status: string }) => void

type CountRequest = (request: FastifyRequest, reply: FastifyReply) => void

declare module 'fastify' {
  interface FastifyInstance {
    /** Counts a request when it is over. */
    countRequest: CountRequest
  }
}

/** Others are one: a client makes up as many as it likes. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Call before other hooks. */
export function countRequests(app: FastifyInstance, observe: HttpObserver | undefined): void {
  const countRequest: CountRequest = (request, reply) => {
    if (observe === undefined) return
    reply.raw.once('close', () => observe({
      route: request.is404 ? 'unknown' : request.routeOptions.url ?? 'unknown',
      method: METHODS.has(request.method) ? request.method : 'other',
      status: reply.raw.headersSent ? String(reply.raw.statusCode) : 'none'
    }))
  }
  app.decorate('countRequest', countRequest)
  app.addHook('onRequest', async (request, reply) => countRequest(request, reply))
}
