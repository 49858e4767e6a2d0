import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { startOverStub } from '../support/over-stub.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

t.test('the request id of the caller is on the answer of an upload, good or bad, and in every line about it', async t => {
  const app = await startApp(t)
  const id = 'caller.1_a-b'
  const good = await app.upload(Buffer.from('x'), {}, { 'x-request-id': id })
  t.match([good.status, good.headers.get('x-request-id')], [200, id])
  const lines = ['ingest.upload.request', 'ingest.upload.put_start', 'ingest.upload.put_end', 'ingest.upload.success', 'http.request.completed']
  await eventually(() => assert.deepEqual(app.logs.filter(line => line.request_id === id).map(line => line.action), lines))
  const bad = await app.upload(Buffer.from('x'), { size: '2' }, { 'x-request-id': id })
  t.match([bad.status, bad.headers.get('x-request-id')], [400, id])
  const refused = await fetch(`${app.url}/upload-proxy`, { method: 'POST', body: 'x', headers: { 'x-request-id': id } })
  t.match([refused.status, refused.headers.get('x-request-id')], [403, id])
  for (const strange of ['a b', 'x'.repeat(129), 'ä', '']) {
    const answer = await app.upload(Buffer.from('x'), {}, { 'x-request-id': strange })
    t.match(answer.headers.get('x-request-id'), UUID, 'one of ours takes the place of one that cannot be used')
  }
})

t.test('an ingest route and its alias have one budget, told in both families of headers', async t => {
  const app = await startApp(t, { EXT_BUNDLES_RATELIMIT_MAX: '2' })
  const body = Buffer.from('x')
  const alias = async (): Promise<Response> => await fetch(`${app.url}/api/ext-bundles/upload-proxy?filename=x&size=1`, { method: 'POST', body, headers: { 'x-alga-admin': 'true' } })
  const first = await app.upload(body)
  t.equal(first.status, 200)
  for (const family of ['x-ratelimit', 'ratelimit']) {
    t.match([first.headers.get(`${family}-limit`), first.headers.get(`${family}-remaining`), first.headers.get(`${family}-reset`)], ['2', '1', /^\d+$/])
  }
  t.match([(await alias()).status, (await alias()).headers.get('x-upload-proxy-why')], [200, 'rate_limited'])
  const refused = await app.upload(body)
  t.match([refused.status, refused.body.code, refused.headers.get('retry-after')], [429, 'RATE_LIMIT', /^[1-9]\d?$/])
  t.equal(refused.headers.get('ratelimit-remaining'), '0')
  t.equal(refused.headers.get('connection'), 'close', 'and its body is not read')
  const { body: { upload } } = first
  t.equal((await app.post('/finalize', { key: upload.key })).status, 200, 'finalize has a budget of its own')
  t.equal((await app.post('/api/ext-bundles/finalize', { key: upload.key })).status, 200)
  t.equal((await app.post('/finalize', { key: upload.key })).status, 429)
  t.equal((await fetch(`${app.url}/readyz`)).status, 200)
})

/** Everything that came until the other side closed, or for a moment. */
async function conversation(app: StartedApp, ...parts: (string | Uint8Array)[]): Promise<string> {
  const client = await rawClient(app.port)
  let text = ''
  client.socket.on('data', (chunk: Buffer) => { text += chunk.toString('latin1') })
  for (const part of parts) {
    client.send(part)
    await delay(30)
  }
  await Promise.race([client.closed, delay(1000, undefined, { ref: false })])
  client.hangUp()
  return text
}

const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
const statuses = (text: string): number[] => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(match => Number(match[1]))

