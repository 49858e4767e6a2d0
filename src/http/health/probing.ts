/**
 * What the service stands on, looked at in the background, so that whoever asks for the state, however often, costs nothing.
 *
 *   every HEALTH_INTERVAL_MS ─▶ all probes at once, each for CHECK_TIMEOUT_MS at most ─▶ the report that everybody gets
 *
 * A probe that hangs is down, and is not asked again until it has ended: no second one takes another connection. Of a vital
 * dependency (the stores) the service is unhealthy without it; of any other it is degraded. Reports are for everybody: why a
 * dependency is down stands in the log, but for what is said with Down.
 */
import type { Logger } from 'pino'
import { HEALTH_INTERVAL_MS } from '../../limits.ts'
import { sharedCheck } from '../shared-check.ts'

export const DEPENDENCIES = ['objects', 'records', 'redis', 'oidc', 'file_gateway', 'gpu_node', 'infer', 'workers'] as const
export type Dependency = typeof DEPENDENCIES[number]

const VITAL: readonly Dependency[] = ['objects', 'records']

/** Resolves where the dependency is up. Rejects with Down, whose text callers get, or with anything else, which stays in the log. */
export type Probe = () => Promise<unknown>

/** Probes by dependency; one without is disabled: it is not configured, or this process has no use for it. */
export type Probes = Partial<Record<Dependency, Probe | undefined>>

/** A dependency is down for a reason that may be told to everybody. */
export class Down extends Error {}

export interface DependencyState {
  status: 'up' | 'down' | 'disabled'
  /** how long the probe took */
  latencyMs: number | null
  /** epoch ms */
  checkedAt: number | null
  /** why it is down, for everybody */
  error?: string
}

export interface HealthReport {
  status: 'healthy' | 'degraded' | 'unhealthy'
  modelLoaded: boolean
  dependencies: Record<Dependency, DependencyState>
}

export interface Probing {
  /** As it was found last. */
  report(): HealthReport
  /** Looks now, unless it was stopped. Never rejects. */
  refresh(): Promise<void>
  stop(): void
}

export interface ProbingOptions {
  probes: Probes
  /** Can any model be run? */
  anyModelLoaded(): Promise<boolean>
  log: Logger
  intervalMs?: number
}

/** The first look is the caller's: nothing is asked before refresh(), or the first interval is over. */
export function startProbing({ probes, anyModelLoaded, log, intervalMs = HEALTH_INTERVAL_MS }: ProbingOptions): Probing {
  const checks = DEPENDENCIES.flatMap(name => {
    const probe = probes[name]
    return probe === undefined ? [] : [[name, sharedCheck(probe, 0)] as const]
  })
  const states = Object.fromEntries(DEPENDENCIES.map(name => [name, disabled()])) as Record<Dependency, DependencyState>
  let modelLoaded = false
  const checkModels = sharedCheck(async () => { modelLoaded = await anyModelLoaded() }, 0)

  async function look(name: Dependency, check: () => Promise<void>): Promise<void> {
    const startedAt = performance.now()
    const was = states[name].status
    const found = await check().then(() => ({ status: 'up' as const }), (error: unknown) => ({ status: 'down' as const, error }))
    const seen = { status: found.status, latencyMs: Math.round(performance.now() - startedAt), checkedAt: Date.now() }
    states[name] = found.status === 'up' ? seen : { ...seen, error: found.error instanceof Down ? found.error.message : 'not reachable' }
    if (found.status === 'down' && was !== 'down') log.warn({ action: 'health.dependency.down', dependency: name, err: found.error })
    if (found.status === 'up' && was === 'down') log.info({ action: 'health.dependency.up', dependency: name })
  }

  async function lookAtAll(): Promise<void> {
    await Promise.all([...checks.map(([name, check]) => look(name, check)), checkModels().catch(() => {})]) // the records say why not
  }

  let looking: Promise<void> | undefined
  let stopped = false
  const refresh = async (): Promise<void> => {
    if (!stopped) await (looking ??= lookAtAll().finally(() => { looking = undefined }))
  }
  const timer = setInterval(() => void refresh(), intervalMs)
  timer.unref()

  return {
    report: () => ({ status: statusOf(states, modelLoaded), modelLoaded, dependencies: { ...states } }),
    refresh,
    stop() {
      stopped = true
      clearInterval(timer)
    }
  }
}

function disabled(): DependencyState {
  return { status: 'disabled', latencyMs: null, checkedAt: null }
}

function statusOf(states: Record<Dependency, DependencyState>, modelLoaded: boolean): HealthReport['status'] {
  const down = DEPENDENCIES.filter(name => states[name].status === 'down')
  if (down.some(name => VITAL.includes(name))) return 'unhealthy'
  return down.length > 0 || !modelLoaded ? 'degraded' : 'healthy'
}
