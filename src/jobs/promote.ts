/**
 * Copies a result of a completed job to the file gateway, under a key of the caller's choice.
 *
 *   owner ─▶ completed ─▶ source ─▶ key ─▶ promoted before? its entry ─▶ sent (one of those that want the same) ─▶ recorded
 *
 * The checks are made in this order, so that a caller is told of the first that fails. A failure changes nothing of the job. The
 * time limit counts from when the checks were passed, with all that is waited for.
 */
import type { Config } from '../config.ts'
import { isPenstockError, PenstockError } from '../errors.ts'
import { assertMayWriteJobs } from '../identity/permissions.ts'
import type { Principal } from '../identity/principal.ts'
import type { Log } from '../ingest/context.ts'
import { PROMOTIONS_MAX, PROMOTIONS_RETRY_AFTER_SECONDS, SHUTDOWN_RETRY_AFTER_SECONDS } from '../limits.ts'
import { Deadline } from '../objects/deadline.ts'
import type { JobRecord, JobResult } from '../records/jobs-port.ts'
import type { RecordStore } from '../records/port.ts'
import type { Promotion } from '../records/promotions-port.ts'
import { findJob } from './find-job.ts'
import type { FileGateway } from './promote-gateway.ts'
import { assertObjectKey } from './promote-key.ts'
import { promoteOnce } from './promote-turn.ts'

export interface PromoteRequest { source: string, target_object_key: string, force?: boolean }

export interface PromoteService {
  /**
   * @throws JOB_NOT_FOUND, JOB_NOT_READY_FOR_PROMOTE, SOURCE_NOT_AVAILABLE, INVALID_OBJECT_KEY, AUTH_SERVICE_UNAVAILABLE,
   * FILE_GATEWAY_UNAVAILABLE, S3_GET_FAILED, SERVICE_BUSY; the signal's reason
   */
  promote(principal: Principal, id: string, request: PromoteRequest, signal: AbortSignal): Promise<Promotion>
  /** Ends what is under way, and waits for that. */
  close(): Promise<void>
}

export interface PromoteContext {
  config: Pick<Config, 'SCOPE_JOB_WRITE' | 'PROMOTE_TIMEOUT_MS'>
  records: Pick<RecordStore, 'jobs' | 'promotions'>
  /** undefined: none is configured */
  gateway: FileGateway | undefined
  log: Log
}

/** What was put in is no result: the stage that made it is none that can be promoted. */
const INGEST_STAGE = 'ingest'

export function createPromoteService(context: PromoteContext): PromoteService {
  const closing = new AbortController()
  const underWay = new Set<Promise<unknown>>()

  async function copy(job: JobRecord, result: JobResult, { source, target_object_key: target, force = false }: PromoteRequest, signal: AbortSignal): Promise<Promotion> {
    const { records: { promotions }, gateway, log, config } = context
    if (gateway === undefined) throw new PenstockError('FILE_GATEWAY_UNAVAILABLE', { cause: new Error('FILE_GATEWAY_BASE_URL is not set') })
    const wanted = { jobId: job.id, source, target, size: result.size, sha256: result.sha256 }
    const limit = new Deadline(AbortSignal.any([signal, closing.signal]), config.PROMOTE_TIMEOUT_MS)
    const startedAt = performance.now()
    const send = async (): Promise<void> => {
      await gateway.put(target, result, limit.signal)
      log.info({ action: 'jobs.promote.sent', job_id: job.id, source, bytes: result.size, duration_ms: Math.round(performance.now() - startedAt) })
    }
    try {
      const promotion = await promoteOnce({ promotions, log }, wanted, force, send, limit.signal)
      if (promotion === undefined) throw new PenstockError('JOB_NOT_FOUND')
      return promotion
    } catch (error) {
      signal.throwIfAborted()
      closing.signal.throwIfAborted()
      // whatever it was waiting for when its time was over
      throw limit.signal.aborted && !isPenstockError(error) ? new PenstockError('FILE_GATEWAY_UNAVAILABLE', { cause: limit.signal.reason }) : error
    } finally {
      limit.release()
    }
  }

  /** Those that wait for another of the same count as well. */
  async function withinBound<T>(work: () => Promise<T>): Promise<T> {
    closing.signal.throwIfAborted()
    if (underWay.size >= PROMOTIONS_MAX) throw new PenstockError('SERVICE_BUSY', { retryAfterSeconds: PROMOTIONS_RETRY_AFTER_SECONDS })
    const working = work()
    underWay.add(working)
    try {
      return await working
    } finally {
      underWay.delete(working)
    }
  }

  return {
    async promote(principal, id, request, signal) {
      assertMayWriteJobs(principal, context.config)
      const job = await findJob(context.records.jobs, principal, id)
      if (job.status !== 'completed') throw new PenstockError('JOB_NOT_READY_FOR_PROMOTE', { details: { status: job.status } })
      const result = resultOf(job, request.source)
      if (result === undefined) throw new PenstockError('SOURCE_NOT_AVAILABLE')
      assertObjectKey(request.target_object_key)
      const earlier = request.force === true ? undefined : promotionOf(job, request)
      return earlier ?? await withinBound(() => copy(job, result, request, signal))
    },
    async close() {
      closing.abort(new PenstockError('SERVICE_BUSY', { retryAfterSeconds: SHUTDOWN_RETRY_AFTER_SECONDS }))
      await Promise.allSettled(underWay)
    }
  }
}

/** A result by its name; or by a stage that the job went through since its input was there, which stands for its first result. */
function resultOf({ results, stageTimings }: JobRecord, source: string): JobResult | undefined {
  const named = results.find(({ name }) => name === source)
  return named ?? (source !== INGEST_STAGE && Object.hasOwn(stageTimings, source) ? results[0] : undefined)
}

function promotionOf({ promotions }: JobRecord, { source, target_object_key: target }: PromoteRequest): Promotion | undefined {
  return promotions.find(each => each.source === source && each.target === target)
}
