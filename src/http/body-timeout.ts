/**
 * A JSON body that stops arriving is ended with 408, one that breaks off with 400. The request cannot be destroyed for that, since its socket has to
 * carry the answer: the parser reads a stream in between, and that is destroyed.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough, type Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { PenstockError } from '../errors.ts'
import { brokenBy, onBroken } from './broken-bodies.ts'
import { takesBodyOver } from './expect-continue.ts'

function timed(message: IncomingMessage, response: ServerResponse, idleMs: number): Readable {
  const body = new PassThrough()
  const timer = setTimeout(() => body.destroy(new PenstockError('REQUEST_TIMEOUT')), idleMs)
  const onLost = () => {
    if (!message.complete) body.destroy(new PenstockError('BAD_REQUEST', { message: 'the body was cut off' }))
  }
  onBroken(message, error => body.destroy(error))
  message.once('close', onLost).once('error', onLost)
  body.on('data', () => timer.refresh()).pause()
  // where nobody reads it (a content type that is refused), nobody listens either
  body.on('error', () => {})
  response.once('close', () => body.destroy())
  body.once('close', () => {
    clearTimeout(timer)
    message.unpipe(body)
    message.off('close', onLost)
  })
  return message.pipe(body)
}

/** Applies to every route that does not take its body over (`config.continueLater`, `config.streamsMultipart`). */
export function endStalledBodies(app: FastifyInstance, idleMs: number): void {
  app.addHook('preParsing', async (request, reply, payload) => {
    const { headers, raw } = request
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
    if (!hasBody || takesBodyOver(request)) return payload
    const broken = brokenBy(raw)
    if (broken !== undefined) throw broken
    return timed(raw, reply.raw, idleMs)
  })
}
