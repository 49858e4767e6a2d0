/**
 * Addresses of files that are a credential of their own: an HMAC-SHA256 over the file's id, the second at which it is over,
 * and how the file is shown. Nothing else is known of them, so they die with the file, and with the secret.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { PenstockError } from '../errors.ts'

export interface Signed {
  id: string
  /** epoch seconds; from this second on it is over */
  expires: number
  inline: boolean
}

/** As they stand in the query. */
export interface SignatureQuery { expires?: string | undefined, signature?: string | undefined, inline?: string | undefined }

function mac({ id, expires, inline }: Signed, secret: string): Buffer {
  return createHmac('sha256', secret).update(`penstock file address, version 1\n${id}\n${expires}\n${inline ? 'inline' : 'attachment'}`).digest()
}

/** Path and query. */
export function signedPath(signed: Signed, secret: string): string {
  const query = new URLSearchParams({ ...signed.inline && { inline: '1' }, expires: String(signed.expires), signature: mac(signed, secret).toString('base64url') })
  return `/files/${signed.id}?${query}`
}

/**
 * Compares in constant time, and looks at the clock only then: of what was not signed here nothing is said.
 * @param nowMs epoch milliseconds
 * @throws UNAUTHORIZED, TOKEN_EXPIRED
 */
export function verifySigned(id: string, query: SignatureQuery, secret: string, nowMs: number): void {
  const { expires = '', signature = '', inline } = query
  const signed = { id, expires: /^[1-9]\d{0,11}$/.test(expires) ? Number(expires) : 0, inline: inline === '1' }
  const given = Buffer.from(signature, 'base64url')
  const expected = mac(signed, secret)
  // another spelling of the same bytes is no signature of ours
  if (given.length !== expected.length || !timingSafeEqual(given, expected) || signature !== expected.toString('base64url')) throw new PenstockError('UNAUTHORIZED')
  if (nowMs >= signed.expires * 1000) throw new PenstockError('TOKEN_EXPIRED')
}
