/**
 * One attempt at a job that was claimed, to one of these ends:
 *
 *   completed    from an earlier job's results, or: model run → results copied → one transaction
 *   failed       or back to the queue at a later time, where another attempt may help
 *   cancelled    where that was asked for
 *   released     back to the queue, where this node shuts down or has no worker after all
 *   nothing      where the job is another's by now
 *
 * What the worker has put into staging is deleted whatever the end: by then it is copied, or nobody's.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isPenstockError } from '../errors.ts'
import { InferenceFailed, type RunResult } from '../inference/port.ts'
import { RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS, RECORDS_RETRY_INTERVAL_MS } from '../limits.ts'
import { modelRef } from '../models/infer.ts'
import { ObjectStoreFailed } from '../objects/port.ts'
import type { JobFailure, JobRecord, JobStatus, ModelRecord, NewResult, Progress } from '../records/jobs-port.ts'
import { RecordStoreFailed } from '../records/port.ts'
import { jobRetryDelayMs } from './backoff.ts'
import type { JobsContext } from './context.ts'
import { noteClaim, noteEnd, observeRun } from './observer.ts'
import { progressNotes } from './progress-notes.ts'
import { stagingKeys } from '../inference/staging-keys.ts'
import { deleteStaged, publishResults } from './results.ts'

/** Why it is to end early. */
export type StopReason = 'lost' | 'cancel' | 'shutdown'

export interface Attempt {
  readonly job: JobRecord
  readonly token: string
  phase: 'preparing' | 'running' | 'persisting'
  /** Hints that come of what it writes itself: no reason to look whether somebody else changed the job. */
  ownHints: number
  /** the first reason counts */
  readonly stopped: StopReason | undefined
  stop(reason: StopReason): void
  readonly signal: AbortSignal
}

export function newAttempt(job: JobRecord, token: string): Attempt {
  const controller = new AbortController()
  return {
    job, token, phase: 'preparing', ownHints: 0, signal: controller.signal,
    get stopped() { return controller.signal.reason as StopReason | undefined },
    stop: reason => controller.abort(reason)
  }
}

/**
 * How an attempt ended: what the job is now, or `released` to the queue, `late` where it was another's by then, `left` where
 * that could not be noted.
 */
export type AttemptEnd = JobStatus | 'released' | 'late' | 'left'

/** Never rejects. */
export async function runAttempt(context: JobsContext, attempt: Attempt): Promise<AttemptEnd> {
  const { log } = context
  const facts = factsOf(attempt)
  log.debug({ action: 'jobs.attempt.begin', ...facts })
  noteClaim(context.observer, attempt.job)
  const startedAt = performance.now()
  try {
    const end = await tryToRun(context, attempt).catch((error: unknown) => endEarly(context, attempt, error))
    log.info({ action: 'jobs.attempt.end', result: end, ...facts, duration_ms: Math.round(performance.now() - startedAt) })
    noteEnd(context.observer, attempt.job, end)
    return end
  } catch (error) {
    // the lease will be over, and then it is somebody's again
    log.error({ action: 'jobs.attempt.left', ...facts, err: error })
    return 'left'
  }
}

function factsOf({ job }: Attempt): Record<string, unknown> {
  return { job_id: job.id, model: job.model.name, version: job.model.version, run: job.run, attempt: job.attempt }
}

async function tryToRun(context: JobsContext, attempt: Attempt): Promise<AttemptEnd> {
  const { job } = attempt
  const { jobs, models } = context.records
  const [memo, model] = await patiently(context, attempt, () => Promise.all([
    job.cache ? jobs.findMemo(job.memoKey, job.owner) : undefined,
    models.find(job.model.name, job.model.version)
  ]))
  const known = memo && await completeFrom(context, attempt, memo)
  if (known !== undefined) return known
  if (model?.sha256 !== job.model.sha256) throw new InferenceFailed('invalid_model', 'the model is not there any more')
  return await persist(context, attempt, await runModel(context, attempt, model))
}

/** Undefined where its results are gone after all. */
async function completeFrom(context: JobsContext, attempt: Attempt, memo: JobRecord): Promise<AttemptEnd | undefined> {
  const { files } = context.records
  const results = await Promise.all(memo.results.map(async ({ name, fileId, sha256, key, size, contentType }): Promise<NewResult> => {
    const filename = (await files.get(fileId))?.filename ?? name
    return { name, filename, sha256, key, size, contentType, claim: null }
  }))
  const outcome = await complete(context, attempt, { results, execution: { ...memo.execution!, cached: true } })
  return outcome === 'reclaim' ? undefined : outcome
}

