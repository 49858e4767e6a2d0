/**
 * What the documentation says of failures. A route names only the errors of its own work (`config.errors`); those that
 * follow from what it is (guarded, limited, with a JSON body) are added here, and everything about an error comes from the
 * catalogue: status, code, text, slugs.
 */
import type { RouteOptions } from 'fastify'
import { catalogue, PenstockError, slugsOf, type ErrorName } from '../errors.ts'
import { bodyOf, codeOf, statusOf, type Dialect } from './error-bodies.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Errors of the route's own work. */
    errors?: readonly ErrorName[]
    /** Set by flatErrors, nestedErrors and oipErrors. */
    dialect?: Dialect
  }
}

export type DocumentedRoute = Pick<RouteOptions, 'schema' | 'config'>

type Header = { type: 'string' | 'integer', description?: string, enum?: readonly string[] }
export type Headers = Record<string, Header>

/** Errors that are answered before a route is reached, or instead of one. */
export const errorsWithoutRoute: readonly ErrorName[] = ['NOT_FOUND', 'METHOD_NOT_ALLOWED', 'GONE', 'HEADERS_TOO_LARGE']

const families = ['X-RateLimit', 'RateLimit']
const rateHeaders: Headers = Object.fromEntries(families.flatMap(family => [
  [`${family}-Limit`, { type: 'integer', description: 'requests in a window' }],
  [`${family}-Remaining`, { type: 'integer', description: 'requests left in this window' }],
  [`${family}-Reset`, { type: 'integer', description: 'seconds until the next window' }]
] as [string, Header][]))

function isGuarded({ schema }: DocumentedRoute): boolean {
  return (schema?.security ?? []).length > 0
}

/** Every error that a route answers with, in the order of the catalogue. */
export function errorsOf(route: DocumentedRoute): ErrorName[] {
  const { schema, config = {} } = route
  const names = new Set<ErrorName>([
    'BAD_REQUEST', 'UNSUPPORTED_TRANSFER_CODING', 'INTERNAL_ERROR',
    ...(config.whileStopping === true ? [] : ['SERVICE_BUSY'] as const),
    // refused callers have a bucket of their own
    ...(isGuarded(route) ? ['UNAUTHENTICATED', 'UNAUTHORIZED', 'TOKEN_EXPIRED', 'TENANT_MISMATCH', 'AUTH_SERVICE_UNAVAILABLE', 'RECORDS_UNAVAILABLE', 'RATE_LIMIT'] as const : []),
    ...(config.limited === undefined ? [] : ['RATE_LIMIT'] as const),
    ...(schema?.body === undefined ? [] : ['PAYLOAD_TOO_LARGE', 'UNSUPPORTED_MEDIA_TYPE', 'REQUEST_TIMEOUT'] as const),
    ...config.errors ?? []
  ])
  return (Object.keys(catalogue) as ErrorName[]).filter(name => names.has(name))
}

/** Headers of every answer of a route, good or bad. */
export function headersOf({ config = {} }: DocumentedRoute): Headers {
  return {
    'X-Request-Id': { type: 'string', description: 'the id of the request: its own X-Request-Id where it had one that can be used' },
    ...(config.limited !== undefined && rateHeaders)
  }
}

function failureHeaders(route: DocumentedRoute, status: number, names: readonly ErrorName[]): Headers {
  return {
    ...headersOf(route),
    ...(isGuarded(route) && [401, 403, 429].includes(status) && rateHeaders),
    ...((status === 401 || names.includes('INSUFFICIENT_SCOPE')) && { 'WWW-Authenticate': { type: 'string', description: 'RFC 6750' } }),
    ...([429, 503].includes(status) && { 'Retry-After': { type: 'integer', description: 'seconds' } }),
    ...(route.config?.tellsWhy === true && { 'x-upload-proxy-why': { type: 'string', description: 'what exactly it was', enum: [...new Set(names.flatMap(slugsOf))] } })
  }
}

function bodySchema(dialect: Dialect, codes: readonly string[]): object {
  if (dialect === 'oip') return { $ref: 'OipError#' }
  const code = { properties: { code: { type: 'string', enum: codes } } }
  return dialect === 'flat' ? { allOf: [{ $ref: 'FlatError#' }, code] } : { allOf: [{ $ref: 'NestedError#' }, { properties: { error: code } }] }
}

function failure(route: DocumentedRoute, status: number, names: readonly ErrorName[]): object {
  const dialect = route.config?.dialect ?? 'nested'
  const codes = [...new Set(names.map(name => codeOf(name, dialect)))]
  const examples = names.map(name => [name, { summary: catalogue[name].message, value: bodyOf(new PenstockError(name), dialect, '0f8fad5b-d9cb-469f-a165-70867728950e') }])
  return {
    description: names.map(name => `- \`${codeOf(name, dialect)}\`: ${catalogue[name].message}`).join('\n'),
    headers: failureHeaders(route, status, names),
    content: { 'application/json': { schema: bodySchema(dialect, codes), examples: Object.fromEntries(examples) } }
  }
}

/** The responses that are failures, by status. */
export function failuresOf(route: DocumentedRoute): Record<string, object> {
  const byStatus = Map.groupBy(errorsOf(route), name => statusOf(name, route.config?.dialect ?? 'nested'))
  return Object.fromEntries([...byStatus].map(([status, names]) => [status, failure(route, status, names)]))
}
