/**
 * What is common to all JWTs that are taken: their check by jose, its errors in our words, and claims as names of callers.
 * Texts say what is wrong with a token only after its signature held; they never repeat anything of it.
 */
import { errors, jwtVerify, type CryptoKey, type JWTPayload, type JWTVerifyGetKey, type JWTVerifyOptions } from 'jose'
import { isPenstockError, PenstockError } from '../errors.ts'
import { IDENTITY_MAX_CHARACTERS } from '../limits.ts'

type Key = Uint8Array | CryptoKey

const texts: Record<string, string> = {
  iss: 'the token is of another issuer',
  aud: 'the token is for another audience',
  nbf: 'the token is not valid yet'
}

function refusal(error: unknown): PenstockError {
  if (isPenstockError(error)) return error
  if (error instanceof errors.JWTExpired) return new PenstockError('TOKEN_EXPIRED', { cause: error })
  const unfit = error instanceof errors.JWTClaimValidationFailed ? texts[error.claim] ?? `the token has no usable ${error.claim}` : undefined
  return new PenstockError('UNAUTHORIZED', { ...(unfit && { message: unfit }), cause: error })
}

/** Tokens without `kid` may fit several keys of an issuer: the one that they were signed with decides. */
async function verifyWithAny(keys: AsyncIterable<CryptoKey>, token: string, options: JWTVerifyOptions): Promise<JWTPayload> {
  for await (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload
    } catch (error) {
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw error
    }
  }
  throw new errors.JWSSignatureVerificationFailed()
}

/**
 * The claims of a token whose signature, times and required claims hold.
 * @throws PenstockError UNAUTHORIZED or TOKEN_EXPIRED, or what looking for the key rejected with
 */
export async function verifyClaims(token: string, key: Key | JWTVerifyGetKey, options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    const { payload } = typeof key === 'function' ? await jwtVerify(token, key, options) : await jwtVerify(token, key, options)
    return payload
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw refusal(error)
    return await verifyWithAny(error, token, options).catch(last => { throw refusal(last) })
  }
}

/** A claim that names someone; null where it is missing. @throws PenstockError UNAUTHORIZED where it is no name */
export function optionalIdentityClaim(claims: JWTPayload, name: string): string | null {
  const claim = claims[name]
  if (claim === undefined || claim === null) return null
  const text = Number.isSafeInteger(claim) ? String(claim) : claim
  if (typeof text !== 'string' || text === '' || text.length > IDENTITY_MAX_CHARACTERS || /\p{C}/u.test(text)) {
    throw new PenstockError('UNAUTHORIZED', { message: `the token has no usable ${name}` })
  }
  return text
}

/** The same for one that has to be there. */
export function identityClaim(claims: JWTPayload, name: string): string {
  const text = optionalIdentityClaim(claims, name)
  if (text === null) throw new PenstockError('UNAUTHORIZED', { message: `the token has no usable ${name}` })
  return text
}

function scopesIn(claim: unknown): string[] {
  const list = typeof claim === 'string' ? claim.split(' ') : Array.isArray(claim) ? claim : []
  return list.filter((each): each is string => typeof each === 'string' && each !== '')
}

/** RFC 8693, section 4.2: one string; others write a list, or `scp`. */
export function scopesOf(claims: JWTPayload): string[] {
  return [...new Set([...scopesIn(claims.scope), ...scopesIn(claims.scp)])]
}
