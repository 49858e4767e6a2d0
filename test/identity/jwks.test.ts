import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { gzipSync as gzipped } from 'node:zlib'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { requireCaller } from '../../src/identity/guards.ts'
import { JWKS_KEYS_MAX } from '../../src/limits.ts'
import { makeCertificate } from '../support/certificates.ts'
import { AUDIENCE, startIssuer, type TestIssuer } from '../support/jwks.ts'
import { startService } from '../support/service-process.ts'
import { signingKey } from '../support/sign-token.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance): Promise<void> {
  app.get('/caller', { onRequest: requireCaller() }, async request => request.principal)
  app.post('/caller', { onRequest: requireCaller() }, async () => ({}))
}

/** The code of the answer, or `ok`. */
type Call = (token: string) => Promise<string>

async function world(t: Test, env: Record<string, string> = {}): Promise<{ issuer: TestIssuer, edge: Edge, call: Call }> {
  const issuer = await startIssuer(t)
  const edge = await startEdge(t, { env: { ...issuer.env, REFUSED_RATE_LIMIT_MAX: '0', ...env }, routes: [routes] })
  return {
    issuer, edge,
    async call(token) {
      const response = await edge.app.inject({ url: '/caller', headers: { host: 'localhost', authorization: `Bearer ${token}` } })
      if (response.statusCode === 200) return 'ok'
      if (response.statusCode === 503) t.ok(response.headers['retry-after'], 'a caller is told when to come back')
      return response.json<{ error: { code: string } }>().error.code
    }
  }
}

/** Calls until the answer is another one than now; bounded by the time-out of the test. */
async function changeOf(call: () => Promise<string>): Promise<string> {
  const first = await call()
  for (;;) {
    const next = await call()
    if (next !== first) return next
    await new Promise(resolve => { setTimeout(resolve, 10) })
  }
}

t.test('keys are fetched once, whoever asks at the same time', async t => {
  const { issuer, call } = await world(t)
  const tokens = await Promise.all(Array.from({ length: 20 }, (_, index) => issuer.sign({ sub: `user-${index}` })))
  t.same(new Set(await Promise.all(tokens.map(call))), new Set(['ok']))
  t.same(new Set(await Promise.all(tokens.map(call))), new Set(['ok']))
  t.equal(issuer.fetches, 1)
})

t.test('tokens of a new key are taken after the cooldown, and those of a withdrawn one are not any more', async t => {
  const { issuer, call } = await world(t, { JWKS_COOLDOWN_MS: '100' })
  const old = issuer.keys[0]!
  t.equal(await call(await issuer.sign()), 'ok')
  await issuer.rotate()
  const next = await issuer.sign()
  t.equal(await changeOf(() => call(next)), 'ok')
  t.equal(await call(await issuer.sign({ sub: 'fresh' }, { key: old })), 'invalid_token')
})

t.test('keys are fetched anew once they are old', async t => {
  const { issuer, call } = await world(t, { JWKS_COOLDOWN_MS: '100', JWKS_CACHE_MAX_AGE_MS: '1000' })
  const old = issuer.keys[0]!
  let index = 0
  // a fresh token each time: one that is known is not checked again
  const withOld = async () => await call(await issuer.sign({ sub: `user-${index++}` }, { key: old }))
  t.equal(await withOld(), 'ok')
  await issuer.rotate()
  t.equal(await withOld(), 'ok', 'not with each token')
  t.equal(await changeOf(withOld), 'invalid_token')
})

t.test('a flood of tokens with unknown kids does not become a flood of fetches', async t => {
  const { issuer, call } = await world(t)
  const stranger = await signingKey()
  const tokens = await Promise.all(Array.from({ length: 300 }, (_, index) => issuer.sign({}, { key: { ...stranger, kid: `kid-${index}` } })))
  t.same(new Set(await Promise.all(tokens.map(call))), new Set(['invalid_token']))
  t.equal(issuer.fetches, 1)
  t.equal(await call(await issuer.sign()), 'ok', 'and good tokens are taken meanwhile')
})

t.test('an issuer that is down: good tokens go on, unknown kids are bad tokens', async t => {
  const { issuer, call, edge } = await world(t, { JWKS_COOLDOWN_MS: '100', JWKS_CACHE_MAX_AGE_MS: '1000' })
  t.equal(await call(await issuer.sign()), 'ok')
  await issuer.down()
  const stranger = await issuer.sign({}, { key: await signingKey() })
  while (edge.logged('identity.keys.failed').length < 2) t.equal(await call(stranger), 'invalid_token')
  let index = 0
  const failed = edge.logged('identity.keys.failed').length
  // past the age of the keys
  while (edge.logged('identity.keys.failed').length < failed + 12) {
    const answer = await call(await issuer.sign({ sub: `user-${index++}` }))
    if (answer !== 'ok') t.fail(answer)
  }
  await issuer.up()
  t.equal(await changeOf(async () => await call(stranger) + issuer.fetches), `invalid_token${issuer.fetches}`, 'it is asked again')
})

