import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startS3Stub } from '../support/s3-stub.ts'
import { s3Env } from '../support/over-stub.ts'
import { startIssuer } from '../support/jwks.ts'
import { administrator, guest, PEOPLE_ENV, publicForm, user } from '../support/people.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { ask, read, share } from '../support/shared-files.ts'
import { startApp } from '../support/start-app.ts'
import { statementsOf } from '../support/statements.ts'

const bytes = randomBytes(300_000)
const sha256 = createHash('sha256').update(bytes).digest('hex')
const etag = `"${sha256}"`

t.test('a file comes with everything that is known of it, and HEAD is the same without it', async t => {
  const app = await startApp(t)
  const id = await share(app, bytes, {}, { filename: 'Übersicht 1.pdf', type: 'application/pdf' })
  const answer = await fetch(`${app.url}/files/${id}`)
  t.equal(answer.status, 200)
  const expected = {
    'content-type': 'application/pdf', 'content-length': '300000', etag, 'last-modified': / GMT$/, 'accept-ranges': 'bytes',
    'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`, 'x-content-type-options': 'nosniff', 'cache-control': /^private/,
    'content-disposition': `attachment; filename="_bersicht 1.pdf"; filename*=UTF-8''%C3%9Cbersicht%201.pdf`
  }
  t.match(Object.fromEntries(answer.headers), expected)
  t.ok(Buffer.from(await answer.arrayBuffer()).equals(bytes))
  const head = await read(app, `/files/${id}`, { range: 'bytes=0-1' }, 'HEAD')
  t.match(head, { status: 200, headers: expected, text: '' })
  const upper = await read(app, `/files/${id.toUpperCase()}`, {}, 'HEAD')
  t.equal(upper.status, 200)
})

t.test('ranges and conditions are decided from the row', async t => {
  const app = await startApp(t)
  const path = `/files/${await share(app, bytes, {})}`
  const modified = (await read(app, path, {}, 'HEAD')).headers['last-modified']!
  for (const [headers, status, range] of [
    [{ range: 'bytes=0-' }, 206, 'bytes 0-299999/300000'], [{ range: 'bytes=-1' }, 206, 'bytes 299999-299999/300000'], [{ range: 'bytes=-0' }, 416, 'bytes */300000'],
    [{ range: 'bytes=300000-' }, 416, 'bytes */300000'], [{ range: 'bytes=5-400000' }, 206, 'bytes 5-299999/300000'], [{ range: 'bytes=9-5' }, 200, undefined],
    [{ range: `bytes=0-${'9'.repeat(40)}` }, 206, 'bytes 0-299999/300000'], [{ range: `bytes=${'9'.repeat(40)}-` }, 416, 'bytes */300000'],
    [{ range: 'bytes=0-1,3-4' }, 200, undefined], [{ range: 'lines=0-1' }, 200, undefined],
    [{ range: 'bytes=0-1', 'if-range': etag }, 206, 'bytes 0-1/300000'], [{ range: 'bytes=0-1', 'if-range': `W/${etag}` }, 200, undefined],
    [{ range: 'bytes=0-1', 'if-range': '"old"' }, 200, undefined], [{ range: 'bytes=0-1', 'if-range': modified }, 206, 'bytes 0-1/300000'],
    [{ 'if-none-match': etag }, 304, undefined], [{ 'if-modified-since': modified }, 304, undefined], [{ 'if-match': '"old"' }, 412, undefined], [{ 'if-match': etag }, 200, undefined],
    [{ 'if-unmodified-since': 'Thu, 01 Jan 1970 00:00:00 GMT' }, 412, undefined]
  ] as [Record<string, string>, number, string | undefined][]) {
    const answer = await fetch(app.url + path, { headers })
    const body = Buffer.from(await answer.arrayBuffer())
    t.equal(answer.status, status, JSON.stringify(headers))
    t.equal(answer.headers.get('content-range') ?? undefined, range)
    const span = /^bytes (\d+)-(\d+)\//.exec(range ?? '')
    if (status === 206) t.ok(body.equals(bytes.subarray(Number(span![1]), Number(span![2]) + 1)))
    if (status === 200) t.ok(body.equals(bytes))
  }
  const strange = await share(app, 'x', {}, { filename: '日本.txt' })
  t.match((await read(app, `/files/${strange}`)).headers['content-disposition'], `filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt`)
})

