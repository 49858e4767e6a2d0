/**
 * One hook finds out who is calling, before any body is read; guards of routes decide on it. A bad credential is kept and
 * thrown by the guards, so that routes without one (health, docs) do not care. Guards come before rate limits.
 */
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../config.ts'
import { isPenstockError, PenstockError } from '../errors.ts'
import { RecordStoreFailed } from '../records/port.ts'
import { comesFromOwnPage, namesThisService } from './ambient.ts'
import type { CredentialSources } from './credential-sources.ts'
import { identification, localAdmin, localDeveloper } from './credentials.ts'
import { guestVerifier } from './guest-tokens.ts'
import { oidcVerifier } from './oidc.ts'
import { assertAdmin, assertKnown, assertMayIngest, assertMayReadJobs, assertMayWriteJobs } from './permissions.ts'
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
  if (config.production && [config.OIDC_ISSUER, config.OIDC_JWKS_URL].some(url => url?.startsWith('http:'))) {
    app.log.warn({ action: 'identity.keys.plaintext' }, 'keys of the issuer come over http: whoever is in between can replace them and be anyone')
  }
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

/** Sources that carry their own proof and need no more than the configuration. */
function provenByThemselves(app: FastifyInstance, config: Config): CredentialSources {
  const { OIDC_ISSUER: issuer, GUEST_TOKEN_SECRET: guestSecret } = config
  const onFailed = (err: unknown): void => app.log.warn({ action: 'identity.keys.failed', issuer, err }, 'the keys of the issuer could not be fetched')
  return {
    ...(issuer !== undefined && { oidc: oidcVerifier({ ...config, OIDC_ISSUER: issuer }, onFailed) }),
    ...(guestSecret !== undefined && { guests: guestVerifier(guestSecret, config.JWT_CLOCK_TOLERANCE_SEC) })
  }
}

/** Routes without a guard do not care that credentials could not be looked up either. */
function failureOf(cause: unknown): PenstockError {
  if (isPenstockError(cause)) return cause
  return new PenstockError(cause instanceof RecordStoreFailed ? 'RECORDS_UNAVAILABLE' : 'INTERNAL_ERROR', { cause })
}

/**
 * Sets `request.principal` or `request.credentialError` on every request.
 * @param lookups where credentials are looked up that say nothing themselves
 */
export function resolvePrincipal(app: FastifyInstance, config: Config, lookups: Pick<CredentialSources, 'tokens' | 'sessions'> = {}): void {
  app.decorateRequest('principal', null)
  app.decorateRequest('credentialError', null)
  warnAtStart(app, config)
  const identify = identification(config, { ...provenByThemselves(app, config), ...lookups })
  app.addHook('onRequest', async request => {
    try {
      request.principal = await identify(request)
    } catch (error) {
      request.credentialError = failureOf(error)
    }
  })
}

/** The caller of a guarded route. @throws PenstockError UNAUTHENTICATED where the route has no guard after all */
export function callerOf(request: FastifyRequest): Principal {
  if (request.principal === null) throw request.credentialError ?? new PenstockError('UNAUTHENTICATED')
  return request.principal
}

/** Guard of routes for whoever belongs to the service: no guests, no public forms. */
export function requireCaller(): onRequestAsyncHookHandler {
  return async function requireKnownCaller(request) {
    if (request.credentialError !== null) throw request.credentialError
    assertKnown(request.principal)
  }
}

/** Guard of routes for everyone who has a credential: guests and public forms too. Nodes are no callers of these. */
export function requireAnyCaller(): onRequestAsyncHookHandler {
  return async function requireAnyKindOfCaller(request) {
    if (callerOf(request).kind === 'node') throw new PenstockError('RBAC_FORBIDDEN')
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
