/** `/livez` and `/readyz`: open, unlimited, and answered as long as there is a process. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { refuseOtherMethods } from '../method-not-allowed.ts'

export interface Health {
  /** True from the moment shutdown begins. */
  readonly stopping: boolean
  /**
   * Should traffic go on? `reasons` are why not; `degraded` is what is missing while it may. Both are for callers: no hosts,
   * no texts of libraries.
   */
  ready(): Promise<{ ready: boolean, reasons: string[], degraded?: string[] }>
}

const Alive = Type.Object({ status: Type.Literal('alive') })
const Ready = Type.Object({
  status: Type.Literal('ready'),
  degraded: Type.Optional(Type.Array(Type.String(), { description: 'what is missing, and can be done without', examples: [['redis not reachable']] }))
})
const NotReady = Type.Object({
  status: Type.Literal('not_ready'),
  reasons: Type.Array(Type.String(), { examples: [['records are not reachable']] })
})

async function stateOf(health: Health, app: FastifyInstance): Promise<{ reasons: string[], degraded?: string[] }> {
  if (health.stopping) return { reasons: ['shutting down'] }
  try {
    const { ready, reasons, degraded = [] } = await health.ready()
    return ready ? { reasons: [], degraded } : { reasons: reasons.length === 0 ? ['not ready'] : reasons }
  } catch (err) {
    app.log.error({ action: 'health.ready.failed', err }, 'readiness could not be found out')
    return { reasons: ['readiness could not be found out'] }
  }
}

export async function healthRoutes(scope: FastifyInstance, { health }: { health: Health }): Promise<void> {
  const app = scope.withTypeProvider<TypeBoxTypeProvider>()
  app.addHook('onSend', async (_request, reply) => {
    void reply.header('cache-control', 'no-store')
  })
  app.get('/livez', {
    config: { whileStopping: true },
    schema: { tags: ['health'], summary: 'Is the process alive?', security: [], response: { 200: Alive } }
  }, async () => ({ status: 'alive' as const }))

  app.get('/readyz', {
    config: { whileStopping: true },
    schema: { tags: ['health'], summary: 'Should traffic come here?', security: [], response: { 200: Ready, 503: NotReady } }
  }, async (_request, reply) => {
    const { reasons, degraded = [] } = await stateOf(health, scope)
    if (reasons.length > 0) return reply.code(503).send({ status: 'not_ready', reasons })
    return { status: 'ready' as const, ...(degraded.length > 0 && { degraded }) }
  })
  refuseOtherMethods(scope)
}
