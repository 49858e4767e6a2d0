/** Guard of the routes of a GPU node. */
import type { onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import { comesFromOwnPage, namesThisService } from './ambient.ts'

/**
 * Lets in whoever has AI_INTERNAL_TOKEN, and nobody else, administrators neither. Without one (never in production) whoever can
 * connect is let in; a page in a browser that can is not meant.
 */
export function requireNode(config: Config): onRequestAsyncHookHandler {
  return async function requireOtherNode(request) {
    if (config.AI_INTERNAL_TOKEN === undefined && !config.production) {
      if (!namesThisService(request.headers, config) || !comesFromOwnPage(request.headers, config)) throw new PenstockError('RBAC_FORBIDDEN')
      return
    }
    if (request.credentialError !== null) throw request.credentialError
    if (request.principal === null) throw new PenstockError('UNAUTHENTICATED')
    if (request.principal.kind !== 'node') throw new PenstockError('RBAC_FORBIDDEN')
  }
}
