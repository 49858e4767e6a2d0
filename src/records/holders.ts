/** How holders are written: one text for each, however their ids look. */
import { createHash } from 'node:crypto'
import { sql } from 'kysely'
import type { RawBuilder, SqlBool } from 'kysely'
import type { Holder } from './access-port.ts'

const USER_CHARACTERS = 32

/** As the triggers of activity write it: null is `~`, which no other id can become. */
export function holderId({ account, subject }: Holder): string {
  return [account, subject].map(id => id === null ? '~' : id.replaceAll('~', '~0').replaceAll('/', '~1')).join('/')
}

/** `<user>` of media paths: hexadecimal digits, the same for a holder ever after, and no other's. */
export function userOf(holder: Holder): string {
  return createHash('sha256').update(holderId(holder)).digest('hex').slice(0, USER_CHARACTERS)
}

/** A condition on the columns of a file; both may be null. */
export function heldBy({ account, subject }: Holder): RawBuilder<SqlBool> {
  return sql<SqlBool>`${equals('account', account)} and ${equals('subject', subject)}`
}

function equals(column: string, id: string | null): RawBuilder<unknown> {
  return id === null ? sql`${sql.ref(column)} is null` : sql`${sql.ref(column)} = ${id}`
}
