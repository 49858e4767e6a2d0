/**
 * Who is calling, decided from a request's headers. The first credential that is present decides: a bad one is an error, and
 * the next is not tried. Order: Authorization, X-Guest-Authorization, X-Public-Authorization, the cookies file_service_auth,
 * token, guest-token and public-token, the admin header, the developer of a service without credentials.
 *
 * The admin header and the developer are no secrets: whoever can make the machine's browser send a request has them. They
 * count only where the request names a host that is really this service (see ambient.ts). With TRUST_ADMIN_HEADER=true the
 * operator says that a proxy keeps the header out; it then counts under whatever name the proxy passes on.
 *
 * Cookies are sent by the browser, whoever's page asks it to: with one, pages of other origins may read what they link to,
 * but change nothing.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import { CREDENTIAL_MAX_CHARACTERS } from '../limits.ts'
import { comesFromOwnPage, namesThisService } from './ambient.ts'
import { parseCookies } from './cookies.ts'
import type { CredentialSources } from './credential-sources.ts'
import { API_TOKEN_PREFIX } from './minted-tokens.ts'
import type { Principal } from './principal.ts'

/** What of a request says who is calling. */
export interface Call { readonly method: string, readonly headers: IncomingHttpHeaders }

/** Rejects with UNAUTHORIZED, TOKEN_EXPIRED, TENANT_MISMATCH, AUTH_SERVICE_UNAVAILABLE or RECORDS_UNAVAILABLE. */
export type Identify = (call: Call) => Promise<Principal | null>

type Resolve = (value: string) => Promise<Principal>

const nobody = { subject: null, account: null, clientId: null, scopes: [] }

/** The administrator who is also the local user, so that what is uploaded as one can be used as the other. */
export const localAdmin: Principal = { ...nobody, kind: 'admin', subject: 'dev', account: 'local' }

/** Whoever can connect to a service without credentials. */
export const localDeveloper: Principal = { ...nobody, kind: 'developer', subject: 'dev', account: 'local' }

const administrator: Principal = { ...nobody, kind: 'admin' }
const node: Principal = { ...nobody, kind: 'node' }

export function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}

/** Compares hashes, in constant time, whatever the lengths of what was hashed. */
export function secretComparison(secret: string | undefined): (givenHash: Buffer) => boolean {
  if (secret === undefined) return () => false
  const secretHash = sha256(secret)
  return givenHash => timingSafeEqual(givenHash, secretHash)
}

function known(principal: Principal | null | undefined): Principal {
  if (principal === null || principal === undefined) throw new PenstockError('UNAUTHORIZED')
  return principal
}

/** What stands behind a scheme, as RFC 9110 writes credentials. @throws PenstockError UNAUTHORIZED where it is none */
function credentialIn(value: string, form: RegExp): string {
  const credential = value.length > CREDENTIAL_MAX_CHARACTERS ? undefined : form.exec(value)?.[1]
  if (credential === undefined) throw new PenstockError('UNAUTHORIZED')
  return credential
}

const BEARER = /^Bearer +([^ ]+) *$/i
const TOKEN = /^Token +([^ ]+) *$/i
const MAYBE_TOKEN = /^(?:Token +)?([^ ]+) *$/i
const MAYBE_BEARER = /^(?:Bearer +)?([^ ]+) *$/i

/** Three parts, the first the base64url of a JSON object. */
const JWT = /^eyJ[\w-]*\.[\w-]+\.[\w-]*$/

function isAdminHeader(value: string | string[] | undefined): boolean {
  return typeof value === 'string' && value.trim().toLowerCase() === 'true'
}

/** How each kind of credential is looked up. */
function resolversOf(config: Config, { tokens, sessions, oidc, guests }: CredentialSources) {
  const isAdminToken = secretComparison(config.ADMIN_TOKEN)
  const isNodeToken = secretComparison(config.AI_INTERNAL_TOKEN)

  /** Of a user: minted tokens show by their prefix what they are, and a session token may be anything. */
  const user: Resolve = async value => known(await (value.startsWith(API_TOKEN_PREFIX) ? tokens?.(value, 'api') : sessions?.(value, 'session')))

  const bearer: Resolve = async value => {
    const valueHash = sha256(value)
    if (isAdminToken(valueHash)) return administrator
    if (isNodeToken(valueHash)) return node
    if (oidc !== undefined && JWT.test(value)) return await oidc(value)
    return await user(value)
  }

  const guest: Resolve = async value => known(await guests?.(value))

  const publicForm: Resolve = async value => known(await tokens?.(value, 'public') ?? await sessions?.(value, 'public'))

  return { user, bearer, guest, publicForm }
}

/** Rejects nothing but what Identify says. */
export function identification(config: Config, sources: CredentialSources): Identify {
  const { user, bearer, guest, publicForm } = resolversOf(config, sources)
  const byHeader = [['authorization', BEARER, bearer], ['x-guest-authorization', MAYBE_BEARER, guest], ['x-public-authorization', TOKEN, publicForm]] as const
  const byCookie = [
    ['file_service_auth', MAYBE_BEARER, user], ['token', MAYBE_BEARER, user], ['guest-token', MAYBE_BEARER, guest], ['public-token', MAYBE_TOKEN, publicForm]
  ] as const

  async function fromHeader(headers: IncomingHttpHeaders): Promise<Principal | null> {
    for (const [name, form, resolve] of byHeader) {
      const value = headers[name]
      if (value !== undefined) return await resolve(credentialIn(String(value), form))
    }
    return null
  }

  async function fromCookie({ method, headers }: Call): Promise<Principal | null> {
    if (headers.cookie === undefined) return null
    const cookies = parseCookies(headers.cookie)
    for (const [name, form, resolve] of byCookie) {
      const value = cookies.get(name)
      if (value === undefined) continue
      const reads = method === 'GET' || method === 'HEAD'
      if (!reads && !comesFromOwnPage(headers, config)) {
        throw new PenstockError('RBAC_FORBIDDEN', { message: 'with a cookie, pages of other origins change nothing here: name them in CORS_ORIGIN' })
      }
      return await resolve(credentialIn(value, form))
    }
    return null
  }

  function ambient(headers: IncomingHttpHeaders): Principal | null {
    const named = namesThisService(headers, config)
    const trusted = config.trustAdminHeader && (named || config.TRUST_ADMIN_HEADER === true)
    if (trusted && isAdminHeader(headers['x-alga-admin'])) return config.developer ? localAdmin : administrator
    return named && config.developer && comesFromOwnPage(headers, config) ? localDeveloper : null
  }

  return async call => await fromHeader(call.headers) ?? await fromCookie(call) ?? ambient(call.headers)
}
