/** What must be true of jobs when all is quiet, read from the stores and not from the service. */
import { CANONICAL_PREFIX, parseCanonicalKey, STAGING_PREFIX } from '../../src/objects/keys.ts'
import type { JobEvent, JobRecord, JobResult, JobInput } from '../../src/records/jobs-port.ts'
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

/** Objects that neither a job nor a model accounts for, and models without their object. */
export async function unaccounted(stores: Stores, jobs: readonly JobRecord[]): Promise<string[]> {
  const { store, records } = stores
  const models = await records.models.list()
  const known = new Set([...models, ...jobs.flatMap(({ inputs, results }) => [...inputs, ...results])].map(({ sha256 }) => sha256))
  const faults: string[] = []
  for await (const { key } of store.list(CANONICAL_PREFIX)) {
    if (key.startsWith(STAGING_PREFIX)) continue
    const sha256 = parseCanonicalKey(key)?.sha256
    if (sha256 === undefined || !known.has(sha256)) faults.push(`${key} has no row`)
  }
  for (const { name, version, key, sha256 } of models) if (await digestOf(store, key) !== sha256) faults.push(`the model ${name} ${version} has no object that is whole`)
  return faults
}
