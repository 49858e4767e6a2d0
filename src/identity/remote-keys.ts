/**
 * The keys of an issuer (JWKS), fetched when a token needs them.
 *
 *   keys younger than maxAge                used as they are
 *   older, or a kid that is not among them  fetched anew, but never more than once in a cooldown, whoever asks how often
 *   fetching fails                          the keys in hand go on, up to JWKS_STALE_MAX_MS; a kid that is not among them is
 *                                           a bad token
 *   no keys in hand                         AUTH_SERVICE_UNAVAILABLE; tried again every JWKS_RETRY_INTERVAL_MS
 *
 * All who wait wait for the same fetch. An answer counts whole or not at all: another status, a redirect, too many bytes, no
 * JSON or no usable key are failures. Without an address of the keys the discovery document is asked for it each time (OpenID
 * Connect Discovery, section 4).
 */
import { createLocalJWKSet, errors, type JWK, type JWTVerifyGetKey } from 'jose'
import { PenstockError } from '../errors.ts'
import { AUTH_RETRY_AFTER_SECONDS, JWKS_KEYS_MAX, JWKS_MAX_BYTES, JWKS_RETRY_INTERVAL_MS, JWKS_STALE_MAX_MS, JWKS_TIMEOUT_MS } from '../limits.ts'

export interface RemoteKeysOptions {
  issuer: string
  /** undefined: the discovery document says it */
  jwksUrl: string | undefined
  maxAgeMs: number
  cooldownMs: number
  onFailed(error: unknown): void
}

async function readBounded(response: Response): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > JWKS_MAX_BYTES) throw new Error(`the issuer's answer is over ${JWKS_MAX_BYTES} bytes`)
    text += decoder.decode(chunk, { stream: true })
  }
  return text
}

async function fetchJson(url: string, signal: AbortSignal): Promise<Record<string, unknown>> {
  const response = await fetch(url, { redirect: 'error', headers: { accept: 'application/json' }, signal })
  if (response.status !== 200) {
    await response.body?.cancel()
    throw new Error(`the issuer answered ${response.status}`)
  }
  const value: unknown = JSON.parse(await readBounded(response))
  if (typeof value !== 'object' || value === null) throw new Error('the issuer\'s answer is no JSON object')
  return value as Record<string, unknown>
}

async function discover(issuer: string, signal: AbortSignal): Promise<string> {
  const document = await fetchJson(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, signal)
  if (document.issuer !== issuer) throw new Error('the discovery document is of another issuer')
  const url = document.jwks_uri
  const secure = issuer.startsWith('https:')
  if (typeof url !== 'string' || !(secure ? /^https:\/\// : /^https?:\/\//).test(url)) throw new Error('the discovery document names no usable jwks_uri')
  return url
}

/** Public keys that sign; others of a set are not for us, and a secret one would let whoever reads the set sign. */
function isUsable(key: unknown): key is JWK {
  const { kty, use, d } = (key ?? {}) as Record<string, unknown>
  return ['RSA', 'EC', 'OKP'].includes(kty as string) && (use === undefined || use === 'sig') && d === undefined
}

async function fetchKeys({ issuer, jwksUrl }: Pick<RemoteKeysOptions, 'issuer' | 'jwksUrl'>): Promise<JWTVerifyGetKey> {
  const signal = AbortSignal.timeout(JWKS_TIMEOUT_MS)
  const { keys } = await fetchJson(jwksUrl ?? await discover(issuer, signal), signal)
  if (!Array.isArray(keys)) throw new Error('the issuer\'s answer is no JWKS')
  const usable = keys.filter(isUsable).slice(0, JWKS_KEYS_MAX)
  if (usable.length === 0) throw new Error('the issuer has no usable key')
  return createLocalJWKSet({ keys: usable })
}

/** Can keys be had? Asks the issuer each time. @throws where not */
export async function checkKeys(options: Pick<RemoteKeysOptions, 'issuer' | 'jwksUrl'>): Promise<void> {
  await fetchKeys(options)
}

/** Finds the key of a token. Rejects with AUTH_SERVICE_UNAVAILABLE, or an error of jose where there is no such key. */
export function remoteKeys(options: RemoteKeysOptions): JWTVerifyGetKey {
  const { maxAgeMs, cooldownMs, onFailed } = options
  let current: { find: JWTVerifyGetKey, fetchedAt: number } | undefined
  let triedAt = -Infinity
  let failing = false
  let fetching: Promise<void> | undefined

  const age = (): number => current === undefined ? Infinity : performance.now() - current.fetchedAt

  function mayFetch(): boolean {
    const pause = age() > JWKS_STALE_MAX_MS ? Math.min(JWKS_RETRY_INTERVAL_MS, cooldownMs) : cooldownMs
    return fetching !== undefined || performance.now() - triedAt >= pause
  }

  async function fetchAnew(): Promise<void> {
    triedAt = performance.now()
    try {
      current = { find: await fetchKeys(options), fetchedAt: performance.now() }
      failing = false
    } catch (error) {
      failing = true
      onFailed(error)
    } finally {
      fetching = undefined
    }
  }

  const refresh = (): Promise<void> => fetching ??= fetchAnew()

  /** While an issuer is down, nobody with a key in hand waits for it. */
  async function renew(): Promise<void> {
    const renewed = refresh()
    if (!failing || age() > JWKS_STALE_MAX_MS) await renewed
  }

  function inHand(): JWTVerifyGetKey {
    if (current === undefined || age() > JWKS_STALE_MAX_MS) throw new PenstockError('AUTH_SERVICE_UNAVAILABLE', { retryAfterSeconds: AUTH_RETRY_AFTER_SECONDS })
    return current.find
  }

  return async (header, token) => {
    if (age() >= maxAgeMs && mayFetch()) await renew()
    const find = inHand()
    try {
      return await find(header, token)
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !mayFetch()) throw error
      await refresh()
      return await inHand()(header, token)
    }
  }
}
