/**
 * npm run job-rounds -- [--rounds 100] [--store fs|minio] [--keep]   (Linux only)
 *
 * Kills processes of the service with SIGKILL at random moments while clients make, follow, cancel, retry and delete jobs, over
 * and over on the same data: one process that does everything over files and SQLite, or one with the role of an API and two
 * of workers over MinIO and Postgres. Now and then it is a worker's process alone. After each round everything is started
 * again, and when no job waits or runs any more it is checked, reading the stores directly:
 *   - every job that was answered is there, and has ended: one terminal event a run, nothing behind it, no event lost
 *   - no job took more attempts than it may
 *   - inputs and results are there, whole and of the right hash; the results also through the service
 *   - what was deleted is gone
 *   - listeners heard everything in order, across the deaths of the service
 *   - no worker outlived its service
 * and after the last one, when staging is swept and garbage collected:
 *   - no object is without a row, nothing is staged, no temporary file is left
 */
import { randomInt } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { readConfig } from '../src/config.ts'
import type { JobRecord } from '../src/records/jobs-port.ts'
import { openObjectStore, openRecordStore } from '../src/stores.ts'
import { apiOf, endedByThemselves, killNode, killNodes, killWorker, leftFiles, nodesOf, pidsOf, startMissing, temporaryFolder, type Node } from './rounds/cluster.ts'
import { ADMIN, client, type JobWorld, type Told } from './rounds/job-clients.ts'
import { allJobs, becomesQuiet, brokenByHttp, brokenJob, brokenPromises, unaccounted, within } from './rounds/job-checks.ts'
import { outliving } from './rounds/orphans.ts'
import { exitOnSignals } from './rounds/process.ts'
import { sharedStoresEnvironment, sweepAndCollect, unfinished, type Stores } from './rounds/stores.ts'

const CLIENTS = 6
const MAX_LIFE_MS = 1500
const KILLS_MAX = 3
const JOB_MAX_ATTEMPTS = 3
const JOB_LEASE_MS = 1000
/** Leases that lapse, and the pauses before the second and the third attempt, with the time that the work takes. */
const QUIET_TIMEOUT_MS = 90_000
/** Workers end within 5 s of the death of their service. */
const ORPHAN_GRACE_MS = 6_000

export interface JobReport {
  rounds: number, kills: number, workerKills: number
  acknowledged: number, cutOff: number, cancels: number, retries: number, followed: number
  completed: number, failed: number, cancelled: number, deleted: number, again: number
  swept: number, collected: number, faults: string[]
}

export interface JobRoundsOptions {
  rounds: number
  /** of the stores */
  env: Record<string, string>
  /** one process with the role of an API and two of workers; they must share their stores */
  split: boolean
  dataDir: string
  progress?: (text: string) => void
}

interface Round { nodes: Node[], stores: Stores, tmp: string, report: JobReport, told: Map<string, Told> }

/** Returns what listeners found wrong. */
async function disturb({ nodes, tmp, report, told }: Round): Promise<Promise<string[]>[]> {
  const stop = new AbortController()
  const world: JobWorld = { url: () => apiOf(nodes), stopping: stop.signal, told, followers: [], counts: report }
  const clients = Array.from({ length: CLIENTS }, () => client(world).then(() => undefined, (error: unknown) => error))
  for (let left = randomInt(1, KILLS_MAX + 1); left > 0; left -= 1) {
    await delay(randomInt(30, MAX_LIFE_MS))
    if (left > 1 && randomInt(2) === 0) report.workerKills += await killWorker(nodes, tmp)
    else report.kills += await killNodes(nodes)
    if (left === 1) stop.abort()
    await startMissing(nodes)
  }
  for (const error of await Promise.all(clients)) if (error !== undefined) report.faults.push(String(error))
  report.followed += world.followers.length
  return world.followers
}

