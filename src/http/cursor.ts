/** Opaque cursors of lists that are ordered newest first by (createdAt, id). */
import { PenstockError } from '../errors.ts'
import type { PageCursor } from '../records/port.ts'

const CURSOR = /^(\d{1,16}):([A-Za-z0-9-]{1,128})$/

export function encodeCursor({ createdAt, id }: PageCursor): string {
  return Buffer.from(`${createdAt}:${id}`).toString('base64url')
}

/** @throws BAD_REQUEST for anything that this service did not make */
export function decodeCursor(text: string): PageCursor {
  const match = CURSOR.exec(Buffer.from(text, 'base64url').toString('latin1'))
  if (!match) throw new PenstockError('BAD_REQUEST', { message: 'cursor is not valid', details: { fields: [{ field: 'cursor', message: 'was not given by this service' }] } })
  return { createdAt: Number(match[1]), id: match[2]! }
}

/** One page of a list answer: asks for one row more than wanted to know whether there is a next page. */
export async function page<Row extends PageCursor>(
  query: { limit: number, cursor?: string | undefined },
  read: (page: { limit: number, after?: PageCursor }) => Promise<Row[]>
): Promise<{ rows: Row[], next_cursor: string | null }> {
  const rows = await read({ limit: query.limit + 1, ...(query.cursor === undefined ? {} : { after: decodeCursor(query.cursor) }) })
  if (rows.length <= query.limit) return { rows, next_cursor: null }
  const shown = rows.slice(0, query.limit)
  return { rows: shown, next_cursor: encodeCursor(shown.at(-1)!) }
}
