/** Known paths answer other methods with 405 and `Allow`, in the dialect of their plugin; OPTIONS with 204 and `Allow`. */
import { METHODS } from 'node:http'
import type { FastifyInstance } from 'fastify'
import { PenstockError } from '../errors.ts'

interface KnownRoute {
  scope: FastifyInstance
  url: string
  methods: readonly string[]
  /** Not in the documentation. */
  hidden: boolean
  /** Its failures have a slug. */
  tellsWhy: boolean
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Every route with the scope it was registered in. */
    knownRoutes: KnownRoute[]
  }
}

/** Watches what routes there are. Call before any route is registered. */
export function collectMethods(app: FastifyInstance): void {
  // CONNECT never reaches a route; the others have to be known to the router to be refused by a route
  const known = app.supportedMethods
  for (const method of METHODS) {
    if (method !== 'CONNECT' && !known.includes(method)) app.addHttpMethod(method, { hasBody: true })
  }
  const routes: KnownRoute[] = []
  app.decorate('knownRoutes', routes)
  app.addHook('onRoute', function collect(this: FastifyInstance, { url, method, schema, config }) {
    routes.push({ scope: this, url, methods: [method].flat(), hidden: schema?.hide === true, tellsWhy: config?.tellsWhy === true })
  })
}

/** The routes of a plugin and of those registered inside it (whose scopes inherit from its own), by path. */
function routesByPath(app: FastifyInstance): Map<string, KnownRoute[]> {
  return Map.groupBy(app.knownRoutes.filter(({ scope }) => scope === app || Object.prototype.isPrototypeOf.call(app, scope)), ({ url }) => url)
}

function refuseOthers(app: FastifyInstance, url: string, routes: readonly KnownRoute[]): void {
  // the router knows best: of a route that is reached with and without a slash at its end, hooks see one
  const [allowed = [], others = []] = [true, false].map(wanted => app.supportedMethods.filter(method => app.hasRoute({ method, url }) === wanted))
  if (others.length === 0) return
  const allow = [...new Set([...allowed, 'OPTIONS'])].toSorted().join(', ')
  app.route({
    method: others,
    url: url.slice(app.prefix.length),
    schema: { hide: true },
    config: { tellsWhy: routes.some(({ tellsWhy }) => tellsWhy) },
    exposeHeadRoute: false,
    // in a hook: whatever body there is, it is neither awaited nor parsed
    onRequest: async (request, reply) => {
      if (request.method === 'OPTIONS') return reply.code(204).header('allow', allow).send()
      throw new PenstockError('METHOD_NOT_ALLOWED', { headers: { allow } })
    },
    handler: async () => {}
  })
}

/** Call at the end of a plugin, when its routes are registered. */
export function refuseOtherMethods(app: FastifyInstance): void {
  for (const [url, routes] of routesByPath(app)) refuseOthers(app, url, routes)
}
