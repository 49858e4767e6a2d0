import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { TSchema } from 'typebox'
import { Check } from 'typebox/value'
import { PenstockError } from '../../src/errors.ts'
import type { Principal } from '../../src/identity/principal.ts'
import { completedRow, jobRow } from '../support/job-rows.ts'
import { startJobs } from '../support/start-jobs.ts'

const sha256 = 'a'.repeat(64)
const input = { sha256 }
const client: Principal = { kind: 'client', subject: null, account: 'acme', clientId: 'app', scopes: ['penstock:job.read', 'penstock:job.write'] }

t.test('a job is made of JSON', async t => {
  const { call, jobs } = await startJobs(t)
  const tensors = [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [[1, 2.5]] }]
  for (const body of [
    { model: 'upscale-2x', input },
    { model: 'upscale-2x', version: '1.2.3', params: { tile: 256, deep: { a: [1] } }, input: { file_id: randomUUID() }, user_id: 'ann', priority: -10, cache: false, webhook: { url: 'https://example.com/hook', events: ['generation_complete'] } },
    { model: 'identity', input: { tensors } }, { model: 'x', input: { key: `sha256/${sha256}/object` } }
  ]) {
    const answer = await call('POST', '/api/v1/jobs', { body })
    t.equal(answer.status, 202)
    const job = await answer.json() as { job_id: string }
    t.match(job, { status: 'queued', stage: null, progress: null, attempt: 0, results: [], promotions: [], input: { sha256, size: 5, content_type: 'image/png' }, created_at: '2023-11-14T22:13:20.000Z' })
    t.equal(answer.headers.get('location'), `/api/v1/jobs/${job.job_id}`)
    t.same(jobs.calls.at(-1)?.args[0], body)
    t.match(jobs.calls.at(-1)?.principal, { kind: 'developer', subject: 'dev' })
  }
})

t.test('an idempotency key goes to the service, and a repeat is answered with 200', async t => {
  const { call, jobs } = await startJobs(t)
  const body = { model: 'x', input }
  t.equal((await call('POST', '/api/v1/jobs', { body, headers: { 'idempotency-key': 'again' } })).status, 200)
  t.match(jobs.calls.at(-1)?.args[1], { idempotencyKey: 'again' })
  await call('POST', '/api/v1/jobs', { body })
  t.notOk(Object.hasOwn(jobs.calls.at(-1)!.args[1] as object, 'idempotencyKey'))
  for (const key of ['', 'a b', 'a'.repeat(129)]) {
    const answer = await call('POST', '/api/v1/jobs', { body, headers: { 'idempotency-key': key } })
    t.match(await answer.json(), { error: { code: 'validation_error', details: { fields: [{ field: 'idempotency-key' }] } } }, key)
  }
})

t.test('without a model images get the default; tensors need one', async t => {
  const { call, jobs } = await startJobs(t)
  t.equal((await call('POST', '/api/v1/jobs', { body: { input } })).status, 202)
  t.match(jobs.calls.at(-1)?.args[0], { model: 'upscale-2x', input })
  const answer = await call('POST', '/api/v1/jobs', { body: { input: { tensors: [{ name: 'x', shape: [1], datatype: 'FP32', data: [1] }] } } })
  t.match(await answer.json(), { error: { details: { fields: [{ field: 'model', message: 'is required with tensors' }] } } })
})

