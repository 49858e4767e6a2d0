/** Session tokens as another service keeps them in a real Redis. */
import assert from 'node:assert/strict'
import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { Redis as Writer } from 'ioredis'
import t, { type Test } from 'tap'
import type { FindSession } from '../../src/identity/credential-sources.ts'
import { sessions, type SessionsOptions } from '../../src/identity/sessions.ts'
import { SESSION_DERIVATIONS_WAITING_MAX, SESSION_TOKEN_MAX_CHARACTERS, SESSION_VALUE_MAX_BYTES, SESSIONS_REMEMBERED_MAX } from '../../src/limits.ts'
import { createLogger } from '../../src/logging.ts'
import { redisClient, RedisUnavailable } from '../../src/redis.ts'
import { pythonOrSkip } from '../support/python.ts'
import { eventually } from '../support/raw-client.ts'
import { redisOrSkip } from '../support/redis.ts'
import { startApp } from '../support/start-app.ts'

const SECRET = 'the salt of that service'
const config: SessionsOptions['config'] = { REDIS_SESSION_PREFIX: ':1:', REDIS_SESSION_SECRET: SECRET, REDIS_SESSION_ITERATIONS: 1, REDIS_SESSION_SCOPES: undefined }
const user = { kind: 'user', subject: '42', account: 'acme', clientId: null, scopes: [] }
const form = { kind: 'public', subject: null, account: 'acme', clientId: null, scopes: [] }

const keyOf = (token: string, { iterations = 1, prefix = ':1:' } = {}): string => prefix + pbkdf2Sync(token, SECRET, iterations, 32, 'sha256').toString('hex')
const newToken = (): string => randomBytes(20).toString('hex')

interface World { find: FindSession, lines: Record<string, unknown>[], log: SessionsOptions['log'] }

function logged(): { lines: Record<string, unknown>[], log: SessionsOptions['log'] } {
  const lines: Record<string, unknown>[] = []
  return { lines, log: createLogger({ level: 'debug', destination: { write: line => { lines.push(JSON.parse(line) as Record<string, unknown>) } } }) }
}

/** Over values in memory, that count how often they were asked for. */
function over(values: Record<string, string | Buffer>, settings: Partial<SessionsOptions['config']> = {}): World & { asked: string[] } {
  const asked: string[] = []
  const read = async (key: string, maxBytes: number): Promise<Buffer | null> => {
    asked.push(key)
    const value = values[key]
    return value === undefined ? null : Buffer.from(value).subarray(0, maxBytes)
  }
  const { lines, log } = logged()
  return { find: sessions({ redis: { read }, config: { ...config, ...settings }, log }), lines, log, asked }
}

t.test('a session is found under its derived key, a public token under itself', async t => {
  const token = newToken()
  const { find, asked } = over({ [keyOf(token)]: '{"user_id":42,"account_id":"acme"}', ':1:abcd1234': '{"account_id":"acme"}' })
  t.same(await find(token, 'session'), user)
  t.same(await find('abcd1234', 'public'), form)
  t.equal(await find(token, 'public'), null, 'the one is not the other')
  t.equal(await find('abcd1234', 'session'), null)
  t.notOk(asked.includes(`:1:${token}`), 'a token of a session is never a key by itself')
})

t.test('prefix and iterations are settings', async t => {
  const token = newToken()
  const { find } = over({ [keyOf(token, { iterations: 1000, prefix: 'sessions/' })]: '{"user_id":42,"account_id":"acme"}' }, { REDIS_SESSION_ITERATIONS: 1000, REDIS_SESSION_PREFIX: 'sessions/' })
  t.same(await find(token, 'session'), user)
})

t.test('ids are texts or whole numbers; a session without user id stands for its account alone; a form for no user', async t => {
  const values: Record<string, unknown> = {
    '{"user_id":"u|1","account_id":7}': { ...user, subject: 'u|1', account: '7' },
    ' {"user_id": null, "account_id": "acme"}': form,
    '{"account_id":"acme","scopes":["penstock:admin"],"kind":"admin"}': form,
    '{"user_id":9007199254740991,"account_id":"acme"}': { ...user, subject: '9007199254740991' }
  }
  for (const [value, principal] of Object.entries(values)) {
    const token = newToken()
    t.same(await over({ [keyOf(token)]: value }).find(token, 'session'), principal, value)
  }
  t.same(await over({ ':1:abcd1234': '{"user_id":42,"account_id":"acme"}' }).find('abcd1234', 'public'), form)
})

