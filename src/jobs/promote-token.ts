/**
 * The service's own token for the file gateway, by the client credentials grant (RFC 6749, section 4.4).
 *
 *   a token with more than SERVICE_TOKEN_EARLY_MS to live   is used as it is
 *   none, or less                                           is fetched; all who want one meanwhile wait for the same fetch
 *   one that the gateway refused                            is forgotten, unless another took its place already
 *
 * A token that is over at once serves those who waited for it, and is not kept. An answer counts whole or not at all: another
 * status, a redirect, too many bytes, no JSON or no bearer token are failures. Whoever goes takes the fetch from nobody else; the
 * last one ends it, so that those who come later do not wait for an endpoint that hangs.
 */
import { isPenstockError, PenstockError } from '../errors.ts'
import { AUTH_RETRY_AFTER_SECONDS, SERVICE_TOKEN_ANSWER_MAX_BYTES, SERVICE_TOKEN_EARLY_MS, SERVICE_TOKEN_TIMEOUT_MS } from '../limits.ts'

const SCOPE = 'files:upload.write'

export interface ServiceTokens {
  /** @throws AUTH_SERVICE_UNAVAILABLE, also where the signal aborts */
  get(signal: AbortSignal): Promise<string>
  /** It was refused. */
  drop(token: string): void
}

export interface ServiceTokenOptions {
  url: string
  clientId: string
  clientSecret: string
  audience: string
  timeoutMs?: number
}

interface Fetched { token: string, lifetimeMs: number }

export function serviceTokens(options: ServiceTokenOptions): ServiceTokens {
  let current: { token: string, goodUntil: number } | undefined
  let fetching: { token: Promise<string>, waiting: number, abandoned: AbortController } | undefined

  async function fetchAnew(signal: AbortSignal): Promise<string> {
    const askedAt = performance.now()
    const { token, lifetimeMs } = await fetchToken(options, signal)
    const goodUntil = askedAt + lifetimeMs - SERVICE_TOKEN_EARLY_MS
    current = goodUntil > performance.now() ? { token, goodUntil } : undefined
    return token
  }

  async function share(signal: AbortSignal): Promise<string> {
    const abandoned = new AbortController()
    const shared = fetching ??= { token: fetchAnew(abandoned.signal), waiting: 0, abandoned }
    shared.waiting += 1
    try {
      return await untilAborted(shared.token, signal)
    } finally {
      shared.waiting -= 1
      if (shared.waiting === 0) {
        shared.abandoned.abort()
        if (fetching === shared) fetching = undefined
      }
    }
  }

  return {
    async get(signal) {
      try {
        signal.throwIfAborted()
        if (current !== undefined && performance.now() < current.goodUntil) return current.token
        return await share(signal)
      } catch (cause) {
        throw isPenstockError(cause) ? cause : new PenstockError('AUTH_SERVICE_UNAVAILABLE', { retryAfterSeconds: AUTH_RETRY_AFTER_SECONDS, cause })
      }
    },
    drop(token) {
      if (current?.token === token) current = undefined
    }
  }
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

async function fetchToken({ url, clientId, clientSecret, audience, timeoutMs = SERVICE_TOKEN_TIMEOUT_MS }: ServiceTokenOptions, signal: AbortSignal): Promise<Fetched> {
  const response = await fetch(url, {
    method: 'POST',
    redirect: 'error',
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    headers: { authorization: basic(clientId, clientSecret), accept: 'application/json' },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: SCOPE, audience })
  })
  const text = await readBounded(response)
  if (response.status !== 200) throw new Error(`the token endpoint answered ${response.status}${errorCodeOf(text)}`)
  return tokenOf(parsed(text))
}

/** RFC 6749, section 2.3.1: each is form-encoded first. */
function basic(clientId: string, clientSecret: string): string {
  const [id, secret] = [clientId, clientSecret].map(text => new URLSearchParams({ '': text }).toString().slice(1))
  return `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > SERVICE_TOKEN_ANSWER_MAX_BYTES) throw new Error(`the answer of the token endpoint is over ${SERVICE_TOKEN_ANSWER_MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** RFC 6749, section 5.2: one of a few words. Nothing else of such an answer goes into the log. */
function errorCodeOf(text: string): string {
  return /"error"\s*:\s*"([a-z_]{1,64})"/.exec(text.slice(0, 4096))?.[0].replace(/^.*"([a-z_]+)"$/, ' ($1)') ?? ''
}

/** The reason of a failure would show a piece of the text, which may be one of a token. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error('the answer of the token endpoint is no JSON')
  }
}

/** RFC 6749, section 5.1. Without a lifetime that can be read it is good for this once. */
function tokenOf(answer: unknown): Fetched {
  const { access_token: token, token_type: type, expires_in: seconds } = (answer ?? {}) as Record<string, unknown>
  // never the answer itself: it may hold a token
  if (typeof token !== 'string' || !/^[\x21-\x7e]{1,12288}$/.test(token)) throw new Error('the answer of the token endpoint has no usable access_token')
  if (typeof type !== 'string' || type.toLowerCase() !== 'bearer') throw new Error('the answer of the token endpoint has another token_type than Bearer')
  const lifetime = typeof seconds === 'string' && /^\d{1,12}$/.test(seconds) ? Number(seconds) : seconds
  return { token, lifetimeMs: typeof lifetime === 'number' && lifetime > 0 ? lifetime * 1000 : 0 }
}
