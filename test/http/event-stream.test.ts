import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { sendEvents, type EventProducer, type EventStreamOptions, type StreamEvent } from '../../src/http/event-stream.ts'
import { EVENT_STREAMS_MAX } from '../../src/limits.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startEdge } from '../support/start-edge.ts'

function streamOf(produce: EventProducer, options?: EventStreamOptions) {
  return async (app: FastifyInstance): Promise<void> => {
    app.get('/events', async (request, reply) => await sendEvents(request, reply, produce, options))
  }
}

async function* three(): AsyncGenerator<StreamEvent> {
  yield { id: 1, event: 'begun', data: { size: 3 } }
  yield { id: 2, event: 'moved', data: undefined }
  yield { event: 'ended', data: 'text with\nnewlines' }
}

/** Waits for its signal and says when it has ended. */
function waiting() {
  const state = { ended: false }
  async function* produce(signal: AbortSignal): AsyncGenerator<StreamEvent> {
    try {
      yield { event: 'begun', data: null }
      await once(signal, 'abort')
    } finally {
      state.ended = true
    }
  }
  return { state, produce }
}

const get = 'GET /events HTTP/1.1\r\nHost: x\r\n\r\n'

t.test('events are written as SSE and the stream ends with its producer', async t => {
  const { url } = await startEdge(t, { routes: [streamOf(three)] })
  const response = await fetch(`${url}/events`)
  t.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  t.equal(response.headers.get('cache-control'), 'no-store')
  t.equal(response.headers.get('x-accel-buffering'), 'no')
  t.equal(await response.text(), ':\n\nid: 1\nevent: begun\ndata: {"size":3}\n\nid: 2\nevent: moved\ndata: null\n\nevent: ended\ndata: "text with\\nnewlines"\n\n')
})

t.test('asked for as NDJSON they are lines', async t => {
  const { url } = await startEdge(t, { routes: [streamOf(three)] })
  const response = await fetch(`${url}/events`, { headers: { accept: 'application/x-ndjson' } })
  t.match(response.headers.get('content-type'), /^application\/x-ndjson/)
  const lines = (await response.text()).trimEnd().split('\n').map(line => JSON.parse(line) as unknown)
  t.same(lines, [{ seq: 1, event: 'begun', data: { size: 3 } }, { seq: 2, event: 'moved', data: null }, { seq: null, event: 'ended', data: 'text with\nnewlines' }])
})

async function* forged(): AsyncGenerator<StreamEvent> {
  yield { id: '1\ndata: forged', event: 'a\r\nevent: b', data: null }
}

t.test('newlines in an id or a name cannot make fields of their own', async t => {
  const { url } = await startEdge(t, { routes: [streamOf(forged)] })
  t.equal(await (await fetch(`${url}/events`)).text(), ':\n\nid: 1 data: forged\nevent: a event: b\ndata: null\n\n')
})

t.test('an idle stream sends heartbeats', async t => {
  const { produce } = waiting()
  const { url } = await startEdge(t, { routes: [streamOf(produce, { heartbeatMs: 20 })] })
  const response = await fetch(`${url}/events`)
  let text = ''
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk
    if (text.split(':\n\n').length > 4) break
  }
  t.match(text, /begun/)
})

t.test('a client that goes away ends the producer', async t => {
  const { state, produce } = waiting()
  const { app, port } = await startEdge(t, { routes: [streamOf(produce)] })
  const client = await rawClient(port)
  client.send(get)
  await once(client.socket, 'data')
  client.hangUp()
  await eventually(() => { if (!state.ended) throw new Error('not ended') })
  t.equal(app.eventStreams.size, 0)
})

async function* endless(signal: AbortSignal): AsyncGenerator<StreamEvent> {
  const data = 'x'.repeat(64 * 1024)
  while (!signal.aborted) yield { event: 'flood', data }
}

function counted(produce: EventProducer) {
  const state = { yielded: 0, ended: false }
  return {
    state,
    async *produce(signal: AbortSignal) {
      try {
        for await (const event of produce(signal)) {
          state.yielded++
          yield event
        }
      } finally {
        state.ended = true
      }
    }
  }
}

/** Connects, asks, and never reads. */
async function stalled(port: number) {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.pause()
  socket.write(get)
  return socket
}

