/** Cookies that carry credentials (RFC 6265, section 5.4). */
import { COOKIES_MAX } from '../limits.ts'

function decoded(value: string): string {
  const bare = /^"(.*)"$/.exec(value)?.[1] ?? value
  try {
    return decodeURIComponent(bare)
  } catch {
    return bare
  }
}

/**
 * Values by name. Of several with one name the first counts: browsers send that of the longest path first. Empty ones have
 * been cleared and are left out, and so is what follows the first COOKIES_MAX.
 */
export function parseCookies(header: string | undefined): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  for (const pair of (header ?? '').split(';', COOKIES_MAX)) {
    const at = pair.indexOf('=')
    const name = pair.slice(0, at).trim()
    const value = decoded(pair.slice(at + 1).trim())
    if (at > 0 && value !== '' && !found.has(name)) found.set(name, value)
  }
  return found
}
