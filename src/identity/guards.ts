/**
 * One hook finds out who is calling, before any body is read; guards of routes decide on it. A bad credential is kept and
 * thrown by the guards, so that routes without one (health, docs) do not care. Guards come before rate limits.
 */
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../config.ts'
import { isPenstockError, PenstockError } from '../errors.ts'
import { comesFromOwnPage, namesThisService } from './ambient.ts'
import { identify, localAdmin, localDeveloper } from './credentials.ts'
import { assertAdmin, assertMayIngest, assertMayReadJobs, assertMayWriteJobs } from './permissions.ts'
import type { Principal } from './principal.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who is calling; null where no credential (or no valid one) was sent. */
    principal: Principal | null
    /** Why the credential that was sent is not valid. */
    credentialError: PenstockError | null
  }
}

function warnAtStart(app: FastifyInstance, config: Config): void {
  if (config.developer) {
    app.log.warn({ action: 'identity.developer.enabled' }, 'no credential scheme is configured: callers without credential are the local user dev')
  }
  if (!config.loopback) warnOfOthers(app, config)
  if (config.EXT_BUNDLES_ALLOW_INSECURE) {
    app.log.warn({ action: 'identity.insecure.enabled' }, 'EXT_BUNDLES_ALLOW_INSECURE is set: ingest does not ask who is calling')
  }
}

/** Other machines can connect: what is no secret lets them in too. */
function warnOfOthers(app: FastifyInstance, config: Config): void {
  const { HOST: host } = config
  if (config.trustAdminHeader) {
    app.log.warn({ action: 'identity.admin_header.trusted', host }, 'whoever can connect and sends x-alga-admin is the administrator, unless a proxy in front strips it')
  }
  if (config.developer) {
    app.log.warn({ action: 'identity.developer.exposed', host }, 'whoever can connect is the local user dev: set ADMIN_TOKEN')
  }
}

/** Sets `request.principal` or `request.credentialError` on every request. */
export function resolvePrincipal(app: FastifyInstance, config: Config): void {
  app.decorateRequest('principal', null)
  app.decorateRequest('credentialError', null)
  warnAtStart(app, config)
  app.addHook('onRequest', async request => {
    try {
      request.principal = identify(request.headers, config)
    } catch (error) {
      if (!isPenstockError(error)) throw error
      request.credentialError = error
    }
  })
}

/** The caller of a guarded route. @throws PenstockError UNAUTHENTICATED where the route has no guard after all */
export function callerOf(request: FastifyRequest): Principal {
  if (request.principal === null) throw request.credentialError ?? new PenstockError('UNAUTHENTICATED')
  return request.principal
}

/** Guard of routes for every known caller. */
export function requireCaller(): onRequestAsyncHookHandler {
  return async function requireAnyCaller(request) {
    callerOf(request)
  }
}

/** Guard of the ingest routes. With EXT_BUNDLES_ALLOW_INSECURE whoever sends no credential is the local administrator. */
export function requireIngest(config: Config): onRequestAsyncHookHandler {
  return async function requireIngestCaller(request) {
    if (request.credentialError !== null) throw request.credentialError
    const unknown = request.principal === null || request.principal.kind === 'developer'
    if (unknown && config.EXT_BUNDLES_ALLOW_INSECURE && namesThisService(request.headers, config) && comesFromOwnPage(request.headers, config)) {
      request.log.warn({ action: 'identity.insecure.used', route: request.routeOptions.url }, 'ingest without a credential was let through')
      request.principal = localAdmin
    }
    assertMayIngest(request.principal, config)
  }
}

/** Guard of routes for administrators. */
export function requireAdmin(config: Config): onRequestAsyncHookHandler {
  return async function requireAdminCaller(request) {
    if (request.credentialError !== null) throw request.credentialError
    assertAdmin(request.principal, config)
  }
}

/** Guard of routes that read jobs. */
export function requireJobReader(config: Config): onRequestAsyncHookHandler {
  return async function requireReaderOfJobs(request) {
    if (request.credentialError !== null) throw request.credentialError
    assertMayReadJobs(request.principal, config)
  }
}

/** Guard of routes that create and change jobs. */
export function requireJobWriter(config: Config): onRequestAsyncHookHandler {
  return async function requireWriterOfJobs(request) {
    if (request.credentialError !== null) throw request.credentialError
    assertMayWriteJobs(request.principal, config)
  }
}

/**
 * Guard of routes for a trusted network (LEGACY_ROUTES): whoever can connect is the local developer, and a credential is not
 * looked at. A page in a browser that can connect is not meant, unless it is one of our own or of CORS_ORIGIN.
 */
export function requireNobody(config: Config): onRequestAsyncHookHandler {
  return async function beLocalDeveloper(request) {
    if (!namesThisService(request.headers, config) || !comesFromOwnPage(request.headers, config)) {
      throw new PenstockError('RBAC_FORBIDDEN', { message: 'pages of other origins are not let in here: name them in CORS_ORIGIN' })
    }
    request.principal = localDeveloper
  }
}
