/** Promoting results, through the whole service, to a real gateway and token endpoint that fail as they are told to. */
import assert from 'node:assert'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { closes, closesAfter, hangs, says, saysAndCloses, startGateway, type GatewayOptions, type TestGateway } from '../support/file-gateway.ts'
import { eventually } from '../support/raw-client.ts'
import { RESULT, seederOf, type Seeder } from '../support/seed.ts'
import { startApp, type Answer, type StartedApp } from '../support/start-app.ts'

/** A service of its own for each test. */
t.setTimeout(300_000)

const DEV = { subject: 'dev', account: 'local', clientId: null }
const MIB = 1024 * 1024

interface World { app: StartedApp, gateway: TestGateway, seeder: Seeder, promote(id: string, body?: object): Promise<Answer>, job(bytes?: Uint8Array): Promise<string> }

async function world(t: Test, { env = {}, ...options }: GatewayOptions & { env?: Record<string, string> } = {}): Promise<World> {
  const gateway = await startGateway(t, options)
  const app = await startApp(t, { API_V1_RATE_LIMIT_MAX: '0', ...gateway.env, ...env })
  const seeder = seederOf(t, app)
  return {
    app, gateway, seeder,
    promote: (id, body = {}) => app.post(`/api/v1/jobs/${id}/promote`, { source: RESULT, target_object_key: 'a/b.json', ...body }),
    job: async bytes => (await seeder.job(DEV, 'completed', bytes)).id
  }
}

async function shown({ app }: World, id: string): Promise<{ etag: string | null, body: any }> { // eslint-disable-line typescript/no-explicit-any
  const response = await fetch(`${app.url}/api/v1/jobs/${id}`, { headers: { 'x-alga-admin': 'true' } })
  return { etag: response.headers.get('etag'), body: await response.json() }
}

function errorOf({ status, body }: Answer): [number, string] {
  return [status, (body as { error?: { code: string } }).error?.code ?? JSON.stringify(body)]
}