t.test('what a body must not be is said by its field, and never reaches the service', async t => {
  const { call, jobs } = await startJobs(t)
  const tensor = { name: 'x', shape: [1], datatype: 'FP32', data: [1] }
  for (const [field, body] of [
    ['body', []], ['body', null], ['input', { model: 'x' }], ['input', { model: 'x', input: 'y' }], ['input', { model: 'x', input: {} }], ['input', { model: 'x', input: { sha256, key: 'x' } }],
    ['input.sha256', { input: { sha256: 'A'.repeat(64) } }], ['input.file_id', { input: { file_id: 'x' } }], ['input.key', { input: { key: 'a\u0000' } }], ['input.other', { input: { other: 1 } }],
    ['input.tensors', { input: { tensors: [] } }], ['input.tensors.0.datatype', { input: { tensors: [{ ...tensor, datatype: 'FP8' }] } }], ['input.tensors.0.shape.0', { input: { tensors: [{ ...tensor, shape: [-1] }] } }],
    ['input.tensors.0.data', { model: 'x', input: { tensors: [{ name: 'x', shape: [1], datatype: 'FP32' }] } }], ['input.tensors.0.x', { input: { tensors: [{ ...tensor, x: 1 }] } }],
    ['model', { model: '', input }], ['model', { model: 1, input }], ['version', { model: 'x', version: 1, input }], ['params', { model: 'x', params: [], input }], ['params', { params: 'x', input }],
    ['user_id', { user_id: 'a/b', input }], ['user_id', { user_id: '', input }], ['priority', { priority: 11, input }], ['priority', { priority: '1', input }], ['priority', { priority: 0.5, input }],
    ['cache', { cache: 'false', input }], ['webhook', { webhook: 'https://example.com', input }], ['webhook.events.0', { webhook: { url: 'https://example.com', events: ['all'] }, input }], ['owner', { owner: 'x', input }]
  ] as [string, unknown][]) {
    const answer = await call('POST', '/api/v1/jobs', { body })
    t.equal(answer.status, 400, JSON.stringify(body))
    t.match(await answer.json(), { error: { code: 'validation_error', details: { fields: [{ field }] } } }, JSON.stringify(body))
  }
  t.same(jobs.calls, [])
})

t.test('tensors nested deeper than tensors are go no further', async t => {
  const { url, jobs } = await startJobs(t)
  const post = (data: string) => fetch(`${url}/api/v1/jobs`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: `{"model":"x","input":{"tensors":[{"name":"x","shape":[1],"datatype":"FP32","data":${data}}]}}`
  })
  t.equal((await post(`${'['.repeat(16)}1${']'.repeat(16)}`)).status, 202)
  for (const data of [`${'['.repeat(100_000)}1${']'.repeat(100_000)}`, `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`]) {
    const answer = await post(data)
    t.equal(answer.status, 400)
    t.match(await answer.json(), { error: { details: { fields: [{ field: 'input.tensors.0.data', message: 'is nested too deeply' }] } } })
  }
  t.equal(jobs.calls.length, 1)
})

t.test('bodies that are no JSON, or none at all, are refused', async t => {
  const { url, jobs } = await startJobs(t)
  for (const [init, status] of [
    [{}, 400], [{ body: '{', headers: { 'content-type': 'application/json' } }, 400], [{ body: '', headers: { 'content-type': 'application/json' } }, 400],
    [{ body: '{"input":{},"__proto__":{}}', headers: { 'content-type': 'application/json' } }, 400], [{ body: 'x', headers: { 'content-type': 'text/plain' } }, 415],
    [{ body: `{"model":"${'x'.repeat(5_000_000)}"}`, headers: { 'content-type': 'application/json' } }, 413]
  ] as [RequestInit, number][]) t.equal((await fetch(`${url}/api/v1/jobs`, { method: 'POST', ...init })).status, status, String(init.body).slice(0, 20))
  t.same(jobs.calls, [])
})

t.test('what the service says of a creation is answered', async t => {
  const { call, jobs } = await startJobs(t)
  for (const [error, status, code] of [
    [new PenstockError('MODEL_NOT_FOUND'), 404, 'model_not_found'], [new PenstockError('FILE_NOT_FOUND'), 404, 'file_not_found'], [new PenstockError('IDEMPOTENCY_CONFLICT'), 409, 'idempotency_conflict'],
    [new PenstockError('USER_HAS_ACTIVE_JOB', { details: { active_job_id: 'x' } }), 409, 'user_has_active_job'], [new PenstockError('QUEUE_FULL', { retryAfterSeconds: 5 }), 429, 'queue_full'], [new Error('a secret'), 500, 'internal_error']
  ] as const) {
    jobs.fail.set('create', error)
    const answer = await call('POST', '/api/v1/jobs', { body: { model: 'x', input } })
    t.equal(answer.status, status)
    const text = await answer.text()
    t.match(JSON.parse(text), { error: { code } })
    t.notMatch(text, /secret/)
    if (code === 'queue_full') t.equal(answer.headers.get('retry-after'), '5')
  }
})

