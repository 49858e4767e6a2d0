import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import type { Config } from '../../src/config.ts'
import { HEADERS_MAX_BYTES } from '../../src/limits.ts'
import { requireAdmin, requireCaller, requireJobReader } from '../../src/identity/guards.ts'
import { startIssuer, type TestIssuer } from '../support/jwks.ts'
import { nowSeconds, signingKey, signToken, signWithSecret, unsignedToken } from '../support/sign-token.ts'
import { startEdge, type Edge } from '../support/start-edge.ts'

async function routes(app: FastifyInstance, { config }: { config: Config }): Promise<void> {
  app.get('/caller', { onRequest: requireCaller() }, async request => request.principal)
  app.get('/jobs', { onRequest: requireJobReader(config) }, async () => ({}))
  app.get('/admin', { onRequest: requireAdmin(config) }, async () => ({}))
}

interface World { issuer: TestIssuer, edge: Edge, call(token: string, path?: string): Promise<Answer> }
interface Answer { status: number, code: string | undefined, message: string | undefined, principal: unknown, challenge: unknown, details: unknown }

async function world(t: Test, { env = {}, alg }: { env?: Record<string, string>, alg?: string } = {}): Promise<World> {
  const issuer = await startIssuer(t, alg === undefined ? {} : { alg })
  const edge = await startEdge(t, { env: { ...issuer.env, REFUSED_RATE_LIMIT_MAX: '0', ...env }, routes: [routes] })
  return {
    issuer, edge,
    async call(token, path = '/caller') {
      const response = await edge.app.inject({ url: path, headers: { host: 'localhost', authorization: `Bearer ${token}` } })
      const body = response.json<{ error?: { code: string, message: string, details: unknown } }>()
      return {
        status: response.statusCode, code: body.error?.code, message: body.error?.message, details: body.error?.details,
        principal: response.statusCode === 200 ? body : undefined, challenge: response.headers['www-authenticate']
      }
    }
  }
}

const invalid = { status: 401, code: 'invalid_token' }

t.test('a token of the issuer makes a user, with every algorithm that has a public key', async t => {
  for (const alg of ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA']) {
    const { issuer, call } = await world(t, { alg })
    const token = await issuer.sign({ scope: 'a b a' })
    t.match(await call(token), { status: 200, principal: { kind: 'user', subject: 'alice', account: 'acme', clientId: 'app', scopes: ['a', 'b'] } }, alg)
  }
})

t.test('claims make the caller', async t => {
  const { issuer, call } = await world(t)
  const principal = async (claims: Record<string, unknown>) => (await call(await issuer.sign(claims))).principal
  t.match(await principal({ sub: undefined }), { kind: 'client', subject: null, clientId: 'app' }, 'no subject: a service')
  t.match(await principal({ sub: 'app' }), { kind: 'client', subject: null, clientId: 'app' }, 'the subject is the client')
  t.match(await principal({ sub: 'app', client_id: undefined, azp: 'app' }), { kind: 'client', subject: null, clientId: 'app' }, 'azp')
  t.match(await principal({ sub: 'spa', azp: 'spa' }), { kind: 'client', subject: null, clientId: 'app' }, 'either')
  t.match(await principal({ client_id: undefined }), { kind: 'user', subject: 'alice', clientId: null }, 'no client')
  t.match(await principal({ scope: ['x', 'y'], scp: 'z' }), { scopes: ['x', 'y', 'z'] }, 'lists, and scp')
  t.match(await principal({ scope: 7, scp: [null, 'z'] }), { scopes: ['z'] }, 'what is no scope')
  t.match(await principal({ scope: 'penstock:admin' }), { kind: 'admin', subject: 'alice', account: 'acme' }, 'an administrator stays the user')
  t.match(await principal({ account_id: 42 }), { account: '42' }, 'numbers are names too')
  t.match(await principal({ account_id: undefined }), { account: null })
  t.match(await principal({ account_id: undefined, tenant_id: 'north' }), { account: 'north' }, 'tenants without accounts stay apart')
  t.match(await principal({ aud: ['other', 'penstock'] }), { subject: 'alice' }, 'one of several audiences')
})

