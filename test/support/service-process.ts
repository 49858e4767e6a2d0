/** The service as its users run it: a process of its own, told by its environment, ended by signals. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { readConfig, type Config } from '../../src/config.ts'
import { eventually } from './raw-client.ts'
import { ADMIN, type Answer } from './start-app.ts'

/** Of a machine that does much else meanwhile. */
const START_TIMEOUT_MS = 60_000
const MAIN = join(import.meta.dirname, '../../src/main.ts')

export interface ServiceProcess {
  child: ChildProcess
  config: Config
  dataDir: string
  /** Everything it wrote. */
  output(): string
  /** Log lines of one action. */
  logged(action: string): Record<string, unknown>[]
  /** Settles when it has ended: its exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>
}

export interface ListeningService extends ServiceProcess {
  url: string
  port: number
  call(path: string, body?: Uint8Array | string, headers?: Record<string, string>): Promise<Answer>
}

/** Starts it, over files and SQLite and without workers where `env` says nothing else. It is killed at the end of the test. */
export async function spawnService(t: Test, env: Record<string, string> = {}): Promise<ServiceProcess> {
  const dataDir = env.DATA_DIR ?? await mkdtemp(join(tmpdir(), 'penstock-service-'))
  const settings = { PORT: '0', ROLES: 'api', LOG_LEVEL: 'debug', EXT_BUNDLES_RATELIMIT_MAX: '0', REFUSED_RATE_LIMIT_MAX: '0', ...env, DATA_DIR: dataDir }
  const child = spawn(process.execPath, [MAIN], { env: { PATH: process.env.PATH, ...settings }, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { output += chunk.toString() })
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    if (env.DATA_DIR === undefined) await rm(dataDir, { recursive: true, force: true })
  })
  const logged = (action: string): Record<string, unknown>[] => output.split('\n').filter(line => line.startsWith('{') && line.includes(`"${action}"`))
    .map(line => JSON.parse(line) as Record<string, unknown>).filter(line => line.action === action)
  return { child, config: configOf(settings), dataDir, output: () => output, logged, ended }
}

/** The same, once it listens. @throws where it ends instead */
export async function startService(t: Test, env: Record<string, string> = {}): Promise<ListeningService> {
  const service = await spawnService(t, env)
  const hasEnded = (): boolean => service.child.exitCode !== null || service.child.signalCode !== null
  await eventually(() => assert.ok(hasEnded() || service.logged('service.listening').length > 0), START_TIMEOUT_MS)
  if (hasEnded()) throw new Error(`it ended with ${await service.ended}: ${service.output()}`)
  const url = String(service.logged('service.listening')[0]!.address)
  return {
    ...service, url, port: Number(new URL(url).port),
    async call(path, body, headers = {}) {
      const response = await fetch(`${url}${path}`, {
        method: body === undefined ? 'GET' : 'POST', headers: { ...ADMIN, ...headers },
        ...(body !== undefined && { body: body as NonNullable<RequestInit['body']> })
      })
      const text = await response.text()
      return { status: response.status, headers: response.headers, body: text.startsWith('{') ? JSON.parse(text) as unknown : text }
    }
  }
}

/** For tests that look into its stores; of a configuration that is refused there is none to look into. */
function configOf(settings: Record<string, string>): Config {
  try {
    return readConfig(settings)
  } catch {
    return readConfig({})
  }
}