t.test('a pipeline gets the id of its job', async t => {
  const { call, jobs, url } = await startJobs(t)
  const answer = await call('POST', '/generate/upscale-2x', { body: { params: { tile: 256 }, input } })
  t.equal(answer.status, 202)
  const body = await answer.json() as { jobId: string }
  t.same(Object.keys(body), ['jobId'])
  t.ok(jobs.jobs.has(body.jobId))
  t.equal(answer.headers.get('location'), `/api/v1/jobs/${body.jobId}`)
  t.same(jobs.calls.at(-1)?.args[0], { model: 'upscale-2x', params: { tile: 256 }, input })
  for (const [field, wrong] of [['params', { params: [], input }], ['input', { input: {} }], ['model', { model: 'x', input }]] as const) {
    t.match(await (await call('POST', '/generate/x', { body: wrong })).json(), { error: { code: 'validation_error', details: { fields: [{ field }] } } })
  }
  t.equal((await call('POST', `/generate/${'a'.repeat(256)}`, { body: { input } })).status, 400)

  t.equal((await fetch(`${url}/generate/noise`, { method: 'POST' })).status, 202, 'no body is no input and no params')
  t.match(jobs.drafts[0], { parts: [], committed: { model: 'noise' }, discarded: 0 })
  jobs.fail.set('commit', new PenstockError('BAD_REQUEST', { message: 'the model needs an input' }))
  const without = await call('POST', '/generate/upscale-2x', { body: { params: {} } })
  t.equal(without.status, 400)
  t.match(await without.json(), { error: { message: 'the model needs an input' } })
  t.equal(jobs.drafts[1]?.discarded, 1)
})

t.test('a job is shown with an ETag of its state', async t => {
  const { call, jobs } = await startJobs(t, { env: { PUBLIC_BASE_URL: 'https://jobs.example' } })
  const job = completedRow()
  jobs.jobs.set(job.id, job)
  const path = `/api/v1/jobs/${job.id.toUpperCase()}`
  const answer = await call('GET', path)
  t.equal(answer.headers.get('cache-control'), 'private, no-cache')
  t.match(await answer.json(), {
    job_id: job.id, status: 'completed', stage: 'persist', progress: 100,
    results: [{ name: 'image.png', url: `https://jobs.example/api/v1/jobs/${job.id}/results/image.png`, size: 9 }],
    stage_timings: { inference: { duration_ms: 900 } }, execution: { provider: 'cpu', cached: false }, completed_at: '2023-11-14T22:13:22.000Z'
  })
  const etag = answer.headers.get('etag')!
  t.match(etag, /^"[\w-]{43}"$/)
  for (const known of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
    const same = await call('GET', path, { headers: { 'if-none-match': known } })
    t.same([same.status, await same.text(), same.headers.get('etag'), same.headers.get('cache-control')], [304, '', etag, 'private, no-cache'], known)
  }
  t.equal((await call('GET', path, { headers: { 'if-modified-since': new Date().toUTCString() } })).status, 200, 'a second is too long for a job')
  for (const changes of [{ status: 'failed' }, { stage: 'ingest' }, { progress: 99 }, { updatedAt: job.updatedAt + 1 }, { lastSeq: 4 }] as const) {
    jobs.jobs.set(job.id, { ...job, ...changes })
    const changed = await call('GET', path, { headers: { 'if-none-match': etag } })
    t.equal(changed.status, 200, JSON.stringify(changes))
    t.not(changed.headers.get('etag'), etag)
  }
})

t.test('no job, another\'s job and what can be no job are the same 404', async t => {
  const { call, jobs } = await startJobs(t)
  const other = jobRow({ owner: { subject: 'somebody', account: 'else', clientId: null } })
  jobs.jobs.set(other.id, other)
  for (const id of [randomUUID(), other.id, 'nope', '%00', '..%2f', 'a'.repeat(120)]) {
    for (const [method, tail] of [['GET', ''], ['GET', '/events'], ['POST', '/cancel'], ['POST', '/retry'], ['DELETE', ''], ['GET', '/results/x']]) {
      const answer = await call(method!, `/api/v1/jobs/${id}${tail}`)
      t.equal(answer.status, 404, `${method} ${id}${tail}`)
      t.match(await answer.json(), { error: { code: 'job_not_found', message: 'there is no such job' } })
    }
  }
})

