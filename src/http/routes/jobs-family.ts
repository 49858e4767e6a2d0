/** What the job routes share. */
import type { FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import { PenstockError } from '../../errors.ts'
import type { ObjectStore } from '../../objects/port.ts'
import type { JobRecord } from '../../records/jobs-port.ts'
import type { EventStreamOptions } from '../event-stream.ts'
import { limited } from '../rate-limits.ts'
import type { CreateContext, CreatedJob } from './jobs-create.ts'

export interface JobRoutesOptions extends CreateContext {
  store: ObjectStore
  guards: {
    read: onRequestAsyncHookHandler
    write: onRequestAsyncHookHandler
  }
  /** of event streams */
  events?: EventStreamOptions
}

/** Of /api/v1 and /generate: one budget. */
export const apiLimit = limited('api', 'api')

/** What is no id of a job is not looked up: it is a job that is not there. @throws JOB_NOT_FOUND */
export function jobIdOf(id: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw new PenstockError('JOB_NOT_FOUND')
  return id.toLowerCase()
}

/** Says that a job was made, or made before, and where it is. */
export function announce(reply: FastifyReply, { job, repeated }: CreatedJob, path: string): JobRecord {
  void reply.code(repeated ? 200 : 202).header('location', `${path}/${job.id}`)
  return job
}
