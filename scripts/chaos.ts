/**
 * npm run chaos -- [--minutes 10] [--keep]   (Linux only)
 *
 * Three nodes with the role of an API and two of workers, over one Postgres and one MinIO, behind nginx as docker/nginx.conf
 * has it. Clients upload, finalize, make jobs, cancel, retry and delete them, and listen, while processes are killed and
 * started again at random: mostly with SIGKILL, one at a time, all APIs or everything at once, or only the process in which a
 * model runs; now and then a node is asked to end with SIGTERM, as when a new version is rolled out, and has to do so in time.
 * When it is over, and no job waits or runs any more, it is checked, reading the stores directly:
 *   - every upload that was answered is there, whole, staged or finalized as its client was told
 *   - every job that was answered is there and has ended exactly once: one terminal event a run, no event lost, its results
 *     whole, also through the proxy; what was deleted is gone
 *   - listeners heard everything in order, whichever nodes they heard it from
 *   - no process outlived the one that started it, and none ended by itself
 * and when staging is swept and garbage collected:
 *   - no object is without a row, nothing is staged, no temporary file is left
 */
import { randomBytes, randomInt } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { readConfig } from '../src/config.ts'
import { openObjectStore, openRecordStore } from '../src/stores.ts'
import { endedByThemselves, endNode, killNode, killWorker, leftFiles, nodeOf, pidsOf, startMissing, temporaryFolder, type Node } from './rounds/cluster.ts'
import { allJobs, becomesQuiet, brokenByHttp, brokenJob, brokenPromises, unaccounted, within } from './rounds/job-checks.ts'
import { client, type JobWorld, type Told } from './rounds/job-clients.ts'
import { outliving } from './rounds/orphans.ts'
import { exitOnSignals } from './rounds/process.ts'
import { sharedStoresEnvironment, sweepAndCollect, unfinished, type Stores } from './rounds/stores.ts'
import { brokenUploads, noPromises, type Promised } from './rounds/upload-checks.ts'
import { uploadClient, type UploadWorld } from './rounds/upload-clients.ts'
import { balancerSite, startNginx } from './servers/nginx.ts'

const APIS = 3
const WORKERS = 2
const UPLOADERS = 4
const JOB_CLIENTS = 6
/** Between two blows, and before what was struck is started again. */
const BLOW_MIN_MS = 200
const BLOW_MAX_MS = 4_000
const REST_MAX_MS = 1_500
const JOB_MAX_ATTEMPTS = 3
const JOB_LEASE_MS = 3_000
const SHUTDOWN_GRACE_MS = 5_000
/** The grace, and what closing takes on a machine that does much else. */
const END_TIMEOUT_MS = 40_000
const QUIET_TIMEOUT_MS = 180_000
/** Workers end within 5 s of the death of their service. */
const ORPHAN_GRACE_MS = 8_000
/** Below the ports that systems give to connections: nobody else gets one while its node is down. */
const PORTS = { from: 20_000, to: 30_000 } as const

export interface ChaosReport {
  seconds: number, kills: number, workerKills: number, ends: number
  uploads: number, uploadsCutOff: number, finalized: number, finalizesAgain: number
  acknowledged: number, cutOff: number, cancels: number, retries: number, followed: number
  completed: number, failed: number, cancelled: number, deleted: number, again: number
  swept: number, collected: number, faults: string[]
}

export interface ChaosOptions {
  minutes: number
  /** of a MinIO and a Postgres that nobody else uses */
  env: Record<string, string>
  dataDir: string
  progress?: (text: string) => void
}

interface Scene { nodes: Node[], stores: Stores, tmp: string, url: string, headers: Record<string, string>, report: ChaosReport, told: Map<string, Told>, promised: Promised }

async function portToKeep(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to)
    const server = createServer()
    const free = await new Promise<boolean>(done => server.once('error', () => done(false)).listen(port, '127.0.0.1', () => done(true)))
    if (!free) continue
    await new Promise(done => server.close(done))
    return port
  }
}