async function oneRound(round: Round, checked: Set<string>): Promise<void> {
  const { nodes, stores, report, told, tmp } = round
  await startMissing(nodes)
  const followers = await disturb(round)
  for (const pid of await outliving(tmp, pidsOf(nodes), ORPHAN_GRACE_MS)) report.faults.push(`process ${pid} outlived its service`)
  report.faults.push(...await becomesQuiet(stores, QUIET_TIMEOUT_MS), ...endedByThemselves(nodes))
  for (const follower of followers) report.faults.push(...await within(follower.catch(error => [String(error)]), QUIET_TIMEOUT_MS, ['a listener did not hear the end of its job']))
  const jobs = await allJobs(stores)
  report.faults.push(...brokenPromises(jobs, told))
  const url = await apiOf(nodes)
  for (const job of jobs.filter(({ id }) => !checked.has(id))) {
    report.faults.push(...await brokenJob(stores, job, JOB_MAX_ATTEMPTS), ...await brokenByHttp(url, ADMIN, job))
    checked.add(job.id)
  }
}

function countJobs(report: JobReport, jobs: readonly JobRecord[], told: ReadonlyMap<string, Told>): void {
  for (const status of ['completed', 'failed', 'cancelled'] as const) report[status] = jobs.filter(job => job.status === status).length
  report.again = jobs.filter(({ attempt }) => attempt > 1).length
  report.deleted = [...told.values()].filter(state => state === 'deleted').length
}

export async function jobRounds(options: JobRoundsOptions): Promise<JobReport> {
  const { rounds, dataDir, progress } = options
  const report: JobReport = {
    rounds, kills: 0, workerKills: 0, acknowledged: 0, cutOff: 0, cancels: 0, retries: 0, followed: 0,
    completed: 0, failed: 0, cancelled: 0, deleted: 0, again: 0, swept: 0, collected: 0, faults: []
  }
  const nodes = nodesOf({ ...options, env: { JOB_LEASE_MS: String(JOB_LEASE_MS), JOB_MAX_ATTEMPTS: String(JOB_MAX_ATTEMPTS), ...options.env } })
  const tmp = temporaryFolder(dataDir)
  await mkdir(tmp, { recursive: true })
  const config = readConfig(nodes[0]!.env)
  const stores: Stores = { store: openObjectStore(config), records: openRecordStore(config) }
  const told = new Map<string, Told>()
  const checked = new Set<string>()
  try {
    for (let round = 1; round <= rounds && report.faults.length === 0; round++) {
      await oneRound({ nodes, stores, tmp, report, told }, checked)
      progress?.(`round ${round}/${rounds}: ${report.acknowledged} jobs answered, ${report.kills} processes and ${report.workerKills} workers killed, ${report.faults.length} faults`)
    }
    await Promise.all(nodes.map(killNode))
    for (const pid of await outliving(tmp, [], ORPHAN_GRACE_MS)) report.faults.push(`process ${pid} outlived its service`)
    Object.assign(report, await sweepAndCollect(stores))
    const jobs = await allJobs(stores)
    for (const job of jobs) report.faults.push(...await brokenJob(stores, job, JOB_MAX_ATTEMPTS))
    report.faults.push(...await unfinished(stores, nodes[0]!.env.DATA_DIR!), ...await unaccounted(stores, jobs), ...await leftFiles(dataDir, nodes))
    countJobs(report, jobs, told)
  } finally {
    await Promise.all(nodes.map(killNode))
    await stores.records.close()
    await stores.store.close()
  }
  return report
}

async function main(): Promise<void> {
  exitOnSignals()
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' }, store: { type: 'string', default: 'fs' }, keep: { type: 'boolean', default: false } } })
  const dataDir = await mkdtemp(join(tmpdir(), 'penstock-job-rounds-'))
  const split = values.store === 'minio'
  const { env, stop } = split ? await sharedStoresEnvironment() : { env: {}, stop: async () => {} }
  try {
    const report = await jobRounds({ rounds: Number(values.rounds), env, split, dataDir, progress: text => console.log(text) })
    console.log(JSON.stringify(report, null, 2))
    if (report.faults.length > 0) process.exitCode = 1
  } finally {
    await stop()
    if (values.keep) console.log(`data and logs are in ${dataDir}`)
    else await rm(dataDir, { recursive: true, force: true })
  }
}

if (import.meta.main) await main()
