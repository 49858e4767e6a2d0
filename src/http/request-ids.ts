/** Ids of requests: the caller's where it is one, else ours; on every answer and in every log line. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'

const pattern = /^[A-Za-z0-9._-]{1,128}$/

export function requestIdOf(message: Pick<IncomingMessage, 'headers'>): string {
  const given = message.headers['x-request-id']
  return typeof given === 'string' && pattern.test(given) ? given : randomUUID()
}

/** Puts the id on every answer, before anything can fail. */
export function echoRequestIds(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    void reply.header('x-request-id', request.id)
  })
}
