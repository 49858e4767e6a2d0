/**
 * Tokens of guests: JWTs that live shortly, signed with a secret that whoever may let guests in shares with this service
 * (HS256, GUEST_TOKEN_SECRET). They carry `sub` and `account` and are in no table: one that was given out holds until it
 * is over. The secret signs nothing else, so no audience is asked for.
 */
import { SignJWT } from 'jose'
import { identityClaim, verifyClaims } from './jwt-claims.ts'
import { remembered, type Verified } from './verified-tokens.ts'
import type { VerifyToken } from './credential-sources.ts'

export interface NewGuestToken { id: string, account: string, subject: string, expiresInSeconds: number }

const keyOf = (secret: string): Uint8Array => new TextEncoder().encode(secret)

/** `expiresAt` in epoch milliseconds. @param token `expiresInSeconds` is at most GUEST_TOKEN_MAX_SECONDS; the caller has checked it */
export async function mintGuestToken(secret: string, { id, account, subject, expiresInSeconds }: NewGuestToken): Promise<{ token: string, expiresAt: number }> {
  const nowSeconds = Math.floor(Date.now() / 1000)
  const expiresAtSeconds = nowSeconds + expiresInSeconds
  const token = await new SignJWT({ account })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setJti(id).setSubject(subject).setIssuedAt(nowSeconds).setExpirationTime(expiresAtSeconds)
    .sign(keyOf(secret))
  return { token, expiresAt: expiresAtSeconds * 1000 }
}

/** @throws (rejects) PenstockError UNAUTHORIZED or TOKEN_EXPIRED */
export function guestVerifier(secret: string, clockToleranceSeconds: number): VerifyToken {
  const key = keyOf(secret)
  const options = { algorithms: ['HS256'], requiredClaims: ['exp', 'sub', 'account'], clockTolerance: clockToleranceSeconds }
  return remembered(async (token): Promise<Verified> => {
    const claims = await verifyClaims(token, key, options)
    const subject = identityClaim(claims, 'sub')
    return {
      principal: { kind: 'guest', subject, account: identityClaim(claims, 'account'), clientId: null, scopes: [] },
      expiresAt: (claims.exp! + clockToleranceSeconds) * 1000
    }
  })
}
