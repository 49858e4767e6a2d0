import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { flatErrors } from '../../src/http/errors.ts'
import { limited } from '../../src/http/rate-limits.ts'
import { requireCaller, requireIngest } from '../../src/identity/guards.ts'
import type { Config } from '../../src/config.ts'
import { startEdge } from '../support/start-edge.ts'

const BODY_BYTES = 50 * 1024 * 1024

async function routes(app: FastifyInstance, { config }: { config: Config }): Promise<void> {
  flatErrors(app)
  app.post('/ingest', { onRequest: requireIngest(config), config: limited('ingest', 'x') }, async request => ({ got: request.body }))
  app.post('/caller', { onRequest: requireCaller() }, async () => ({ ok: true }))
}

const env = { ADMIN_TOKEN: 'a-token-of-the-admin' }
const authorization = `Bearer ${env.ADMIN_TOKEN}`

function head(path: string, more = ''): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${BODY_BYTES}${more}`
}

/** Sends the head, then zeros for as long as the socket takes them. Returns when the socket is closed. */
async function sendForEver(port: number, start: string, bodyBytes = BODY_BYTES) {
  const socket = connect(port, '127.0.0.1')
  const chunk = Buffer.alloc(64 * 1024)
  let answer = ''
  let sent = 0
  socket.on('data', (data: Buffer) => { answer += data.toString('latin1') })
  socket.on('error', () => {})
  socket.write(`${start}\r\n\r\n`)
  const pump = () => {
    while (sent < bodyBytes && !socket.destroyed && socket.writable) {
      sent += chunk.length
      if (!socket.write(chunk)) return void socket.once('drain', pump)
    }
  }
  pump()
  await new Promise(resolve => { socket.once('close', resolve) })
  return { answer }
}

t.test('a refused caller that goes on sending gets its answer and is cut off', async t => {
  const { port, lines } = await startEdge(t, { env, routes: [routes] })
  for (const [path, headers, status] of [
    ['/ingest', '', 403],
    ['/ingest', '\r\nAuthorization: Bearer wrong', 401],
    ['/caller', '\r\nAuthorization: Bearer wrong', 401]
  ] as const) {
    const { answer } = await sendForEver(port, head(path, headers))
    t.match(answer, new RegExp(`^HTTP/1.1 ${status} `), `${path} ${status}`)
    t.match(answer, /\r\nconnection: close\r\n/i)
  }
  t.equal(lines.filter(line => line.action === 'http.request.completed').length, 3, 'one line each')
})

t.test('the body of a refused request is not drained', async t => {
  const { app, port } = await startEdge(t, { env, routes: [routes] })
  const connected = once(app.server, 'connection')
  await sendForEver(port, head('/ingest'))
  const [{ bytesRead }] = await connected as [Socket]
  t.ok(bytesRead > 0 && bytesRead < 1024 * 1024, `of 50 MiB ${bytesRead} bytes were read`)
})

t.test('a refused client that is well-behaved reads the answer although it sends 50 MiB', async t => {
  const { url } = await startEdge(t, { env, routes: [routes] })
  for (let round = 0; round < 3; round++) {
    const response = await fetch(`${url}/ingest`, { method: 'POST', body: new Uint8Array(BODY_BYTES) })
    t.equal(response.status, 403)
    t.equal(response.headers.get('connection'), 'close')
    t.match(await response.json(), { code: 'RBAC_FORBIDDEN' })
  }
})

async function curl(url: string, ...args: string[]): Promise<{ code: unknown, out: string }> {
  const child = spawn('curl', ['-sS', '-i', '--max-time', '20', '-X', 'POST', '--data-binary', '@-', '-H', 'content-type: application/json', ...args, url])
  child.stdin.on('error', () => {})
  child.stdin.end(Buffer.alloc(BODY_BYTES))
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[unknown]>])
  return { code, out }
}

t.test('curl reads the answer, with and without Expect', async t => {
  const { url } = await startEdge(t, { env, routes: [routes] })
  for (const expect of ['Expect:', 'Expect: 100-continue']) {
    const { code, out } = await curl(`${url}/ingest`, '-H', expect)
    t.equal(code, 0, expect)
    t.match(out, /^HTTP\/1\.1 403 /, 'no 100 Continue before it')
    t.match(out, /"RBAC_FORBIDDEN"/)
  }
})

t.test('an error that comes before the body was read ends the connection, whatever the error', async t => {
  const { port } = await startEdge(t, { env: { ...env, EXT_BUNDLES_RATELIMIT_MAX: '1' }, routes: [routes] })
  for (const [request, status] of [
    [head('/nowhere'), 404],
    [head('/livez'), 405],
    [head('/ingest', `\r\nAuthorization: ${authorization}`), 413],
    [head('/ingest', `\r\nAuthorization: ${authorization}`), 429],
    [head('/%zz'), 400]
  ] as const) {
    const { answer } = await sendForEver(port, request)
    t.match(answer, new RegExp(`^HTTP/1.1 ${status} `), String(status))
    t.match(answer, /\r\nconnection: close\r\n/i)
  }
})

t.test('a connection without a body under way stays open', async t => {
  const { url } = await startEdge(t, { env, routes: [routes] })
  const response = await fetch(`${url}/livez`)
  t.equal(response.headers.get('connection'), 'keep-alive')
  const read = await fetch(`${url}/ingest`, { method: 'POST', body: '{"a":1}', headers: { authorization, 'content-type': 'application/json' } })
  t.match(await read.json(), { got: { a: 1 } })
  t.equal(read.headers.get('connection'), 'keep-alive', 'nor is one closed whose body was read')
})

async function expectContinue(url: string, headers: Record<string, string>) {
  const seen: string[] = []
  const request = httpRequest(url, { method: 'POST', headers: { 'content-type': 'application/json', 'content-length': '9', expect: '100-continue', ...headers } })
  request.on('error', () => {})
  request.on('continue', () => {
    seen.push('continue')
    request.end('{"a":"b"}')
  })
  request.flushHeaders()
  const [response] = await once(request, 'response')
  seen.push(String(response.statusCode))
  const body = await text(response)
  request.destroy()
  return { seen, body }
}

t.test('a body that waits for 100 Continue is invited after the caller and the rate are known to be right', async t => {
  const { url } = await startEdge(t, { env: { ...env, EXT_BUNDLES_RATELIMIT_MAX: '1' }, routes: [routes] })
  t.same((await expectContinue(`${url}/ingest`, {})).seen, ['403'], 'no credential')
  t.same((await expectContinue(`${url}/ingest`, { authorization: 'Bearer x' })).seen, ['401'], 'a wrong one')
  t.same(await expectContinue(`${url}/ingest`, { authorization }), { seen: ['continue', '200'], body: '{"got":{"a":"b"}}' })
  t.same((await expectContinue(`${url}/ingest`, { authorization })).seen, ['429'], 'too many')
})

t.test('a body announced as too large is not invited', async t => {
  const { url } = await startEdge(t, { env, routes: [routes] })
  const { seen, body } = await expectContinue(`${url}/ingest`, { authorization, 'content-length': String(BODY_BYTES) })
  t.same(seen, ['413'])
  t.match(JSON.parse(body), { code: 'BAD_REQUEST', details: { field: 'body' } })
})

t.test('an expectation nobody knows is ignored', async t => {
  const { port } = await startEdge(t, { env, routes: [routes] })
  const { answer } = await sendForEver(port, 'GET /livez HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\nConnection: close', 0)
  t.match(answer, /^HTTP\/1.1 200 /)
})
