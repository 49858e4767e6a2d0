import t from 'tap'
import type { Test } from 'tap'
import { serviceTokens, type ServiceTokenOptions } from '../../src/jobs/promote-token.ts'
import { SERVICE_TOKEN_ANSWER_MAX_BYTES } from '../../src/limits.ts'
import { CLIENT_ID, CLIENT_SECRET, closes, hangs, says, startTokenEndpoint, type TokenEndpoint } from '../support/file-gateway.ts'

const forEver = new AbortController().signal

async function world(t: Test, options: Partial<ServiceTokenOptions> = {}) {
  const endpoint = await startTokenEndpoint(t)
  return { endpoint, tokens: serviceTokens({ url: endpoint.url, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET, audience: 'gateway', ...options }) }
}

const unavailable = { name: 'PenstockError', code: 'AUTH_SERVICE_UNAVAILABLE', retryAfterSeconds: Number }

function answers(endpoint: TokenEndpoint, changes: Record<string, unknown>): void {
  endpoint.next(says(200, JSON.stringify({ access_token: 'a-token', token_type: 'Bearer', expires_in: 3600, ...changes })))
}

t.test('it is asked for as RFC 6749 has it: client and secret are encoded before they become Basic', async t => {
  const { endpoint, tokens } = await world(t)
  t.ok(endpoint.issued.has(await tokens.get(forEver)) || t.fail('another token'))
  t.same(endpoint.requests, [{
    authorization: `Basic ${Buffer.from('penstock%3Aone:a+secret%2Fof%2Bits%25own').toString('base64')}`,
    contentType: 'application/x-www-form-urlencoded;charset=UTF-8',
    form: { grant_type: 'client_credentials', scope: 'files:upload.write', audience: 'gateway' }
  }])
})

t.test('those who want one at once share one fetch, and the next have it from memory', async t => {
  const { endpoint, tokens } = await world(t)
  const all = await Promise.all(Array.from({ length: 20 }, () => tokens.get(forEver)))
  t.equal(new Set([...all, await tokens.get(forEver)]).size, 1)
  t.equal(endpoint.requests.length, 1)
})

t.test('a failure is for all who wait for it, and the next one asks again', async t => {
  const { endpoint, tokens } = await world(t)
  endpoint.next(says(500))
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => tokens.get(forEver)))
  for (const outcome of outcomes) t.match(outcome, { status: 'rejected', reason: unavailable })
  t.equal(endpoint.requests.length, 1)
  await tokens.get(forEver)
  t.equal(endpoint.requests.length, 2)
})

t.test('it is kept until a minute before its end, and one without a lifetime, or with less, serves but once', async t => {
  for (const [expiresIn, fetches] of [[3600, 1], ['3600', 1], [61.5, 1], [60, 2], [1, 2], [0, 2], ['0', 2], [-5, 2], [undefined, 2], [null, 2], ['soon', 2], [{}, 2]] as const) {
    const { endpoint, tokens } = await world(t)
    endpoint.expiresIn = expiresIn
    const both = [await tokens.get(forEver), await tokens.get(forEver)]
    t.equal(endpoint.requests.length, fetches, JSON.stringify(expiresIn))
    t.equal(new Set(both).size, fetches)
  }
})

t.test('it is fetched anew a minute early, by the clock that does not jump', async t => {
  const { endpoint, tokens } = await world(t)
  let now = 1_000
  const real = performance.now
  t.teardown(() => { performance.now = real })
  performance.now = () => now
  await tokens.get(forEver)
  now += 3_539_000
  await tokens.get(forEver)
  t.equal(endpoint.requests.length, 1)
  now += 1_000
  await tokens.get(forEver)
  t.equal(endpoint.requests.length, 2)
})

t.test('one that was refused is fetched anew, but for one that took its place already', async t => {
  const { endpoint, tokens } = await world(t)
  const first = await tokens.get(forEver)
  tokens.drop(first)
  const second = await tokens.get(forEver)
  t.not(second, first)
  tokens.drop(first)
  t.equal(await tokens.get(forEver), second)
  t.equal(endpoint.requests.length, 2)
})

t.test('an answer that is none is refused whole', async t => {
  const { endpoint, tokens } = await world(t)
  for (const [why, how] of Object.entries({
    'a status': says(401, '{"error":"invalid_client"}'), 'a redirect': says(307, '', { location: endpoint.url }), 'no JSON': says(200, '{"access_token":"abc'), nothing: says(200),
    'a list': says(200, '[]'), null: says(200, 'null'), closes, 'too many bytes': says(200, JSON.stringify({ access_token: 'a', token_type: 'bearer', x: 'x'.repeat(SERVICE_TOKEN_ANSWER_MAX_BYTES) }))
  })) {
    endpoint.next(how)
    await t.rejects(tokens.get(forEver), unavailable, why)
  }
  for (const changes of [{ access_token: undefined }, { access_token: '' }, { access_token: 'a b' }, { access_token: 'a\r\nx: y' }, { access_token: 'ä' }, { access_token: 'a'.repeat(20_000) }, { access_token: 5 }, { token_type: 'mac' }, { token_type: undefined }]) {
    answers(endpoint, changes)
    await t.rejects(tokens.get(forEver), unavailable, JSON.stringify(changes).slice(0, 60))
  }
  answers(endpoint, { token_type: 'BEARER' })
  t.equal(await tokens.get(forEver), 'a-token')
})

t.test('reasons are for the log, and hold nothing of a token', async t => {
  const { endpoint, tokens } = await world(t)
  const reasonOf = async () => String(((await tokens.get(forEver).catch((error: unknown) => error)) as Error).cause)
  endpoint.next(says(401, '{"error_description":"for the secret x","error":"invalid_client"}'))
  t.equal(await reasonOf(), 'Error: the token endpoint answered 401 (invalid_client)')
  endpoint.next(says(200, '{"access_token":"a-secret-token-'))
  t.notMatch(await reasonOf(), /a-secret/)
  endpoint.next(says(400, '{"error":"<script>"}'))
  t.equal(await reasonOf(), 'Error: the token endpoint answered 400')
})

t.test('an endpoint that is slow is given up', async t => {
  const { endpoint, tokens } = await world(t, { timeoutMs: 50 })
  endpoint.next(hangs)
  await t.rejects(tokens.get(forEver), unavailable)
  endpoint.next(response => void response.writeHead(200).write('{'))
  await t.rejects(tokens.get(forEver), unavailable, 'in the middle of its answer too')
  await tokens.get(forEver)
})

t.test('who goes takes the fetch from nobody else; when the last one goes it ends', async t => {
  const { endpoint, tokens } = await world(t)
  const answering = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<void>()
  endpoint.next(async response => {
    await answering.promise
    says(200, '{"access_token":"a","token_type":"bearer"}')(response, response.req)
  }, response => void response.once('close', () => ended.resolve()))
  const leaving = new AbortController()
  const left = tokens.get(leaving.signal)
  const stayed = tokens.get(forEver)
  leaving.abort()
  await t.rejects(left, unavailable)
  answering.resolve()
  t.equal(await stayed, 'a')
  const alone = new AbortController()
  const hanging = tokens.get(alone.signal)
  while (endpoint.requests.length < 2) await new Promise(resolve => setImmediate(resolve))
  alone.abort()
  await t.rejects(hanging, unavailable)
  await ended.promise
  t.ok(await tokens.get(forEver), 'nobody waits for it any more')
  await t.rejects(tokens.get(leaving.signal), unavailable, 'and who has gone already asks nobody')
  t.equal(endpoint.requests.length, 3)
})