t.test('only what runs nothing is shown in place', async t => {
  const app = await startApp(t)
  const PDF = '%PDF-1.7\n'
  for (const [content, type, query, kind] of [
    [PDF, 'application/pdf', '?inline=1', 'inline'], [PDF, 'application/pdf', '', 'attachment'], [PDF, 'application/pdf', '?inline=0', 'attachment'],
    ['x', 'audio/mpeg', '?inline=1', 'inline'], ['x', 'text/plain', '?inline=1', 'attachment'], ['<svg/>', 'image/svg+xml', '?inline=1', 'attachment'], ['<html>', 'text/html', '?inline=1', 'attachment']
  ] as const) {
    const id = await share(app, content, {}, { type })
    const path = `/files/${id}${query}`
    const { headers } = await read(app, path)
    t.match(headers['content-disposition'], new RegExp(`^${kind};`), `${type}${query}`)
    // else browsers refuse to play a video or a sound that is opened by its address
    const policy = `default-src 'none';${kind === 'inline' ? "media-src 'self';style-src 'unsafe-inline';" : ''}frame-ancestors 'none'`
    t.equal(headers['content-security-policy'], policy)
    t.match(await read(app, path, { 'if-none-match': headers.etag! }), { status: 304, headers: { 'content-security-policy': policy } })
  }
})

t.test('who may read what', async t => {
  const issuer = await startIssuer(t)
  const app = await startApp(t, { ...PEOPLE_ENV, ...issuer.env })
  const callers = {
    ada: await user(app, 'ada'), bob: await user(app, 'bob'), eve: await user(app, 'eve', 'other'), namesake: await user(app, 'ada', 'other'),
    guest: await guest(app, 'visitor'), stranger: await guest(app, 'visitor', 'other'), form: await publicForm(app), otherForm: await publicForm(app, 'other'), admin: administrator
  }
  const expect = async (path: string, statuses: Record<keyof typeof callers, number>) => {
    for (const [name, headers] of Object.entries(callers)) t.equal((await read(app, path, headers)).status, statuses[name as keyof typeof callers], `${name} ${path}`)
  }
  const file = async (access: string, owner: keyof typeof callers = 'ada') => `/files/${await share(app, access, callers[owner], { access })}`
  await expect(await file('account'), { ada: 200, bob: 200, eve: 403, namesake: 403, guest: 200, stranger: 404, form: 200, otherForm: 404, admin: 200 })
  await expect(await file('public'), { ada: 200, bob: 200, eve: 200, namesake: 200, guest: 200, stranger: 200, form: 200, otherForm: 200, admin: 200 })
  const restricted = await file('restricted')
  const before = { ada: 200, bob: 403, eve: 403, namesake: 403, guest: 404, stranger: 404, form: 404, otherForm: 404, admin: 200 }
  await expect(restricted, before)
  for (const subject of ['bob', 'visitor', 'eve']) t.equal((await ask(app, 'PUT', `${restricted}/grants/${subject}`, undefined, callers.ada)).status, 204)
  await expect(restricted, { ...before, bob: 200, guest: 200 })
  await expect(await file('restricted', 'form'), { ...before, ada: 403, form: 200 })
  t.equal((await read(app, restricted)).status, 401, 'nobody at all')

  const nowhere = await issuer.bearer({ sub: 'nia', account_id: undefined })
  const other = await issuer.bearer({ sub: 'noa', account_id: undefined })
  const homeless = `/files/${await share(app, 'x', nowhere)}`
  t.equal((await read(app, homeless, nowhere)).status, 200)
  t.equal((await read(app, homeless, other)).status, 403, 'having no account is no account that one shares')
})

t.test('strangers learn nothing of what they may not read: the same answer after the same work', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const ada = await user(app, 'ada')
  const strangers = [await guest(app, 'visitor', 'other'), await publicForm(app, 'other')]
  const shape = async (method: string, path: string, headers: Record<string, string>, body?: unknown) => {
    const { result, statements } = await statementsOf(async () => await ask(app, method, path, body, { ...headers, 'x-request-id': 'r' }))
    return { status: result.status, body: result.body, headers: [...result.headers].filter(([name]) => name !== 'date'), statements }
  }
  for (const access of ['account', 'restricted']) {
    const id = await share(app, access, ada, { access })
    for (const headers of strangers) {
      for (const [method, path, body] of [
        ['GET', '', undefined], ['PATCH', '', { filename: 'x' }], ['DELETE', '', undefined], ['PUT', '/grants/x', undefined], ['DELETE', '/grants/x', undefined], ['POST', '/signed-url', {}]
      ] as const) {
        const there = await shape(method, `/files/${id}${path}`, headers, body)
        t.strictSame(there, await shape(method, `/files/${randomUUID()}${path}`, headers, body), `${method} ${path}`)
        t.equal(there.status, method === 'DELETE' && path === '' ? 204 : 404)
      }
    }
    t.equal((await read(app, `/files/${id}`, ada)).status, 200, 'it is still there')
  }
})

