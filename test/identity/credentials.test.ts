import t from 'tap'
import { readConfig } from '../../src/config.ts'
import { isPenstockError } from '../../src/errors.ts'
import { identification } from '../../src/identity/credentials.ts'

const token = 'a-token-of-the-admin'
const admin = { kind: 'admin', subject: null, account: null, clientId: null, scopes: [] }
const dev = { subject: 'dev', account: 'local', clientId: null, scopes: [] }

async function who(headers: Record<string, string>, env: Record<string, string> = {}): Promise<unknown> {
  try {
    return await identification(readConfig(env), {})({ method: 'GET', headers: { host: '127.0.0.1:4000', ...headers } })
  } catch (error) {
    return isPenstockError(error) ? error.code : error
  }
}

t.test('the admin token makes an administrator', async t => {
  t.same(await who({ authorization: `Bearer ${token}` }, { ADMIN_TOKEN: token }), admin)
  t.same(await who({ authorization: `bEaReR  ${token} ` }, { ADMIN_TOKEN: token }), admin, 'the scheme has no case')
})

t.test('anything else in Authorization is refused, and nothing after it is tried', async t => {
  for (const authorization of ['', 'Bearer', 'Bearer ', `Bearer ${token}x`, `Bearer ${token.slice(0, -1)}`, 'Bearer x', `Basic ${token}`, token, `Bearer ${token} more`]) {
    t.equal(await who({ authorization, 'x-alga-admin': 'true' }, { ADMIN_TOKEN: token }), 'UNAUTHORIZED', authorization)
    t.equal(await who({ authorization, 'x-alga-admin': 'true' }), 'UNAUTHORIZED', `without a token configured: ${authorization}`)
  }
})

t.test('the admin header counts in any case of its value, and only as true', async t => {
  for (const value of ['true', 'True', 'TRUE', ' true ']) t.same(await who({ 'x-alga-admin': value }, { ADMIN_TOKEN: token }), admin, value)
  for (const value of ['', '1', 'yes', 'truely', 'false', 'true, true']) t.equal(await who({ 'x-alga-admin': value }, { ADMIN_TOKEN: token }), null, value)
})

t.test('the admin header counts in production only where it is said to be trusted', async t => {
  const production = { NODE_ENV: 'production', ADMIN_TOKEN: token }
  t.equal(await who({ 'x-alga-admin': 'true' }, production), null)
  t.same(await who({ 'x-alga-admin': 'true' }, { ...production, TRUST_ADMIN_HEADER: 'true' }), admin)
  t.equal(await who({ 'x-alga-admin': 'true' }, { TRUST_ADMIN_HEADER: 'false', ADMIN_TOKEN: token }), null)
})

t.test('the admin header does not get around a token where other machines can connect', async t => {
  const open = { HOST: '0.0.0.0', ADMIN_TOKEN: token }
  t.equal(await who({ 'x-alga-admin': 'true' }, open), null)
  t.same(await who({ authorization: `Bearer ${token}` }, open), admin)
  t.same(await who({ 'x-alga-admin': 'true' }, { ...open, TRUST_ADMIN_HEADER: 'true' }), admin, 'unless it is said to be trusted')
  t.same(await who({ 'x-alga-admin': 'true' }, { ...open, HOST: '127.0.0.1' }), admin)
  t.same(await who({ 'x-alga-admin': 'true' }, { HOST: '0.0.0.0' }), { ...dev, kind: 'admin' }, 'without a token there is nothing to get around')
})

t.test('without a credential scheme a caller is the local developer, with the admin header the local administrator', async t => {
  t.same(await who({}), { ...dev, kind: 'developer' })
  t.same(await who({ 'x-alga-admin': 'true' }), { ...dev, kind: 'admin' })
  t.equal(await who({}, { ADMIN_TOKEN: token }), null, 'there is none where a scheme is configured')
  t.equal(await who({}, { NODE_ENV: 'production', TRUST_ADMIN_HEADER: 'true' }), null, 'nor in production')
})

t.test('what is no secret counts only for requests that name this machine, against DNS rebinding', async t => {
  for (const host of ['evil.example', 'evil.example:4000', 'localhost.evil.example', 'localhostx', '127.0.0.1.evil.example', '', 'a b', '127.0.0.1@evil.example', 'evil.example/127.0.0.1']) {
    t.equal(await who({ host }), null, `developer: ${host}`)
    t.equal(await who({ host, 'x-alga-admin': 'true' }, { ADMIN_TOKEN: token }), null, `header: ${host}`)
    t.equal(await who({ host, 'x-forwarded-host': 'localhost', 'x-alga-admin': 'true' }), null, 'a page can set X-Forwarded-Host')
    t.same(await who({ host, authorization: `Bearer ${token}` }, { ADMIN_TOKEN: token }), admin, 'a secret is enough')
  }
  for (const host of ['localhost', 'LOCALHOST:4000', 'localhost.', 'app.localhost:1', '127.0.0.1', '[::1]:4000', '192.168.0.2:80']) {
    t.match(await who({ host }), { kind: 'developer' }, host)
  }
})

t.test('behind a proxy that keeps the header out, it counts under whatever name the proxy passes on', async t => {
  const trusted = { TRUST_ADMIN_HEADER: 'true', ADMIN_TOKEN: token }
  for (const host of ['files.example.com', 'penstock:4000', '']) {
    t.same(await who({ host, 'x-alga-admin': 'true' }, trusted), admin, host)
    t.same(await who({ host, 'x-alga-admin': 'true' }, { ...trusted, NODE_ENV: 'production' }), admin, `${host} in production`)
    t.equal(await who({ host }, { TRUST_ADMIN_HEADER: 'true' }), null, 'the developer still has to be on this machine')
  }
})

t.test('the host of PUBLIC_BASE_URL is this service, and where others can connect no name is asked for', async t => {
  t.match(await who({ host: 'files.example.com' }, { PUBLIC_BASE_URL: 'https://files.example.com' }), { kind: 'developer' })
  t.match(await who({ host: 'evil.example' }, { HOST: '0.0.0.0' }), { kind: 'developer' })
})

t.test('a page of another origin is not the developer', async t => {
  const env = { CORS_ORIGIN: 'https://app.example.com', PUBLIC_BASE_URL: 'https://files.example.com' }
  for (const origin of ['https://evil.example', 'null', 'http://127.0.0.1:4001', 'nonsense']) t.equal(await who({ origin }, env), null, origin)
  t.equal(await who({ 'sec-fetch-site': 'cross-site' }, env), null, 'an image or a link of another site')
  for (const origin of ['http://127.0.0.1:4000', 'https://app.example.com', 'https://files.example.com']) {
    t.match(await who({ origin }, env), { kind: 'developer' }, origin)
  }
})

t.test('a comparison of secrets does not throw on other lengths', async t => {
  t.equal(await who({ authorization: `Bearer ${'a'.repeat(10_000)}` }, { ADMIN_TOKEN: 'x' }), 'UNAUTHORIZED')
})
