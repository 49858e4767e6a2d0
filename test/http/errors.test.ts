import { once } from 'node:events'
import { connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { Type } from 'typebox'
import { catalogue, PenstockError, type ErrorName, type ErrorRow } from '../../src/errors.ts'
import { flatErrors } from '../../src/http/errors.ts'
import { refuseOtherMethods } from '../../src/http/method-not-allowed.ts'
import { HEADERS_MAX_BYTES, JSON_BODY_MAX_BYTES } from '../../src/limits.ts'
import { BucketNotFound, ObjectStoreFailed } from '../../src/objects/port.ts'
import { RecordStoreFailed } from '../../src/records/port.ts'
import { startEdge } from '../support/start-edge.ts'

const Body = Type.Object({ name: Type.String(), inner: Type.Optional(Type.Object({ n: Type.Integer() })) }, { additionalProperties: false })
const Query = Type.Object({ limit: Type.Optional(Type.Integer({ minimum: 1 })), word: Type.Optional(Type.String()) })

const secret = 'http://10.0.0.7:9000/bucket/sha256/x?X-Amz-Signature=abc'
const thrown: Record<string, () => unknown> = {
  unknown: () => new TypeError(`cannot read ${secret}`, { cause: new Error('inner') }),
  text: () => 'a string',
  records: () => new RecordStoreFailed(secret, { cause: new Error('ECONNREFUSED') }),
  store: () => new ObjectStoreFailed(secret),
  bucket: () => new BucketNotFound(secret),
  busy: () => new PenstockError('SERVICE_BUSY', { retryAfterSeconds: 29.2 }),
  why: () => new PenstockError('BAD_REQUEST', { message: 'no size', why: 'size_required', details: { a: 1 }, headers: { 'x-more': 'yes' } }),
  hidden: () => new PenstockError('S3_PUT_FAILED', { message: secret, details: { host: secret } })
}

function routesOf(prefix: string, dialect: 'flat' | 'nested') {
  return async (app: FastifyInstance): Promise<void> => {
    if (dialect === 'flat') flatErrors(app)
    app.post(`${prefix}/json`, { schema: { body: Body, querystring: Query, response: { 200: Type.Object({}) } } }, async () => ({}))
    app.get(`${prefix}/throw/:what`, async request => {
      const { what } = request.params as { what: string }
      throw (thrown[what] ?? (() => new PenstockError(what as ErrorName)))()
    })
    app.get(`${prefix}/why/:code`, { config: { tellsWhy: true } }, async request => {
      const { code } = request.params as { code: string }
      throw (thrown[code] ?? (() => new PenstockError(code as ErrorName)))()
    })
    refuseOtherMethods(app)
  }
}

const routes = [routesOf('/flat', 'flat'), routesOf('/nested', 'nested')]

function isFlat(body: unknown): boolean {
  const { error, code, details = {}, ...rest } = body as Record<string, unknown>
  return typeof error === 'string' && /^[A-Z0-9_]+$/.test(String(code)) && typeof details === 'object' && Object.keys(rest).length === 0
}

function isNested(body: unknown, requestId: string | null): boolean {
  const { error, ...rest } = body as { error: Record<string, unknown> }
  const { code, message, details, request_id: id, ...more } = error
  return /^[a-z0-9_]+$/.test(String(code)) && typeof message === 'string' && typeof details === 'object' && id === requestId
    && Object.keys(rest).length === 0 && Object.keys(more).length === 0
}

interface Case { path: string, init?: RequestInit, status: number, flat: string, nested: string, fields?: unknown }

const json = (body: string): RequestInit => ({ method: 'POST', body, headers: { 'content-type': 'application/json' } })

const cases: Record<string, Case> = {
  'malformed JSON': { path: '/json', init: json('{"name":'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'body' }] },
  'an empty JSON body': { path: '/json', init: json(''), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'body' }] },
  'a poisoned prototype': { path: '/json', init: json('{"name":"a","__proto__":{}}'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error' },
  'a missing property': { path: '/json', init: json('{}'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'name', message: 'is required' }] },
  'an unknown property': { path: '/json', init: json('{"name":"a","nmae":1}'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'nmae', message: 'is not known here' }] },
  'a wrong type, not coerced': { path: '/json', init: json('{"name":"a","inner":{"n":"5"}}'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'inner.n' }] },
  'a number that is none': { path: '/json?limit=1e3', init: json('{"name":"a"}'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'limit' }] },
  'a parameter given twice': { path: '/json?word=a&word=b', init: json('{"name":"a"}'), status: 400, flat: 'BAD_REQUEST', nested: 'validation_error', fields: [{ field: 'word' }] },
  'a body above the limit': { path: '/json', init: json(`{"name":"${'a'.repeat(JSON_BODY_MAX_BYTES)}"}`), status: 413, flat: 'BAD_REQUEST', nested: 'file_too_large' },
  'a content type nobody parses': { path: '/json', init: { method: 'POST', body: 'x', headers: { 'content-type': 'application/xml' } }, status: 415, flat: 'UNSUPPORTED_MEDIA_TYPE', nested: 'unsupported_media_type' },
  'plain text': { path: '/json', init: { method: 'POST', body: 'x' }, status: 415, flat: 'UNSUPPORTED_MEDIA_TYPE', nested: 'unsupported_media_type' },
  'a content type that is none': { path: '/json', init: { method: 'POST', body: 'x', headers: { 'content-type': 'nonsense' } }, status: 415, flat: 'UNSUPPORTED_MEDIA_TYPE', nested: 'unsupported_media_type' },
  'a wrong method': { path: '/json', init: { method: 'DELETE' }, status: 405, flat: 'METHOD_NOT_ALLOWED', nested: 'method_not_allowed' },
  'a method of other protocols': { path: '/json', init: { method: 'PROPFIND' }, status: 405, flat: 'METHOD_NOT_ALLOWED', nested: 'method_not_allowed' },
  'a QUERY without content type': { path: '/json', init: { method: 'QUERY' }, status: 405, flat: 'METHOD_NOT_ALLOWED', nested: 'method_not_allowed' },
  'an error nobody expected': { path: '/throw/unknown', status: 500, flat: 'INTERNAL_ERROR', nested: 'internal_error' },
  'a thrown string': { path: '/throw/text', status: 500, flat: 'INTERNAL_ERROR', nested: 'internal_error' },
  'failing records': { path: '/throw/records', status: 503, flat: 'RECORDS_UNAVAILABLE', nested: 'records_unavailable' }
}

