import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { PenstockError } from '../../src/errors.ts'
import { requireAnyCaller, requireCaller } from '../../src/identity/guards.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { RecordStoreFailed } from '../../src/records/port.ts'
import { startIssuer } from '../support/jwks.ts'
import { nowSeconds, signGuest, signWithSecret } from '../support/sign-token.ts'
import { startEdge } from '../support/start-edge.ts'

const ADMIN_TOKEN = 'a-token-of-the-admin'
const NODE_TOKEN = 'a-token-of-the-nodes'
const GUEST_SECRET = 'a-secret-of-guests-of-32-characters'

async function routes(app: FastifyInstance): Promise<void> {
  app.get('/any', { onRequest: requireAnyCaller() }, async request => request.principal)
  app.post('/any', { onRequest: requireAnyCaller() }, async request => request.principal)
  app.get('/known', { onRequest: requireCaller() }, async request => request.principal)
}

const user = (subject: string): Principal => ({ kind: 'user', subject, account: 'acme', clientId: null, scopes: [] })
const form: Principal = { kind: 'public', subject: null, account: 'acme', clientId: null, scopes: [] }

/** Tokens and sessions as if records and Redis held them. */
const credentials = {
  tokens: async (value: string, kind: string) => {
    if (value === 'pst_records-down') throw new RecordStoreFailed('down')
    if (value === 'pst_over') throw new PenstockError('TOKEN_EXPIRED')
    if (kind === 'api') return value === 'pst_good' ? user('minted') : null
    return value === 'form-token' ? form : null
  },
  sessions: async (value: string, kind: string) => {
    if (value === 'redis-down') throw new PenstockError('AUTH_SERVICE_UNAVAILABLE')
    if (kind === 'session') return value === 'session-token' ? user('session') : null
    return value === 'old-form' ? { ...form, account: 'old' } : null
  }
}

type Call = (headers: Record<string, string>, path?: string, method?: 'GET' | 'POST') => Promise<string>

async function world(t: Test, env: Record<string, string> = {}, lookups: Partial<typeof credentials> = credentials): Promise<{ call: Call, jwt: string, guest: string }> {
  const issuer = await startIssuer(t)
  const edge = await startEdge(t, {
    env: { ...issuer.env, ADMIN_TOKEN, AI_INTERNAL_TOKEN: NODE_TOKEN, GUEST_TOKEN_SECRET: GUEST_SECRET, REFUSED_RATE_LIMIT_MAX: '0', ...env },
    credentials: lookups, routes: [routes]
  })
  return {
    jwt: await issuer.sign(), guest: await signGuest(GUEST_SECRET),
    async call(headers, path = '/any', method = 'GET') {
      const response = await edge.app.inject({ method, url: path, headers: { host: 'localhost', ...headers } })
      const body = response.json<Principal & { error?: { code: string } }>()
      return response.statusCode === 200 ? [body.kind, body.account, body.subject].filter(Boolean).join(':') : `${response.statusCode} ${body.error?.code}`
    }
  }
}

t.test('every credential makes the caller that it stands for', async t => {
  const { call, jwt, guest } = await world(t)
  for (const [headers, expected] of [
    [{ authorization: `Bearer ${ADMIN_TOKEN}` }, 'admin'],
    [{ authorization: `Bearer ${jwt}` }, 'user:acme:alice'],
    [{ authorization: 'Bearer pst_good' }, 'user:acme:minted'],
    [{ authorization: 'Bearer session-token' }, 'user:acme:session'],
    [{ cookie: 'file_service_auth=pst_good' }, 'user:acme:minted'],
    [{ cookie: 'token=session-token' }, 'user:acme:session'],
    [{ cookie: 'a=b; token="session-token"; c' }, 'user:acme:session'],
    [{ 'x-guest-authorization': guest }, 'guest:acme:guest-1'],
    [{ 'x-guest-authorization': `Bearer ${guest}` }, 'guest:acme:guest-1'],
    [{ cookie: `guest-token=${guest}` }, 'guest:acme:guest-1'],
    [{ 'x-public-authorization': 'Token form-token' }, 'public:acme'],
    [{ 'x-public-authorization': 'token old-form' }, 'public:old'],
    [{ cookie: 'public-token=form-token' }, 'public:acme'],
    [{ cookie: 'public-token=Token%20form-token' }, 'public:acme'],
    [{ cookie: 'public-token="Token form-token"' }, 'public:acme'],
    [{ 'x-alga-admin': 'true' }, 'admin'],
    [{}, '401 invalid_token']
  ] as [Record<string, string>, string][]) t.equal(await call(headers), expected, JSON.stringify(headers).slice(0, 70))
})

