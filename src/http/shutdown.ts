/**
 * While the service shuts down: new requests are refused with 503, and every connection ends with the answer under way on
 * it. Node alone keeps a connection that becomes idle after `close()` open until its keep-alive time is over, and takes one on
 * which nothing was ever sent for busy.
 */
import type { FastifyInstance } from 'fastify'
import { PenstockError } from '../errors.ts'
import { SHUTDOWN_RETRY_AFTER_SECONDS } from '../limits.ts'
import type { Connections } from './connections.ts'
import type { Health } from './routes/health.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route answers as long as there is a process. */
    whileStopping?: boolean
  }
}

export function refuseWhileStopping(app: FastifyInstance, health: Health, open: Connections): void {
  let closing = false
  const stopping = () => closing || health.stopping
  app.addHook('preClose', async () => {
    closing = true
    open.stopping()
  })
  app.addHook('onRequest', async (request, reply) => {
    reply.raw.once('finish', () => {
      // a request that was injected has no socket to end
      if (stopping()) request.raw.socket.destroySoon?.()
    })
    if (stopping() && request.routeOptions.config.whileStopping !== true) {
      throw new PenstockError('SERVICE_BUSY', {
        retryAfterSeconds: SHUTDOWN_RETRY_AFTER_SECONDS,
        headers: { connection: 'close' }
      })
    }
  })
  app.addHook('onSend', async (_request, reply) => {
    if (stopping()) void reply.header('connection', 'close')
  })
}
