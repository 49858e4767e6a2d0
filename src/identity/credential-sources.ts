/**
 * Where credentials are looked up. credentials.ts decides which one a request is judged by, and asks these. A source that
 * is not configured is left out: a credential that only it could know is then not valid.
 *
 * Null: there is no such credential. What cannot be asked rejects with an error of the catalogue (RECORDS_UNAVAILABLE,
 * AUTH_SERVICE_UNAVAILABLE), so that a caller with a good credential is not told that it is bad. A source never logs the
 * value, and never puts it into an error.
 */
import type { Principal } from './principal.ts'

/** Tokens that an administrator minted: `pst_…` (api), and those of public forms. */
export type FindToken = (value: string, kind: 'api' | 'public') => Promise<Principal | null>

/** Tokens of sessions that another service keeps in Redis. */
export type FindSession = (value: string, kind: 'session' | 'public') => Promise<Principal | null>

/** Tokens that carry their own proof. Rejects with UNAUTHORIZED or TOKEN_EXPIRED, and for JWTs with TENANT_MISMATCH. */
export type VerifyToken = (value: string) => Promise<Principal>

export interface CredentialSources {
  readonly tokens?: FindToken | undefined
  readonly sessions?: FindSession | undefined
  /** JWTs of OIDC_ISSUER */
  readonly oidc?: VerifyToken | undefined
  /** JWTs under GUEST_TOKEN_SECRET */
  readonly guests?: VerifyToken | undefined
}