t.test('a credential counts only where it belongs', async t => {
  const { call, jwt, guest } = await world(t)
  for (const headers of [
    { authorization: `Bearer ${guest}` }, { authorization: 'Bearer form-token' }, { authorization: `Token ${ADMIN_TOKEN}` },
    { cookie: `token=${ADMIN_TOKEN}` }, { cookie: `token=${jwt}` }, { cookie: `file_service_auth=${NODE_TOKEN}` }, { cookie: `token=${guest}` },
    { 'x-guest-authorization': jwt }, { 'x-guest-authorization': 'session-token' }, { 'x-guest-authorization': '' }, { cookie: 'guest-token=form-token' },
    { 'x-public-authorization': 'form-token' }, { 'x-public-authorization': 'Token pst_good' }, { 'x-public-authorization': 'Token session-token' },
    { cookie: 'public-token=session-token' }, { cookie: 'token=form-token' }, { cookie: 'token=a b' }
  ] as Record<string, string>[]) t.equal(await call(headers), '401 invalid_token', JSON.stringify(headers).slice(0, 70))
})

t.test('the first credential that is present decides, and a bad one is not made good by the next', async t => {
  const { call, jwt, guest } = await world(t)
  const order: [name: string, good: string, bad: string, who: string][] = [
    ['authorization', `Bearer ${jwt}`, 'Bearer bad', 'user:acme:alice'],
    ['x-guest-authorization', guest, 'bad', 'guest:acme:guest-1'],
    ['x-public-authorization', 'Token form-token', 'Token bad', 'public:acme'],
    ['cookie:file_service_auth', 'pst_good', 'pst_bad', 'user:acme:minted'],
    ['cookie:token', 'session-token', 'bad', 'user:acme:session'],
    ['cookie:guest-token', guest, 'bad', 'guest:acme:guest-1'],
    ['cookie:public-token', 'old-form', 'bad', 'public:old'],
    ['x-alga-admin', 'true', 'false', 'admin']
  ]
  /** Good ones from `from` on, as a client would send them, cookies in the wrong order. */
  const headersFrom = (from: number, first: 'good' | 'bad'): Record<string, string> => {
    const sent = order.slice(from).map(([name, good, bad], index) => [name, index === 0 && first === 'bad' ? bad : good] as const)
    const cookies = sent.filter(([name]) => name.startsWith('cookie:')).map(([name, value]) => `${name.slice(7)}=${value}`).toReversed()
    return { ...Object.fromEntries(sent.filter(([name]) => !name.startsWith('cookie:'))), ...(cookies.length > 0 && { cookie: cookies.join('; ') }) }
  }
  for (const [index, [name, , , who]] of order.entries()) {
    t.equal(await call(headersFrom(index, 'good')), who, name)
    t.equal(await call(headersFrom(index, 'bad')), '401 invalid_token', `${name}, bad`)
  }
})

t.test('of two cookies with one name the first counts, and empty ones are none', async t => {
  const { call } = await world(t)
  t.equal(await call({ cookie: 'token=session-token; token=bad' }), 'user:acme:session')
  t.equal(await call({ cookie: 'token=bad; token=session-token' }), '401 invalid_token')
  t.equal(await call({ cookie: 'file_service_auth=; token=session-token' }), 'user:acme:session')
  t.equal(await call({ cookie: `${'a=b; '.repeat(100)}token=session-token` }), '401 invalid_token', 'after a hundred others')
  for (const cookie of ['', ';;;', '=', 'token', '%', '%00=%00; x']) t.equal(await call({ cookie }), '401 invalid_token', cookie)
  t.equal(await call({ cookie: 'token=%E0%A4%A' }), '401 invalid_token', 'no percent-encoding')
})