t.test('lists go page by page, with filters', async t => {
  const { call, jobs } = await startJobs(t)
  for (let at = 0; at < 5; at++) {
    const job = jobRow({ createdAt: 1000 + at })
    jobs.jobs.set(job.id, job)
  }
  const seen: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const answer: Response = await call('GET', `/api/v1/jobs?limit=2${cursor && `&cursor=${cursor}`}`)
    const body = await answer.json() as { items: { created_at: string }[], next_cursor: string | null }
    seen.push(...body.items.map(each => each.created_at))
    cursor = body.next_cursor
  }
  t.same(seen, [4, 3, 2, 1, 0].map(at => new Date(1000 + at).toISOString()))
  await call('GET', '/api/v1/jobs?user_id=ann&status=failed&model=upscale-2x')
  t.same(jobs.calls.at(-1)?.args, [{ userId: 'ann', status: 'failed', model: 'upscale-2x', limit: 21 }])
  await call('GET', '/api/v1/jobs')
  t.same(jobs.calls.at(-1)?.args, [{ limit: 21 }])
  const calls = jobs.calls.length
  for (const query of ['limit=0', 'limit=101', 'limit=1e1', 'limit=', 'status=done', 'user_id=a%20b', 'user_id=', 'model=', 'model=a%00b', 'cursor=', 'cursor=x', 'cursor=YTpi', 'state=failed', 'status=failed&status=queued']) {
    const answer = await call('GET', `/api/v1/jobs?${query}`)
    t.equal(answer.status, 400, query)
    t.match(await answer.json(), { error: { code: 'validation_error' } })
  }
  t.equal(jobs.calls.length, calls)
})

t.test('a service token has to say of whom it lists', async t => {
  const { call, jobs } = await startJobs(t, { as: client })
  const answer = await call('GET', '/api/v1/jobs')
  t.match([answer.status, await answer.json()], [400, { error: { details: { fields: [{ field: 'user_id' }] } } }])
  t.equal((await call('GET', '/api/v1/jobs?user_id=ann')).status, 200)
  t.match(jobs.calls.at(-1), { principal: client, args: [{ userId: 'ann' }] })
})

t.test('a multipart body at /generate is told where files go', async t => {
  const { url } = await startJobs(t)
  const body = new FormData()
  body.append('input', new Blob(['x']), 'a.png')
  const answer = await fetch(`${url}/generate/upscale-2x`, { method: 'POST', body })
  t.equal(answer.status, 415)
  t.match(await answer.json(), { error: { code: 'unsupported_media_type', message: /JSON here; POST \/api\/v1\/jobs takes files/ } })
})

t.test('a running job that is to be cancelled says so until it is', async t => {
  const { jobs, call } = await startJobs(t)
  const job = jobRow({ status: 'processing', cancelRequested: true })
  jobs.jobs.set(job.id, job)
  t.match(await (await call('POST', `/api/v1/jobs/${job.id}/cancel`)).json(), { status: 'processing', cancel_requested: true })
  jobs.jobs.set(job.id, { ...job, status: 'cancelled' })
  t.notOk('cancel_requested' in (await (await call('GET', `/api/v1/jobs/${job.id}`)).json() as object))
})

t.test('jobs are cancelled, retried and removed', async t => {
  const { call, jobs } = await startJobs(t)
  const job = jobRow({ status: 'cancelled' })
  jobs.jobs.set(job.id, job)
  for (const verb of ['cancel', 'retry']) {
    for (const body of [undefined, {}]) {
      const answer = await call('POST', `/api/v1/jobs/${job.id}/${verb}`, { body })
      t.equal(answer.status, 200, verb)
      t.match(await answer.json(), { job_id: job.id, status: 'cancelled' })
      t.same(jobs.calls.at(-1)?.name, verb)
    }
  }
  jobs.fail.set('retry', new PenstockError('JOB_NOT_RETRYABLE'))
  t.match(await (await call('POST', `/api/v1/jobs/${job.id}/retry`)).json(), { error: { code: 'job_not_retryable' } })
  const removed = await call('DELETE', `/api/v1/jobs/${job.id}`)
  t.same([removed.status, await removed.text()], [204, ''])
  t.equal((await call('DELETE', `/api/v1/jobs/${job.id}`)).status, 404)
})

