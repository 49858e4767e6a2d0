/** The table of minted tokens as Kysely sees it. tokens-tables.ts makes it. */
import type { Selectable } from 'kysely'
import type { TokenKind, TokenRecord } from './access-port.ts'

export interface TokensTable {
  id: string
  /** SHA-256 of the value, hex: the value itself is nowhere */
  token_hash: string
  kind: TokenKind
  account: string
  /** null of public ones, and of no others */
  subject: string | null
  /** JSON list */
  scopes: string
  created_at: number
  /** null: until it is removed */
  expires_at: number | null
}

export function tokenOf(row: Selectable<TokensTable>): TokenRecord {
  return {
    id: row.id,
    kind: row.kind,
    account: row.account,
    subject: row.subject,
    scopes: JSON.parse(row.scopes) as string[],
    createdAt: row.created_at,
    expiresAt: row.expires_at
  }
}
