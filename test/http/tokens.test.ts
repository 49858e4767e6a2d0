import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import assert from 'node:assert/strict'
import t from 'tap'
import type { Test } from 'tap'
import { ownPostgresOrSkip } from '../support/postgres.ts'
import { eventually } from '../support/raw-client.ts'
import { startApp, type Answer, type StartedApp } from '../support/start-app.ts'

const ADMIN_TOKEN = 'a-token-of-the-admin'
const GUEST_TOKEN_SECRET = 'a-secret-of-the-guests-of-32-byte'
const admin = { authorization: `Bearer ${ADMIN_TOKEN}` }
const header = { 'x-alga-admin': 'true' }
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const ofAda = { kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:job.read'] }

interface Request { method?: string, headers?: Record<string, string>, body?: unknown }

async function call({ url }: StartedApp, path: string, { method = 'GET', headers = admin, body }: Request = {}): Promise<Answer> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: { ...headers, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) as unknown }
}

const mint = async (app: StartedApp, body: unknown, headers: Record<string, string> = admin): Promise<Answer> => call(app, '/admin/tokens', { method: 'POST', headers, body })
const remove = async (app: StartedApp, id: string, headers: Record<string, string> = admin): Promise<Answer> => call(app, `/admin/tokens/${id}`, { method: 'DELETE', headers })
const listJobs = async (app: StartedApp, headers: Record<string, string>): Promise<Answer> => call(app, '/api/v1/jobs', { headers })

async function startWithTokens(t: Test, env: Record<string, string> = {}): Promise<StartedApp> {
  return startApp(t, { ADMIN_TOKEN, GUEST_TOKEN_SECRET, ...env })
}