t.test('while an issuer that was down says nothing, nobody with a key in hand waits for it', async t => {
  const { issuer, call, edge } = await world(t, { JWKS_COOLDOWN_MS: '100', JWKS_CACHE_MAX_AGE_MS: '1000' })
  let index = 0
  const fresh = async () => await call(await issuer.sign({ sub: `user-${index++}` }))
  const failures = (): number => edge.logged('identity.keys.failed').length
  t.equal(await fresh(), 'ok')
  await issuer.down()
  while (failures() === 0) t.equal(await fresh(), 'ok')
  issuer.answer(() => {})
  await issuer.up()
  // the fetch may be one that failed before it was up
  for (const before = issuer.fetches; issuer.fetches === before;) t.equal(await fresh(), 'ok')
  const failed = failures()
  for (let n = 0; n < 10; n++) t.equal(await fresh(), 'ok')
  t.equal(failures(), failed, 'the issuer has still not answered')
})

t.test('an issuer that is down before any key came: nobody can say, until it is back', async t => {
  // it is asked again long before the cooldown is over
  const { issuer, call, edge } = await world(t, { JWKS_COOLDOWN_MS: '3600000' })
  await issuer.down()
  const token = await issuer.sign()
  t.equal(await call(token), 'auth_service_unavailable')
  t.match(edge.logged('http.request.failed'), [{ level: 'error', code: 'AUTH_SERVICE_UNAVAILABLE' }])
  for (const url of ['/livez', '/openapi.json']) t.equal((await edge.app.inject({ url, headers: { authorization: `Bearer ${token}` } })).statusCode, 200, 'open routes do not care')
  await issuer.up()
  t.equal(await changeOf(() => call(token)), 'ok')
})

t.test('what an issuer answers that is no set of keys counts as nothing', async t => {
  const stranger = await signingKey()
  for (const [name, answer] of Object.entries<Parameters<TestIssuer['answer']>[0]>({
    'not JSON': response => response.end('<html>'),
    'nothing': response => response.end(),
    'null': response => response.end('null'),
    'no keys': response => response.end('{}'),
    'keys that are none': response => response.end('{"keys":[1,null,"x",{}]}'),
    'no key': response => response.end('{"keys":[]}'),
    'a secret key': response => response.end(JSON.stringify({ keys: [{ kty: 'oct', k: 'AAAA', alg: 'HS256' }] })),
    'a private key': response => response.end(JSON.stringify({ keys: [stranger.privateKey.export({ format: 'jwk' })] })),
    'an error': response => response.writeHead(500).end('{"keys":[]}'),
    'a megabyte': response => response.end(JSON.stringify({ keys: [stranger.jwk], padding: 'x'.repeat(1024 * 1024) })),
    'a megabyte that came to be by unpacking': response => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipped(JSON.stringify({ keys: [stranger.jwk], padding: 'x'.repeat(1024 * 1024) }))),
    'a broken connection': response => { response.write('{"keys":['); response.destroy() }
  })) {
    const { issuer, call, edge } = await world(t)
    issuer.answer(answer)
    t.equal(await call(await issuer.sign()), 'auth_service_unavailable', name)
    t.equal(await call(await issuer.sign({}, { key: stranger })), 'auth_service_unavailable', name)
    t.equal(edge.logged('identity.keys.failed').length, 1, name)
  }
})

t.test('keys in a set that cannot be used do not spoil the others', async t => {
  const { issuer, call } = await world(t)
  const { jwk } = issuer.keys[0]!
  const broken = { ...jwk, kid: 'broken', x: '!!' }
  issuer.answer(response => response.end(JSON.stringify({ keys: [null, { kty: 'oct', k: 'AAAA', kid: jwk.kid }, broken, jwk, { ...jwk, kid: 'enc', use: 'enc' }] })))
  t.equal(await call(await issuer.sign()), 'ok')
  t.equal(await call(await issuer.sign({}, { key: { ...issuer.keys[0]!, kid: 'broken' } })), 'invalid_token')
  t.equal(await call(await issuer.sign({}, { key: { ...issuer.keys[0]!, kid: 'enc' } })), 'invalid_token')
})

t.test('of a set only so many keys are looked at', async t => {
  const { issuer, call } = await world(t)
  const keys = Array.from({ length: JWKS_KEYS_MAX + 1 }, (_, n) => ({ ...issuer.keys[0]!.jwk, kid: String(n) }))
  issuer.answer(response => response.end(JSON.stringify({ keys })))
  const withKid = async (n: number) => await call(await issuer.sign({}, { key: { ...issuer.keys[0]!, kid: String(n) } }))
  t.equal(await withKid(JWKS_KEYS_MAX - 1), 'ok')
  t.equal(await withKid(JWKS_KEYS_MAX), 'invalid_token')
})

t.test('a redirect to elsewhere is not followed', async t => {
  const other = await startIssuer(t)
  const { issuer, call } = await world(t)
  issuer.answer(response => response.writeHead(302, { location: other.jwksUrl }).end())
  t.equal(await call(await issuer.sign({}, { key: other.keys[0]! })), 'auth_service_unavailable')
  t.equal(other.fetches, 0)
})

