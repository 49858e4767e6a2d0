/** What must be true of jobs when all is quiet, read from the stores and not from the service. */
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { CANONICAL_PREFIX, parseCanonicalKey, STAGING_PREFIX } from '../../src/objects/keys.ts'
import type { JobEvent, JobRecord, JobResult, JobInput } from '../../src/records/jobs-port.ts'
import type { Told } from './job-clients.ts'
import { digestOf } from './stores.ts'
import type { Stores } from './stores.ts'

const PAGE = 100
const EVENTS_MAX = 10_000
const TERMINAL_EVENT = { completed: 'generation_complete', failed: 'generation_failed', cancelled: 'generation_cancelled' } as const
const TERMINAL_EVENTS = new Set<string>(Object.values(TERMINAL_EVENT))

export async function allJobs({ records }: Stores): Promise<JobRecord[]> {
  const found: JobRecord[] = []
  for (;;) {
    const last = found.at(-1)
    const page = await records.jobs.list({ limit: PAGE, ...(last !== undefined && { after: { createdAt: last.createdAt, id: last.id } }) })
    found.push(...page)
    if (page.length < PAGE) return found
  }
}

export async function brokenJob(stores: Stores, job: JobRecord, maxAttempts: number): Promise<string[]> {
  const faults: string[] = []
  const { id, status } = job
  if (status === 'queued' || status === 'processing') return [`${id} is ${status}`]
  if (job.attempt > maxAttempts) faults.push(`${id} took ${job.attempt} attempts`)
  if (job.attemptToken !== null) faults.push(`${id} is ${status} and still somebody's`)
  faults.push(...brokenEvents(job, await stores.records.jobs.events(id, 0, EVENTS_MAX)))
  if (status === 'completed') {
    if (job.results.length === 0) faults.push(`${id} is completed without a result`)
    if (job.progress !== 100) faults.push(`${id} is completed at ${job.progress} %`)
  } else if (job.results.length > 0) faults.push(`${id} is ${status} and has results`)
  for (const object of [...job.inputs, ...job.results]) faults.push(...await brokenObject(stores, id, object))
  return faults
}

async function brokenObject({ store }: Stores, id: string, { name, key, sha256 }: JobInput | JobResult): Promise<string[]> {
  const digest = await digestOf(store, key)
  return digest === sha256 ? [] : [`${name} of ${id} has ${digest === undefined ? 'no object' : `an object of ${digest}`} where its row says ${sha256}`]
}

/** Numbers may be missing only where a later progress event took the place of earlier ones, which may be in a later run. */
export function brokenEvents({ id, run, status, lastSeq }: Pick<JobRecord, 'id' | 'run' | 'status' | 'lastSeq'>, events: readonly JobEvent[]): string[] {
  const faults: string[] = []
  const terminal = events.filter(({ event }) => TERMINAL_EVENTS.has(event))
  if (terminal.length !== run) faults.push(`${id} has ${terminal.length} terminal events in ${run} runs`)
  const last = events.at(-1)
  if (last?.event !== TERMINAL_EVENT[status as keyof typeof TERMINAL_EVENT]) faults.push(`${id} is ${status} and its last event is ${last?.event}`)
  if (last?.seq !== lastSeq) faults.push(`${id} says that its last event is ${lastSeq}, and it is ${last?.seq}`)
  if (events[0]?.event !== 'generation_started' || events[0].seq !== 1) faults.push(`${id} begins with event ${events[0]?.seq} ${events[0]?.event}`)
  for (let at = 1; at < events.length; at += 1) {
    const [before, now] = [events[at - 1]!.seq, events[at]!.seq]
    if (now <= before) faults.push(`${id} has event ${now} behind ${before}`)
    if (now > before + 1 && !events.slice(at).some(({ event }) => event === 'generation_progress')) faults.push(`${id} lost its events between ${before} and ${now}`)
  }
  return faults
}

/** Objects that neither a job nor a model nor a finalized upload accounts for, and models without their object. */
export async function unaccounted(stores: Stores, jobs: readonly JobRecord[]): Promise<string[]> {
  const { store, records } = stores
  const models = await records.models.list()
  const known = new Set([...models, ...jobs.flatMap(({ inputs, results }) => [...inputs, ...results])].map(({ sha256 }) => sha256))
  const faults: string[] = []
  for await (const { key } of store.list(CANONICAL_PREFIX)) {
    if (key.startsWith(STAGING_PREFIX)) continue
    const sha256 = parseCanonicalKey(key)?.sha256
    if (sha256 !== undefined && known.has(sha256)) continue
    if (await records.uploads.findFinalized(key) === undefined) faults.push(`${key} has no row`)
  }
  for (const { name, version, key, sha256 } of models) if (await digestOf(store, key) !== sha256) faults.push(`the model ${name} ${version} has no object that is whole`)
  return faults
}

/** Waits until no job waits or runs. Returns a fault where that does not come. */
export async function becomesQuiet({ records }: Stores, timeoutMs: number): Promise<string[]> {
  for (const deadline = performance.now() + timeoutMs; ;) {
    const { waiting, running } = await records.jobs.stats()
    if (waiting + running === 0) return []
    if (performance.now() > deadline) return [`${waiting} jobs wait and ${running} run, though nobody makes any`]
    await delay(100)
  }
}

/** Results that the service does not answer with, or not with the bytes of their row. */
export async function brokenByHttp(url: string, headers: Record<string, string>, job: JobRecord): Promise<string[]> {
  const faults: string[] = []
  for (const { name, sha256 } of job.results) {
    const response = await fetch(`${url}/api/v1/jobs/${job.id}/results/${name}`, { headers })
    const digest = createHash('sha256').update(new Uint8Array(await response.arrayBuffer())).digest('hex')
    if (response.status !== 200 || digest !== sha256) faults.push(`${name} of ${job.id} is answered with ${response.status} and ${digest}`)
  }
  return faults
}

/** Jobs that were answered and are not there, or were deleted and are. */
export function brokenPromises(jobs: readonly JobRecord[], told: ReadonlyMap<string, Told>): string[] {
  const there = new Set(jobs.map(({ id }) => id))
  return [...told].flatMap(([id, state]) => {
    if (state === 'kept' && !there.has(id)) return [`${id} was answered and is not there`]
    if (state === 'deleted' && there.has(id)) return [`${id} was deleted and is there`]
    return []
  })
}

export async function within<T>(work: Promise<T>, ms: number, otherwise: T): Promise<T> {
  const stop = new AbortController()
  const late = delay(ms, otherwise, { signal: stop.signal }).catch(() => otherwise)
  return await Promise.race([work, late]).finally(() => stop.abort())
}
