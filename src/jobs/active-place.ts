/** A place among the active jobs of a user, held from before the body is read until the job is there, or is not to be. */
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { Log } from '../ingest/context.ts'
import { RESERVATION_TTL_MS } from '../limits.ts'
import type { JobRecord, JobRecords } from '../records/jobs-port.ts'
import type { Owner } from '../records/port.ts'

export interface ActivePlace {
  /** for create(), which gives it back; null: there is no limit */
  readonly reservation: string | null
  /** Never rejects: a place that could not be given back lapses. Idempotent. */
  release(): Promise<void>
}

export const noPlace: ActivePlace = { reservation: null, release: async () => {} }

/** @throws USER_HAS_ACTIVE_JOB */
export async function takePlace(jobs: JobRecords, { ACTIVE_JOBS_PER_USER: max }: Config, owner: Owner, userId: string | null, log: Log): Promise<ActivePlace> {
  if (max === 0) return noPlace
  const taken = await jobs.reserve({ clientId: owner.clientId, userId }, max)
  if (!('reservation' in taken)) throw hasActiveJob(taken.active)
  const { reservation } = taken
  const timer = setInterval(() => {
    jobs.touchReservation(reservation).catch((error: unknown) => log.warn({ action: 'jobs.reservation.failed', err: error }))
  }, RESERVATION_TTL_MS / 3)
  timer.unref()
  return {
    reservation,
    async release() {
      clearInterval(timer)
      await jobs.releaseReservation(reservation).catch((error: unknown) => log.warn({ action: 'jobs.reservation.failed', err: error }))
    }
  }
}

/** Null: it is not a job yet, its body is still arriving. */
function hasActiveJob(active: JobRecord | null): PenstockError {
  const details = active && { active_job_id: active.id, active_job_status: active.status, active_job_created_at: new Date(active.createdAt).toISOString() }
  return new PenstockError('USER_HAS_ACTIVE_JOB', details ? { details } : {})
}
