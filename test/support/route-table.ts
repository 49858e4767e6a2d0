/** Which routes a service really has, as it says itself: for tests that must leave none out. */
import type { FastifyInstance } from 'fastify'

/**
 * `METHOD /path` of every route, as they were registered: those in the documentation and those that are hidden. Refusals of
 * other methods (405) are none; a path that takes every method has one route, `ANY /path`.
 */
export async function routesOf(server: FastifyInstance): Promise<string[]> {
  const paths = [...new Set(server.knownRoutes.map(({ url }) => url))]
  const routes = await Promise.all(paths.map(async path => (await methodsOf(server, path)).map(method => `${method} ${path}`)))
  const shown = server.knownRoutes.filter(({ hidden }) => !hidden).flatMap(({ url, methods }) => methods.map(method => `${method} ${url}`))
  // of a path that forgot to refuse other methods, at least those that it shows
  return [...new Set([...routes.flat(), ...shown])].toSorted()
}

async function methodsOf(server: FastifyInstance, path: string): Promise<string[]> {
  const { statusCode, headers } = await server.inject({ method: 'OPTIONS', url: path })
  if (statusCode === 404) return []
  if (headers.allow === undefined) return ['ANY']
  return headers.allow.split(', ').filter(method => method !== 'OPTIONS')
}
