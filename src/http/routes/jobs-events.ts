/**
 * The events of a job as a stream. The id of an event is its sequence number, which a client gives back as `Last-Event-ID`, or as
 * `?after=`, to get what is behind it.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { callerOf } from '../../identity/guards.ts'
import type { Principal } from '../../identity/principal.ts'
import type { JobService } from '../../jobs/port.ts'
import { isPenstockError } from '../../errors.ts'
import type { JobEvent, JobRecord } from '../../records/jobs-port.ts'
import { sendEvents, type EventStreamOptions, type StreamEvent } from '../event-stream.ts'
import type { EventsHeaders, EventsQuery } from './jobs-schemas.ts'

export interface WatchOptions extends EventStreamOptions {
  jobs: JobService
  /** Of URLs of results, with the job as they are to be seen by whoever watches. */
  render(event: JobEvent, job: JobRecord | undefined): Record<string, unknown>
}

/** @throws JOB_NOT_FOUND, SERVICE_BUSY */
export async function sendJobEvents(request: FastifyRequest, reply: FastifyReply, id: string, options: WatchOptions): Promise<FastifyReply> {
  const principal = callerOf(request)
  const job = await options.jobs.get(principal, id)
  const seen = (request.headers as EventsHeaders)['last-event-id']
  // a browser connects again when a stream ends, for ever, unless it is told that there is nothing more (HTML, server-sent events)
  if (seen !== undefined && hasEnded(job) && Number(seen) >= job.lastSeq) return reply.code(204).send()
  const after = Number(seen ?? (request.query as EventsQuery).after ?? 0)
  return sendEvents(request, reply, signal => eventsOf(principal, id, after, signal, options), options)
}

function hasEnded({ status }: JobRecord): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled'
}

async function* eventsOf(principal: Principal, id: string, after: number, signal: AbortSignal, { jobs, render }: WatchOptions): AsyncGenerator<StreamEvent> {
  for await (const event of await jobs.watch(principal, id, after, signal)) {
    const job = event.event === 'generation_complete' ? await find(jobs, principal, id) : undefined
    yield { id: event.seq, event: event.event, data: render(event, job) }
  }
}

/** The job may have been removed since. */
async function find(jobs: JobService, principal: Principal, id: string): Promise<JobRecord | undefined> {
  try {
    return await jobs.get(principal, id)
  } catch (error) {
    if (isPenstockError(error, 'JOB_NOT_FOUND')) return undefined
    throw error
  }
}