t.test('the queue tells numbers, and names nobody\'s job', async t => {
  const { call } = await startJobs(t)
  const answer = await call('GET', '/api/v1/queue')
  const body = await answer.json() as { oldest_age_ms: number }
  t.ok(body.oldest_age_ms >= 1000 && body.oldest_age_ms < 60_000)
  t.same({ ...body, oldest_age_ms: 0 }, {
    waiting: 2, running: 1, completed: 5, failed: 1, oldest_age_ms: 0, models: [{ name: 'upscale-2x', waiting: 2, running: 1 }],
    workers: [{ node: 'n1', id: 'w1', state: 'busy', provider: 'cpu', device: 'cpu', runs: 3 }]
  })
})

const scopes = (...given: string[]): Principal => ({ ...client, kind: 'user', subject: 'ann', scopes: given })

t.test('scopes are asked for: to read, and to change', async t => {
  for (const [as, read, write] of [
    [scopes('penstock:job.read'), 200, 403], [scopes('penstock:job.write'), 403, 202], [scopes(), 403, 403], [scopes('penstock:job.read', 'penstock:job.write'), 200, 202],
    [{ ...client, kind: 'guest' }, 403, 403], [{ ...client, kind: 'public' }, 403, 403], [{ ...client, kind: 'node' }, 403, 403], [{ ...client, kind: 'admin', scopes: [] }, 200, 202]
  ] as [Principal, number, number][]) {
    const { call } = await startJobs(t, { as })
    const reading = await call('GET', '/api/v1/jobs?user_id=ann')
    t.equal(reading.status, read, `${as.kind} ${as.scopes.join(' ')} reads`)
    if (read === 403 && as.kind === 'user') t.match(await reading.json(), { error: { code: 'insufficient_scope', details: { required_scope: 'penstock:job.read', provided_scopes: as.scopes } } })
    for (const path of ['/api/v1/jobs', '/generate/x']) t.equal((await call('POST', path, { body: { ...(path === '/api/v1/jobs' && { model: 'x' }), input } })).status, write, `${as.kind} ${as.scopes.join(' ')} writes`)
  }
})

t.test('without a credential there is nothing, and a wrong one is refused', async t => {
  const { call, jobs } = await startJobs(t, { env: { ADMIN_TOKEN: 'a-token-of-the-admin', TRUST_ADMIN_HEADER: 'false' } })
  const id = randomUUID()
  for (const [method, path] of [
    ['POST', '/api/v1/jobs'], ['GET', '/api/v1/jobs'], ['GET', `/api/v1/jobs/${id}`], ['GET', `/api/v1/jobs/${id}/events`], ['POST', `/api/v1/jobs/${id}/cancel`], ['POST', `/api/v1/jobs/${id}/retry`],
    ['DELETE', `/api/v1/jobs/${id}`], ['GET', `/api/v1/jobs/${id}/results/x`], ['HEAD', `/api/v1/jobs/${id}/results/x`], ['POST', `/api/v1/jobs/${id}/download-tokens`], ['GET', '/api/v1/queue'], ['POST', '/generate/x']
  ]) {
    t.equal((await call(method!, path!)).status, 401, `${method} ${path}`)
    t.equal((await call(method!, path!, { headers: { authorization: 'Bearer wrong' } })).status, 401, `${method} ${path}`)
  }
  t.same(jobs.calls, [])
  t.equal((await call('GET', '/api/v1/jobs', { headers: { authorization: 'Bearer a-token-of-the-admin' } })).status, 200)
})

