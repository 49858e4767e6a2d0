/** `/livez` and `/readyz`: open, unlimited, and answered as long as there is a process. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { refuseOtherMethods } from '../method-not-allowed.ts'

export interface Health {
  /** True from the moment shutdown begins. */
  readonly stopping: boolean
  /** Should traffic go on? `reasons` are for callers: no hosts, no texts of libraries. */
  ready(): Promise<{ ready: boolean, reasons: string[] }>
}

const Alive = Type.Object({ status: Type.Literal('alive') })
const Ready = Type.Object({ status: Type.Literal('ready') })
const NotReady = Type.Object({
  status: Type.Literal('not_ready'),
  reasons: Type.Array(Type.String(), { examples: [['records are not reachable']] })
})

async function reasonsOf(health: Health, app: FastifyInstance): Promise<string[]> {
  if (health.stopping) return ['shutting down']
  try {
    const { ready, reasons } = await health.ready()
    return ready ? [] : reasons.length === 0 ? ['not ready'] : reasons
  } catch (err) {
    app.log.error({ action: 'health.ready.failed', err }, 'readiness could not be found out')
    return ['readiness could not be found out']
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
    const reasons = await reasonsOf(health, scope)
    if (reasons.length > 0) return reply.code(503).send({ status: 'not_ready', reasons })
    return { status: 'ready' as const }
  })
  refuseOtherMethods(scope)
}
