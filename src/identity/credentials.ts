/**
 * Who is calling, decided from a request's headers alone. The first credential that is present decides: a bad one is an
 * error, and the next is not tried. Order: Authorization, the admin header, the developer of a service without credentials.
 *
 * The admin header and the developer are no secrets: whoever can make the machine's browser send a request has them. They
 * count only where the request names a host that is really this service (see ambient.ts). With TRUST_ADMIN_HEADER=true the
 * operator says that a proxy keeps the header out; it then counts under whatever name the proxy passes on.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import { comesFromOwnPage, namesThisService } from './ambient.ts'
import type { Principal } from './principal.ts'

const nobody = { subject: null, account: null, clientId: null, scopes: [] }

/** The administrator who is also the local user, so that what is uploaded as one can be used as the other. */
export const localAdmin: Principal = { ...nobody, kind: 'admin', subject: 'dev', account: 'local' }

/** Whoever can connect to a service without credentials. */
export const localDeveloper: Principal = { ...nobody, kind: 'developer', subject: 'dev', account: 'local' }

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** Compares in constant time, whatever the lengths. */
function equalsSecret(given: string, secret: string): boolean {
  return timingSafeEqual(sha256(given), sha256(secret))
}

function fromAuthorization(value: string, config: Config): Principal {
  const token = /^Bearer +([^ ]+) *$/i.exec(value)?.[1]
  if (token !== undefined && config.ADMIN_TOKEN !== undefined && equalsSecret(token, config.ADMIN_TOKEN)) {
    return { ...nobody, kind: 'admin' }
  }
  throw new PenstockError('UNAUTHORIZED')
}

function isAdminHeader(value: string | string[] | undefined): boolean {
  return typeof value === 'string' && value.trim().toLowerCase() === 'true'
}

/**
 * The caller, or null where no credential was sent.
 * @throws PenstockError UNAUTHORIZED where one was sent that is not valid
 */
export function identify(headers: IncomingHttpHeaders, config: Config): Principal | null {
  if (headers.authorization !== undefined) return fromAuthorization(headers.authorization, config)
  const named = namesThisService(headers, config)
  const trusted = config.trustAdminHeader && (named || config.TRUST_ADMIN_HEADER === true)
  if (trusted && isAdminHeader(headers['x-alga-admin'])) {
    return config.developer ? localAdmin : { ...nobody, kind: 'admin' }
  }
  if (named && config.developer && comesFromOwnPage(headers, config)) {
    return localDeveloper
  }
  return null
}
