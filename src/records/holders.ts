/** How holders are written: one text for each, however their ids look. */
import { createHash } from 'node:crypto'
import type { RawBuilder, SqlBool } from 'kysely'
import { sql } from 'kysely'
import type { Holder } from './access-port.ts'

const USER_CHARACTERS = 32

/** As the triggers of activity write it: null is `~`, which no other id can become. */
export function holderId({ account, subject }: Holder): string {
  const part = (id: string | null) => id === null ? '~' : id.replaceAll('~', '~0').replaceAll('/', '~1')
  return `${part(account)}/${part(subject)}`
}

/** `<user>` of media paths: hexadecimal digits, the same for a holder ever after, and no other's. */
export function userOf(holder: Holder): string {
  return createHash('sha256').update(holderId(holder)).digest('hex').slice(0, USER_CHARACTERS)
}

/** A condition on the columns of a file; both may be null. */
export function heldBy({ account, subject }: Holder): RawBuilder<SqlBool> {
  const is = (column: string, id: string | null) => id === null ? sql`${sql.ref(column)} is null` : sql`${sql.ref(column)} = ${id}`
  return sql<SqlBool>`${is('account', account)} and ${is('subject', subject)}`
}