async function runModel(context: JobsContext, attempt: Attempt, model: ModelRecord): Promise<RunResult> {
  const { job, token, signal } = attempt
  const notes = progressNotes(async progress => {
    try {
      if (!await noteProgress(context, attempt, progress)) attempt.stop('lost')
    } catch (error) {
      context.log.debug({ action: 'jobs.progress.failed', job_id: job.id, err: error })
    }
  })
  signal.throwIfAborted()
  const staging = stagingKeys()
  const watched = observeRun(context.observer, job)
  try {
    const running = context.pool.run({
      id: `${job.id}.${token.slice(0, 8)}`, task: job.task, model: modelRef(model), params: job.params,
      inputs: job.inputs.map(({ name, key, sha256, size, contentType }) => ({ name, key, sha256, size, contentType }))
    }, {
      signal, timeoutMs: context.config.JOB_TIMEOUT_MS,
      onStarted: () => {
        watched.started()
        notes.note({ stage: 'inference', progress: null, message: null })
      },
      onStaging: staging.add,
      onProgress: progress => notes.note(progress)
    })
    attempt.phase = 'running'
    return await running
  } catch (error) {
    // a worker that was killed removes nothing
    await deleteStaged(context, staging.all())
    throw error
  } finally {
    watched.over()
    await notes.end()
  }
}

/** False: the job is another's by now. */
async function noteProgress({ records }: JobsContext, attempt: Attempt, progress: Progress): Promise<boolean> {
  attempt.ownHints += 1
  try {
    return await records.jobs.progress(attempt.job.id, attempt.token, progress)
  } finally {
    attempt.ownHints = 0
  }
}

async function persist(context: JobsContext, attempt: Attempt, { results: staged, execution }: RunResult): Promise<AttemptEnd> {
  const { signal } = attempt
  attempt.phase = 'persisting'
  try {
    signal.throwIfAborted()
    const held = await patiently(context, attempt, () => noteProgress(context, attempt, { stage: 'persist', progress: null, message: null }))
    if (!held) return 'late'
    for (let tries = 1; tries <= RECLAIM_ATTEMPTS_MAX; tries++) {
      const results = await patiently(context, attempt, () => publishResults(context, staged, signal))
      signal.throwIfAborted()
      const outcome = await complete(context, attempt, { results, execution: { ...execution, cached: false } })
      if (outcome !== 'reclaim') return outcome
      await delay(RECLAIM_PAUSE_MS, undefined, { signal })
    }
    throw new InferenceFailed('storage_failed', 'a result is being collected')
  } finally {
    await deleteStaged(context, staged)
  }
}

type Done = Parameters<JobsContext['records']['jobs']['complete']>[2]

function complete(context: JobsContext, attempt: Attempt, done: Done) {
  return patiently(context, attempt, () => {
    attempt.ownHints += 1
    return context.records.jobs.complete(attempt.job.id, attempt.token, done)
  })
}

/** What became of it. @throws where the records cannot be reached for too long */
async function endEarly(context: JobsContext, attempt: Attempt, error: unknown): Promise<AttemptEnd> {
  const { job: { id }, token, stopped } = attempt
  const { config, records: { jobs } } = context
  const noted = <T>(note: () => Promise<T>): Promise<T> => patiently(context, attempt, () => {
    attempt.ownHints += 1
    return note()
  })
  if (stopped === 'lost') return 'late'
  if (stopped === 'cancel') return await noted(() => jobs.confirmCancel(id, token)) ? 'cancelled' : 'late'
  if (stopped === 'shutdown' || isOnesOwn(error)) return await noted(() => jobs.release(id, token)) ? 'released' : 'late'
  const { retryable, ...failure } = failureOf(error)
  logFailure(context, attempt, failure, error)
  const retry = retryable ? { at: Date.now() + jobRetryDelayMs(attempt.job.attempt), maxAttempts: config.JOB_MAX_ATTEMPTS } : undefined
  return await noted(() => jobs.fail(id, token, failure, retry)) ?? 'late'
}

/** Neither the job's fault nor the worker's. */
function isOnesOwn(error: unknown): boolean {
  return error instanceof InferenceFailed && (error.code === 'busy' || error.code === 'shutdown')
}

function logFailure({ log }: JobsContext, attempt: Attempt, { code }: JobFailure, error: unknown): void {
  log[code === 'internal_error' ? 'error' : 'info']({ action: 'jobs.attempt.failed', ...factsOf(attempt), code, err: error })
}

/** What a caller is told; what is no business of theirs stays in the log. */
export function failureOf(error: unknown): JobFailure & { retryable: boolean } {
  if (error instanceof RecordStoreFailed) return { code: 'records_unavailable', message: 'the record store was not available', retryable: true }
  if (error instanceof ObjectStoreFailed || isPenstockError(error)) return storageFailed()
  if (!(error instanceof InferenceFailed) || error.code === 'internal_error') return { code: 'internal_error', message: 'something went wrong here', retryable: error instanceof InferenceFailed && error.retryable }
  if (error.code === 'storage_failed') return storageFailed()
  return { code: error.code, message: error.message, retryable: error.retryable }
}

function storageFailed(): JobFailure & { retryable: boolean } {
  return { code: 'storage_failed', message: 'object storage failed', retryable: true }
}

/** Tries again while the records cannot be reached, as long as the lease may last; at shutdown not. What the model did is not done again for that. */
async function patiently<T>({ config }: JobsContext, attempt: Attempt, step: () => Promise<T>): Promise<T> {
  const until = performance.now() + config.JOB_LEASE_MS
  for (;;) {
    try {
      return await step()
    } catch (error) {
      if (!(error instanceof RecordStoreFailed) || performance.now() > until || attempt.stopped === 'shutdown') throw error
      await delay(RECORDS_RETRY_INTERVAL_MS)
    }
  }
}
