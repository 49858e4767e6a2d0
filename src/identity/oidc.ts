/**
 * JWTs of OIDC_ISSUER. Only asymmetric algorithms: with a symmetric one, the public key would be the secret.
 *
 * A token without `sub`, or whose `sub` is its client, is that of a service; any other is a user's, through whatever client
 * it came. The scope of administrators makes its bearer one, who stays the user that he is.
 */
import type { JWTPayload } from 'jose'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { VerifyToken } from './credential-sources.ts'
import { optionalIdentityClaim, scopesOf, verifyClaims } from './jwt-claims.ts'
import type { Principal } from './principal.ts'
import { remoteKeys } from './remote-keys.ts'
import { remembered, type Verified } from './verified-tokens.ts'

/** RFC 7518, section 3.1, and RFC 8037: those with a public key. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']

type Settings = Pick<Config, 'OIDC_ISSUER' | 'OIDC_AUDIENCE' | 'OIDC_JWKS_URL' | 'OIDC_TENANT_ID' | 'OIDC_CLAIM_TENANT' | 'OIDC_CLAIM_ACCOUNT'
  | 'JWT_CLOCK_TOLERANCE_SEC' | 'JWKS_CACHE_MAX_AGE_MS' | 'JWKS_COOLDOWN_MS' | 'SCOPE_ADMIN'>

/** @throws PenstockError UNAUTHORIZED or TENANT_MISMATCH */
export function principalOf(claims: JWTPayload, config: Settings): Principal {
  const clients = ['client_id', 'azp'].map(name => optionalIdentityClaim(claims, name)).filter(name => name !== null)
  const clientId = clients[0] ?? null
  const subject = optionalIdentityClaim(claims, 'sub')
  if (clientId === null && subject === null) throw new PenstockError('UNAUTHORIZED', { message: 'the token names neither a subject nor a client' })
  const tenant = optionalIdentityClaim(claims, config.OIDC_CLAIM_TENANT)
  if (config.OIDC_TENANT_ID !== undefined && tenant !== config.OIDC_TENANT_ID) throw new PenstockError('TENANT_MISMATCH')
  const service = subject === null || clients.includes(subject)
  const scopes = scopesOf(claims)
  return {
    kind: scopes.includes(config.SCOPE_ADMIN) ? 'admin' : service ? 'client' : 'user',
    subject: service ? null : subject,
    // callers of two tenants are never of one account because both have none
    account: optionalIdentityClaim(claims, config.OIDC_CLAIM_ACCOUNT) ?? tenant,
    clientId, scopes
  }
}

/** @param onFailed is told each time that the keys could not be fetched */
export function oidcVerifier(config: Settings & { OIDC_ISSUER: string }, onFailed: (error: unknown) => void): VerifyToken {
  const { OIDC_ISSUER: issuer, JWT_CLOCK_TOLERANCE_SEC: clockTolerance } = config
  const keys = remoteKeys({ issuer, jwksUrl: config.OIDC_JWKS_URL, maxAgeMs: config.JWKS_CACHE_MAX_AGE_MS, cooldownMs: config.JWKS_COOLDOWN_MS, onFailed })
  const options = { issuer, audience: config.OIDC_AUDIENCE!, algorithms: ALGORITHMS, clockTolerance, requiredClaims: ['exp'] }
  return remembered(async (token): Promise<Verified> => {
    const claims = await verifyClaims(token, keys, options)
    return { principal: principalOf(claims, config), expiresAt: (claims.exp! + clockTolerance) * 1000 }
  })
}
