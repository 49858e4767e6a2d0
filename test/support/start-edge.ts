/** The HTTP edge alone, on a real socket, with routes that a test brings along. */
import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { readConfig, type Config } from '../../src/config.ts'
import { healthRoutes, type Health } from '../../src/http/routes/health.ts'
import { createServer, type App, type ServerOptions } from '../../src/http/server.ts'
import { createLogger } from '../../src/logging.ts'

export interface Edge {
  app: App
  config: Config
  health: Health & { stopping: boolean }
  url: string
  port: number
  /** Log lines so far. */
  lines: Record<string, unknown>[]
  /** Log lines of an action. */
  logged(action: string): Record<string, unknown>[]
}

export interface EdgeOptions {
  env?: Record<string, string>
  ready?: Health['ready']
  credentials?: ServerOptions['credentials']
  redis?: ServerOptions['redis']
  /** Plugins of routes, each with its own scope. */
  routes?: ((app: FastifyInstance, edge: { config: Config }) => Promise<void>)[]
}

interface Test { teardown(fn: () => unknown): unknown }

function collect(lines: Record<string, unknown>[]): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>)
      done()
    }
  })
}

/** Closed at the end of the test. Without `env` there is no credential scheme, as on a laptop. */
export async function startEdge(t: Test, options: EdgeOptions = {}): Promise<Edge> {
  const lines: Record<string, unknown>[] = []
  const config = readConfig(options.env ?? {})
  const health = { stopping: false, ready: options.ready ?? (async () => ({ ready: true, reasons: [] })) }
  const app = createServer({ config, logger: createLogger({ level: 'debug', destination: collect(lines) }), health, ...(options.credentials && { credentials: options.credentials }), ...(options.redis && { redis: options.redis }) })
  void app.register(healthRoutes, { health })
  for (const routes of options.routes ?? []) void app.register(async scope => routes(scope, { config }))
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  return {
    app, config, health, url, lines,
    port: Number(new URL(url).port),
    logged: action => lines.filter(line => line.action === action)
  }
}