for (const [name, env, asAdmin] of [['developer mode', {}, header], ['ADMIN_TOKEN', { ADMIN_TOKEN }, admin]] as const) {
  t.test(`${name}: a token works once it was made, and no more once it was removed`, async t => {
    const app = await startApp(t, env)
    const made = await mint(app, ofAda, asAdmin)
    t.match(made, { status: 201, body: { kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:job.read'], expires_at: null } })
    t.match(made.body.token, /^pst_[A-Za-z0-9_-]{43}$/)
    t.same(Object.keys(made.body).toSorted(), ['account', 'created_at', 'expires_at', 'id', 'kind', 'scopes', 'subject', 'token'])
    const { id, token } = made.body
    t.match(await listJobs(app, bearer(token)), { status: 200, body: { items: [] } })
    t.match(await listJobs(app, { cookie: `file_service_auth=${token}` }), { status: 200 })
    t.match(await listJobs(app, bearer(`${token}x`)), { status: 401, body: { error: { code: 'invalid_token' } } })
    t.equal((await remove(app, id, asAdmin)).status, 204)
    t.match(await listJobs(app, bearer(token)), { status: 401, body: { error: { code: 'invalid_token' } } })
    t.match(await remove(app, id, asAdmin), { status: 404, body: { error: { code: 'token_not_found' } } })
  })
}

t.test('a token has the scopes that it was given and no others', async t => {
  const app = await startWithTokens(t)
  const { body: { token } } = await mint(app, { ...ofAda, scopes: undefined })
  t.match(await listJobs(app, bearer(token)), { status: 403, body: { error: { code: 'insufficient_scope', details: { required_scope: 'penstock:job.read', provided_scopes: [] } } } })
  const { body: { token: other } } = await mint(app, { ...ofAda, scopes: ['a', 'penstock:job.read'] })
  t.equal((await listJobs(app, bearer(other))).status, 200)
})

t.test('a token that is over is refused, with the reason', async t => {
  const app = await startWithTokens(t)
  const before = Date.now()
  const { body } = await mint(app, { ...ofAda, expires_in: 1 })
  const over = Date.parse(body.expires_at)
  t.ok(over >= before + 1000 && over <= Date.now() + 1000)
  await eventually(async () => {
    const { status, body: { error } } = await listJobs(app, bearer(body.token))
    assert.deepEqual([status, error?.code], [401, 'token_expired'])
  })
  t.ok(Date.now() >= over, 'not before')
  t.match((await call(app, '/admin/tokens')).body.items, [{ id: body.id }], 'it is still listed')
  t.equal((await remove(app, body.id)).status, 204)
  t.match(await listJobs(app, bearer(body.token)), { status: 401, body: { error: { code: 'invalid_token' } } })
})

t.test('public and guest tokens are known callers, each by its own header and cookie', async t => {
  const app = await startWithTokens(t)
  const { body: form } = await mint(app, { kind: 'public', account: 'acme' })
  t.match(form, { kind: 'public', subject: null, scopes: [], expires_at: null })
  const { body: guest } = await mint(app, { kind: 'guest', account: 'acme', subject: 'guest-1', expires_in: 60 })
  t.match(guest, { kind: 'guest', subject: 'guest-1', scopes: [] })
  t.equal(Date.parse(guest.expires_at) - Date.parse(guest.created_at), 60_000)
  const known = [
    { 'x-public-authorization': `Token ${form.token}` }, { cookie: `public-token=${form.token}` },
    { 'x-guest-authorization': guest.token }, { cookie: `guest-token=${guest.token}` }
  ]
  for (const headers of known) t.match(await listJobs(app, headers), { status: 403, body: { error: { code: 'forbidden' } } }, JSON.stringify(Object.keys(headers)))
  for (const headers of [bearer(form.token), { 'x-public-authorization': `Token ${guest.token}` }, { 'x-guest-authorization': form.token }]) {
    t.match(await listJobs(app, headers), { status: 401 }, 'in the place of another')
  }
  await remove(app, form.id)
  t.match(await listJobs(app, known[0]!), { status: 401, body: { error: { code: 'invalid_token' } } })
  t.match(await remove(app, guest.id), { status: 404 }, 'nobody is told that the token of a guest is removed')
  t.match(await listJobs(app, known[2]!), { status: 403 })
})

t.test('only administrators make, see and remove tokens', async t => {
  const app = await startWithTokens(t, { TRUST_ADMIN_HEADER: 'false' })
  const { body: { id, token } } = await mint(app, { ...ofAda, scopes: ['penstock:upload', 'penstock:job.read', 'penstock:job.write'] })
  const { body: { token: form } } = await mint(app, { kind: 'public', account: 'acme' })
  for (const [headers, status, code] of [
    [{}, 401, 'invalid_token'], [bearer('pst_x'), 401, 'invalid_token'], [header, 401, 'invalid_token'],
    [bearer(token), 403, 'insufficient_scope'], [{ 'x-public-authorization': `Token ${form}` }, 403, 'insufficient_scope']
  ] as const) {
    for (const answer of [await mint(app, ofAda, headers), await call(app, '/admin/tokens', { headers }), await remove(app, id, headers), await remove(app, randomUUID(), headers)]) {
      t.match(answer, { status, body: { error: { code } } })
    }
  }
  t.equal((await call(app, '/admin/tokens')).body.items.length, 2, 'nothing came of it')
})

t.test('the local developer is no administrator', async t => {
  const app = await startApp(t)
  t.match(await mint(app, ofAda, {}), { status: 403, body: { error: { code: 'insufficient_scope' } } })
  t.match(await call(app, '/admin/tokens', { headers: {} }), { status: 403 })
})

const long = (length: number) => 'a'.repeat(length)

t.test('what is no token to be made is refused with the field, and nothing is made', async t => {
  const app = await startWithTokens(t)
  for (const [body, field] of [
    [{}, 'kind'], [[], 'body'], ['"x"', 'body'], ['null', 'body'], ['{', 'body'],
    [{ ...ofAda, kind: 'admin' }, 'kind'], [{ ...ofAda, kind: ['api'] }, 'kind'], [{ ...ofAda, name: 'x' }, 'name'], [{ ...ofAda, token: 'pst_x' }, 'token'],
    [{ ...ofAda, account: undefined }, 'account'], [{ ...ofAda, account: '' }, 'account'], [{ ...ofAda, account: 1 }, 'account'], [{ ...ofAda, account: null }, 'account'],
    [{ ...ofAda, account: 'a\0b' }, 'account'], [{ ...ofAda, account: 'a\nb' }, 'account'], [{ ...ofAda, account: 'a\u202eb' }, 'account'], [{ ...ofAda, account: '\ud800' }, 'account'],
    [{ ...ofAda, account: long(256) }, 'account'], [{ ...ofAda, account: '🦑'.repeat(128) }, 'account'],
    [{ ...ofAda, subject: undefined }, 'subject'], [{ ...ofAda, subject: '' }, 'subject'], [{ ...ofAda, subject: long(256) }, 'subject'], [{ ...ofAda, subject: '🦑'.repeat(128) }, 'subject'], [{ ...ofAda, subject: '\u0007' }, 'subject'],
    [{ kind: 'public', account: 'acme', subject: 'ada' }, 'subject'], [{ kind: 'guest', account: 'acme' }, 'subject'],
    [{ ...ofAda, scopes: 'penstock:upload' }, 'scopes'], [{ ...ofAda, scopes: [1] }, 'scopes.0'], [{ ...ofAda, scopes: [''] }, 'scopes.0'],
    [{ ...ofAda, scopes: ['a b'] }, 'scopes.0'], [{ ...ofAda, scopes: ['a"b'] }, 'scopes.0'], [{ ...ofAda, scopes: ['a\\b'] }, 'scopes.0'], [{ ...ofAda, scopes: ['ä'] }, 'scopes.0'], [{ ...ofAda, scopes: ['a\n'] }, 'scopes.0'],
    [{ ...ofAda, scopes: [long(129)] }, 'scopes.0'], [{ ...ofAda, scopes: ['a', 'a'] }, 'scopes'], [{ ...ofAda, scopes: Array.from({ length: 33 }, (_, index) => `s${index}`) }, 'scopes'],
    [{ ...ofAda, scopes: ['penstock:admin'] }, 'scopes'], [{ kind: 'public', account: 'acme', scopes: ['a'] }, 'scopes'], [{ kind: 'guest', account: 'acme', subject: 'g', scopes: [] }, 'scopes'],
    [{ ...ofAda, expires_in: 0 }, 'expires_in'], [{ ...ofAda, expires_in: -1 }, 'expires_in'], [{ ...ofAda, expires_in: 1.5 }, 'expires_in'], [{ ...ofAda, expires_in: '60' }, 'expires_in'],
    [{ ...ofAda, expires_in: null }, 'expires_in'], [{ ...ofAda, expires_in: 315_360_001 }, 'expires_in'], [{ ...ofAda, expires_in: 1e300 }, 'expires_in'],
    [{ kind: 'guest', account: 'acme', subject: 'g', expires_in: 86_401 }, 'expires_in']
  ] as const) {
    const { status, body: answer } = await mint(app, body)
    t.same([status, answer.error?.code, answer.error?.details?.fields?.[0]?.field], [400, 'validation_error', field], JSON.stringify(body).slice(0, 80))
  }
  t.same((await call(app, '/admin/tokens')).body, { items: [], next_cursor: null })
  t.same(app.logged('identity.token.created'), [])
  t.match(await mint(app, `{"kind":"api","account":"${long(20_000)}"}`), { status: 413, body: { error: { code: 'file_too_large' } } })
})

t.test('the longest names, scopes and lives are taken, and come back as they were', async t => {
  const app = await startWithTokens(t)
  const body = { kind: 'api', account: 'ß'.repeat(255), subject: `auth0|${long(249)}`, scopes: ['!', '#[]~', ...Array.from({ length: 30 }, (_, index) => `${long(120)}${index}`)], expires_in: 315_360_000 }
  const made = await mint(app, body)
  const { expires_in, ...facts } = body
  t.match(made, { status: 201, body: facts })
  t.equal(Date.parse(made.body.expires_at) - Date.parse(made.body.created_at) <= expires_in * 1000 + 1000, true)
  const { token, ...shown } = made.body
  t.match(token, /^pst_/)
  t.same((await call(app, '/admin/tokens')).body.items, [shown])
  const guest = await mint(app, { kind: 'guest', account: 'ß'.repeat(255), subject: 'ß'.repeat(255), expires_in: 86_400 })
  t.equal(guest.status, 201)
  t.match(await listJobs(app, { 'x-guest-authorization': guest.body.token }), { status: 403, body: { error: { code: 'forbidden' } } }, 'and are let in')
})

t.test('a service without the secret of guests makes no tokens for them', async t => {
  const app = await startApp(t, { ADMIN_TOKEN })
  t.match(await mint(app, { kind: 'guest', account: 'acme', subject: 'g' }), { status: 400, body: { error: { details: { fields: [{ field: 'kind' }] } } } })
})

t.test('lists go page by page, newest first, with neither values nor hashes, and are not to be kept', async t => {
  const app = await startWithTokens(t)
  const made = []
  for (let index = 0; index < 5; index += 1) made.push((await mint(app, { ...ofAda, subject: `u${index}` })).body)
  const all = (await call(app, '/admin/tokens')).body
  t.equal(all.next_cursor, null)
  t.same(all.items.map(({ id }: { id: string }) => id).toSorted(), made.map(({ id }) => id).toSorted())
  t.same(all.items, all.items.toSorted((a: { created_at: string, id: string }, b: { created_at: string, id: string }) => b.created_at.localeCompare(a.created_at) || (a.id < b.id ? 1 : -1)))
  const paged = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const { body }: Answer = await call(app, `/admin/tokens?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
    paged.push(...body.items)
    cursor = body.next_cursor
  }
  t.same(paged, all.items)
  for (const query of ['limit=0', 'limit=101', 'limit=x', 'cursor=x', 'cursor=']) t.match(await call(app, `/admin/tokens?${query}`), { status: 400, body: { error: { code: 'validation_error' } } }, query)
  const text = JSON.stringify([all, paged])
  for (const { token } of made) t.notOk(text.includes(token.slice(4)))
  t.notMatch(text, /"token"|hash/)
  for (const answer of [await mint(app, ofAda), await mint(app, {}), await call(app, '/admin/tokens'), await call(app, '/admin/tokens', { headers: {} })]) t.equal(answer.headers.get('cache-control'), 'no-store', String(answer.status))
})

t.test('ids that are none, and other methods', async t => {
  const app = await startWithTokens(t)
  const { body: { id } } = await mint(app, ofAda)
  for (const bad of ['x', '%00', `${id}x`, randomUUID(), "' or 1=1 --", '..%2f..%2fx']) t.match(await remove(app, bad), { status: 404, body: { error: { code: 'token_not_found' } } }, bad)
  t.equal((await call(app, '/admin/tokens')).body.items.length, 1)
  for (const [method, path, allow] of [['PUT', '/admin/tokens', 'GET, HEAD, OPTIONS, POST'], ['GET', `/admin/tokens/${id}`, 'DELETE, OPTIONS']] as const) {
    const answer = await call(app, path, { method })
    t.equal(answer.status, 405)
    t.equal(answer.headers.get('allow'), allow)
  }
  t.equal((await remove(app, id.toUpperCase())).status, 204)
})

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
}

t.test('a value is in no log line, and nowhere on disk; what was done is', async t => {
  const app = await startWithTokens(t)
  const made = []
  for (const body of [ofAda, { kind: 'public', account: 'acme' }, { kind: 'guest', account: 'acme', subject: 'g' }]) made.push((await mint(app, body)).body)
  const [api, form, guest] = made
  const sent = [bearer(api.token), { cookie: `token=${api.token}` }, { 'x-public-authorization': `Token ${form.token}` }, { 'x-guest-authorization': guest.token }, bearer(`${api.token}x`), { authorization: api.token }]
  for (const headers of sent) await listJobs(app, headers)
  await call(app, `/api/v1/jobs?token=${api.token}`, { headers: bearer(api.token) })
  await mint(app, { ...ofAda, token: api.token })
  for (const { id } of [api, form]) t.equal((await remove(app, id)).status, 204)
  t.match(app.logged('identity.token.created'), [
    { actor: 'admin', token_id: api.id, kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:job.read'], expires_at: null },
    { actor: 'admin', token_id: form.id, kind: 'public', subject: null }, { actor: 'admin', token_id: guest.id, kind: 'guest', subject: 'g', expires_at: guest.expires_at }
  ])
  t.match(app.logged('identity.token.removed'), [{ actor: 'admin', token_id: api.id }, { actor: 'admin', token_id: form.id }])
  const secrets = made.map(({ token }) => token.replace(/^pst_/, ''))
  const lines = JSON.stringify(app.logs)
  const files = filesBelow(app.dataDir)
  t.ok(files.some(file => readFileSync(file).includes(api.id)), 'the records are in one of the files')
  for (const secret of secrets) {
    t.notOk(lines.includes(secret), 'in the log')
    t.same(files.filter(file => readFileSync(file).includes(secret)), [], 'on disk')
  }
})

t.test('tokens outlast the service, and what one node removes another refuses at once', async t => {
  const DATA_DIR = await mkdtemp(join(tmpdir(), 'penstock-'))
  t.teardown(() => rm(DATA_DIR, { recursive: true, force: true }))
  const [first, second] = [await startWithTokens(t, { DATA_DIR }), await startWithTokens(t, { DATA_DIR })]
  const [kept, gone] = [(await mint(first, ofAda)).body, (await mint(first, ofAda)).body]
  for (const { token } of [kept, gone]) t.equal((await listJobs(second, bearer(token))).status, 200)
  t.equal((await remove(first, gone.id)).status, 204)
  t.equal((await listJobs(second, bearer(gone.token))).status, 401)
  await Promise.all([first.app.stop(), second.app.stop()])
  const third = await startWithTokens(t, { DATA_DIR })
  t.equal((await listJobs(third, bearer(kept.token))).status, 200)
  t.equal((await listJobs(third, bearer(gone.token))).status, 401)
})

t.test('the document names the routes, with examples that are what their schemas ask for', async t => {
  const { app: { server } } = await startWithTokens(t)
  const { paths } = (await server.inject('/openapi.json')).json<{ paths: Record<string, Record<string, any>> }>() // eslint-disable-line typescript/no-explicit-any
  t.same(Object.keys(paths['/admin/tokens']!).toSorted(), ['get', 'post'])
  const post = paths['/admin/tokens']!.post
  t.equal(Object.keys(post.requestBody.content['application/json'].examples).length, 3)
  for (const { value } of Object.values<{ value: unknown }>(post.requestBody.content['application/json'].examples)) {
    t.equal((await server.inject({ method: 'POST', url: '/admin/tokens', headers: admin, payload: value as object })).statusCode, 201, JSON.stringify(value))
  }
  t.same(Object.keys(post.responses).filter(status => status < '500').toSorted(), ['201', '400', '401', '403', '408', '413', '415', '429'])
  t.same(Object.keys(paths['/admin/tokens/{id}']!.delete.responses).filter(status => status < '500').toSorted(), ['204', '400', '401', '403', '404', '429'])
})

t.test('while the records are away a good token is not called bad, and afterwards it works again', async t => {
  const postgres = await ownPostgresOrSkip(t)
  if (postgres === undefined) return
  const app = await startWithTokens(t, { DATABASE_URL: await postgres.createDatabase() })
  const { body: { token, id } } = await mint(app, ofAda)
  t.equal((await listJobs(app, bearer(token))).status, 200)
  await postgres.halt()
  const unavailable = { status: 503, body: { error: { code: 'records_unavailable' } } }
  for (const answer of [await listJobs(app, bearer(token)), await mint(app, ofAda), await remove(app, id), await call(app, '/admin/tokens')]) t.match(answer, unavailable)
  t.equal((await listJobs(app, bearer('pst_x'))).status, 401, 'what was never a token is known to be none')
  t.equal((await call(app, '/livez', { headers: bearer(token) })).status, 200)
  await postgres.start()
  await eventually(async () => assert.equal((await listJobs(app, bearer(token))).status, 200))
  t.match((await call(app, '/admin/tokens')).body.items, [{ id }], 'and nothing was made or removed meanwhile')
})
