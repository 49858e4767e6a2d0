/**
 * The token of an upload address: `<media id>.<second at which it is over>.<HMAC-SHA256 of both>`. That it is used once is
 * decided on the row.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { PenstockError } from '../errors.ts'

interface Parts { id: string, expires: number }

function mac({ id, expires }: Parts, secret: string): Buffer {
  return createHmac('sha256', secret).update(`penstock media upload, version 1\n${id}\n${expires}`).digest()
}

/** @param parts expires: epoch seconds; from this second on it is over */
export function mediaToken(parts: Parts, secret: string): string {
  return `${parts.id}.${parts.expires}.${mac(parts, secret).toString('base64url')}`
}

const TOKEN = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([1-9]\d{0,11})\.([A-Za-z0-9_-]{43})$/

/**
 * Compares in constant time, and looks at the clock only then.
 * @returns the media id
 * @throws UNAUTHORIZED, TOKEN_EXPIRED
 */
export function verifyMediaToken(token: string, secret: string, nowMs: number): string {
  const [, id = '', expires = '0', signature = ''] = TOKEN.exec(token) ?? []
  const parts = { id, expires: Number(expires) }
  const expected = mac(parts, secret)
  const given = Buffer.from(signature, 'base64url')
  // another spelling of the same bytes is no signature of ours
  if (given.length !== expected.length || !timingSafeEqual(given, expected) || signature !== expected.toString('base64url')) throw new PenstockError('UNAUTHORIZED')
  if (nowMs >= parts.expires * 1000) throw new PenstockError('TOKEN_EXPIRED')
  return id
}
