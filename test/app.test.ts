import { once } from 'node:events'
import assert from 'node:assert/strict'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { CHECK_TIMEOUT_MS } from '../src/limits.ts'
import { ownPostgresOrSkip } from './support/postgres.ts'
import { eventually } from './support/raw-client.ts'
import { startApp } from './support/start-app.ts'

t.test('every line of a start, a request and a stop says what it is about', async t => {
  const { app, url, logs, logged } = await startApp(t)
  await fetch(`${url}/livez`)
  await app.stop()
  t.same(logs.filter(line => typeof line.action !== 'string'), [])
  t.match(logged('http.listening'), [{ level: 'info', address: url }])
})

/** Nothing was said for so long: nobody waits for an answer. */
const QUIET_MS = 500

/** In front of a server: until it freezes, when nothing gets through any more and no connection ends. */
async function freezer(t: Test, target: URL) {
  const state = { frozen: false, connections: 0, lastAtMs: performance.now() }
  const sockets = new Set<Socket>()
  const server = createServer(from => {
    state.connections++
    const to = connect(Number(target.port), target.hostname)
    for (const [a, b] of [[from, to], [to, from]] as const) {
      sockets.add(a)
      a.on('error', () => {})
      a.on('data', chunk => {
        state.lastAtMs = performance.now()
        if (!state.frozen) b.write(chunk)
      })
      a.once('close', () => b.destroy())
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = new URL(target)
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const end = (): void => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(end)
  return { state, url: url.href, end }
}

t.test('records that say nothing make the service not ready in time, whoever asks and how often', async t => {
  const postgres = await ownPostgresOrSkip(t)
  if (postgres === undefined) return
  const { state, url, end } = await freezer(t, new URL(postgres.url))
  const service = await startApp(t, { DATABASE_URL: url })
  const ready = async (): Promise<number> => (await fetch(`${service.url}/readyz`)).status
  // the sweeps of the start have their answers
  await eventually(() => assert.ok(performance.now() - state.lastAtMs > QUIET_MS), 30_000)
  state.frozen = true
  const before = state.connections
  const began = performance.now()
  const statuses = await Promise.all(Array.from({ length: 30 }, ready))
  t.same(new Set(statuses), new Set([503]))
  t.ok(performance.now() - began < CHECK_TIMEOUT_MS + 2000, 'all of them soon after the time for one check')
  t.same(await Promise.all([ready(), ready()]), [503, 503])
  t.ok(state.connections - before <= 1, `${state.connections - before} connections were opened for them`)
  end()
})