t.test('all job routes take from one budget', async t => {
  const { call } = await startJobs(t, { env: { API_V1_RATE_LIMIT_MAX: '3' } })
  const statuses: number[] = []
  for (const [method, path] of [['GET', '/api/v1/jobs'], ['GET', '/api/v1/queue'], ['POST', '/generate/x'], ['GET', '/api/v1/jobs'], ['GET', '/api/v1/downloads/a-token-that-nobody-guesses'], ['POST', '/api/v1/jobs']]) {
    const answer = await call(method!, path!)
    statuses.push(answer.status)
    t.equal(answer.headers.get('x-ratelimit-limit'), '3', path!)
    t.equal(answer.headers.get('ratelimit-limit'), '3')
    if (answer.status === 429) t.ok(Number(answer.headers.get('retry-after')) > 0)
  }
  t.same(statuses, [200, 200, 202, 429, 429, 429])
})

t.test('other methods are told which there are', async t => {
  const { call } = await startJobs(t)
  const id = randomUUID()
  for (const [path, allow] of [
    ['/api/v1/jobs', 'GET, HEAD, OPTIONS, POST'], [`/api/v1/jobs/${id}`, 'DELETE, GET, HEAD, OPTIONS'], [`/api/v1/jobs/${id}/events`, 'GET, OPTIONS'], [`/api/v1/jobs/${id}/cancel`, 'OPTIONS, POST'],
    [`/api/v1/jobs/${id}/results/x`, 'GET, HEAD, OPTIONS'], [`/api/v1/jobs/${id}/download-tokens`, 'OPTIONS, POST'], ['/api/v1/downloads/x', 'GET, OPTIONS'], ['/api/v1/queue', 'GET, HEAD, OPTIONS'], ['/generate/x', 'OPTIONS, POST']
  ] as const) {
    const answer = await call('PATCH', path)
    t.same([answer.status, answer.headers.get('allow')], [405, allow], path)
  }
})

interface Media { schema: TSchema, example?: unknown, examples?: Record<string, { value: unknown }> }
interface Operation { requestBody?: { content: Record<string, Media> }, responses: Record<string, { headers: object, content?: Record<string, Media> }> }

t.test('the document has every job route, with examples that are what their schemas ask for', async t => {
  const { app } = await startJobs(t, { env: { LEGACY_ROUTES: 'true' } })
  const { paths } = (await app.inject('/openapi.json')).json<{ paths: Record<string, Record<string, Operation>> }>()
  const shown = app.knownRoutes.filter(({ url, hidden }) => !hidden && /^\/(api\/v1|generate|jobs|queues)/.test(url)).flatMap(({ url, methods }) => methods.filter(method => method !== 'HEAD').map(method => [url, method] as const))
  t.equal(shown.length, 18)
  for (const [url, method] of shown) {
    const operation = paths[url.replaceAll(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()]
    t.ok(operation, `${method} ${url}`)
    const good = Object.entries(operation?.responses ?? {}).filter(([status]) => status < '400')
    t.ok(good.length > 0)
    for (const media of [...good.flatMap(([, { content = {} }]) => Object.entries(content)), ...Object.entries(operation?.requestBody?.content ?? {})].filter(([type]) => type === 'application/json').map(([, each]) => each)) {
      if ((media.schema as { type?: string }).type === 'null') continue
      const examples = media.example === undefined ? Object.values(media.examples ?? {}).map(({ value }) => value) : [media.example]
      t.ok(examples.length > 0, `${method} ${url} has an example`)
      for (const example of examples) t.ok(Check(media.schema, example), `${method} ${url} ${JSON.stringify(example).slice(0, 60)}`)
    }
  }
  const create = paths['/api/v1/jobs']?.post
  t.same(Object.keys(create?.requestBody?.content ?? {}), ['application/json', 'multipart/form-data'])
  t.same(Object.keys(create?.responses ?? {}), ['200', '202', '400', '401', '403', '404', '408', '409', '413', '415', '429', '500', '501', '502', '503'])
  t.same(Object.keys(paths['/api/v1/jobs/{id}/results/{name}']?.get?.responses ?? {}), ['200', '206', '304', '400', '401', '403', '404', '412', '416', '429', '500', '501', '502', '503'])
})
