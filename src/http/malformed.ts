/**
 * Answers to what never became a request of a route: broken HTTP, headers too long or too slow, paths that cannot be read.
 *
 * HTTP may also break on a connection that has a request under way. Where it broke in the body of that request, its route
 * answers, with its id and in its dialect. Where it broke after it, the request gets its answer, which is the last one.
 * A client that only hangs up has broken nothing.
 */
import { randomUUID } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PenstockError, type ErrorName } from '../errors.ts'
import { breakBody } from './broken-bodies.ts'
import { logCompletion } from './completion-line.ts'
import { bodyOf } from './error-bodies.ts'
import { translateError } from './error-translation.ts'
import { sendError } from './errors.ts'
import { closeAfterAnswer, closeAfterLastAnswer, closeUnread } from './unread-bodies.ts'

/** Helmet does not see these answers. */
const headers = {
  'content-security-policy': "default-src 'none';frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'strict-origin-when-cross-origin'
}

const messages: Record<string, readonly [ErrorName, string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['REQUEST_TIMEOUT', 'the request headers stopped arriving'],
  HPE_HEADER_OVERFLOW: ['HEADERS_TOO_LARGE', 'the request headers are too large']
}

function responseText(error: PenstockError, requestId: string): string {
  const body = JSON.stringify(bodyOf(error, 'nested', requestId))
  const lines = Object.entries({
    ...headers,
    'x-request-id': requestId,
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close'
  }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `HTTP/1.1 ${error.statusCode} ${STATUS_CODES[error.statusCode]}\r\n${lines.join('')}\r\n${body}`
}

const underWay = Symbol('request under way')

interface UnderWay { request: FastifyRequest, reply: FastifyReply, broken?: boolean }

/** Lets a connection know its request. Call before any other hook: a packet may hold a request and what breaks it. */
export function rememberRequests(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    Object.assign(request.raw.socket, { [underWay]: { request, reply } satisfies UnderWay })
    done()
  })
}

/** Handler of 'clientError': the parser has given up on a connection. */
export function refuseMalformed(this: { log: FastifyBaseLogger }, cause: NodeJS.ErrnoException, socket: Socket & { [underWay]?: UnderWay }): void {
  const hungUp = cause.code === 'ECONNRESET' || cause.code === 'HPE_INVALID_EOF_STATE'
  const current = socket[underWay]
  if (hungUp || !socket.writable) socket.destroy()
  else if (current === undefined || current.reply.raw.writableFinished) refuse(this.log, cause, socket)
  else endWithRequest(current, cause, socket)
}

function refuse(log: FastifyBaseLogger, cause: NodeJS.ErrnoException, socket: Socket): void {
  const [code, message] = messages[cause.code ?? ''] ?? ['BAD_REQUEST', 'this is not a request that can be read']
  const error = new PenstockError(code, { message, cause })
  const requestId = randomUUID()
  log.info({ action: 'http.request.malformed', request_id: requestId, status: error.statusCode, error: code, reason: cause.code })
  socket.write(responseText(error, requestId))
  closeUnread(socket)
}

function endWithRequest(current: UnderWay, cause: NodeJS.ErrnoException, socket: Socket): void {
  socket.pause()
  // what had arrived meanwhile reaches the parser all the same
  if (current.broken === true) return
  current.broken = true
  const { request, reply } = current
  request.log.info({ action: 'http.request.malformed', route: request.routeOptions.url, reason: cause.code })
  if (reply.raw.writableEnded) reply.raw.once('finish', () => closeUnread(socket))
  else if (reply.raw.headersSent) socket.destroy()
  else if (request.raw.complete) closeAfterLastAnswer(request, reply)
  else breakBody(request.raw, new PenstockError('BAD_REQUEST', { message: 'the body is not framed as HTTP asks', cause }))
}

/** Handler of errors of the router, which run no hooks. */
export function refuseUnroutable(cause: Error, request: FastifyRequest, reply: FastifyReply): void {
  logCompletion(request, reply)
  request.server.countRequest(request, reply)
  closeAfterAnswer(request, reply)
  void reply.headers({ ...headers, 'x-request-id': request.id })
  sendError(translateError(cause, request), 'nested', request, reply)
}