t.test('claims of other names, and one tenant alone', async t => {
  const { issuer, call } = await world(t, { env: { OIDC_TENANT_ID: 'north', OIDC_CLAIM_TENANT: 'tid', OIDC_CLAIM_ACCOUNT: 'https://example.com/org' } })
  t.match(await call(await issuer.sign({ tid: 'north', 'https://example.com/org': 'x' })), { status: 200, principal: { account: 'x' } })
  for (const claims of [{ tid: 'south' }, {}, { tenant_id: 'north' }]) {
    t.match(await call(await issuer.sign(claims)), { status: 403, code: 'tenant_mismatch', challenge: undefined }, JSON.stringify(claims))
  }
})

t.test('scopes decide, and what is lacking is named', async t => {
  const { issuer, call } = await world(t)
  t.match(await call(await issuer.sign({ scope: 'penstock:job.read' }), '/jobs'), { status: 200 })
  t.match(await call(await issuer.sign({ scope: 'x' }), '/jobs'), {
    status: 403, code: 'insufficient_scope', details: { required_scope: 'penstock:job.read', provided_scopes: ['x'] },
    challenge: 'Bearer realm="penstock", error="insufficient_scope", scope="penstock:job.read"'
  })
  t.match(await call(await issuer.sign({ scope: 'penstock:admin' }), '/admin'), { status: 200 })
  t.match(await call(await issuer.sign(), '/admin'), { status: 403, code: 'insufficient_scope' })
})

t.test('a token without a signature that holds is none', async t => {
  const { issuer, call, edge } = await world(t)
  const now = nowSeconds()
  const claims = { iss: issuer.url, aud: 'penstock', sub: 'alice', exp: now + 600 }
  const key = issuer.keys[0]!
  const good = await issuer.sign()
  const [head, , signature] = good.split('.') as [string, string, string]
  const spki = key.publicKey.export({ type: 'spki', format: 'pem' })
  for (const [name, token] of [
    ['alg none', unsignedToken(claims)],
    ['alg none with its kid', unsignedToken(claims, { header: { kid: key.kid } })],
    ['alg nOnE', unsignedToken(claims, { header: { alg: 'nOnE' }, signature })],
    ['HS256 with the public key as the secret', await signWithSecret(spki, claims, { header: { kid: key.kid } })],
    ['HS256 with the public key as DER', await signWithSecret(key.publicKey.export({ type: 'spki', format: 'der' }), claims)],
    ['a key of somebody else under the same kid', await signToken(await signingKey('ES256', key.kid), claims)],
    ['a key in the header', await signToken(await signingKey('ES256', 'own'), claims, { header: { jwk: (await signingKey()).jwk, kid: undefined } })],
    ['an address of keys in the header', await signToken(await signingKey(), claims, { header: { jku: `${edge.url}/jwks.json` } })],
    ['another algorithm than the key', unsignedToken(claims, { header: { alg: 'RS256', kid: key.kid }, signature })],
    ['other claims under the signature', `${head}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`],
    ['one bit of the signature', good.slice(0, -10) + (good.at(-10) === 'A' ? 'B' : 'A') + good.slice(-9)],
    ['no signature', `${good.split('.').slice(0, 2).join('.')}.`],
    ['critical extension that nobody knows', unsignedToken(claims, { header: { alg: 'ES256', kid: key.kid, crit: ['x'], x: 1 }, signature })],
    ['five parts', `${good}.a.b`],
    ['rubbish', 'eyJ.eyJ.eyJ']
  ] as const) {
    const answer = await call(token)
    t.match(answer, invalid, name)
    t.match(answer.challenge, /^Bearer realm="penstock", error="invalid_token", error_description="[^"\\]+"$/, name)
  }
  t.match(await call(good), { status: 200 })
})

