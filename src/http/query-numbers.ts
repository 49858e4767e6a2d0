/**
 * Integers in queries, read strictly. The validator's own coercion would take '1e3', ' 5 ' and '0x10' for numbers; here
 * plain decimal digits become a number, and everything else stays a string, which the schema then refuses.
 */
import type { FastifyInstance, preValidationAsyncHookHandler } from 'fastify'

function integersOf(schema: unknown): string[] {
  const { properties } = (schema ?? {}) as { properties?: Record<string, { type?: unknown }> }
  return Object.entries(properties ?? {}).filter(([, { type }]) => type === 'integer').map(([name]) => name)
}

/** Applies to every route whose query schema has integers. Call before any route is registered. */
export function readQueryNumbers(app: FastifyInstance): void {
  app.addHook('onRoute', route => {
    const names = integersOf(route.schema?.querystring)
    if (names.length === 0) return
    const read: preValidationAsyncHookHandler = async request => {
      const query = request.query as Record<string, unknown>
      for (const name of names) {
        const text = query[name]
        if (typeof text === 'string' && /^\d{1,15}$/.test(text)) query[name] = Number(text)
      }
    }
    route.preValidation = [read, route.preValidation ?? []].flat()
  })
}
