/**
 * What is looked at when Prometheus asks. The records are asked for the queue at most once in STORE_CHECK_TTL_MS, whoever
 * scrapes how often, and waited for CHECK_TIMEOUT_MS; while they do not answer there are no figures of the queue, and the
 * others are there all the same.
 */
import { Gauge, type Registry } from 'prom-client'
import type { HealthReport } from '../http/health/probing.ts'
import { sharedCheck } from '../http/shared-check.ts'
import type { QueueStats } from '../records/jobs-port.ts'

export interface GaugeSources {
  slotsInUse(): number
  slotsMax: number
  queue(): Promise<Pick<QueueStats, 'waiting' | 'running' | 'oldestCreatedAt'>>
  health(): HealthReport
  version: string
}

type Queue = Awaited<ReturnType<GaugeSources['queue']>>

export function addGauges(registry: Registry, { slotsInUse, slotsMax, queue, health, version }: GaugeSources): void {
  let latest: Queue | undefined
  const look = sharedCheck(async () => { latest = await queue() })
  const ofQueue = (name: string, help: string, value: (found: Queue) => number): Gauge => new Gauge({
    name, help, registers: [],
    async collect() {
      await look().then(() => this.set(value(latest!)), () => this.remove())
    }
  })
  const dependencies = new Gauge({
    name: 'penstock_dependency_up', help: 'What /health says of each dependency that is not disabled: 1 up, 0 down', labelNames: ['dependency'], registers: [],
    collect() {
      for (const [dependency, { status }] of Object.entries(health().dependencies)) {
        if (status !== 'disabled') this.set({ dependency }, status === 'up' ? 1 : 0)
      }
    }
  })
  const build = new Gauge({ name: 'penstock_build_info', help: 'Always 1', labelNames: ['version'], registers: [] })
  build.set({ version }, 1)
  const gauges = [
    ofQueue('penstock_jobs_waiting', 'Jobs of all nodes that wait', ({ waiting }) => waiting),
    ofQueue('penstock_jobs_running', 'Jobs of all nodes that run', ({ running }) => running),
    ofQueue('penstock_job_oldest_waiting_seconds', 'How long the oldest waiting job waits', ({ oldestCreatedAt }) => oldestCreatedAt === null ? 0 : Math.max(0, Date.now() - oldestCreatedAt) / 1000),
    new Gauge({ name: 'penstock_upload_slots_in_use', help: 'Bodies that are arriving', registers: [], collect() { this.set(slotsInUse()) } }),
    new Gauge({ name: 'penstock_upload_slots', help: 'Bodies that may arrive at once (MAX_CONCURRENT_UPLOADS)', registers: [], collect() { this.set(slotsMax) } }),
    new Gauge({ name: 'penstock_model_loaded', help: '1 where any model can be run', registers: [], collect() { this.set(health().modelLoaded ? 1 : 0) } }),
    dependencies, build
  ]
  for (const gauge of gauges) registry.registerMetric(gauge)
}
