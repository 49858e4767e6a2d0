/** A job and its events as callers see them: in answers, streams and webhooks. */
import type { JobEvent, JobExecution, JobFailure, JobInput, JobRecord, JobResult, StageTiming } from '../records/jobs-port.ts'
import type { Promotion } from '../records/promotions-port.ts'

export interface ShownInput { file_id?: string, sha256: string, size: number, content_type: string }
export interface ShownResult { name: string, file_id: string, url: string, size: number, sha256: string, content_type: string }
export interface ShownPromotion { job_id: string, source: string, target_object_key: string, size: number, sha256: string, promoted_at: string }
export interface ShownTiming { started_at: string, finished_at: string | null, duration_ms: number | null }

export interface ShownJob {
  job_id: string
  user_id: string | null
  client_id: string | null
  model: { name: string, version: string, sha256: string }
  status: JobRecord['status']
  stage: string | null
  progress: number | null
  /** there while a running job is being cancelled */
  cancel_requested?: true
  attempt: number
  created_at: string
  updated_at: string
  started_at?: string
  completed_at?: string
  input?: ShownInput
  results: ShownResult[]
  error?: JobFailure
  stage_timings: Record<string, ShownTiming>
  execution?: JobExecution
  promotions: ShownPromotion[]
}

/** `base` comes before paths: '' or an origin. */
export function showJob(job: JobRecord, base = ''): ShownJob {
  const input = job.inputs.find(({ name }) => name === 'input')
  return {
    job_id: job.id, user_id: job.userId, client_id: job.owner.clientId, model: job.model,
    status: job.status, stage: job.stage, progress: job.progress, attempt: job.attempt,
    ...(job.status === 'processing' && job.cancelRequested && { cancel_requested: true as const }),
    created_at: time(job.createdAt), updated_at: time(job.updatedAt),
    ...(job.startedAt !== null && { started_at: time(job.startedAt) }),
    ...(job.completedAt !== null && { completed_at: time(job.completedAt) }),
    ...(input && { input: showInput(input) }),
    results: job.results.map(result => showResult(job.id, result, base)),
    ...(job.failure && { error: job.failure }),
    stage_timings: Object.fromEntries(Object.entries(job.stageTimings).map(([stage, timing]) => [stage, showTiming(timing)])),
    ...(job.execution && { execution: job.execution }),
    promotions: job.promotions.map(promotion => showPromotion(job.id, promotion))
  }
}

/** The data of an event. With completion come the first result and the job, which a record of the event does not hold. */
export function showEventData({ event, data }: JobEvent, job: JobRecord | undefined, base = ''): Record<string, unknown> {
  if (event !== 'generation_complete' || job === undefined) return data
  const shown = showJob(job, base)
  return { ...data, result: shown.results[0] ?? null, job: shown }
}

function showInput({ fileId, sha256, size, contentType }: JobInput): ShownInput {
  return { ...(fileId !== null && { file_id: fileId }), sha256, size, content_type: contentType }
}

function showResult(jobId: string, { name, fileId, size, sha256, contentType }: JobResult, base: string): ShownResult {
  return { name, file_id: fileId, url: `${base}/api/v1/jobs/${jobId}/results/${encodeURIComponent(name)}`, size, sha256, content_type: contentType }
}

export function showPromotion(jobId: string, { source, target, size, sha256, promotedAt }: Promotion): ShownPromotion {
  return { job_id: jobId, source, target_object_key: target, size, sha256, promoted_at: time(promotedAt) }
}

function showTiming({ startedAt, finishedAt }: StageTiming): ShownTiming {
  return { started_at: time(startedAt), finished_at: finishedAt === null ? null : time(finishedAt), duration_ms: finishedAt === null ? null : finishedAt - startedAt }
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}
