/** The credential that a request was identified by (identity/credentials.ts), in the header that it came in, to be passed on. */
import type { IncomingHttpHeaders } from 'node:http'
import { parseCookies } from '../identity/cookies.ts'

const HEADERS = ['authorization', 'x-guest-authorization', 'x-public-authorization']
const COOKIES = ['file_service_auth', 'token', 'guest-token', 'public-token']

/** At most one header; of cookies the one that counts, and none that are no credential. */
export function credentialOf(headers: IncomingHttpHeaders): Record<string, string> {
  const name = HEADERS.find(each => typeof headers[each] === 'string')
  if (name !== undefined) return { [name]: headers[name] as string }
  const cookies = parseCookies(headers.cookie)
  const cookie = COOKIES.find(each => cookies.has(each))
  return cookie === undefined ? {} : { cookie: `${cookie}=${encodeURIComponent(cookies.get(cookie)!)}` }
}
