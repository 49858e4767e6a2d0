/** What a caller may do, decided on the principal. */
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { UploadKind } from '../records/port.ts'
import type { Principal } from './principal.ts'

function lacksScope(principal: Principal, scope: string): PenstockError {
  return new PenstockError('INSUFFICIENT_SCOPE', { details: { required_scope: scope, provided_scopes: principal.scopes } })
}

/**
 * Lets everyone through but guests, public forms and nodes.
 * @throws PenstockError UNAUTHENTICATED or RBAC_FORBIDDEN
 */
export function assertKnown(principal: Principal | null): asserts principal is Principal {
  if (principal === null) throw new PenstockError('UNAUTHENTICATED')
  if (['guest', 'public', 'node'].includes(principal.kind)) throw new PenstockError('RBAC_FORBIDDEN')
}

/**
 * Lets callers through who may ingest something: administrators, and clients and users with the upload scope. The
 * developer is no caller here.
 * @throws PenstockError UNAUTHENTICATED, RBAC_FORBIDDEN or INSUFFICIENT_SCOPE
 */
export function assertMayIngest(principal: Principal | null, config: Pick<Config, 'SCOPE_UPLOAD'>): asserts principal is Principal {
  if (principal === null || principal.kind === 'developer') throw new PenstockError('UNAUTHENTICATED')
  if (principal.kind === 'admin') return
  if (principal.kind !== 'client' && principal.kind !== 'user') throw new PenstockError('RBAC_FORBIDDEN')
  if (!principal.scopes.includes(config.SCOPE_UPLOAD)) throw lacksScope(principal, config.SCOPE_UPLOAD)
}

/** @throws PenstockError UNAUTHENTICATED or INSUFFICIENT_SCOPE for everyone but administrators */
export function assertAdmin(principal: Principal | null, config: Pick<Config, 'SCOPE_ADMIN'>): asserts principal is Principal {
  if (principal === null) throw new PenstockError('UNAUTHENTICATED')
  if (principal.kind !== 'admin') throw lacksScope(principal, config.SCOPE_ADMIN)
}

/**
 * Bundles and models are for administrators; objects for everyone whom assertMayIngest lets through.
 * @throws PenstockError INSUFFICIENT_SCOPE
 */
export function assertMayIngestKind(principal: Principal, kind: UploadKind, config: Pick<Config, 'SCOPE_ADMIN'>): void {
  if (kind !== 'object' && principal.kind !== 'admin') throw lacksScope(principal, config.SCOPE_ADMIN)
}

/** @throws PenstockError UNAUTHENTICATED, RBAC_FORBIDDEN or INSUFFICIENT_SCOPE */
export function assertMayReadJobs(principal: Principal | null, config: Pick<Config, 'SCOPE_JOB_READ'>): asserts principal is Principal {
  assertJobScope(principal, config.SCOPE_JOB_READ)
}

/** @throws PenstockError UNAUTHENTICATED, RBAC_FORBIDDEN or INSUFFICIENT_SCOPE */
export function assertMayWriteJobs(principal: Principal | null, config: Pick<Config, 'SCOPE_JOB_WRITE'>): asserts principal is Principal {
  assertJobScope(principal, config.SCOPE_JOB_WRITE)
}

/** Administrators and the developer have every scope of jobs. */
function assertJobScope(principal: Principal | null, scope: string): asserts principal is Principal {
  if (principal === null) throw new PenstockError('UNAUTHENTICATED')
  if (principal.kind === 'admin' || principal.kind === 'developer') return
  if (principal.kind !== 'client' && principal.kind !== 'user') throw new PenstockError('RBAC_FORBIDDEN')
  if (!principal.scopes.includes(scope)) throw lacksScope(principal, scope)
}