t.test('with a cookie, a page of another origin changes nothing', async t => {
  const { call } = await world(t, { CORS_ORIGIN: 'https://app.example.com', PUBLIC_BASE_URL: 'https://files.example.com' })
  const cookie = 'token=session-token'
  for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, { 'sec-fetch-site': 'cross-site' }] as Record<string, string>[]) {
    t.equal(await call({ cookie, ...headers }, '/any', 'POST'), '403 forbidden', JSON.stringify(headers))
    t.equal(await call({ cookie, ...headers }), 'user:acme:session', 'a link of another page')
    t.equal(await call({ authorization: 'Bearer session-token', ...headers }, '/any', 'POST'), 'user:acme:session', 'a header no page sends by itself')
  }
  for (const headers of [{}, { origin: 'https://app.example.com' }, { origin: 'https://files.example.com' }, { origin: 'http://localhost' }] as Record<string, string>[]) {
    t.equal(await call({ cookie, ...headers }, '/any', 'POST'), 'user:acme:session', JSON.stringify(headers))
  }
})

t.test('what is not configured lets nobody in', async t => {
  const { call, jwt, guest } = await world(t, { OIDC_ISSUER: '', OIDC_AUDIENCE: '', OIDC_JWKS_URL: '', GUEST_TOKEN_SECRET: '', AI_INTERNAL_TOKEN: '' }, {})
  for (const headers of [
    { authorization: `Bearer ${jwt}` }, { authorization: 'Bearer pst_good' }, { authorization: 'Bearer session-token' }, { authorization: `Bearer ${NODE_TOKEN}` },
    { 'x-guest-authorization': guest }, { 'x-public-authorization': 'Token form-token' }, { cookie: 'token=session-token' }
  ] as Record<string, string>[]) t.equal(await call(headers), '401 invalid_token', JSON.stringify(headers).slice(0, 70))
})

t.test('guests, public forms and nodes are no callers of what is not for them', async t => {
  const { call, guest } = await world(t)
  t.equal(await call({ 'x-guest-authorization': guest }, '/known'), '403 forbidden')
  t.equal(await call({ 'x-public-authorization': 'Token form-token' }, '/known'), '403 forbidden')
  for (const path of ['/any', '/known']) t.equal(await call({ authorization: `Bearer ${NODE_TOKEN}` }, path), '403 forbidden', path)
  t.equal(await call({ authorization: 'Bearer pst_good' }, '/known'), 'user:acme:minted')
})

t.test('where nobody can say whether a credential is good, nobody says that it is bad', async t => {
  const { call } = await world(t)
  t.equal(await call({ authorization: 'Bearer pst_records-down' }), '503 records_unavailable')
  t.equal(await call({ cookie: 'token=redis-down' }), '503 auth_service_unavailable')
  t.equal(await call({ authorization: 'Bearer pst_over' }), '401 token_expired')
})

t.test('a token of a guest needs its secret, a user, an account and an end', async t => {
  const { call } = await world(t)
  const now = nowSeconds()
  const guest = async (claims: Record<string, unknown>, header: Record<string, unknown> = {}) =>
    await call({ 'x-guest-authorization': await signWithSecret(GUEST_SECRET, { sub: 'g', account: 'acme', exp: now + 60, ...claims }, { header }) })
  t.equal(await guest({}), 'guest:acme:g')
  t.equal(await guest({ exp: now - 61 }), '401 token_expired')
  for (const claims of [{ sub: undefined }, { account: undefined }, { exp: undefined }, { account: '' }, { sub: { x: 1 } }, { nbf: now + 120 }]) {
    t.equal(await guest(claims), '401 invalid_token', JSON.stringify(claims))
  }
  t.equal(await guest({}, { alg: 'HS512' }), '401 invalid_token', 'no other algorithm')
  t.equal(await call({ 'x-guest-authorization': await signGuest('another-secret-of-32-characters-or-more') }), '401 invalid_token')
  t.equal(await call({ 'x-guest-authorization': (await signGuest(GUEST_SECRET)).slice(0, -2) }), '401 invalid_token')
})

t.test('with any scheme configured there is no local developer', async t => {
  const none = { ADMIN_TOKEN: '', AI_INTERNAL_TOKEN: '', OIDC_ISSUER: '', OIDC_AUDIENCE: '', OIDC_JWKS_URL: '' }
  t.equal(await (await world(t, { ...none, GUEST_TOKEN_SECRET: '' })).call({}), 'developer:local:dev')
  t.equal(await (await world(t, none)).call({}), '401 invalid_token', 'guests')
  t.equal(await (await world(t, { ADMIN_TOKEN: '', GUEST_TOKEN_SECRET: '' })).call({}), '401 invalid_token', 'an issuer')
})
