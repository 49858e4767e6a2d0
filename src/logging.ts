/**
 * Log lines: `{ service, timestamp, level, action, … }`, one JSON object a line. Nothing of a request's headers is ever
 * logged, and the redaction below is only the second line of defence. Errors are written by hand, field by field, since
 * those of libraries carry whole requests and responses with them.
 */
import { pino, stdTimeFunctions, type DestinationStream, type Logger } from 'pino'
import { PinoPretty } from 'pino-pretty'
import { LOGGED_CAUSES_MAX } from './limits.ts'

export type { Logger } from 'pino'

export interface LoggerOptions {
  /** Least level that is written. */
  level: string
  /** Lines for people instead of JSON: where stdout is a terminal. */
  pretty?: boolean
  /** Where lines go; stdout without one. */
  destination?: DestinationStream
}

const SECRETS = new Set([
  'authorization', 'cookie', 'token', 'password', 'secret',
  'set-cookie', 'proxy-authorization', 'x-guest-authorization', 'x-public-authorization',
  'busboyoptions' // of the multipart plugin, at level trace: all headers
])
/** How deep fields are looked into; lines are flat but for a few. */
const SECRETS_DEPTH = 3

/**
 * The same fields, those with a secret's name replaced. Pino's own redaction, given these names at these depths, took 6 % of
 * the time of a small upload; what holds no secret is not copied here.
 */
function withoutSecrets(fields: Record<string, unknown>, depth = 1): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined
  for (const name in fields) {
    const value = fields[name]
    const shown = SECRETS.has(name.toLowerCase()) ? '[redacted]' : depth < SECRETS_DEPTH && isPlain(value) ? withoutSecrets(value, depth + 1) : value
    if (shown !== value) (copy ??= { ...fields })[name] = shown
  }
  return copy ?? fields
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof Error) && !Array.isArray(value)
}

/** The query of a URL may be a signature or a token, its user part a password: they are cut out of every line. */
function withoutSecretsOfUrls(line: string): string {
  return line.replaceAll(/(\bhttps?:\/\/[^\s?#'"<>\\]*)\?[^\s'"<>\\]*/g, '$1?…')
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@'"\\]*@/gi, '$1…@')
}

interface LoggedError {
  type: string
  message: string
  code?: string
  status?: number
  stack?: string
  cause?: LoggedError | string
}

function fieldsOf(error: Error): { code?: string, status?: number } {
  const { code, $metadata } = error as { code?: unknown, $metadata?: { httpStatusCode?: unknown } }
  const status = $metadata?.httpStatusCode
  return {
    ...(typeof code === 'string' && { code }),
    ...(typeof status === 'number' && { status })
  }
}

/** What of an error is logged: type, text, code, stack and its causes. Never the headers or requests that it carries. */
export function describeError(error: unknown, depth = 1): LoggedError | string {
  if (!(error instanceof Error)) return String(error)
  const described: LoggedError = { type: error.name, message: error.message, ...fieldsOf(error) }
  if (error.stack !== undefined) described.stack = error.stack
  // of several failures at once the first stands for all
  const cause = error.cause ?? (error instanceof AggregateError ? error.errors[0] : undefined)
  if (cause !== undefined && depth < LOGGED_CAUSES_MAX) described.cause = describeError(cause, depth + 1)
  return described
}

/** The logger of the process; everything else derives children of it. */
export function createLogger(options: LoggerOptions): Logger {
  const pretty = { timestampKey: 'timestamp', messageKey: 'message', ignore: 'service', translateTime: 'HH:MM:ss.l' }
  const destination = options.destination ?? (options.pretty === true ? PinoPretty(pretty) : undefined)
  return pino({
    level: options.level,
    base: { service: 'penstock' },
    messageKey: 'message',
    timestamp: () => stdTimeFunctions.isoTime().replace('"time"', '"timestamp"'),
    formatters: { level: label => ({ level: label }), log: fields => withoutSecrets(fields) },
    serializers: { err: error => describeError(error) },
    hooks: { streamWrite: withoutSecretsOfUrls }
  }, destination ?? pino.destination(1))
}