for (const dialect of ['flat', 'nested'] as const) {
  t.test(`what the framework refuses leaves in the ${dialect} dialect`, async t => {
    const { url } = await startEdge(t, { routes })
    for (const [name, { path, init, status, fields, ...codes }] of Object.entries(cases)) {
      const response = await fetch(`${url}/${dialect}${path}`, init)
      const body = await response.json() as { code?: string, details?: object, error: { code: string, details: object } }
      t.equal(response.status, status, `${name}: ${status}`)
      t.equal(dialect === 'flat' ? body.code : body.error.code, codes[dialect], `${name}: ${codes[dialect]}`)
      t.ok(dialect === 'flat' ? isFlat(body) : isNested(body, response.headers.get('x-request-id')), `${name}: shape`)
      t.match(response.headers.get('content-type'), /^application\/json/, `${name}: type`)
      if (fields !== undefined) t.match(dialect === 'flat' ? body.details : body.error.details, { fields }, `${name}: fields`)
    }
  })
}

t.test('stores that fail: 500 in the flat dialect, 502 in the nested', async t => {
  const { url } = await startEdge(t, { routes })
  for (const [what, code] of [['store', 'STORAGE_FAILED'], ['bucket', 'BUCKET_NOT_FOUND']]) {
    const flat = await fetch(`${url}/flat/throw/${what}`)
    t.equal(flat.status, 500)
    t.match(await flat.json(), { code })
    const nested = await fetch(`${url}/nested/throw/${what}`)
    t.equal(nested.status, 502)
    t.match(await nested.json(), { error: { code: 'storage_unavailable' } })
  }
})

