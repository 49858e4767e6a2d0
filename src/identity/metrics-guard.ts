/** Guard of /metrics. */
import type { FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../config.ts'
import { namesThisService } from './ambient.ts'
import { secretComparison, sha256 } from './credentials.ts'
import { assertAdmin } from './permissions.ts'

/** A proxy that lets others in says so in one of these. */
const PROXIED = ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via']

/**
 * Lets in who is on this machine, where only they can connect; elsewhere administrators and METRICS_TOKEN. A page in a
 * browser of this machine that came by another name is not let in.
 */
export function requireScraper(config: Config): onRequestAsyncHookHandler {
  const isToken = secretComparison(config.METRICS_TOKEN)

  function isFromHere({ headers }: FastifyRequest): boolean {
    return config.loopback && namesThisService(headers, config) && PROXIED.every(name => headers[name] === undefined)
  }

  return async function requireWhoMayScrape(request) {
    const bearer = /^Bearer +([^ ]+) *$/i.exec(request.headers.authorization ?? '')?.[1]
    if (isFromHere(request) || (bearer !== undefined && isToken(sha256(bearer)))) return
    if (request.credentialError !== null) throw request.credentialError
    assertAdmin(request.principal, config)
  }
}