async function cluster(env: Record<string, string>, dataDir: string, adminToken: string): Promise<Node[]> {
  const shared = {
    ADMIN_TOKEN: adminToken, TRUST_PROXY: '1', EXT_BUNDLES_RATELIMIT_MAX: '0', SWEEP_INTERVAL_SECONDS: '5', SHUTDOWN_GRACE_MS: String(SHUTDOWN_GRACE_MS),
    JOB_LEASE_MS: String(JOB_LEASE_MS), JOB_MAX_ATTEMPTS: String(JOB_MAX_ATTEMPTS), ...env
  }
  const apis = await Promise.all(Array.from({ length: APIS }, async (_, at) =>
    nodeOf({ name: `api-${at + 1}`, role: 'api', dataDir, env: { ...shared, PORT: String(await portToKeep()) } })))
  const workers = Array.from({ length: WORKERS }, (_, at) => nodeOf({ name: `worker-${at + 1}`, role: 'worker', dataDir, env: shared }))
  return [...apis, ...workers]
}

/** Strikes until the time is over or something is wrong. When it returns all nodes are up. */
async function strike({ nodes, tmp, report }: Scene, until: number, progress: ChaosOptions['progress']): Promise<void> {
  const healing = new Set<Promise<void>>()
  const heal = (node: Node, ending: Promise<unknown>): void => {
    const work = ending.then(() => delay(randomInt(REST_MAX_MS))).then(() => startMissing([node])).catch((error: unknown) => { report.faults.push(`${node.name}: ${String(error)}`) })
    healing.add(work)
    void work.then(() => healing.delete(work))
  }
  const kill = (victims: readonly Node[]): void => {
    for (const node of victims) heal(node, killNode(node))
    report.kills += victims.length
  }
  for (let blows = 0; performance.now() < until && report.faults.length === 0; blows += 1) {
    await delay(randomInt(BLOW_MIN_MS, BLOW_MAX_MS))
    report.faults.push(...endedByThemselves(nodes))
    const up = nodes.filter(({ service }) => service !== undefined)
    // on a slow machine they would be down all the time
    if (up.length <= nodes.length / 2) continue
    const one = up[randomInt(up.length)]!
    switch (randomInt(12)) {
      case 0: kill(up); break
      case 1: kill(up.filter(({ api }) => api)); break
      case 2: case 3: {
        heal(one, endNode(one, END_TIMEOUT_MS).then(faults => report.faults.push(...faults)))
        report.ends += 1
        break
      }
      case 4: case 5: report.workerKills += await killWorker(nodes, tmp); break
      default: kill([one])
    }
    if (blows % 10 === 0) progress?.(`${report.kills} killed, ${report.ends} ended, ${report.workerKills} workers killed; ${report.uploads} uploads and ${report.acknowledged} jobs answered, ${report.faults.length} faults`)
  }
  await Promise.all(healing)
}

/** Clients at work while nodes are struck. Returns the listeners, which go on until their jobs have ended. */
async function disturb(scene: Scene, until: number, progress: ChaosOptions['progress']): Promise<Promise<string[]>[]> {
  const { url, headers, report, told, promised } = scene
  const stop = new AbortController()
  const jobs: JobWorld = { url: async () => url, headers, proxied: true, stopping: stop.signal, told, followers: [], counts: report }
  const uploads: UploadWorld = { url, headers, stopping: stop.signal, promised, counts: report }
  const noted = (error: unknown): void => { report.faults.push(String(error)) }
  const clients = [
    ...Array.from({ length: UPLOADERS }, () => uploadClient(uploads).catch(noted)),
    ...Array.from({ length: JOB_CLIENTS }, () => client(jobs).catch(noted))
  ]
  await strike(scene, until, progress)
  stop.abort()
  await Promise.all(clients)
  report.followed = jobs.followers.length
  return jobs.followers
}