t.test('values that are none of a session are not valid, and the log says so without them', async t => {
  const bad: Record<string, string | Buffer> = {
    'no JSON': '{"user_id":42,"account_id":"secret"', 'no object': '["secret"]', 'no account': '{"user_id":"secret"}', 'null account': '{"user_id":"secret","account_id":null}',
    'an empty account': '{"user_id":"secret","account_id":""}', 'a fraction': '{"user_id":1.5,"account_id":"secret"}', 'true': '{"user_id":true,"account_id":"secret"}',
    'an unsafe number': '{"user_id":9007199254740993,"account_id":"secret"}', 'a list': '{"user_id":["secret"],"account_id":"secret"}',
    'a control character': '{"user_id":"secret\\n","account_id":"secret"}', 'a long id': JSON.stringify({ user_id: 'secret'.repeat(100), account_id: 'a' }),
    'inherited': '{"__proto__":{"user_id":"secret","account_id":"secret"}}', 'no UTF-8': Buffer.from('{"user_id":"secret\xff","account_id":"a"}', 'latin1'),
    'too long': JSON.stringify({ user_id: 42, account_id: 'acme', rest: 'secret'.repeat(SESSION_VALUE_MAX_BYTES / 6) }),
    'a text': 'secret', 'a pickled list': '(lp0\nS\'secret\'\na.', 'an exploit': 'cos\nsystem\n(S\'secret\'\ntR.', 'a bytes id': Buffer.from('}(U\x07user_idC\x06secretU\naccount_idU\x01au.', 'latin1')
  }
  for (const [name, value] of Object.entries(bad)) {
    const token = newToken()
    const { find, lines } = over({ [keyOf(token)]: value })
    t.equal(await find(token, 'session'), null, name)
    t.match(lines, [{ action: 'identity.session.unreadable', kind: 'session' }], name)
    t.notMatch(JSON.stringify(lines), new RegExp(`secret|${token}|${keyOf(token)}`), name)
  }
})

t.test('what can be no token is not looked for', async t => {
  const { find, asked } = over({})
  for (const value of ['', 'a b', 'a\n', 'ü', '\x7f', 'x'.repeat(SESSION_TOKEN_MAX_CHARACTERS + 1)]) t.equal(await find(value, 'session'), null)
  for (const value of ['', 'short', 'x'.repeat(7), 'x'.repeat(9), 'x'.repeat(31), 'x'.repeat(33), 'x'.repeat(64), 'abcd123*', 'abcd\n123', ':1:abcd1', 'abcd123\n', 'abcd 123']) t.equal(await find(value, 'public'), null)
  t.same(asked, [])
  await find('x'.repeat(SESSION_TOKEN_MAX_CHARACTERS), 'session')
  await find('x'.repeat(32), 'public')
  t.equal(asked.length, 2)
})

t.test('what was found is remembered, what was not is asked for again, and no more is remembered than may be', async t => {
  const tokens = Array.from({ length: SESSIONS_REMEMBERED_MAX + 1 }, newToken)
  const { find, asked } = over(Object.fromEntries(tokens.map(token => [keyOf(token), '{"user_id":42,"account_id":"acme"}'])))
  for (let n = 0; n < 3; n++) await find(tokens[0]!, 'session')
  t.equal(asked.length, 1)
  for (let n = 0; n < 3; n++) await find('unknown', 'session')
  t.equal(asked.length, 4)
  for (const token of tokens) await find(token, 'session')
  await find(tokens[0]!, 'session')
  t.equal(asked.filter(key => key === keyOf(tokens[0]!)).length, 2, 'the oldest was forgotten')
  await find(tokens.at(-1)!, 'session')
  t.equal(asked.filter(key => key === keyOf(tokens.at(-1)!)).length, 1)
})

t.test('a flood of tokens that take long to derive is told to come again, and does not hold the process', async t => {
  const { find } = over({}, { REDIS_SESSION_ITERATIONS: 2000 })
  const answers = await Promise.allSettled(Array.from({ length: SESSION_DERIVATIONS_WAITING_MAX + 100 }, (_, n) => find(`token-${n}`, 'session')))
  const refused = answers.filter(each => each.status === 'rejected')
  t.ok(refused.length >= 90)
  t.match(refused[0], { reason: { code: 'AUTH_SERVICE_UNAVAILABLE', statusCode: 503 } })
  t.ok(answers.some(each => each.status === 'fulfilled' && each.value === null))
})

