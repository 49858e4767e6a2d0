/**
 * Against pages in the browser of the machine that the service runs on, where being able to connect is all it takes.
 *
 * DNS rebinding: a page of evil.example lets its own name point to 127.0.0.1 and is then same-origin with us. It cannot
 * change the Host header, which still says evil.example. (X-Forwarded-Host it can set: it is not looked at.)
 * Cross-site requests: a page may send simple requests anywhere. It cannot leave out the Origin header of a POST.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import type { Config } from '../config.ts'

type Settings = Pick<Config, 'loopback' | 'PUBLIC_BASE_URL' | 'CORS_ORIGIN'>

function hostnameOf(host: string | undefined): string | undefined {
  const url = `http://${host}`
  if (host === undefined || /[/\\?#@\s]/.test(host) || !URL.canParse(url)) return undefined
  return new URL(url).hostname.replace(/\.$/, '')
}

function isLocalName(hostname: string): boolean {
  return hostname === 'localhost' || hostname.endsWith('.localhost') || isIP(hostname.replace(/^\[(.*)\]$/, '$1')) !== 0
}

/** False where the service can only be reached from this machine and the request was meant for another name. */
export function namesThisService(headers: IncomingHttpHeaders, config: Settings): boolean {
  if (!config.loopback) return true
  const hostname = hostnameOf(headers.host)
  if (hostname === undefined) return false
  const own = config.PUBLIC_BASE_URL === undefined ? undefined : new URL(config.PUBLIC_BASE_URL).hostname
  return isLocalName(hostname) || hostname === own
}

/** False where a page of another origin, which CORS_ORIGIN does not list, has sent the request. */
export function comesFromOwnPage(headers: IncomingHttpHeaders, config: Settings): boolean {
  const { origin } = headers
  if (origin === undefined) return headers['sec-fetch-site'] !== 'cross-site'
  if (config.CORS_ORIGIN?.includes(origin) === true) return true
  if (!URL.canParse(origin)) return false
  const own = config.PUBLIC_BASE_URL === undefined ? undefined : new URL(config.PUBLIC_BASE_URL).origin
  return new URL(origin).host === headers.host?.toLowerCase() || origin === own
}
