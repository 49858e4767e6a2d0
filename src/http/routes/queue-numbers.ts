/** The queue as callers see it. Of workers nothing that names a job, a process or memory: they are for all who may read jobs. */
import type { JobService } from '../../jobs/port.ts'

type Numbers = Awaited<ReturnType<JobService['queue']>>

/** ms; clocks of several nodes differ. */
function ageOf(createdAt: number | null): number | null {
  return createdAt === null ? null : Math.max(0, Date.now() - createdAt)
}

export function showQueue({ waiting, running, completed, failed, oldestCreatedAt, perModel, workers }: Numbers): object {
  return {
    waiting, running, completed, failed,
    oldest_age_ms: ageOf(oldestCreatedAt),
    models: perModel.map(({ model, ...counts }) => ({ name: model, ...counts })),
    workers
  }
}

/** The same as `/queues/stats` has it: there is one queue. */
export function showQueues({ waiting, running, completed, failed, oldestCreatedAt }: Numbers): object {
  return { queues: [{ name: 'jobs', waiting, running, completed, failed, oldest_age_ms: ageOf(oldestCreatedAt) }] }
}