t.test('a body that waits to be invited is invited when nothing speaks against it, and only then', async t => {
  const over = await startOverStub(t, { MAX_OBJECT_SIZE_BYTES: '1000', MAX_CONCURRENT_UPLOADS: '1' })
  const { app, stub } = over
  const waiting = { 'content-length': '5', expect: '100-continue' }
  const good = await rawClient(app.port)
  good.send(uploadHead({ filename: 'x', size: '5' }, waiting))
  let invited = ''
  good.socket.on('data', (chunk: Buffer) => { invited += chunk.toString('latin1') })
  await eventually(() => assert.match(invited, /^HTTP\/1\.1 100 Continue\r\n\r\n$/))
  t.same(statuses(await conversation(app, uploadHead({ filename: 'x', size: '5' }, waiting))), [503], 'no slot is free')
  good.send('12345')
  await eventually(() => assert.deepEqual(statuses(invited), [100, 200]))
  good.hangUp()

  for (const [query, headers, status] of [
    [{ filename: 'x', size: '6' }, {}, 400],
    [{ filename: 'x', size: '1001' }, { 'content-length': '1001' }, 400],
    [{ filename: 'x', size: '5', declaredHash: 'x' }, {}, 400],
    [{ filename: 'x', size: '5' }, { 'x-alga-admin': 'no' }, 403],
    [{ filename: 'x', size: '5' }, { authorization: 'Bearer x' }, 401]
  ] as [Record<string, string>, Record<string, string>, number][]) {
    const answer = await conversation(app, uploadHead(query, { ...waiting, ...headers }))
    t.same(statuses(answer), [status], `${status} without an invitation`)
    t.match(answer, /connection: close/i)
  }
  await stub.close()
  await app.upload(Buffer.from('x')) // a good answer of the store is believed for a moment: what is found out now, ends it
  t.notMatch(statuses(await conversation(app, uploadHead({ filename: 'x', size: '5' }, waiting))), [200])
})

t.test('what follows a refused upload on its connection is never taken for a request', async t => {
  const app = await startApp(t)
  const victim = (await app.upload(Buffer.from('keep me'))).body.upload.key as string
  const json = JSON.stringify({ key: victim })
  const smuggled = `POST /abort HTTP/1.1\r\nhost: 127.0.0.1\r\nx-alga-admin: true\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`
  const length = String(smuggled.length)
  const cases: [string, number, ...string[]][] = [
    ['its own body', 400, uploadHead({ filename: 'x', size: '1' }, { 'content-length': length }), smuggled],
    ['its own body, in one packet', 400, uploadHead({ filename: 'x', size: '1' }, { 'content-length': length }) + smuggled],
    ['what comes after its body', 400, `${uploadHead({ filename: 'x', size: '1' }, { 'content-length': '3' })}abc${smuggled}`],
    ['the body of one without credential', 403, uploadHead({ filename: 'x', size: length }, { 'content-length': length, 'x-alga-admin': 'no' }) + smuggled],
    ['the rest of a body that became too long', 400, uploadHead({ filename: 'x', size: '3' }, { 'transfer-encoding': 'chunked' }) + chunk('abcd'), smuggled],
    ['a chunk behind one too many', 400, uploadHead({ filename: 'x', size: '3' }, { 'transfer-encoding': 'chunked' }) + chunk('abcd') + chunk(smuggled)],
    ['two lengths', 400, `${uploadHead({ filename: 'x', size: '3' }, { 'content-length': '3', 'transfer-encoding': 'chunked' })}0\r\n\r\n${smuggled}`],
    ['a length that is none', 400, uploadHead({ filename: 'x', size: '3' }, { 'content-length': '+3' }) + `abc${smuggled}`]
  ]
  for (const [name, status, ...parts] of cases) {
    const answer = await conversation(app, ...parts)
    t.same(statuses(answer), [status], name)
  }
  t.same(app.logged('ingest.abort.success'), [])
  await nothingLeft(app, [victim])
})

t.test('requests that follow each other on one connection are answered in order, with the right bytes', async t => {
  const app = await startApp(t)
  const bodies = [randomBytes(1000).toString('hex'), 'short', randomBytes(100_000).toString('hex')]
  const ids = bodies.map(() => randomUUID())
  const requests = bodies.map((body, n) => uploadHead({ filename: 'x', size: String(body.length), uploadId: ids[n]! }, { 'content-length': String(body.length) }) + body)
  const answer = await conversation(app, requests.join(''))
  t.same(statuses(answer), [200, 200, 200])
  t.same([...answer.matchAll(/_staging\/([^/]+)\//g)].map(match => match[1]), ids)
  t.equal((await keysOf(app)).length, 3)
})
