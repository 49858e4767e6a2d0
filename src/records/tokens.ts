/** Tokens that administrators minted. A row never changes: it is made, found, and removed. */
import type { TokenRecord, TokenRecords } from './access-port.ts'
import type { PageQuery } from './port.ts'
import { jsonText } from './schema.ts'
import type { Records } from './schema.ts'
import { tokenOf } from './tokens-schema.ts'

export function tokenRecords(records: Records): TokenRecords {
  const { db } = records
  return {
    create: token => createToken(records, token),
    async find(tokenHash) {
      const row = await db.selectFrom('tokens').selectAll().where('token_hash', '=', tokenHash).executeTakeFirst()
      return row && tokenOf(row)
    },
    list: page => listTokens(records, page),
    async remove(id) {
      const { numDeletedRows } = await db.deleteFrom('tokens').where('id', '=', id).executeTakeFirstOrThrow()
      return numDeletedRows > 0n
    },
    prune: (before, limit) => pruneTokens(records, before, limit)
  }
}

async function createToken({ db, now }: Records, token: Parameters<TokenRecords['create']>[0]): Promise<TokenRecord> {
  const row = await db.insertInto('tokens').values({
    id: token.id,
    token_hash: token.tokenHash,
    kind: token.kind,
    account: token.account,
    subject: token.subject,
    scopes: jsonText(token.scopes),
    created_at: now(),
    expires_at: token.expiresAt
  }).returningAll().executeTakeFirstOrThrow()
  return tokenOf(row)
}

async function listTokens({ db }: Records, { limit, after }: PageQuery): Promise<TokenRecord[]> {
  const rows = await db.selectFrom('tokens').selectAll()
    .$if(after !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<', eb.tuple(after!.createdAt, after!.id))))
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit).execute()
  return rows.map(tokenOf)
}

async function pruneTokens({ db }: Records, before: number, limit: number): Promise<number> {
  const { numDeletedRows } = await db.deleteFrom('tokens').where('id', 'in', query => query.selectFrom('tokens').select('id')
    .where('expires_at', '<=', before).orderBy('expires_at').orderBy('id').limit(limit)).executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}
