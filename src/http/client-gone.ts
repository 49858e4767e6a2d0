/** Is there still somebody to answer? */
import type { FastifyReply } from 'fastify'

/** Aborts when the connection is lost before the answer is out. The request's own 'close' comes as soon as its body was read, and says nothing about the client. */
export function clientGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => { if (!reply.raw.writableFinished) gone.abort() })
  if (reply.raw.destroyed) gone.abort()
  return gone.signal
}