t.test('claims that have to be there, and are right', async t => {
  const { issuer, call } = await world(t)
  const now = nowSeconds()
  for (const [claims, text] of [
    [{ aud: 'other' }, /audience/], [{ aud: undefined }, /aud/], [{ aud: [] }, /audience/],
    [{ iss: 'https://evil.example' }, /issuer/], [{ iss: `${issuer.url}/` }, /issuer/], [{ iss: undefined }, /iss/],
    [{ exp: undefined }, /exp/], [{ exp: 'tomorrow' }, /exp/], [{ nbf: now + 600 }, /not valid yet/], [{ nbf: 'x' }, /nbf|not valid yet/],
    [{ sub: undefined, client_id: undefined }, /neither a subject nor a client/],
    [{ sub: '' }, /sub/], [{ sub: { a: 1 } }, /sub/], [{ sub: 'x'.repeat(256) }, /sub/], [{ sub: 'a\nb' }, /sub/], [{ sub: 'a\u202eb' }, /sub/],
    [{ account_id: ['a'] }, /account_id/], [{ client_id: true }, /client_id/], [{ tenant_id: {} }, /tenant_id/]
  ] as [Record<string, unknown>, RegExp][]) {
    t.match(await call(await issuer.sign(claims)), { ...invalid, message: text }, JSON.stringify(claims).slice(0, 60))
  }
})

t.test('an expired token is told so, and clocks may differ by a minute', async t => {
  const { issuer, call } = await world(t)
  const now = nowSeconds()
  t.match(await call(await issuer.sign({ exp: now - 50 })), { status: 200 })
  t.match(await call(await issuer.sign({ nbf: now + 50 })), { status: 200 })
  t.match(await call(await issuer.sign({ exp: now - 61 })), { status: 401, code: 'token_expired', challenge: /error="invalid_token"/ })
  t.match(await call(await issuer.sign({ nbf: now + 70 })), invalid)
  t.match(await call(await issuer.sign({ exp: now - 61 }, { key: await signingKey('ES256', issuer.keys[0]!.kid) })), invalid, 'not to whoever made it up')
})

t.test('a token that was taken is refused once it is over', async t => {
  const { issuer, call } = await world(t, { env: { JWT_CLOCK_TOLERANCE_SEC: '0' } })
  const token = await issuer.sign({ exp: nowSeconds() + 2 })
  t.match(await call(token), { status: 200 })
  while ((await call(token)).status === 200) await new Promise(resolve => { setTimeout(resolve, 20) })
  t.match(await call(token), { status: 401, code: 'token_expired' })
})

t.test('keys without kid, and tokens without kid among several keys', async t => {
  const { issuer, call } = await world(t)
  await issuer.rotate({ keep: true })
  await issuer.rotate({ keep: true })
  for (const key of issuer.keys) t.match(await call(await issuer.sign({}, { key, header: { kid: undefined } })), { status: 200 }, key.kid)
  t.match(await call(await issuer.sign({}, { key: await signingKey(), header: { kid: undefined } })), invalid)
})

t.test('a token that is too long is refused before anything of it is read', async t => {
  const { issuer, call, edge } = await world(t)
  t.match(await call(`${await issuer.sign()}${'x'.repeat(13_000)}`), invalid)
  t.match(await call('x'.repeat(100_000)), invalid)
  t.equal(issuer.fetches, 0)
  const response = await fetch(`${edge.url}/caller`, { headers: { authorization: `Bearer ${'x'.repeat(100_000)}` } })
  t.equal(response.status, 431, `headers have ${HEADERS_MAX_BYTES} bytes on a real socket`)
  t.match(await call(await issuer.sign({ padding: 'x'.repeat(6_000) })), { status: 200 }, 'a big one that fits')
})

t.test('no token, and nothing of one, is in a log line', async t => {
  const { issuer, call, edge } = await world(t)
  const tokens = [await issuer.sign(), await issuer.sign({ exp: 1 }), await issuer.sign({ aud: 'x' }), unsignedToken({ sub: 'alice' }), 'opaque-session-value']
  await issuer.down()
  tokens.push(await issuer.sign({ sub: 'bob' }))
  for (const token of tokens) await call(token)
  await issuer.up()
  for (const token of tokens) await call(token)
  const log = JSON.stringify(edge.lines)
  t.ok(edge.lines.length > 10)
  for (const token of tokens) for (const part of token.split('.').filter(each => each.length > 10)) t.notOk(log.includes(part), part.slice(0, 10))
})