t.test('a result goes to the gateway with the service\'s own token and its exact length, and the job tells of it', async t => {
  const here = await world(t)
  const bytes = randomBytes(3 * MIB + 17)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const id = await here.job(bytes)
  const before = await shown(here, id)
  t.same(before.body.promotions, [])
  const { status, body } = await here.promote(id)
  t.equal(status, 200, JSON.stringify(body))
  t.match(body, { job_id: id, source: RESULT, target_object_key: 'a/b.json', size: bytes.length, sha256, promoted_at: /^\d{4}-.*Z$/ })
  t.same(Object.keys(body), ['job_id', 'source', 'target_object_key', 'size', 'sha256', 'promoted_at'])
  t.same(here.gateway.files.get('a/b.json'), { sha256, size: bytes.length, contentType: 'application/json' })
  const [put] = here.gateway.puts
  t.match(put?.headers, { 'content-length': String(bytes.length), 'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:` })
  t.equal(put?.headers['transfer-encoding'], undefined)
  t.match(here.gateway.tokens.requests, [{ form: { grant_type: 'client_credentials', scope: 'files:upload.write', audience: 'file-gateway' } }])
  const after = await shown(here, id)
  t.same(after.body.promotions, [body])
  t.same({ ...after.body, promotions: [], updated_at: '' }, { ...before.body, updated_at: '' }, 'nothing else has changed')
  t.not(after.etag, before.etag)
})

t.test('an empty result is promoted too, and one that is as it was before under another key', async t => {
  const here = await world(t)
  const empty = await here.job(new Uint8Array())
  t.match(await here.promote(empty), { status: 200, body: { size: 0 } })
  t.match(await here.promote(empty, { target_object_key: 'c' }), { status: 200, body: { target_object_key: 'c' } })
  t.same(here.gateway.puts.map(({ key, headers, bytes }) => [key, headers['content-length'], bytes]), [['a/b.json', '0', 0], ['c', '0', 0]])
  t.same((await shown(here, empty)).body.promotions.map((each: { target_object_key: string }) => each.target_object_key), ['a/b.json', 'c'])
})

t.test('checks are made in their order: owner, completed, source, key', async t => {
  const here = await world(t)
  const key = { target_object_key: '../x' }
  const nothing = { source: 'nothing', ...key }
  t.same(errorOf(await here.promote(randomUUID(), nothing)), [404, 'job_not_found'])
  t.same(errorOf(await here.promote('x', nothing)), [404, 'job_not_found'])
  for (const state of ['queued', 'failed'] as const) {
    const { id } = await here.seeder.job(DEV, state)
    const answer = await here.promote(id, nothing)
    t.same(errorOf(answer), [409, 'job_not_ready_for_promote'])
    t.match(answer.body, { error: { details: { status: state } } })
  }
  const id = await here.job()
  t.same(errorOf(await here.promote(id, nothing)), [409, 'source_not_available'])
  for (const source of ['', 'ingest', 'constructor', '__proto__', 'x'.repeat(10_000), RESULT.toUpperCase(), 'a\u0000b']) t.same(errorOf(await here.promote(id, { source })), [409, 'source_not_available'], source.slice(0, 20))
  t.same(errorOf(await here.promote(id, key)), [422, 'invalid_object_key'])
  const gone = await here.seeder.job(DEV, 'completed')
  await here.seeder.records.files.remove(gone.results[0]!.fileId)
  t.same(errorOf(await here.promote(gone.id, key)), [409, 'source_not_available'], 'a result that was removed')
  t.same([here.gateway.puts, here.gateway.tokens.requests], [[], []], 'nobody was asked')
})

t.test('keys of every invalid shape are refused, and those at the edge are not', async t => {
  const here = await world(t)
  const id = await here.job()
  const long = 'a'.repeat(255)
  for (const target_object_key of [
    '', '/', '/a', 'a/', 'a//b', '.', '..', 'a/..', '../a', 'a/../b', 'a/./b', './a', 'a/.', 'a b', 'a\\b', 'a%2fb', 'a?b', 'a#b', 'ä', 'a\u0000', 'a\n', '\ud800', '🦑', 'a:b', 'a+b', '~', 'a*',
    'a'.repeat(256), `b/${'a'.repeat(256)}`, `${long}/${long}/${long}/${long}/a`, 'a/'.repeat(5000)
  ]) t.same(errorOf(await here.promote(id, { target_object_key })), [422, 'invalid_object_key'], JSON.stringify(target_object_key.slice(0, 20)))
  t.equal(here.gateway.puts.length, 0)
  for (const target_object_key of ['a', '...', '.a', 'a..b', '-', '_/.a/..b', long, `${long}/${long}/${long}/${long}`]) t.match(await here.promote(id, { target_object_key }), { status: 200, body: { target_object_key } })
})

t.test('a body that is none is a bad request', async t => {
  const here = await world(t)
  const id = await here.job()
  for (const body of [{ source: undefined }, { target_object_key: undefined }, { target_object_key: 5 }, { source: ['a'] }, { force: 'true' }, { other: 1 }]) {
    t.same(errorOf(await here.promote(id, body)), [400, 'validation_error'], JSON.stringify(body))
  }
  t.equal(here.gateway.puts.length, 0)
})

t.test('a repeat answers with the entry and sends nothing; force sends again, and takes its place', async t => {
  const here = await world(t)
  const id = await here.job()
  const first = await here.promote(id)
  t.same((await here.promote(id)).body, first.body)
  t.same((await here.promote(id, { force: false })).body, first.body)
  t.equal(here.gateway.puts.length, 1)
  await here.gateway.down()
  t.same((await here.promote(id)).body, first.body, 'also when the gateway is down')
  t.same(errorOf(await here.promote(id, { force: true })), [502, 'file_gateway_unavailable'])
  t.same((await shown(here, id)).body.promotions, [first.body], 'what failed took nothing away')
})

t.test('forced, it is sent again and stands once, with the later time', async t => {
  const here = await world(t)
  const id = await here.job()
  const first = await here.promote(id)
  const second = await here.promote(id, { force: true })
  t.equal(second.status, 200)
  t.ok(second.body.promoted_at > first.body.promoted_at)
  t.equal(here.gateway.puts.length, 2)
  t.same((await shown(here, id)).body.promotions, [second.body])
  t.same((await here.promote(id)).body, second.body)
})

t.test('of many that promote the same at once one sends', async t => {
  const here = await world(t)
  const id = await here.job(randomBytes(100_000))
  const answers = await Promise.all(Array.from({ length: 6 }, () => here.promote(id)))
  t.same(answers.map(({ status }) => status), answers.map(() => 200))
  for (const { body } of answers) t.same(body, answers[0]!.body)
  t.equal(here.gateway.puts.length, 1)
  t.equal(here.gateway.tokens.requests.length, 1, 'one token served them all')
})

t.test('of two at once the second sends where the first could not', async t => {
  const here = await world(t)
  const id = await here.job()
  here.gateway.next(says(500))
  const answers = await Promise.all([here.promote(id), here.promote(id)])
  t.same(answers.map(({ status }) => status).toSorted(), [200, 502])
  t.equal(here.gateway.puts.length, 2)
})

t.test('other keys, sources and jobs do not wait for each other', async t => {
  const here = await world(t)
  const [one, other] = [await here.job(), await here.job(Buffer.from('other'))]
  here.gateway.next(hangs)
  const hanging = here.promote(one, { target_object_key: 'slow' })
  await eventually(async () => assert.equal(here.gateway.puts.length, 1))
  t.equal((await here.promote(one)).status, 200)
  t.equal((await here.promote(other)).status, 200)
  await here.gateway.down()
  t.same(errorOf(await hanging), [502, 'file_gateway_unavailable'])
})

t.test('a token that the gateway refuses is replaced once, with the whole result again', async t => {
  const here = await world(t)
  const bytes = randomBytes(5 * MIB)
  const id = await here.job(bytes)
  await here.promote(id, { target_object_key: 'first' })
  here.gateway.tokens.issued.clear()
  t.equal((await here.promote(id)).status, 200)
  t.match(here.gateway.files.get('a/b.json'), { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') })
  t.equal(here.gateway.puts.length, 3)
  t.equal(here.gateway.tokens.requests.length, 2)
  t.equal(here.gateway.puts[1]!.bytes, 0, 'refused before a byte of it')
})

t.test('refused only when all of it was sent, it is sent again all the same', async t => {
  const here = await world(t)
  const bytes = randomBytes(2 * MIB)
  const id = await here.job(bytes)
  here.gateway.next(async (response, request) => {
    response.writeContinue()
    for await (const chunk of request) here.gateway.puts.at(-1)!.bytes += (chunk as Buffer).length
    says(401)(response, request)
  })
  t.equal((await here.promote(id)).status, 200)
  t.same(here.gateway.puts.map(put => put.bytes), [bytes.length, bytes.length])
})

t.test('a second refusal is that of the authorization, and nothing is recorded', async t => {
  const here = await world(t)
  const id = await here.job()
  here.gateway.next(says(401), says(401))
  const answer = await here.promote(id)
  t.same(errorOf(answer), [503, 'auth_service_unavailable'])
  t.ok(answer.headers.get('retry-after'))
  t.equal(here.gateway.puts.length, 2)
  t.match((await shown(here, id)).body, { status: 'completed', promotions: [] })
  t.equal((await here.promote(id)).status, 200, 'and it can be tried again')
})

for (const [name, how] of Object.entries({ 400: says(400), 403: says(403), 413: says(413), '413 with the body unread': saysAndCloses(413), 500: says(500), 503: says(503), 302: says(302, '', { location: 'https://example.com/' }), closes, 'closes in the middle': closesAfter(MIB) })) {
  t.test(`a gateway that says ${name} is not available; the job stays as it is`, async t => {
    const here = await world(t)
    const id = await here.job(randomBytes(4 * MIB))
    here.gateway.next(how)
    const answer = await here.promote(id)
    t.same(errorOf(answer), [502, 'file_gateway_unavailable'])
    t.notMatch(JSON.stringify(answer.body), /127\.0\.0\.1|ECONN|gateway\/files/)
    t.match((await shown(here, id)).body, { status: 'completed', promotions: [] })
    t.equal(here.gateway.puts.length, 1, 'and is not asked again')
    t.equal((await here.promote(id)).status, 200)
  })
}

for (const [name, options] of Object.entries({ 'says 417 to': { refusesExpect: true }, ignores: { ignoresExpect: true } })) {
  t.test(`a gateway that ${name} Expect gets the bytes`, async t => {
    const here = await world(t, options)
    const id = await here.job(randomBytes(2 * MIB))
    t.match(await here.promote(id), { status: 200, body: { size: 2 * MIB } })
    t.equal(here.gateway.files.get('a/b.json')?.size, 2 * MIB)
  })
}

t.test('a gateway that hangs has PROMOTE_TIMEOUT_MS in all', async t => {
  const here = await world(t, { env: { PROMOTE_TIMEOUT_MS: '1500' } })
  const id = await here.job(randomBytes(4 * MIB))
  await here.promote(id, { target_object_key: 'a-token-is-there' })
  // who waits for the first may get its turn in the last moment
  here.gateway.next(hangs, hangs)
  const [first, second] = await Promise.all([here.promote(id), here.promote(id)])
  t.same(errorOf(first!), [502, 'file_gateway_unavailable'])
  t.same(errorOf(second!), [502, 'file_gateway_unavailable'], 'and so has who waits for it')
  t.equal(here.gateway.files.has('a/b.json'), false)
})

t.test('a token endpoint that does not do as it should is an authorization that is not available', async t => {
  const here = await world(t, { env: { PROMOTE_TIMEOUT_MS: '4000' } })
  const id = await here.job()
  for (const how of [says(401, '{"error":"invalid_client"}'), says(500), says(200, 'garbage'), says(200, '{}'), closes]) {
    here.gateway.tokens.next(how)
    t.same(errorOf(await here.promote(id)), [503, 'auth_service_unavailable'])
  }
  t.equal(here.gateway.puts.length, 0)
  here.gateway.tokens.next(hangs)
  t.same(errorOf(await here.promote(id)), [503, 'auth_service_unavailable'], 'slow, it has the time of the whole at most')
  t.equal((await here.promote(id)).status, 200)
  const logged = JSON.stringify(here.app.logs)
  t.match(logged, /the token endpoint answered 401 \(invalid_client\)/)
  for (const secret of ['a secret', 'a+secret', ...here.gateway.tokens.issued, here.gateway.tokens.requests[0]!.authorization!.slice(6)]) t.notOk(logged.includes(secret))
})

t.test('tokens that are over at once serve one promotion each', async t => {
  const here = await world(t)
  const id = await here.job()
  here.gateway.tokens.expiresIn = 0
  for (const target_object_key of ['a', 'b', 'c']) t.equal((await here.promote(id, { target_object_key })).status, 200)
  t.equal(here.gateway.tokens.requests.length, 3)
})

t.test('a client that goes ends its promotion, and the next one sends', async t => {
  const here = await world(t)
  const id = await here.job(randomBytes(2 * MIB))
  const leaving = new AbortController()
  here.gateway.next(hangs)
  here.gateway.onPut = () => leaving.abort()
  await t.rejects(fetch(`${here.app.url}/api/v1/jobs/${id}/promote`, {
    method: 'POST', signal: leaving.signal, headers: { 'x-alga-admin': 'true', 'content-type': 'application/json' }, body: JSON.stringify({ source: RESULT, target_object_key: 'a/b.json' })
  }))
  await eventually(async () => assert.equal(here.app.logged('jobs.promote.abandoned').length, 1))
  t.equal((await here.promote(id)).status, 200)
})

t.test('a result whose bytes are gone is the store\'s fault, and the gateway has nothing of it', async t => {
  const here = await world(t)
  const { id, results: [result] } = await here.seeder.job(DEV, 'completed')
  await here.seeder.store.delete(result!.key)
  t.same(errorOf(await here.promote(id)), [502, 'storage_unavailable'])
  t.equal(here.gateway.puts.length, 0)
  await here.seeder.store.put(result!.key, Buffer.from('shorter'), { size: 7 })
  t.same(errorOf(await here.promote(id)), [502, 'storage_unavailable'])
  t.equal(here.gateway.puts.length, 0)
})

t.test('without a gateway nothing is promoted, and checks are made as ever', async t => {
  const app = await startApp(t)
  const seeder = seederOf(t, app)
  const { id } = await seeder.job(DEV, 'completed')
  const promote = (body: object) => app.post(`/api/v1/jobs/${id}/promote`, { source: RESULT, target_object_key: 'a', ...body })
  t.same(errorOf(await promote({ target_object_key: '/' })), [422, 'invalid_object_key'])
  t.same(errorOf(await promote({})), [502, 'file_gateway_unavailable'])
})

t.test('health says whether the gateway is there, and asks it without a token', async t => {
  const here = await world(t)
  const health = async () => (await (await fetch(`${here.app.url}/health`)).json() as { dependencies: Record<string, { status: string }> }).dependencies.file_gateway
  t.match(await health(), { status: 'up' })
  t.same(here.gateway.probes, ['HEAD /gateway'])
  t.equal(here.gateway.tokens.requests.length, 0)
})

t.test('shutdown cuts off what outlasts its grace', async t => {
  const here = await world(t, { env: { SHUTDOWN_GRACE_MS: '100' } })
  const id = await here.job()
  here.gateway.next(hangs)
  const answer = here.promote(id)
  await eventually(async () => assert.equal(here.gateway.puts.length, 1))
  await here.app.app.stop()
  t.same(errorOf(await answer), [503, 'service_busy'])
  t.match(await here.seeder.records.promotions.begin({ jobId: id, source: RESULT, target: 'a/b.json', size: 1, sha256: 'a' }, { token: 't', leaseMs: 1 }, 0), { outcome: 'begun' }, 'nobody has to wait for it')
})

t.test('a job that is removed takes its promotions with it', async t => {
  const here = await world(t)
  const id = await here.job()
  t.equal((await here.promote(id)).status, 200)
  const response = await fetch(`${here.app.url}/api/v1/jobs/${id}`, { method: 'DELETE', headers: { 'x-alga-admin': 'true' } })
  t.equal(response.status, 204)
  t.same(errorOf(await here.promote(id)), [404, 'job_not_found'])
})
