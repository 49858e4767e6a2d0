import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { administrator, guest, PEOPLE_ENV, publicForm, user } from '../support/people.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { ask, read, share } from '../support/shared-files.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

interface Decider { url: string, asked: { url: string, method: string, headers: IncomingHttpHeaders, body: string }[], answer: RequestListener }

/** A service that is asked for permission; it says yes until `answer` is set to something else. */
async function decider(t: Test): Promise<Decider> {
  const self: Decider = { url: '', asked: [], answer: (_request, response) => { response.writeHead(204).end() } }
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => { body += chunk }).on('end', () => {
      self.asked.push({ url: request.url!, method: request.method!, headers: request.headers, body })
      self.answer(request, response)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  self.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/attachments/check-permission`
  return self
}

async function start(t: Test): Promise<{ app: StartedApp, other: Decider, path: string, ada: Record<string, string>, eve: Record<string, string> }> {
  const other = await decider(t)
  const app = await startApp(t, { ...PEOPLE_ENV, PERMISSION_CALLBACK_URL: other.url })
  const [ada, eve] = [await user(app, 'ada'), await user(app, 'eve', 'other')]
  return { app, other, ada, eve, path: `/files/${await share(app, 'x', ada, { access: 'restricted' })}` }
}

t.test('before a read is refused another service is asked, as the caller', async t => {
  const { app, other, path, ada, eve } = await start(t)
  t.match(await read(app, path, { ...eve, cookie: 'token=another', 'x-guest-authorization': 'also' }), { status: 200, text: 'x' })
  t.match(other.asked, [{ method: 'POST', url: '/attachments/check-permission', body: `file_id=${path.slice('/files/'.length)}`, headers: { ...eve, 'content-type': 'application/x-www-form-urlencoded' } }])
  t.notMatch(other.asked[0]!.headers, { cookie: String }, 'nothing but the credential that counts is passed on')
  t.equal(other.asked[0]!.headers['x-guest-authorization'], undefined)
  other.asked.length = 0
  for (const headers of [ada, administrator]) t.equal((await read(app, path, headers)).status, 200)
  t.equal((await read(app, `/files/${randomUUID()}`, eve)).status, 404)
  t.equal(other.asked.length, 0, 'who may read, or finds nothing, is not asked about')
  t.equal((await read(app, path, eve)).status, 200)
  t.equal((await read(app, path, eve)).status, 200)
  t.equal(other.asked.length, 2, 'and each time anew')
  t.equal((await ask(app, 'PATCH', path, { filename: 'x' }, eve)).status, 403)
  t.equal(other.asked.length, 2, 'it is about reading alone')
})

t.test('the credential is passed on in its own header', async t => {
  const { app, other, path } = await start(t)
  const [visitor, form, bob] = [await guest(app, 'visitor', 'other'), await publicForm(app, 'other'), await user(app, 'bob', 'other')]
  const token = bob.authorization!.slice('Bearer '.length)
  for (const [headers, expected] of [
    [visitor, visitor], [form, form], [{ cookie: `theme=dark; token=${token}; other=x` }, { cookie: `token=${token}` }], [{ cookie: `file_service_auth=${token}` }, { cookie: `file_service_auth=${token}` }]
  ] as Record<string, string>[][]) {
    other.asked.length = 0
    t.equal((await read(app, path, headers)).status, 200)
    t.match(other.asked[0]!.headers, expected)
    t.strictSame(Object.keys(other.asked[0]!.headers).toSorted(), [...Object.keys(expected!), 'connection', 'content-length', 'content-type', 'host', 'user-agent'].toSorted())
  }
})

t.test('every answer but 204 is no', async t => {
  const { app, other, path, eve } = await start(t)
  const visitor = await guest(app, 'visitor', 'other')
  for (const status of [200, 201, 302, 307, 400, 401, 403, 404, 500]) {
    other.answer = (_request, response) => { response.writeHead(status, status >= 300 && status < 400 ? { location: '/yes' } : {}).end(status === 200 ? 'x'.repeat(100_000) : '') }
    other.asked.length = 0
    t.match(await ask(app, 'GET', path, undefined, eve), { status: 403, body: { error: { code: 'forbidden' } } }, String(status))
    t.equal((await read(app, path, visitor)).status, 404)
    t.equal(other.asked.length, 2, 'no redirect is followed')
  }
  other.answer = (_request, response) => { response.writeHead(204).end() }
  t.equal((await read(app, `/files/${randomUUID()}`, visitor)).status, 404, 'a stranger is asked about also for what is not there')
  t.match(other.asked.at(-1), { headers: visitor })
})

t.test('a service that is not there, or breaks off, is a fault; nobody is let in', async t => {
  const { app, other, path, eve } = await start(t)
  other.answer = (_request, response) => { response.destroy() }
  t.match(await ask(app, 'GET', path, undefined, eve), { status: 502, body: { error: { code: 'permission_callback_failed' } } })
  t.equal((await read(app, `/files/${randomUUID()}`, await guest(app, 'visitor', 'other'))).status, 502, 'for strangers whether the file is there or not')
  const dead = await startApp(t, { ...PEOPLE_ENV, PERMISSION_CALLBACK_URL: 'http://127.0.0.1:1/', DATA_DIR: app.dataDir })
  const answer = await ask(dead, 'GET', path, undefined, eve)
  t.equal(answer.status, 502)
  t.notMatch(JSON.stringify(answer.body), '127.0.0.1')
  t.match(dead.logged('http.request.failed'), [{ code: 'PERMISSION_CALLBACK_FAILED' }])
})

t.test('a client that goes ends the question', async t => {
  const { app, other, path, eve } = await start(t)
  const gone = Promise.withResolvers<void>()
  other.answer = (_request, response) => { response.once('close', () => gone.resolve()) }
  const client = await rawClient(app.port)
  client.send(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: ${eve.authorization}\r\n\r\n`)
  await eventually(() => assert.equal(other.asked.length, 1))
  client.hangUp()
  await gone.promise
  await eventually(() => assert.equal(app.logged('files.read.client_aborted').length, 1))
  t.equal(app.logged('http.request.failed').length, 0)
})

