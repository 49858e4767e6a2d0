import { createHash, randomUUID } from 'node:crypto'
import t from 'tap'
import { BOUNDARY, file, form } from '../support/multipart.ts'
import { completedRow, eventRow, jobRow } from '../support/job-rows.ts'
import { startJobs, type JobsEdge } from '../support/start-jobs.ts'

const legacy = { LEGACY_ROUTES: 'true' }

function post(edge: JobsEdge, parts: Parameters<typeof form>[0], headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${edge.url}/jobs`, { method: 'POST', body: form(parts) as NonNullable<RequestInit['body']>, headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers } })
}

t.test('the same jobs, without credentials, as one local user', async t => {
  const edge = await startJobs(t, { env: { ...legacy, ADMIN_TOKEN: 'a-token-of-the-admin', TRUST_ADMIN_HEADER: 'false' } })
  const { call, jobs } = edge
  const made = await post(edge, [['model', 'edges'], file('x', 'image')])
  t.equal(made.status, 202)
  const { job_id: id } = await made.json() as { job_id: string }
  t.equal(made.headers.get('location'), `/jobs/${id}`)
  const local = { kind: 'developer', subject: 'dev', account: 'local' }
  t.match(jobs.drafts[0], { principal: local, userId: undefined, committed: { model: 'edges' } })
  t.match(await (await call('GET', '/jobs?limit=1')).json(), { items: [{ job_id: id }], next_cursor: null })
  t.match(await (await call('GET', `/jobs/${id}`)).json(), { job_id: id, status: 'queued' })
  t.ok(jobs.calls.every(({ principal }) => principal?.subject === 'dev'))
  t.equal((await call('GET', `/jobs/${id}`, { headers: { authorization: 'Bearer of-something-else' } })).status, 200, 'a credential is not looked at')
  t.equal((await call('GET', `/api/v1/jobs/${id}`)).status, 401, 'which is for these routes alone')
})

t.test('results are read where these callers can read them', async t => {
  const edge = await startJobs(t, { env: legacy })
  const { call, jobs } = edge
  const job = completedRow()
  jobs.jobs.set(job.id, job)
  jobs.files.set('image.png', await edge.file(Buffer.from('the result')))
  jobs.events.set(job.id, [eventRow(3, 'generation_complete', { jobId: job.id })])
  const url = `/jobs/${job.id}/download/image.png`
  t.match(await (await call('GET', `/jobs/${job.id}`)).json(), { results: [{ url }] })
  const events = await (await call('GET', `/jobs/${job.id}/events`)).text()
  t.match(JSON.parse(/data: (.*)/.exec(events)![1]!), { jobId: job.id, result: { url }, job: { results: [{ url }] } })
  const answer = await call('GET', url)
  t.equal(answer.headers.get('etag'), `"${createHash('sha256').update('the result').digest('hex')}"`)
  t.equal(await answer.text(), 'the result')
  t.equal((await call('GET', url, { headers: { range: 'bytes=4-5' } })).status, 206)
  t.equal((await call('HEAD', url)).status, 200)
  t.equal((await call('GET', `/jobs/${job.id}/download/other`)).status, 404)
})

t.test('the numbers of the queue', async t => {
  const { call } = await startJobs(t, { env: legacy })
  t.match(await (await call('GET', '/queues/stats')).json(), { queues: [{ name: 'jobs', waiting: 2, running: 1, completed: 5, failed: 1, oldest_age_ms: Number }] })
})

t.test('a user is not named here, and JSON not taken', async t => {
  const edge = await startJobs(t, { env: legacy })
  const named = await post(edge, [['user_id', 'ann'], file('x')])
  t.match([named.status, await named.json()], [400, { error: { code: 'invalid_multipart' } }])
  t.equal((await edge.call('POST', '/jobs', { body: { model: 'x' } })).status, 415)
  t.match(await (await fetch(`${edge.url}/jobs`, { method: 'POST' })).json(), { error: { code: 'invalid_multipart' } })
  t.equal((await edge.call('GET', '/jobs?user_id=ann')).status, 400)
})

t.test('pages of other origins are not let in, by POST or by another name for this machine', async t => {
  const edge = await startJobs(t, { env: { ...legacy, CORS_ORIGIN: 'https://ui.example' } })
  const job = jobRow()
  edge.jobs.jobs.set(job.id, job)
  for (const origin of ['https://evil.example', 'null']) t.equal((await post(edge, [file('x')], { origin })).status, 403, origin)
  t.equal((await edge.app.inject({ url: '/jobs', headers: { host: 'evil.example' } })).statusCode, 403)
  t.equal((await edge.app.inject({ url: '/jobs', headers: { host: 'localhost', 'sec-fetch-site': 'cross-site' } })).statusCode, 403)
  t.equal((await post(edge, [file('x')], { origin: 'https://ui.example' })).status, 202)
  t.equal((await post(edge, [file('x')], { origin: edge.url })).status, 202)
})

t.test('they are not there unless the configuration says so', async t => {
  const { call } = await startJobs(t)
  for (const path of ['/jobs', `/jobs/${randomUUID()}`, '/queues/stats']) t.equal((await call('GET', path)).status, 404, path)
})