t.test('what is not there', async t => {
  const app = await startApp(t)
  for (const id of [randomUUID(), 'x', '..%2fx', '%00', 'a'.repeat(129)]) {
    const { status, body } = await ask(app, 'GET', `/files/${id}`)
    t.equal(status, id.length > 128 ? 400 : 404, id)
    if (status === 404) t.match(body, { error: { code: 'file_not_found' } })
  }
})

t.test('an object that is missing behind its row is a fault of ours, and an alarm', async t => {
  const app = await startApp(t)
  const id = await share(app, bytes, {})
  const folder = join(app.dataDir, 'objects')
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) if (name.endsWith('/object')) rmSync(join(folder, name))
  const { status, body } = await ask(app, 'GET', `/files/${id}`)
  t.equal(status, 502)
  t.match(body, { error: { code: 'storage_unavailable' } })
  t.match(app.logged('http.request.failed'), [{ level: 'error', code: 'S3_GET_FAILED' }])
  t.equal((await read(app, `/files/${id}`, { 'if-none-match': etag })).status, 304, 'what needs no object is answered')
})

t.test('an object that was cut short behind its row is not sent as if it were whole', async t => {
  const app = await startApp(t)
  const id = await share(app, bytes, {})
  const folder = join(app.dataDir, 'objects')
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) if (name.endsWith('/object')) writeFileSync(join(folder, name), bytes.subarray(0, 1000))
  t.equal((await ask(app, 'GET', `/files/${id}`)).status, 502)
})

t.test('a store that dies in the middle breaks the connection; it is never a short answer that looks whole', async t => {
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const app = await startApp(t, s3Env(stub))
  const id = await share(app, bytes, {})
  const heal = stub.fault({ operation: 'GetObject' }, { kind: 'cut-download', afterBytes: 100_000 })
  const client = await rawClient(app.port)
  client.send(`GET /files/${id} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`)
  await client.closed
  const { head, body } = await client.answer()
  t.match(head, 'content-length: 300000')
  t.ok(body.length < 300_000, `${body.length} bytes`)
  await t.rejects(fetch(`${app.url}/files/${id}`).then(async answer => await answer.arrayBuffer()))
  heal()
  t.equal((await fetch(`${app.url}/files/${id}`)).status, 200)
})

t.test('a reader that goes lets go of the store', async t => {
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const app = await startApp(t, s3Env(stub))
  const id = await share(app, bytes, {})
  stub.fault({ operation: 'GetObject' }, { kind: 'stall-download', afterBytes: 50_000 })
  const idle = await stub.connections()
  const client = await rawClient(app.port)
  client.send(`GET /files/${id} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`)
  await stub.seen({ operation: 'GetObject' })
  await eventually(() => assert.ok(client.socket.bytesRead > 10_000))
  client.hangUp()
  await eventually(async () => assert.ok(await stub.connections() <= idle))
  t.pass('the connection to the store is closed')
})

t.test('a browser without a credential is sent to sign in, and back; nothing else is', async t => {
  const app = await startApp(t, { ...PEOPLE_ENV, FRONTEND_URL: 'https://app.example.com/', PUBLIC_BASE_URL: 'https://files.example.com' })
  const path = `/files/${randomUUID()}?inline=1`
  const html = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' }
  const sent = await read(app, path, html)
  t.equal(sent.status, 302)
  t.equal(sent.headers.location, `https://app.example.com/auth/signin/?redirectUrl=${encodeURIComponent(`https://files.example.com${path}`)}`)
  t.equal(sent.headers['cache-control'], 'no-store')
  for (const [why, headers, method] of [
    ['an API call', { accept: 'application/json' }, 'GET'], ['any', { accept: '*/*' }, 'GET'], ['no Accept', {}, 'GET'], ['HEAD', html, 'HEAD'], ['DELETE', html, 'DELETE'],
    ['a bad credential', { ...html, authorization: 'Bearer bad' }, 'GET'], ['a bad cookie', { ...html, cookie: 'token=bad' }, 'GET'], ['another type', { accept: 'text/htmlx' }, 'GET']
  ] as [string, Record<string, string>, string][]) {
    t.equal((await read(app, path, headers, method)).status, 401, why)
  }
  t.equal((await read(app, path, { ...html, ...await user(app, 'ada') })).status, 404)
  const without = await startApp(t, PEOPLE_ENV)
  t.equal((await read(without, path, html)).status, 401, 'where there is no place to sign in')
})

t.test('reads have a budget', async t => {
  const app = await startApp(t, { FILES_DOWNLOAD_RATE_LIMIT_MAX: '2' })
  const id = await share(app, 'x', {})
  t.strictSame([await read(app, `/files/${id}`), await read(app, `/files/${id}`), await read(app, `/files/${id}`)].map(({ status }) => status), [200, 200, 429])
})