/** With all nodes up. */
async function checkAtRest({ nodes, stores, tmp, url, headers, report, told, promised }: Scene, followers: readonly Promise<string[]>[]): Promise<void> {
  for (const pid of await outliving(tmp, pidsOf(nodes), ORPHAN_GRACE_MS)) report.faults.push(`process ${pid} outlived its service`)
  report.faults.push(...await becomesQuiet(stores, QUIET_TIMEOUT_MS), ...endedByThemselves(nodes))
  for (const follower of followers) report.faults.push(...await within(follower.catch(error => [String(error)]), QUIET_TIMEOUT_MS, ['a listener did not hear the end of its job']))
  const jobs = await allJobs(stores)
  report.faults.push(...brokenPromises(jobs, told), ...await brokenUploads(stores, promised))
  for (const job of jobs) report.faults.push(...await brokenJob(stores, job, JOB_MAX_ATTEMPTS), ...await brokenByHttp(url, headers, job))
}

/** With all nodes gone. */
async function checkWhatIsLeft({ nodes, stores, tmp, report, told, promised }: Scene, dataDir: string): Promise<void> {
  for (const pid of await outliving(tmp, [], ORPHAN_GRACE_MS)) report.faults.push(`process ${pid} outlived its service`)
  Object.assign(report, await sweepAndCollect(stores))
  const jobs = await allJobs(stores)
  report.faults.push(...await brokenUploads(stores, { staged: new Map(), finalized: promised.finalized }))
  report.faults.push(...await unfinished(stores, dataDir), ...await unaccounted(stores, jobs), ...await leftFiles(dataDir, nodes))
  for (const status of ['completed', 'failed', 'cancelled'] as const) report[status] = jobs.filter(job => job.status === status).length
  report.again = jobs.filter(({ attempt }) => attempt > 1).length
  report.deleted = [...told.values()].filter(state => state === 'deleted').length
  report.finalized = promised.finalized.size
}

export async function chaos({ minutes, env, dataDir, progress }: ChaosOptions): Promise<ChaosReport> {
  const report: ChaosReport = {
    seconds: 0, kills: 0, workerKills: 0, ends: 0, uploads: 0, uploadsCutOff: 0, finalized: 0, finalizesAgain: 0,
    acknowledged: 0, cutOff: 0, cancels: 0, retries: 0, followed: 0, completed: 0, failed: 0, cancelled: 0, deleted: 0, again: 0, swept: 0, collected: 0, faults: []
  }
  const adminToken = randomBytes(24).toString('hex')
  const nodes = await cluster(env, dataDir, adminToken)
  const tmp = temporaryFolder(dataDir)
  await mkdir(tmp, { recursive: true })
  const nginx = await startNginx({ site: await balancerSite(nodes.filter(({ api }) => api).map(node => `127.0.0.1:${node.env.PORT}`)) })
  const config = readConfig(nodes[0]!.env)
  const stores: Stores = { store: openObjectStore(config), records: openRecordStore(config) }
  const all: Scene = { nodes, stores, tmp, url: nginx.url, headers: { authorization: `Bearer ${adminToken}` }, report, told: new Map(), promised: noPromises() }
  try {
    await startMissing(nodes)
    const begun = performance.now()
    const followers = await disturb(all, begun + minutes * 60_000, progress)
    report.seconds = Math.round((performance.now() - begun) / 1000)
    progress?.('all nodes are up again, and nobody asks for anything: checking')
    await checkAtRest(all, followers)
    await Promise.all(nodes.map(killNode))
    await checkWhatIsLeft(all, dataDir)
  } finally {
    await Promise.all(nodes.map(killNode))
    await nginx.stop()
    await stores.records.close()
    await stores.store.close()
  }
  return report
}

async function main(): Promise<void> {
  exitOnSignals()
  const { values } = parseArgs({ options: { minutes: { type: 'string', default: '10' }, keep: { type: 'boolean', default: false } } })
  const minutes = Number(values.minutes)
  if (!(minutes > 0)) throw new Error('--minutes takes a number above 0')
  const dataDir = await mkdtemp(join(tmpdir(), 'penstock-chaos-'))
  const { env, stop } = await sharedStoresEnvironment()
  try {
    const report = await chaos({ minutes, env, dataDir, progress: text => console.log(text) })
    console.log(JSON.stringify(report, null, 2))
    if (report.faults.length > 0) process.exitCode = 1
  } finally {
    await stop()
    if (values.keep) console.log(`data and logs are in ${dataDir}`)
    else await rm(dataDir, { recursive: true, force: true })
  }
}

if (import.meta.main) await main()