t.test('every row of the catalogue leaves with its status and code in both dialects', async t => {
  const { url } = await startEdge(t, { routes, env: { REFUSED_RATE_LIMIT_MAX: '0' } })
  for (const [name, row] of Object.entries<ErrorRow>(catalogue)) {
    const flat = await fetch(`${url}/flat/throw/${name}`)
    t.equal(flat.status, row.flatStatus ?? row.status, name)
    t.same(await flat.json(), { error: row.message, code: row.flat ?? name })
    const nested = await fetch(`${url}/nested/throw/${name}`)
    t.equal(nested.status, row.status, name)
    t.match(await nested.json(), { error: { code: row.nested, message: row.message, details: {} } })
  }
})

t.test('the text, the details and the cause of a fault on our side stay in the log', async t => {
  const { url, logged } = await startEdge(t, { routes })
  for (const what of ['unknown', 'records', 'store', 'hidden']) {
    for (const dialect of ['flat', 'nested']) {
      const text = await (await fetch(`${url}/${dialect}/throw/${what}`)).text()
      t.notMatch(text, /10\.0\.0\.7|Signature|cannot read|\.ts/, `${dialect} ${what}`)
    }
  }
  t.match(logged('http.request.failed')[0], { level: 'error', code: 'INTERNAL_ERROR', err: { type: 'TypeError', message: /^cannot read http:\/\/10/, cause: { message: 'inner' } } })
  t.notMatch(JSON.stringify(logged('http.request.failed')), /Signature/, 'the query of an address is cut off even there')
})

t.test('what a thrower adds to an error reaches the caller', async t => {
  const { url } = await startEdge(t, { routes })
  const response = await fetch(`${url}/flat/why/why`)
  t.equal(response.headers.get('x-upload-proxy-why'), 'size_required')
  t.equal(response.headers.get('x-more'), 'yes')
  t.same(await response.json(), { error: 'no size', code: 'BAD_REQUEST', details: { a: 1 } })
  t.equal((await fetch(`${url}/nested/throw/busy`)).headers.get('retry-after'), '30')
})

t.test('a route that tells why gives slugs for what others throw', async t => {
  const { url } = await startEdge(t, { routes, env: { REFUSED_RATE_LIMIT_MAX: '0' } })
  for (const [code, slug] of [['RATE_LIMIT', 'rate_limited'], ['UNAUTHENTICATED', 'rbac_forbidden'], ['INTERNAL_ERROR', 'unhandled_exception'], ['REQUEST_TIMEOUT', 'idle_timeout'], ['GONE', 'gone']] as const) {
    t.equal((await fetch(`${url}/flat/why/${code}`)).headers.get('x-upload-proxy-why'), slug)
    t.equal((await fetch(`${url}/flat/throw/${code}`)).headers.get('x-upload-proxy-why'), null, 'others are silent')
  }
})

