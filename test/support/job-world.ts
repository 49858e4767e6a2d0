/** The jobs domain as a node has it: real SQLite (or Postgres, where DATABASE_URL names one), a real store, workers that are played. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import pLimit from 'p-limit'
import type { Test } from 'tap'
import { readConfig, type Config } from '../../src/config.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { profilesOf } from '../../src/ingest/profiles.ts'
import { runningUploads } from '../../src/ingest/running.ts'
import { createSlots } from '../../src/ingest/slots.ts'
import type { IngestContext } from '../../src/ingest/context.ts'
import type { JobsContext } from '../../src/jobs/context.ts'
import type { JobInputRequest, JobRequest, JobService } from '../../src/jobs/port.ts'
import { startRunner, type Runner } from '../../src/jobs/runner.ts'
import { createJobService } from '../../src/jobs/service.ts'
import { isTerminal } from '../../src/jobs/watch.ts'
import { createWebhooks } from '../../src/jobs/webhooks.ts'
import { fsObjectStore } from '../../src/objects/fs.ts'
import { PROBE_PREFIX } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { probeStore } from '../../src/objects/probe.ts'
import { storeReadiness } from '../../src/objects/readiness.ts'
import type { JobEvent, JobRecord } from '../../src/records/jobs-port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { postgresRecordStore } from '../../src/records/postgres.ts'
import { sqliteRecordStore } from '../../src/records/sqlite.ts'
import { modelRow } from './model-rows.ts'
import { playedPool, type PlayedPool } from './played-pool.ts'
import { eventually } from './raw-client.ts'

export const ALICE: Principal = { kind: 'user', subject: 'alice', account: 'acme', clientId: 'app', scopes: ['penstock:job.read', 'penstock:job.write'] }
export const BOB: Principal = { ...ALICE, subject: 'bob' }
export const SERVICE: Principal = { ...ALICE, kind: 'client', subject: null }
export const ADMIN: Principal = { kind: 'admin', subject: null, account: null, clientId: null, scopes: [] }

export const TENSORS = [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2] }]

export interface World extends JobsContext {
  pool: PlayedPool
  service: JobService
  folder: string
  /** Starts a runner of this node, stopped at the end of the test. */
  run(context?: Partial<JobsContext>): Runner
  /** A job for `identity` by Alice, of these tensors. */
  create(request?: Partial<JobRequest & { input: JobInputRequest }>, principal?: Principal): Promise<JobRecord>
  /** The job once it is so. */
  when(id: string, check: (job: JobRecord) => boolean): Promise<JobRecord>
  ended(id: string): Promise<JobRecord>
  events(id: string): Promise<JobEvent[]>
  resultText(job: JobRecord, name?: string): Promise<string>
  keys(prefix?: string): Promise<string[]>
  logged(action: string): Record<string, unknown>[]
}

export interface WorldOptions {
  env?: Record<string, string>
  workers?: number
  /** Another node over the same records and objects. */
  beside?: World
  wrap?: (store: ObjectStore) => ObjectStore
  wrapRecords?: (records: RecordStore) => RecordStore
  webhookRetryMs?: number
  webhookLeaseMs?: number
}

/** What tests wait for is quick here: leases of a second and little grace. */
export async function jobWorld(t: Test, { env = {}, workers = 1, beside, wrap = each => each, wrapRecords = each => each, webhookRetryMs = 20, webhookLeaseMs = 30_000 }: WorldOptions = {}): Promise<World> {
  const folder = beside?.folder ?? await mkdtemp(join(tmpdir(), 'penstock-jobs-'))
  const config: Config = readConfig({ JOB_LEASE_MS: '1000', SHUTDOWN_GRACE_MS: '200', CANCEL_GRACE_MS: '100', DATA_DIR: folder, EXEC_TASKS_FILE: join(folder, 'commands.json'), ...env })
  const records = wrapRecords(config.DATABASE_URL === undefined ? sqliteRecordStore({ file: join(folder, 'records.db') }) : postgresRecordStore({ url: config.DATABASE_URL }))
  await records.migrate()
  const store = wrap(fsObjectStore({ root: join(folder, 'objects') }))
  const readiness = storeReadiness({ store, createBucket: true, probe: () => probeStore(store, records.multiparts), onProbed() {} })
  await readiness.ensure()
  const lines: Record<string, unknown>[] = []
  const write = (fields: Record<string, unknown>, message?: string): void => void lines.push({ ...fields, message })
  const log = { debug: write, info: write, warn: write, error: write }
  const pool = playedPool(store, workers)
  const running = runningUploads(records.uploads, () => {})
  const ingest: IngestContext = {
    config, store, readiness, records, running, spareParts: [], trust: undefined, profiles: profilesOf(config), manifestReaders: pLimit(1),
    slots: createSlots(config.MAX_CONCURRENT_UPLOADS, 1), checkModel: pool.checkModel
  }
  const webhooks = createWebhooks({ config, records, log, retryDelayMs: () => webhookRetryMs, closeGraceMs: 200, leaseMs: webhookLeaseMs, lookIntervalMs: 100 })
  const context: JobsContext = { node: randomUUID().slice(0, 8), config, store, readiness, records, pool, ingest, webhooks, log }
  const service = createJobService(context)
  const runners: Runner[] = []
  if (beside === undefined) await addModels(records, store)
  t.teardown(async () => {
    pool.play(undefined)
    await Promise.all(runners.map(runner => runner.stop()))
    await pool.close()
    await webhooks.close()
    running.close()
    await records.close()
    await store.close()
    if (beside === undefined) await rm(folder, { recursive: true, force: true })
  })

  async function when(id: string, check: (job: JobRecord) => boolean): Promise<JobRecord> {
    let found: JobRecord | undefined
    await eventually(async () => {
      found = await records.jobs.get(id)
      if (found === undefined || !check(found)) throw new Error(`the job is ${JSON.stringify(found)}`)
    }, 15_000)
    return found!
  }

  return {
    ...context, pool, service, folder,
    run(more = {}) {
      const runner = startRunner({ ...context, ...more })
      runners.push(runner)
      return runner
    },
    create: async (request = {}, principal = ALICE) => (await service.create(principal, { model: 'identity', input: { tensors: TENSORS }, ...request })).job,
    when,
    ended: id => when(id, isTerminal),
    events: id => records.jobs.events(id, 0, 1000),
    resultText: async (job, name = 'output.json') => text((await store.open(job.results.find(each => each.name === name)!.key)).body),
    async keys(prefix = '') {
      const keys: string[] = []
      for await (const { key } of store.list(prefix)) if (!key.startsWith(PROBE_PREFIX)) keys.push(key)
      return keys
    },
    logged: action => lines.filter(line => line.action === action)
  }
}

/** `identity` takes tensors, `resize` images, `command` anything. */
async function addModels(records: RecordStore, store: ObjectStore): Promise<void> {
  for (const [name, task] of [['identity', 'tensor'], ['resize', 'image-to-image'], ['command', 'exec']] as const) {
    const { sha256, key, manifest, signature } = modelRow({ name })
    await store.put(key, Buffer.from(name), { size: name.length })
    const claim = await records.objects.claim({ sha256, key, size: name.length, contentType: 'application/octet-stream' })
    await records.models.add({ name, version: '1', task, sha256, key, size: name.length, manifest, signature, claim: claim ?? null })
  }
}