t.test('the other side: may this caller read that file?', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const [ada, bob, eve] = [await user(app, 'ada'), await user(app, 'bob'), await user(app, 'eve', 'other')]
  const id = await share(app, 'x', ada)
  const check = async (body: string, headers: Record<string, string>, type = 'application/x-www-form-urlencoded') => {
    const answer = await fetch(`${app.url}/attachments/check-permission`, { method: 'POST', body, headers: { 'content-type': type, ...headers } })
    return answer.status
  }
  const form = `file_id=${id}`
  t.equal(await check(form, ada), 204)
  t.equal(await check(form, bob), 204)
  t.equal(await check(`other=1&file_id=${id.toUpperCase()}`, bob), 204)
  t.equal(await check(JSON.stringify({ file_id: id }), bob, 'application/json'), 204)
  t.equal(await check(form, eve), 403)
  t.equal(await check(`file_id=${randomUUID()}`, ada), 403, 'what is not there may nobody read')
  t.equal(await check(form, {}), 401)
  t.equal(await check(form, { authorization: 'Bearer bad' }), 401)
  for (const body of ['', 'file_id=', 'file_id=x', 'id=1', '%']) t.equal(await check(body, ada), 400, body)
  t.equal((await fetch(`${app.url}/attachments/check-permission`, { method: 'POST', headers: ada })).status, 400, 'no body, and so no type of one')
  t.equal(await check('x'.repeat(100_000), ada), 413)
  t.equal(await check('x', ada, 'text/plain'), 415)
})

t.test('two services of this kind fit together', async t => {
  const other = await startApp(t, PEOPLE_ENV)
  const app = await startApp(t, { ...PEOPLE_ENV, PERMISSION_CALLBACK_URL: `${other.url}/attachments/check-permission`, DATA_DIR: other.dataDir })
  const [ada, eve] = [await user(app, 'ada'), await user(app, 'eve', 'other')]
  const path = `/files/${await share(app, 'x', ada)}`
  t.equal((await read(app, path, eve)).status, 403)
  await ask(other, 'PATCH', path, { access: 'public' }, ada)
  t.equal((await read(app, path, eve)).status, 200)
})
