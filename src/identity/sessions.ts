/**
 * Session tokens that another service keeps in Redis, and its tokens for public forms. What their keys are made of, and what
 * they hold, is that service's:
 *
 *   session   <prefix><hex of PBKDF2-HMAC-SHA256(token, REDIS_SESSION_SECRET, REDIS_SESSION_ITERATIONS, 32 bytes)>
 *   public    <prefix><the token as it is, 8 or 32 characters>
 *   value     { user_id?, account_id } as JSON or as a Python pickle of plain data (pickle.ts)
 *
 * A session without user id stands for its account alone and may do what a public form may. Scopes are none of that
 * service's words: REDIS_SESSION_SCOPES says which its users have.
 *
 * What was found is remembered for a minute, so that a session that was ended lives on for as long. What was not found is
 * not: wrong tokens would push out right ones. Where Redis does not answer, nobody is told that a token is wrong.
 */
import { pbkdf2 } from 'node:crypto'
import { promisify } from 'node:util'
import pLimit from 'p-limit'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import {
  AUTH_RETRY_AFTER_SECONDS, IDENTITY_MAX_CHARACTERS, SESSION_DERIVATIONS_MAX, SESSION_DERIVATIONS_WAITING_MAX, SESSION_TOKEN_MAX_CHARACTERS,
  SESSION_VALUE_MAX_BYTES, SESSIONS_REMEMBERED_MAX, SESSIONS_REMEMBERED_MS
} from '../limits.ts'
import type { RedisClient } from '../redis.ts'
import type { FindSession } from './credential-sources.ts'
import { readPickle } from './pickle.ts'
import type { Principal } from './principal.ts'
import { remembered } from './verified-tokens.ts'

type Kind = Parameters<FindSession>[1]

export interface SessionsOptions {
  redis: Pick<RedisClient, 'read'>
  config: Pick<Config, 'REDIS_SESSION_PREFIX' | 'REDIS_SESSION_ITERATIONS' | 'REDIS_SESSION_SCOPES'> & { REDIS_SESSION_SECRET: string }
  log: Logger
}

/** What can be a token at all; nothing else is looked for. */
const FORMS: Record<Kind, RegExp> = {
  session: new RegExp(`^[\\x21-\\x7e]{1,${SESSION_TOKEN_MAX_CHARACTERS}}$`),
  public: /^([A-Za-z0-9_-]{8}|[A-Za-z0-9_-]{32})$/
}
const KEY_BYTES = 32

const derive = promisify(pbkdf2)

/** There is no such session: no error, but what is not to be remembered. */
class Unknown extends Error {}

/** Rejects with AUTH_SERVICE_UNAVAILABLE where Redis cannot be asked, or too many wait already. */
export function sessions({ redis, config, log }: SessionsOptions): FindSession {
  const keyOf = keyDeriver(config)
  const look = async (kind: Kind, token: string): Promise<Principal> => {
    const key = await keyOf(kind, token)
    // one byte more tells that it is too long
    const value = await redis.read(key, SESSION_VALUE_MAX_BYTES + 1).catch(unavailable)
    if (value === null) throw new Unknown()
    try {
      return principalOf(kind, value, config.REDIS_SESSION_SCOPES ?? [])
    } catch (error) {
      log.warn({ action: 'identity.session.unreadable', kind, err: error }, 'a session in Redis is not in a form that is read')
      throw new Unknown()
    }
  }
  const find = remembered(async text => {
    const [, kind, token] = /^(session|public) (.*)$/.exec(text) as unknown as [string, Kind, string]
    return { principal: await look(kind, token), expiresAt: Number.POSITIVE_INFINITY }
  }, SESSIONS_REMEMBERED_MAX, SESSIONS_REMEMBERED_MS)

  return async (value, kind) => {
    if (!FORMS[kind].test(value)) return null
    return await find(`${kind} ${value}`).catch((error: unknown) => {
      if (error instanceof Unknown) return null
      throw error
    })
  }
}

function unavailable(error: unknown): never {
  throw new PenstockError('AUTH_SERVICE_UNAVAILABLE', { retryAfterSeconds: AUTH_RETRY_AFTER_SECONDS, cause: error })
}

/** Many iterations take long, and threads that files need too: few at once, and a bounded line. */
function keyDeriver(config: SessionsOptions['config']): (kind: Kind, token: string) => Promise<string> {
  const { REDIS_SESSION_PREFIX: prefix, REDIS_SESSION_SECRET: salt, REDIS_SESSION_ITERATIONS: iterations } = config
  const limit = pLimit(SESSION_DERIVATIONS_MAX)
  return async (kind, token) => {
    if (kind === 'public') return prefix + token
    if (limit.pendingCount >= SESSION_DERIVATIONS_WAITING_MAX) throw new PenstockError('AUTH_SERVICE_UNAVAILABLE', { retryAfterSeconds: AUTH_RETRY_AFTER_SECONDS })
    const key = await limit(() => derive(token, salt, iterations, KEY_BYTES, 'sha256'))
    return prefix + key.toString('hex')
  }
}

/** @throws Error where the value is none of a session */
function principalOf(kind: Kind, value: Buffer, scopes: readonly string[]): Principal {
  const fields = fieldsOf(value)
  const account = nameOf(fields.account, 'account_id')
  const user = nameOf(fields.user, 'user_id')
  if (account === null) throw new Error('account_id is missing')
  const base = { account, clientId: null }
  return kind === 'public' || user === null ? { ...base, kind: 'public', subject: null, scopes: [] } : { ...base, kind: 'user', subject: user, scopes }
}

function fieldsOf(value: Buffer): { user: unknown, account: unknown } {
  if (value.byteLength > SESSION_VALUE_MAX_BYTES) throw new Error(`the value has more than ${SESSION_VALUE_MAX_BYTES} bytes`)
  if (!looksLikeJson(value)) {
    const pickled = readPickle(value)
    if (!(pickled instanceof Map)) throw new Error('the pickle holds no dict')
    return { user: pickled.get('user_id'), account: pickled.get('account_id') }
  }
  const parsed = parseJson(value)
  return { user: ownField(parsed, 'user_id'), account: ownField(parsed, 'account_id') }
}

/** No opcode of a pickle is a brace that opens, or white space. */
function looksLikeJson(value: Buffer): boolean {
  return '{ \n\r\t'.includes(String.fromCharCode(value[0] ?? 0))
}

function parseJson(value: Buffer): object {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(value))
  } catch {
    throw new Error('the value is no JSON') // the parser's own text repeats what it read
  }
  if (typeof parsed !== 'object' || parsed === null) throw new Error('the JSON holds no object')
  return parsed
}

function ownField(parsed: object, name: string): unknown {
  return Object.hasOwn(parsed, name) ? (parsed as Record<string, unknown>)[name] : undefined
}

/** Ids are texts or whole numbers; null: there is none. */
function nameOf(value: unknown, name: string): string | null {
  if (value === undefined || value === null) return null
  const text = typeof value === 'bigint' || Number.isSafeInteger(value) ? String(value) : value
  if (typeof text !== 'string' || text === '' || text.length > IDENTITY_MAX_CHARACTERS || /\p{C}/u.test(text)) throw new Error(`${name} is no id`)
  return text
}
