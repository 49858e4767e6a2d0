/**
 * A person who opens a link in a browser and is not signed in is sent to where that is done, and from there back. Programs,
 * which ask for no page, get the error.
 */
import type { FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'

/** Where to send the request, or undefined: it is none of a browser without a credential, or there is no such place. */
export function signInAddress(request: FastifyRequest, { FRONTEND_URL, PUBLIC_BASE_URL }: Pick<Config, 'FRONTEND_URL' | 'PUBLIC_BASE_URL'>): string | undefined {
  const anonymous = request.principal === null && request.credentialError === null
  const navigates = request.method === 'GET' && /(?:^|[,\s])text\/html(?:$|[,;\s])/i.test(request.headers.accept ?? '')
  if (FRONTEND_URL === undefined || !anonymous || !navigates) return undefined
  const back = `${PUBLIC_BASE_URL ?? `${request.protocol}://${request.host}`}${request.url}`
  return `${FRONTEND_URL}/auth/signin/?${new URLSearchParams({ redirectUrl: back })}`
}
