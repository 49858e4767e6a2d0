/**
 * Remembers that a token was found good, so that its signature is not checked with each request. An entry dies with its
 * token, and after VERIFIED_TOKEN_MAX_AGE_MS in any case, so that a key that was withdrawn is soon noticed. Bad tokens are
 * not remembered: they would push out good ones. Keys are hashes: no token is kept in memory.
 */
import { hash } from 'node:crypto'
import { VERIFIED_TOKEN_MAX_AGE_MS, VERIFIED_TOKENS_MAX } from '../limits.ts'
import type { VerifyToken } from './credential-sources.ts'
import type { Principal } from './principal.ts'

export interface Verified {
  principal: Principal
  /** Epoch milliseconds from which the token is not good any more. */
  expiresAt: number
}

export function remembered(verify: (token: string) => Promise<Verified>, maxEntries = VERIFIED_TOKENS_MAX, maxAgeMs = VERIFIED_TOKEN_MAX_AGE_MS): VerifyToken {
  const known = new Map<string, { principal: Principal, until: number }>()

  function keep(key: string, { principal, expiresAt }: Verified): void {
    known.delete(key)
    if (known.size >= maxEntries) known.delete(known.keys().next().value!)
    known.set(key, { principal, until: Math.min(expiresAt, Date.now() + maxAgeMs) })
  }

  return async token => {
    const key = hash('sha256', token, 'base64')
    const found = known.get(key)
    if (found !== undefined && Date.now() < found.until) return found.principal
    known.delete(key)
    const verified = await verify(token)
    keep(key, verified)
    return verified.principal
  }
}
