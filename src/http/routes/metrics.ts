/** `/metrics`, as Prometheus asks for it. Not limited: who scrapes is known, or is on this machine. */
import type { FastifyInstance, onRequestAsyncHookHandler } from 'fastify'
import { Type } from 'typebox'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { adminSecurity } from '../openapi.ts'

export interface MetricsRouteOptions {
  exposition: { readonly contentType: string, metrics(): Promise<string> }
  guard: onRequestAsyncHookHandler
}

const example = '# HELP penstock_jobs_waiting Jobs of all nodes that wait\n# TYPE penstock_jobs_waiting gauge\npenstock_jobs_waiting 3\n'

export async function metricsRoute(app: FastifyInstance, { exposition, guard }: MetricsRouteOptions): Promise<void> {
  app.get('/metrics', {
    onRequest: guard,
    config: { whileStopping: true, errors: ['INSUFFICIENT_SCOPE', 'RBAC_FORBIDDEN'] },
    schema: {
      tags: ['health'], security: adminSecurity, summary: 'Metrics for Prometheus',
      description: 'Open where HOST is loopback and the request comes through no proxy; else for the administrator, and for `Authorization: Bearer $METRICS_TOKEN`.',
      response: { 200: { description: 'the text format of Prometheus', content: { 'text/plain': { schema: Type.String({ examples: [example] }) } } } }
    }
  }, async (_request, reply) => {
    void reply.headers({ 'cache-control': 'no-store', 'content-type': exposition.contentType })
    return await exposition.metrics()
  })
  refuseOtherMethods(app)
}
