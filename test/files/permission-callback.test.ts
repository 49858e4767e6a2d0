import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { permissionCallback } from '../../src/files/permission-callback.ts'
import { PERMISSION_CALLS_MAX } from '../../src/limits.ts'
import { eventually } from '../support/raw-client.ts'

const NEVER = new AbortController().signal
const LONG = 60_000

async function serve(t: Test, answer: RequestListener): Promise<{ url: string, connections: () => number }> {
  let connections = 0
  const server = createServer(answer).on('connection', () => { connections += 1 }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/check?x=1`, connections: () => connections }
}

t.test('204 is yes, each time anew', async t => {
  const { url, connections } = await serve(t, (request, response) => { request.resume().on('end', () => response.writeHead(204).end()) })
  const callback = permissionCallback(url)
  t.teardown(() => callback.close())
  for (let each = 0; each < 3; each++) t.equal(await callback.allows('f', {}, NEVER), true)
  t.equal(connections(), 3, 'over a connection of its own')
})

t.test('an answer that does not come in time', async t => {
  const { url } = await serve(t, () => {})
  const callback = permissionCallback(url, { connectMs: LONG, totalMs: 50 })
  t.teardown(() => callback.close())
  await t.rejects(callback.allows('f', {}, NEVER), { code: 'PERMISSION_CALLBACK_TIMEOUT', statusCode: 504 })
})

t.test('a connection that does not come about in time: nobody shakes hands', async t => {
  const sockets: Socket[] = []
  const silent = createTcpServer(socket => { sockets.push(socket.on('error', () => {}).resume()) }).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    silent.close()
  })
  const callback = permissionCallback(`https://127.0.0.1:${(silent.address() as AddressInfo).port}/`, { connectMs: 50, totalMs: LONG })
  t.teardown(() => callback.close())
  await t.rejects(callback.allows('f', {}, NEVER), { code: 'PERMISSION_CALLBACK_TIMEOUT' })
})

t.test('a head of an answer is an answer, however long the rest takes', async t => {
  const { url } = await serve(t, (_request, response) => { response.writeHead(200).write('and so on') })
  const callback = permissionCallback(url, { connectMs: LONG, totalMs: LONG })
  t.teardown(() => callback.close())
  t.equal(await callback.allows('f', {}, NEVER), false)
})

t.test('who does not wait any more is told so, and not that it failed', async t => {
  const { url } = await serve(t, () => {})
  const callback = permissionCallback(url)
  t.teardown(() => callback.close())
  const leaving = new AbortController()
  const asked = callback.allows('f', {}, leaving.signal)
  leaving.abort(new Error('gone'))
  await t.rejects(asked, { message: 'gone' })
})

t.test('rubbish for an answer is a failure', async t => {
  const server = createTcpServer(socket => { socket.on('error', () => {}).end('what?\r\n\r\n') }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const callback = permissionCallback(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
  t.teardown(() => callback.close())
  await t.rejects(callback.allows('f', {}, NEVER), { code: 'PERMISSION_CALLBACK_FAILED', statusCode: 502 })
})

t.test('so many ask at once; those that wait come next', async t => {
  const held: ServerResponse[] = []
  const { url } = await serve(t, (request, response) => {
    if (request.method === 'POST') held.push(response)
    else response.end()
  })
  const callback = permissionCallback(url, { connectMs: LONG, totalMs: LONG })
  t.teardown(() => callback.close())
  const asked = Array.from({ length: PERMISSION_CALLS_MAX + 5 }, () => callback.allows('f', {}, NEVER))
  await eventually(() => assert.equal(held.length, PERMISSION_CALLS_MAX))
  await fetch(url)
  t.equal(held.length, PERMISSION_CALLS_MAX)
  for (let answered = 0; answered < asked.length; answered++) {
    await eventually(() => assert.ok(held.length > answered))
    held[answered]!.writeHead(204).end()
  }
  t.strictSame([...new Set(await Promise.all(asked))], [true])
})