t.test('where Redis does not answer, nobody is told that a token is wrong; what is remembered holds', async t => {
  const token = newToken()
  let up = true
  const read = async (): Promise<Buffer | null> => {
    if (!up) throw new RedisUnavailable()
    return Buffer.from('{"user_id":42,"account_id":"acme"}')
  }
  const find = sessions({ redis: { read }, config, log: logged().log })
  t.same(await find(token, 'session'), user)
  up = false
  t.same(await find(token, 'session'), user)
  await t.rejects(find(newToken(), 'session'), { code: 'AUTH_SERVICE_UNAVAILABLE' })
  await t.rejects(find('abcd1234', 'public'), { code: 'AUTH_SERVICE_UNAVAILABLE' })
})

async function writer(t: Test, url: string): Promise<Writer> {
  const redis = new Writer(url, { protocol: 2, maxRetriesPerRequest: 0, retryStrategy: null })
  redis.on('error', () => {})
  t.teardown(() => redis.disconnect())
  return redis
}

t.test('users of a session have the scopes that the configuration says, and forms none', async t => {
  const [session, form] = [newToken(), 'a1B2c3D4']
  const { find } = over({ [keyOf(session)]: '{"user_id":7,"account_id":"acme"}', [`:1:${form}`]: '{"account_id":"acme"}' }, { REDIS_SESSION_SCOPES: ['penstock:job.read', 'own'] })
  t.match(await find(session, 'session'), { kind: 'user', scopes: ['penstock:job.read', 'own'] })
  t.match(await find(form, 'public'), { kind: 'public', scopes: [] })
})

const redis = await redisOrSkip(t)
const python = await pythonOrSkip(t)

if (redis !== undefined && python !== undefined) {
  t.test('keys and pickles of every protocol as Python makes them', async t => {
    const token = newToken()
    const made = await python(join(import.meta.dirname, 'python/make_sessions.py'), token, SECRET, '1000') as { key: string, pickles: Record<string, string> }
    const { log } = logged()
    const client = redisClient({ url: redis.url, log })
    t.teardown(() => client.close())
    await client.open()
    const write = await writer(t, redis.url)
    for (const [protocol, pickle] of Object.entries(made.pickles)) {
      await write.set(`:1:${made.key}`, Buffer.from(pickle, 'hex'))
      const find = sessions({ redis: client, config: { ...config, REDIS_SESSION_ITERATIONS: 1000 }, log })
      t.same(await find(token, 'session'), user, `protocol ${protocol}`)
    }
  })
}

t.test('the whole service: who has a session is let in, in header and cookie, also while Redis is away', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const write = await writer(t, redis.url)
  const [token, late] = [newToken(), newToken()]
  await write.set(keyOf(token), '{"user_id":42,"account_id":"acme"}')
  await write.set(keyOf(late), '{"user_id":43,"account_id":"acme"}')
  const { url, logs } = await startApp(t, { REDIS_URL: redis.url, REDIS_SESSION_SECRET: SECRET })
  const get = async (headers: Record<string, string>): Promise<Response> => await fetch(`${url}/extensions`, { headers })

  t.equal((await get({})).status, 401, 'there is no developer where sessions are')
  t.equal((await get({ authorization: `Bearer ${token}` })).status, 200)
  t.equal((await get({ cookie: `file_service_auth=${token}` })).status, 200)
  t.equal((await get({ authorization: `Bearer ${newToken()}` })).status, 401)

  await redis.kill('SIGKILL')
  t.equal((await get({ authorization: `Bearer ${token}` })).status, 200, 'remembered')
  const away = await get({ authorization: `Bearer ${late}` })
  t.equal(away.status, 503)
  t.match(await away.json(), { error: { code: 'auth_service_unavailable' } })
  t.match(away.headers.get('retry-after'), /^\d+$/)
  const ready = await fetch(`${url}/readyz`)
  t.equal(ready.status, 200, 'it is still ready')
  await eventually(async () => assert.deepEqual(await (await fetch(`${url}/readyz`)).json(), { status: 'ready', degraded: ['redis not reachable'] }), 10_000)

  await redis.restart()
  const again = await writer(t, redis.url)
  await again.set(keyOf(late), '{"user_id":43,"account_id":"acme"}')
  await eventually(async () => assert.equal((await get({ authorization: `Bearer ${late}` })).status, 200), 15_000)
  await eventually(async () => assert.deepEqual(await (await fetch(`${url}/readyz`)).json(), { status: 'ready' }), 10_000)
  const text = JSON.stringify(logs)
  for (const secret of [token, late, SECRET]) t.notOk(text.includes(secret), 'no token and no secret in the log')
})