t.test('a client that takes nothing holds the producer back, and ends it when it aborts', async t => {
  const { state, produce } = counted(endless)
  const { port } = await startEdge(t, { routes: [streamOf(produce)] })
  const socket = await stalled(port)
  let before = -1
  await eventually(async () => {
    const same = state.yielded > 0 && state.yielded === before
    before = state.yielded
    await delay(50)
    if (!same) throw new Error('still flowing')
  })
  t.ok(state.yielded < 1000, `only ${state.yielded} events were made for a client that reads none`)
  t.notOk(state.ended)
  socket.resetAndDestroy()
  await eventually(() => { if (!state.ended) throw new Error('not ended') })
})

t.test('a client that takes nothing for too long is given up', async t => {
  const { state, produce } = counted(endless)
  const { port, app } = await startEdge(t, { routes: [streamOf(produce, { heartbeatMs: 20, stallMs: 200 })] })
  const socket = await stalled(port)
  await eventually(() => { if (!state.ended) throw new Error('not ended') })
  t.equal(app.eventStreams.size, 0)
  socket.destroy()
})

t.test('an idle stream that is read is not taken for a stalled one', async t => {
  const { state, produce } = waiting()
  const { url } = await startEdge(t, { routes: [streamOf(produce, { heartbeatMs: 30, stallMs: 100 })] })
  const abort = new AbortController()
  const response = await fetch(`${url}/events`, { signal: abort.signal })
  const reader = response.body!.getReader()
  const until = performance.now() + 400
  while (performance.now() < until) t.equal((await reader.read()).done, false)
  t.notOk(state.ended)
  abort.abort()
})

t.test('closing the service ends open streams with a hint to come back', async t => {
  const { state, produce } = waiting()
  const { app, url } = await startEdge(t, { routes: [streamOf(produce)] })
  const response = await fetch(`${url}/events`)
  const text = response.text()
  await eventually(() => { if (app.eventStreams.size === 0) throw new Error('not open') })
  await app.close()
  t.match(await text, /begun[^]*retry: 3000\n\n$/)
  t.ok(state.ended)
})

t.test('there are only so many open streams; one more is told to come back', async t => {
  const { app, url } = await startEdge(t, { routes: [streamOf(three)] })
  const others = Array.from({ length: EVENT_STREAMS_MAX }, () => ({ end() {} }))
  for (const other of others) app.eventStreams.add(other)
  const refused = await fetch(`${url}/events`)
  t.equal(refused.status, 503)
  t.match(Number(refused.headers.get('retry-after')), /^[1-9]/)
  t.match(await refused.json(), { error: { code: 'service_busy' } })
  t.equal(app.eventStreams.size, EVENT_STREAMS_MAX)
  app.eventStreams.delete(others[0]!)
  t.equal((await fetch(`${url}/events`)).status, 200, 'a place was free again')
  app.eventStreams.clear()
})

async function* deaf(): AsyncGenerator<StreamEvent> {
  yield { event: 'begun', data: null }
  await new Promise(() => {})
}

t.test('a client that went before its stream began takes no place', async t => {
  const asked = Promise.withResolvers<void>()
  const route = async (app: FastifyInstance): Promise<void> => {
    app.get('/events', async (request, reply) => {
      asked.resolve()
      await once(reply.raw, 'close')
      return await sendEvents(request, reply, waiting().produce)
    })
  }
  const { app, port } = await startEdge(t, { routes: [route] })
  const socket = connect(port, '127.0.0.1', () => socket.write(get))
  await asked.promise
  socket.destroy()
  await delay(50)
  t.equal(app.eventStreams.size, 0)
})

t.test('closing the service does not wait for clients that take nothing, or for producers that do not listen', async t => {
  const flood = await startEdge(t, { routes: [streamOf(endless)] })
  const socket = await stalled(flood.port)
  await eventually(() => { if (flood.app.eventStreams.size === 0) throw new Error('not open') })
  await delay(100)
  await flood.app.close()
  socket.destroy()
  const silent = await startEdge(t, { routes: [streamOf(deaf)] })
  const response = await fetch(`${silent.url}/events`)
  const text = response.text()
  await silent.app.close()
  t.match(await text, /retry/)
})

async function* failing(): AsyncGenerator<StreamEvent> {
  yield { event: 'begun', data: null }
  await delay(20)
  throw new Error('the records are gone')
}

t.test('a producer that fails cuts the stream off, and the log says why', async t => {
  const { url, logged } = await startEdge(t, { routes: [streamOf(failing)] })
  await t.rejects((await fetch(`${url}/events`)).text())
  t.match(logged('http.response.cut'), [{ err: { message: 'the records are gone' } }])
})
