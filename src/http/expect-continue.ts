/**
 * `Expect: 100-continue`: Node would invite the body before anyone has looked at the request. Here the request goes its way
 * first, and the invitation follows once the caller and the rate are known to be right, so that a refused client never
 * sends its body. Node ends the connection by itself where an answer comes without the invitation.
 */
import type { Server } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { bodyTooLarge } from './error-translation.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * The route takes its body over: it calls writeContinue itself when it has looked at the request, counts the bytes and
     * minds a body that stops arriving.
     */
    continueLater?: boolean
    /** The same for multipart bodies only: the route takes JSON as well, which is read as everywhere else. */
    streamsMultipart?: boolean
  }
}

/** Does the route read the body of this request itself? */
export function takesBodyOver(request: FastifyRequest): boolean {
  const { continueLater, streamsMultipart } = request.routeOptions.config
  return continueLater === true || (streamsMultipart === true && request.mediaType === 'multipart/form-data')
}

/** Lets requests with an expectation go the way of all others. Unknown expectations are ignored, as RFC 9110 allows. */
export function routeExpectations(server: Server): void {
  server.on('checkContinue', (request, response) => server.emit('request', request, response))
  server.on('checkExpectation', (request, response) => server.emit('request', request, response))
}

/** Invites the body where the client waits for it. Call at most once a request. */
export function writeContinue(request: FastifyRequest, reply: FastifyReply): void {
  const expects = /(?:^|\W)100-continue(?:$|\W)/i.test(request.headers.expect ?? '')
  if (expects && request.raw.httpVersion === '1.1' && !reply.raw.headersSent) reply.raw.writeContinue()
}

/** After guards and rate limits: refuses what is announced as too large, then invites the body. */
export function continueAfterGuards(app: FastifyInstance): void {
  app.addHook('preParsing', async (request, reply) => {
    const { bodyLimit } = request.routeOptions
    if (takesBodyOver(request)) return
    if (Number(request.headers['content-length'] ?? 0) > bodyLimit) throw bodyTooLarge(bodyLimit)
    writeContinue(request, reply)
  })
}
