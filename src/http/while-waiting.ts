/** Work for a client that may go before it is done. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { clientGone } from './client-gone.ts'

/**
 * Runs `work` as long as the client waits for it. Undefined where the client has gone: its connection is closed, and nobody is
 * left to tell.
 * @param action of the log line then
 */
export async function whileWaiting<T>(request: FastifyRequest, reply: FastifyReply, action: string, work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
  const gone = clientGone(reply)
  try {
    return await work(gone)
  } catch (error) {
    if (!gone.aborted && !(request.raw.destroyed && !request.raw.complete)) throw error
    request.log.info({ action, duration_ms: Math.round(reply.elapsedTime) })
    reply.hijack().raw.destroy()
    return undefined
  }
}
