/**
 * The way out of every error: translated into the catalogue, counted where it refuses a caller, logged where it is ours,
 * rendered in the dialect of the plugin that the route belongs to.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { catalogue, whyOf, type ErrorName, type PenstockError } from '../errors.ts'
import { bodyOf, statusOf, type Dialect } from './error-bodies.ts'
import { translateError } from './error-translation.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Code of the error that this request was answered with, for its completion line. */
    errorCode: ErrorName | null
  }
  interface FastifyContextConfig {
    /** The route tells in `x-upload-proxy-why` what every failure was. */
    tellsWhy?: boolean
  }
}

const CREDENTIAL_ERRORS = new Set<ErrorName>(['UNAUTHORIZED', 'TOKEN_EXPIRED'])

/** RFC 6750, section 3: what is asked for, and what was wrong with what was given. Texts of the catalogue need no escaping. */
function challengeOf({ code, message, details }: PenstockError, status: number): string | undefined {
  const realm = 'Bearer realm="penstock"'
  if (CREDENTIAL_ERRORS.has(code)) return `${realm}, error="invalid_token", error_description="${message}"`
  if (code === 'INSUFFICIENT_SCOPE') return `${realm}, error="insufficient_scope", scope="${String(details?.required_scope)}"`
  return status === 401 ? realm : undefined
}

function headersOf(error: PenstockError, status: number, request: FastifyRequest): Record<string, string> {
  const challenge = challengeOf(error, status)
  return {
    ...(challenge !== undefined && { 'www-authenticate': challenge }),
    ...(error.retryAfterSeconds !== undefined && { 'retry-after': String(Math.ceil(error.retryAfterSeconds)) }),
    ...(request.routeOptions.config.tellsWhy === true && { 'x-upload-proxy-why': whyOf(error) }),
    ...error.headers
  }
}

/** Is it a fault on this side? Being busy is an answer, and a coding that nobody here knows is the caller's. */
export function isFault(code: ErrorName): boolean {
  return catalogue[code].status >= 500 && code !== 'SERVICE_BUSY' && code !== 'UNSUPPORTED_TRANSFER_CODING'
}

function logFailure(error: PenstockError, request: FastifyRequest): void {
  if (!isFault(error.code)) return
  request.log.error({ action: 'http.request.failed', code: error.code, route: request.routeOptions.url, err: error.cause ?? error }, error.message)
}

/** Answers with an error of the catalogue. */
export function sendError(error: PenstockError, dialect: Dialect, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const status = statusOf(error.code, dialect)
  request.errorCode = error.code
  logFailure(error, request)
  return reply.code(status)
    .headers(headersOf(error, status, request))
    .type('application/json; charset=utf-8')
    // a string, so that no response schema of a route can get between a failure and its caller
    .send(JSON.stringify(bodyOf(error, dialect, request.id)))
}

function speak(app: FastifyInstance, dialect: Dialect): void {
  // hooks of an outer scope run first: the innermost dialect stays
  app.addHook('onRoute', route => {
    route.config = { ...route.config, dialect }
  })
  app.setErrorHandler(async (thrown, request, reply) => {
    const error = translateError(thrown, request)
    const refused = [401, 403].includes(statusOf(error.code, dialect))
    const flood = refused ? await request.server.countRefusal(request, reply) : undefined
    return sendError(flood ?? error, dialect, request, reply)
  })
}

/** Errors of the routes in this scope leave as `{ error: { code, message, details, request_id } }`. */
export function nestedErrors(app: FastifyInstance): void {
  speak(app, 'nested')
}

/** Errors of the routes in this scope leave as `{ error: "<text>" }`, as the Open Inference Protocol has them. */
export function oipErrors(app: FastifyInstance): void {
  speak(app, 'oip')
}

/** Errors of the routes in this scope leave as `{ error, code, details? }`. */
export function flatErrors(app: FastifyInstance): void {
  speak(app, 'flat')
}