t.test('an issuer that does not answer holds nobody for long', async t => {
  const { issuer, call } = await world(t)
  issuer.answer(() => {})
  const answers = await Promise.all([await issuer.sign(), await issuer.sign({ sub: 'bob' })].map(call))
  t.same(answers, ['auth_service_unavailable', 'auth_service_unavailable'])
  t.equal(issuer.fetches, 1)
})

t.test('a caller who is looked up slowly cannot send meanwhile, and is cut off when refused', async t => {
  const { issuer, edge } = await world(t)
  const asked = new Promise<ServerResponse>(resolve => { issuer.answer(resolve) })
  const accepted = once(edge.app.server, 'connection')
  const socket = connect(edge.port, '127.0.0.1')
  let answer = ''
  socket.on('data', (data: Buffer) => { answer += data.toString('latin1') })
  socket.on('error', () => {})
  const closed = new Promise(resolve => { socket.once('close', resolve) })
  const token = await issuer.sign({}, { key: await signingKey() })
  socket.write(`POST /caller HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 52428800\r\nAuthorization: Bearer ${token}\r\n\r\n`)
  const pump = (): void => { while (socket.writable && socket.write(Buffer.alloc(64 * 1024))); socket.once('drain', pump) }
  pump()
  const held = await asked
  const [server] = await accepted as [Socket]
  held.end(JSON.stringify({ keys: issuer.keys.map(({ jwk }) => jwk) }))
  await closed
  t.match(answer, /^HTTP\/1\.1 401 /)
  t.match(answer, /\r\nconnection: close\r\n/i)
  t.ok(server.bytesRead < 1024 * 1024, `${server.bytesRead} bytes of 50 MiB were read`)
})

/** An issuer with a discovery document, made by `document`. */
async function discoverable(t: Test, document: (url: string, keys: TestIssuer) => object): Promise<{ call: Call, keys: TestIssuer, url: string }> {
  const keys = await startIssuer(t)
  const server = createServer((request, response) => {
    if (request.url !== '/realm/.well-known/openid-configuration') return void response.writeHead(404).end()
    response.end(JSON.stringify(document(url, keys)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/realm/`
  const edge = await startEdge(t, { env: { OIDC_ISSUER: url, OIDC_AUDIENCE: 'penstock' }, routes: [routes] })
  return {
    keys, url,
    async call(token) {
      const response = await edge.app.inject({ url: '/caller', headers: { host: 'localhost', authorization: `Bearer ${token}` } })
      return response.statusCode === 200 ? 'ok' : response.json<{ error: { code: string } }>().error.code
    }
  }
}

t.test('without an address of the keys the discovery document says it', async t => {
  const good = await discoverable(t, (url, keys) => ({ issuer: url, jwks_uri: keys.jwksUrl }))
  t.equal(await good.call(await good.keys.sign({ iss: good.url })), 'ok', 'the slash at the end of the issuer counts')
  t.equal(await good.call(await good.keys.sign({ iss: good.url.slice(0, -1) })), 'invalid_token')
  for (const document of [
    (_url: string, keys: TestIssuer) => ({ issuer: 'https://evil.example', jwks_uri: keys.jwksUrl }),
    (url: string) => ({ issuer: url }), (url: string) => ({ issuer: url, jwks_uri: 'file:///etc/passwd' }), () => []
  ]) {
    const bad = await discoverable(t, document)
    t.equal(await bad.call(await bad.keys.sign({ iss: bad.url })), 'auth_service_unavailable')
    t.equal(bad.keys.fetches, 0)
  }
})

t.test('an issuer that is asked over https names no keys that come without', async t => {
  const keys = await startIssuer(t)
  // 127.0.0.1 as its subjectAltName
  const certificate = makeCertificate({
    subject: 'issuer', keys: generateKeyPairSync('ec', { namedCurve: 'P-256' }), ca: true,
    extensions: [{ oid: '2.5.29.17', value: Buffer.from([0x30, 0x06, 0x87, 0x04, 127, 0, 0, 1]) }]
  })
  const server = createTlsServer({ key: certificate.keys.privateKey.export({ type: 'pkcs8', format: 'pem' }), cert: certificate.pem }, (request, response) => {
    const [, name = '', path] = request.url!.split('/')
    if (path !== '.well-known') return void response.end(JSON.stringify({ keys: keys.keys.map(({ jwk }) => jwk) }))
    response.end(JSON.stringify({ issuer: `${url}/${name}`, jwks_uri: name === 'secure' ? `${url}/secure/keys` : keys.jwksUrl }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const authority = join(t.testdir({ 'ca.pem': certificate.pem }), 'ca.pem')
  for (const [name, status] of [['secure', 200], ['mixed', 503]] as const) {
    const service = await startService(t, { OIDC_ISSUER: `${url}/${name}`, OIDC_AUDIENCE: AUDIENCE, NODE_EXTRA_CA_CERTS: authority })
    t.equal((await service.call('/extensions', undefined, await keys.bearer({ iss: `${url}/${name}` }))).status, status, name)
  }
  t.equal(keys.fetches, 0)
})
