/**
 * Streams of events, as SSE or (`Accept: application/x-ndjson`) as lines `{ seq, event, data }`.
 *
 * One generator takes from the producer and yields text; Fastify sends it as a stream, which gives back-pressure. It ends,
 * and with it the producer, when the producer ends, the client goes, the client takes nothing for too long, or the service
 * shuts down. The producer's signal says so first, since a generator that waits cannot be ended from outside.
 */
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PenstockError } from '../errors.ts'
import { EVENT_CLOSE_GRACE_MS, EVENT_HEARTBEAT_INTERVAL_MS, EVENT_RETRY_MS, EVENT_STALL_TIMEOUT_MS, EVENT_STREAMS_MAX, EVENT_STREAMS_RETRY_AFTER_SECONDS } from '../limits.ts'

export interface StreamEvent {
  /** What a client gives back as Last-Event-ID. */
  id?: string | number
  event: string
  data: unknown
}

/** Makes the events; ends soon after the signal aborts. */
export type EventProducer = (signal: AbortSignal) => AsyncIterable<StreamEvent>

interface EventStream { end(): void }

declare module 'fastify' {
  interface FastifyInstance {
    eventStreams: Set<EventStream>
  }
}

/** Ends open streams when `app` closes, which would otherwise wait for their clients. */
export function endEventStreamsOnClose(app: FastifyInstance): void {
  const streams = new Set<EventStream>()
  app.decorate('eventStreams', streams)
  app.addHook('preClose', async () => {
    for (const stream of streams) stream.end()
  })
}

interface Format {
  readonly contentType: string
  /** Sent at once, so that the client sees its headers. */
  readonly opening: string
  readonly heartbeat: string
  readonly farewell: string
  write(event: StreamEvent): string
}

function singleLine(value: string | number): string {
  return String(value).replaceAll(/[\r\n\0]+/g, ' ')
}

const sse: Format = {
  contentType: 'text/event-stream; charset=utf-8',
  opening: ':\n\n',
  heartbeat: ':\n\n',
  farewell: `retry: ${EVENT_RETRY_MS}\n\n`,
  write: ({ id, event, data }) =>
    `${id === undefined ? '' : `id: ${singleLine(id)}\n`}event: ${singleLine(event)}\ndata: ${JSON.stringify(data ?? null)}\n\n`
}

const ndjson: Format = {
  contentType: 'application/x-ndjson; charset=utf-8',
  opening: '',
  heartbeat: '\n',
  farewell: '',
  write: ({ id, event, data }) => `${JSON.stringify({ seq: id ?? null, event, data: data ?? null })}\n`
}

interface EventDocs { description: string, content: Record<string, { schema: object, example: string }> }

/** Before OpenAPI 3.2, the schema of an event stream is read as that of one event. */
const sseEvent = { type: 'object', properties: { id: { type: 'string' }, event: { type: 'string' }, data: { type: 'string', description: 'JSON' } } }

/** The answer of a route that streams events, for its documentation: each media type with these as its example. */
export function eventDocs(description: string, examples: readonly StreamEvent[]): EventDocs {
  const exampleOf = ({ write }: Format): string => examples.map(write).join('')
  return {
    description,
    content: { 'text/event-stream': { schema: sseEvent, example: exampleOf(sse) }, 'application/x-ndjson': { schema: { type: 'string' }, example: exampleOf(ndjson) } }
  }
}

interface Times { heartbeatMs: number, stallMs: number }

/** The text of a stream. `stalled` is called when the client has taken nothing for `stallMs`. */
async function* textOf(produce: EventProducer, format: Format, stop: AbortController, stalled: () => void, times: Times): AsyncGenerator<string> {
  const events = produce(stop.signal)[Symbol.asyncIterator]()
  let outcome: { result: IteratorResult<StreamEvent> } | { error: unknown } | undefined
  let wake: (() => void) | undefined
  const pull = async () => {
    outcome = undefined
    try {
      outcome = { result: await events.next() }
    } catch (error) {
      outcome = { error }
    }
    wake?.()
  }
  /** Until there is an outcome, a stop, or it is time for a heartbeat. */
  const wait = async () => {
    if (outcome !== undefined || stop.signal.aborted) return
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>(resolve => {
      wake = resolve
      timer = setTimeout(resolve, times.heartbeatMs)
    })
    clearTimeout(timer)
  }
  stop.signal.addEventListener('abort', () => wake?.(), { once: true })
  const stall = setTimeout(stalled, times.stallMs)
  try {
    if (format.opening !== '') yield format.opening
    void pull()
    while (!stop.signal.aborted) {
      stall.refresh()
      await wait()
      stall.refresh()
      if (stop.signal.aborted) break
      if (outcome === undefined) {
        yield format.heartbeat
        continue
      }
      const done: { result: IteratorResult<StreamEvent> } | { error: unknown } = outcome
      if ('error' in done) throw done.error
      if (done.result.done === true) return
      const text = format.write(done.result.value)
      void pull()
      yield text
    }
    if (format.farewell !== '') yield format.farewell
  } finally {
    clearTimeout(stall)
    stop.abort()
    // not awaited: a producer that waits for something else must not keep the answer from ending
    events.return?.().catch(() => {})
  }
}

export interface EventStreamOptions {
  /** Between heartbeats of an idle stream. */
  heartbeatMs?: number
  /** How long a client may take nothing. */
  stallMs?: number
}

/**
 * Answers with the events of `produce`. Call it last in a handler and return what it returns.
 * @throws SERVICE_BUSY where EVENT_STREAMS_MAX are open
 */
export function sendEvents(request: FastifyRequest, reply: FastifyReply, produce: EventProducer, options: EventStreamOptions = {}): FastifyReply {
  const format = request.headers.accept?.includes('application/x-ndjson') === true ? ndjson : sse
  const times = { heartbeatMs: options.heartbeatMs ?? EVENT_HEARTBEAT_INTERVAL_MS, stallMs: options.stallMs ?? EVENT_STALL_TIMEOUT_MS }
  const { eventStreams } = request.server
  // it went while the caller of this was asking for something: its 'close' is over, and would not be heard any more
  if (reply.raw.destroyed) return reply.hijack()
  if (eventStreams.size >= EVENT_STREAMS_MAX) throw new PenstockError('SERVICE_BUSY', { retryAfterSeconds: EVENT_STREAMS_RETRY_AFTER_SECONDS })
  const stop = new AbortController()
  const stream: EventStream = {
    end() {
      stop.abort()
      // a client that takes nothing does not get the farewell either
      const timer = setTimeout(() => reply.raw.destroy(), EVENT_CLOSE_GRACE_MS)
      reply.raw.once('close', () => clearTimeout(timer))
    }
  }
  eventStreams.add(stream)
  reply.raw.once('close', () => {
    eventStreams.delete(stream)
    stop.abort()
  })
  void reply.headers({ 'content-type': format.contentType, 'cache-control': 'no-store', 'x-accel-buffering': 'no' })
  return reply.send(Readable.from(textOf(produce, format, stop, () => reply.raw.destroy(), times)))
}
