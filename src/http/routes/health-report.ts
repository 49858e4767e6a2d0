/** `/health`: how it is with everything that the service stands on, for people and their monitoring. Open and unlimited. */
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { DEPENDENCIES, type DependencyState, type HealthReport } from '../health/probing.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'

export interface HealthReportOptions {
  version: string
  /** Where models run here; null: nowhere, or not known yet. */
  device(): string | null
  /** What was found last. Asks nobody. */
  report(): HealthReport
}

const State = Type.Object({
  status: Type.Union([Type.Literal('up'), Type.Literal('down'), Type.Literal('disabled')], { description: 'disabled: not configured, or nothing that this process uses' }),
  latency_ms: Type.Union([Type.Integer(), Type.Null()]),
  checked_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
  error: Type.Optional(Type.String())
})

const facts = {
  version: Type.String(),
  uptime_s: Type.Integer(),
  device: Type.Union([Type.String(), Type.Null()], { description: 'where models run here' }),
  model_loaded: Type.Boolean(),
  dependencies: Type.Object(Object.fromEntries(DEPENDENCIES.map(name => [name, State])))
}

const up = { status: 'up', latency_ms: 2, checked_at: '2026-01-01T12:00:00.000Z' }
const disabled = { status: 'disabled', latency_ms: null, checked_at: null }
const example = {
  status: 'healthy', version: '0.1.0', uptime_s: 3600, device: 'cpu', model_loaded: true,
  dependencies: { objects: up, records: up, redis: disabled, oidc: disabled, file_gateway: disabled, gpu_node: disabled, infer: disabled, workers: up }
}

const Working = Type.Object({ status: Type.Union([Type.Literal('healthy'), Type.Literal('degraded')], { description: 'degraded: something is down that can be done without, or no model is loaded' }), ...facts }, { examples: [example] })
const Unhealthy = Type.Object({ status: Type.Literal('unhealthy'), ...facts }, {
  examples: [{ ...example, status: 'unhealthy', dependencies: { ...example.dependencies, records: { ...up, status: 'down', error: 'not reachable' } } }]
})

function showState({ status, latencyMs, checkedAt, error }: DependencyState): object {
  return { status, latency_ms: latencyMs, checked_at: checkedAt === null ? null : new Date(checkedAt).toISOString(), ...(error !== undefined && { error }) }
}

function showReport({ version, device, report }: HealthReportOptions): object {
  const { status, modelLoaded, dependencies } = report()
  return {
    status, version, uptime_s: Math.round(process.uptime()), device: device(), model_loaded: modelLoaded,
    dependencies: Object.fromEntries(Object.entries(dependencies).map(([name, state]) => [name, showState(state)]))
  }
}

export async function healthReportRoute(app: FastifyInstance, options: HealthReportOptions): Promise<void> {
  app.get('/health', {
    config: { whileStopping: true },
    schema: {
      tags: ['health'], summary: 'How is everything that the service stands on?', security: [],
      description: 'From a cache that is refreshed every 30 seconds. `/readyz` and `/livez` are for those who send traffic, or restart.',
      response: { 200: Working, 503: Unhealthy }
    }
  }, async (_request, reply) => {
    void reply.header('cache-control', 'no-store')
    return await reply.code(options.report().status === 'unhealthy' ? 503 : 200).send(showReport(options))
  })
  refuseOtherMethods(app)
}
