/**
 * Tokens that an administrator mints: `pst_…` for programs that speak for a user (api), and opaque ones that stand for an
 * account in a public form (public). Each is 256 random bits, in base64url.
 *
 * Only the SHA-256 of a value is kept, and a token is found by it. A hash that is slow on purpose would protect values that
 * can be guessed, which 256 bits cannot; and since an index is asked for the hash, no comparison tells by its time how much
 * of a guess was right. Nothing is cached: what was removed is refused at once, by every node.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { PenstockError } from '../errors.ts'
import type { TokenKind, TokenRecord, TokenRecords } from '../records/access-port.ts'
import type { FindToken } from './credential-sources.ts'
import type { Principal } from './principal.ts'

/** By which an api token is told from a JWT or a session's; secret scanners know a leaked one by it. */
export const API_TOKEN_PREFIX = 'pst_'

const RANDOM_BYTES = 32
/** What was never minted is not looked for. */
const FORMS: Record<TokenKind, RegExp> = { api: /^pst_[A-Za-z0-9_-]{43}$/, public: /^[A-Za-z0-9_-]{43}$/ }

export interface NewToken {
  kind: TokenKind
  account: string
  /** null of public ones */
  subject: string | null
  scopes: string[]
  /** null: until it is removed */
  expiresInSeconds: number | null
}

/** Draws a token. Its value is known to nobody but whoever gets what this returns. */
export async function mintToken(tokens: TokenRecords, { expiresInSeconds, ...token }: NewToken, now = Date.now()): Promise<{ value: string, record: TokenRecord }> {
  const random = randomBytes(RANDOM_BYTES).toString('base64url')
  const value = token.kind === 'api' ? `${API_TOKEN_PREFIX}${random}` : random
  const expiresAt = expiresInSeconds === null ? null : now + expiresInSeconds * 1000
  return { value, record: await tokens.create({ ...token, id: randomUUID(), expiresAt, tokenHash: hashOf(value) }) }
}

/** Whom a token stands for. @throws (rejects) PenstockError TOKEN_EXPIRED, and what the records throw */
export function mintedToken(tokens: Pick<TokenRecords, 'find'>, now: () => number = Date.now): FindToken {
  return async (value, kind) => {
    if (!FORMS[kind].test(value)) return null
    const token = await tokens.find(hashOf(value))
    if (token === undefined || token.kind !== kind) return null
    if (token.expiresAt !== null && token.expiresAt <= now()) throw new PenstockError('TOKEN_EXPIRED')
    return principalOf(token)
  }
}

function principalOf({ kind, subject, account, scopes }: TokenRecord): Principal {
  return { kind: kind === 'api' ? 'user' : 'public', subject, account, clientId: null, scopes }
}

function hashOf(value: string): string {
  return createHash('sha256').update(value).digest('hex')
}
