/**
 * GET /events: everything of the caller, as it happens. The id of an event is its sequence number, which a client gives back as
 * `Last-Event-ID`, or as `?after=`, to get what is behind it.
 *
 * Without one it begins now: `ready` says where that is, so that whoever connects again misses nothing. `gap` stands for events
 * that are not kept any more.
 */
import type { FastifyInstance, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../../config.ts'
import { holderOf } from '../../files/access.ts'
import type { ActivityWatchers } from '../../files/activity.ts'
import { mediaPath } from '../../files/media-path.ts'
import { callerOf } from '../../identity/guards.ts'
import { assertMayReadJobs } from '../../identity/permissions.ts'
import type { Principal } from '../../identity/principal.ts'
import type { ActivityEvent, ActivityRecords, Holder } from '../../records/access-port.ts'
import { sendEvents, type EventStreamOptions, type StreamEvent } from '../event-stream.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { anySecurity } from '../openapi.ts'
import { limited } from '../rate-limits.ts'
import { EventsHeaders, EventsQuery } from './jobs-schemas.ts'
import { activityErrors } from './media-errors.ts'
import { Activity } from './media-schemas.ts'

export interface ActivityRoutesOptions {
  activity: Pick<ActivityRecords, 'head'>
  watchers: ActivityWatchers
  config: Config
  guard: onRequestAsyncHookHandler
  events?: EventStreamOptions
}

export async function activityRoutes(app: FastifyInstance, { activity, watchers, config, guard, events = {} }: ActivityRoutesOptions): Promise<void> {
  app.get('/events', {
    onRequest: guard,
    exposeHeadRoute: false,
    config: { ...limited('file-read', 'events'), errors: activityErrors },
    schema: {
      tags: ['media'], security: anySecurity,
      summary: 'Watch everything of the caller',
      description: 'Server-sent events, with `Accept: application/x-ndjson` lines `{ seq, event, data }`: `job_queued`, `job_started`, `job_complete`, `job_failed`, `job_cancelled`, `job_removed`; `file_added`, `file_removed`, `media_added`, `media_removed`, `upload_finalized`. First comes `ready`; `gap` stands for events that are too old to be kept.',
      querystring: EventsQuery, headers: EventsHeaders,
      produces: ['text/event-stream', 'application/x-ndjson'],
      response: { 200: Activity }
    }
  }, async (request, reply) => {
    const principal = callerOf(request)
    const holder = holderOf(principal)
    const seen = (request.headers as EventsHeaders)['last-event-id'] ?? (request.query as EventsQuery).after
    const head = await activity.head(holder)
    // a number that was never given comes from other records than these
    const after = seen === undefined ? head : Math.min(Number(seen), head)
    const mayRead = mayReadJobs(principal, config)
    return sendEvents(request, reply, signal => eventsOf(watchers, holder, { after, mayRead, signal }), events)
  })
  refuseOtherMethods(app)
}

function mayReadJobs(principal: Principal, config: Config): boolean {
  try {
    assertMayReadJobs(principal, config)
    return true
  } catch {
    return false
  }
}

async function* eventsOf(watchers: ActivityWatchers, holder: Holder, { after, mayRead, signal }: { after: number, mayRead: boolean, signal: AbortSignal }): AsyncGenerator<StreamEvent> {
  yield { id: after, event: 'ready', data: { seq: after } }
  let seen = after
  for await (const event of watchers.watch(holder, after, signal)) {
    if (event.seq > seen + 1) yield { id: event.seq - 1, event: 'gap', data: { from: seen + 1, to: event.seq - 1 } }
    seen = event.seq
    if (mayRead || !event.event.startsWith('job_')) yield { id: event.seq, event: event.event, data: shown(holder, event) }
  }
}

function shown(holder: Holder, { data: { media_name: name, ...data }, createdAt }: ActivityEvent): Record<string, unknown> {
  return { ...data, ...typeof name === 'string' && { path: mediaPath(holder, name) }, at: new Date(createdAt).toISOString() }
}