t.test('what a route that tells why refuses before it is reached has a slug too', async t => {
  const { url, port } = await startEdge(t, { routes })
  const wrongMethod = await fetch(`${url}/flat/why/GONE`, { method: 'DELETE' })
  t.same([wrongMethod.status, wrongMethod.headers.get('x-upload-proxy-why')], [405, 'method_not_allowed'])
  t.match(await answerTo(port, 'GET /flat/why/GONE HTTP/1.1\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 400 [^]*x-upload-proxy-why: bad_request\r\n/)
})

function codedHead(path: string, coding: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: ${coding}\r\n\r\n`
}

t.test('a transfer coding that nobody here undoes is refused before the body is read', async t => {
  const { port, logged } = await startEdge(t, { routes })
  for (const coding of ['gzip, chunked', 'GZIP,chunked', 'identity, chunked', 'x-unknown, chunked']) {
    const flat = await answerTo(port, codedHead('/flat/json', coding))
    t.match(flat, /^HTTP\/1\.1 501 [^]*\r\nconnection: close[^]*"code":"UNSUPPORTED_TRANSFER_CODING"/i, coding)
    t.match(await answerTo(port, codedHead('/nested/json', coding)), /^HTTP\/1\.1 501 [^]*"code":"unsupported_transfer_coding"/, coding)
  }
  t.match(await answerTo(port, `${codedHead('/flat/json', 'Chunked').replace('Host', 'Connection: close\r\nHost')}c\r\n{"name":"x"}\r\n0\r\n\r\n`), /^HTTP\/1\.1 200 /)
  t.same(logged('http.request.failed'), [], 'it is no fault on this side')
})

t.test('paths that do not exist or cannot be read are answered in the nested dialect', async t => {
  const { url } = await startEdge(t, { routes })
  for (const [path, init, status, code] of [
    ['/nowhere', {}, 404, 'not_found'],
    ['/flat/nowhere', json('{"broken'), 404, 'not_found'],
    ['/flat/%zz', {}, 400, 'validation_error'],
    [`/flat/throw/${'a'.repeat(1500)}`, {}, 400, 'validation_error']
  ] as const) {
    const response = await fetch(`${url}${path}`, { ...init, headers: { 'x-request-id': 'mine', 'content-type': 'application/json' } })
    t.equal(response.status, status, path.slice(0, 40))
    const body = await response.json() as { error: { code: string } }
    t.equal(body.error.code, code)
    t.ok(isNested(body, 'mine'))
    t.equal(response.headers.get('x-request-id'), 'mine')
    t.equal(response.headers.get('x-content-type-options'), 'nosniff')
  }
})

/** What comes back for bytes that are no request. */
async function answerTo(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', data => { answer += data.toString('latin1') }).on('error', () => {})
  await once(socket, 'connect')
  socket.write(bytes)
  await new Promise(resolve => { socket.once('close', resolve) })
  return answer
}

t.test('what is no request gets an answer of the catalogue with an id, and the connection ends', async t => {
  const { port, logged } = await startEdge(t, { routes })
  for (const [bytes, status, code] of [
    ['this is not HTTP\r\n\r\n', 400, 'validation_error'],
    ['GET / HTTP/1.1\r\nbad header\r\n\r\n', 400, 'validation_error'],
    ['POST /flat/json HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 400, 'validation_error'],
    [`GET / HTTP/1.1\r\nHost: x\r\nx-long: ${'a'.repeat(4 * HEADERS_MAX_BYTES)}\r\n\r\n`, 431, 'validation_error'],
    ['GET /livez HTTP/1.1\r\n\r\n', 400, 'validation_error']
  ] as const) {
    const answer = await answerTo(port, bytes.includes('/livez') ? bytes.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n') : bytes)
    const [head = '', body = ''] = answer.split('\r\n\r\n')
    t.match(head, new RegExp(`^HTTP/1.1 ${status} `), JSON.stringify(bytes.slice(0, 40)))
    t.match(head, /\r\nconnection: close/i)
    const parsed = JSON.parse(body) as { error: { code: string } }
    t.equal(parsed.error.code, code)
    t.ok(isNested(parsed, /x-request-id: (\S+)/i.exec(head)?.[1] ?? 'none'))
  }
  t.match(logged('http.request.malformed')[0], { status: 400, request_id: String })
})

t.test('HTTP/1.0 needs no Host header', async t => {
  const { port } = await startEdge(t)
  t.match(await answerTo(port, 'GET /livez HTTP/1.0\r\n\r\n'), /^HTTP\/1.1 200 /)
})
