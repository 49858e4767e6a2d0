/** Starts the whole service in this process, on a real socket, over real stores. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino, type Logger } from 'pino'
import type { Test } from 'tap'
import { buildApp, type App } from '../../src/app.ts'
import { readConfig, type Config } from '../../src/config.ts'

export interface StartedApp {
  app: App
  config: Config
  url: string
  port: number
  dataDir: string
  /** Every log line so far. */
  logs: Record<string, unknown>[]
  /** Log lines of one action. */
  logged(action: string): Record<string, unknown>[]
  /** Calls with the admin header. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>
  upload(bytes: Uint8Array, query?: Record<string, string>, headers?: Record<string, string>): Promise<Answer>
}

export interface Answer { status: number, headers: Headers, body: any } // eslint-disable-line typescript/no-explicit-any

export const ADMIN = { 'x-alga-admin': 'true' }

/** What tests look at: every line as it is, nothing taken out. */
function plainLogger(destination: { write(line: string): void }): Logger {
  return pino({ level: 'debug', base: null, formatters: { level: label => ({ level: label }) } }, destination)
}

/** Defaults: fs + SQLite in a temporary folder, no workers, no rate limits. `env` overrides by variable name. */
export async function startApp(t: Test, env: Record<string, string> = {}, makeLogger = plainLogger): Promise<StartedApp> {
  const dataDir = env.DATA_DIR ?? await mkdtemp(join(tmpdir(), 'penstock-'))
  const config = readConfig({ PORT: '0', ROLES: 'api', EXT_BUNDLES_RATELIMIT_MAX: '0', REFUSED_RATE_LIMIT_MAX: '0', FILES_UPLOAD_RATE_LIMIT_MAX: '0', FILES_DOWNLOAD_RATE_LIMIT_MAX: '0', SHUTDOWN_GRACE_MS: '500', ...env, DATA_DIR: dataDir })
  const logs: Record<string, unknown>[] = []
  const log = makeLogger({ write: line => { logs.push(JSON.parse(line) as Record<string, unknown>) } })
  const app = await buildApp(config, log)
  const url = await app.start()
  t.teardown(async () => {
    await app.stop()
    if (env.DATA_DIR === undefined) await rm(dataDir, { recursive: true, force: true })
  })
  return {
    app, config, url, dataDir, logs,
    port: Number(new URL(url).port),
    logged: action => logs.filter(line => line.action === action),
    post: (path, body, headers) => call(`${url}${path}`, JSON.stringify(body), { 'content-type': 'application/json', ...headers }),
    upload: (bytes, query, headers) => call(`${url}/upload-proxy?${new URLSearchParams({ filename: 'file.bin', size: String(bytes.byteLength), ...query })}`, bytes, headers ?? {})
  }
}

async function call(url: string, body: string | Uint8Array, headers: Record<string, string>): Promise<Answer> {
  const response = await fetch(url, { method: 'POST', body: body as NonNullable<RequestInit['body']>, headers: { ...ADMIN, ...headers } })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) as unknown }
}
