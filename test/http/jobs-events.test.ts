import assert from 'node:assert/strict'
import t from 'tap'
import type { Test } from 'tap'
import type { JobRecord } from '../../src/records/jobs-port.ts'
import { completedRow, eventRow, jobRow } from '../support/job-rows.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startJobs, type JobsEdgeOptions } from '../support/start-jobs.ts'

/** A job with its events so far, the last of which may be missing. */
async function start(t: Test, { job = completedRow(), last = true, ...options }: JobsEdgeOptions & { job?: JobRecord, last?: boolean } = {}) {
  const edge = await startJobs(t, options)
  edge.jobs.jobs.set(job.id, job)
  const jobId = job.id
  const progress = { jobId, progress: 50, stage: 'inference', message: null }
  const complete = eventRow(3, 'generation_complete', { jobId })
  edge.jobs.events.set(jobId, [eventRow(1, 'generation_started', { jobId }), eventRow(2, 'generation_progress', progress), ...(last ? [complete] : [])])
  const watch = (headers: Record<string, string> = {}, query = '') => edge.call('GET', `/api/v1/jobs/${jobId}/events${query}`, { headers })
  return { ...edge, job, progress, watch, finish: () => {
    edge.jobs.events.get(jobId)!.push(complete)
    edge.jobs.tell()
  } }
}

t.test('events come as they were written, the id of each its sequence number, and end with the terminal one', async t => {
  const { watch, job, progress } = await start(t)
  const answer = await watch()
  t.equal(answer.status, 200)
  t.match(answer.headers.get('content-type'), /^text\/event-stream/)
  t.equal(answer.headers.get('x-accel-buffering'), 'no')
  const [opening, ...events] = (await answer.text()).trimEnd().split('\n\n')
  t.equal(opening, ':')
  t.same(events.slice(0, 2), [
    `id: 1\nevent: generation_started\ndata: ${JSON.stringify({ jobId: job.id })}`, `id: 2\nevent: generation_progress\ndata: ${JSON.stringify(progress)}`
  ])
  const [id, name, data] = events[2]!.split('\n')
  t.same([id, name, events.length], ['id: 3', 'event: generation_complete', 3])
  const shown = { name: 'image.png', url: `/api/v1/jobs/${job.id}/results/image.png` }
  t.match(JSON.parse(data!.slice('data: '.length)), { jobId: job.id, result: shown, job: { job_id: job.id, status: 'completed', results: [shown] } })
})

t.test('as NDJSON they are lines of the same', async t => {
  const { watch, job } = await start(t)
  const answer = await watch({ accept: 'application/x-ndjson' })
  t.match(answer.headers.get('content-type'), /^application\/x-ndjson/)
  const lines = (await answer.text()).trimEnd().split('\n').map(line => JSON.parse(line) as object)
  t.match(lines, [{ seq: 1, event: 'generation_started' }, { seq: 2, event: 'generation_progress', data: { progress: 50 } }, { seq: 3, event: 'generation_complete', data: { job: { job_id: job.id } } }])
})

t.test('failures and cancellations come with what records know of them', async t => {
  const { watch, jobs, job } = await start(t, { job: jobRow({ status: 'failed' }) })
  const error = { code: 'timeout', message: 'it took too long' }
  jobs.events.set(job.id, [eventRow(7, 'generation_failed', { jobId: job.id, error })])
  t.match(await (await watch()).text(), `id: 7\nevent: generation_failed\ndata: ${JSON.stringify({ jobId: job.id, error })}\n`)
})

t.test('a client goes on where it was: by header or by query, the header of a reconnect wins', async t => {
  const { watch, jobs } = await start(t, { last: false, job: jobRow({ status: 'processing', lastSeq: 2 }) })
  for (const [headers, query, after] of [[{ 'last-event-id': '1' }, '', 1], [{}, '?after=2', 2], [{ 'last-event-id': '2' }, '?after=1', 2], [{}, '?after=0', 0], [{ 'last-event-id': '999999999999999' }, '', 999_999_999_999_999]] as [Record<string, string>, string, number][]) {
    const answer = await watch(headers, query)
    t.equal(answer.status, 200)
    await answer.body!.cancel()
    await eventually(() => assert.deepEqual(jobs.calls.findLast(({ name }) => name === 'watch')?.args[1], after))
  }
  await eventually(() => assert.equal(jobs.watching, 0))
})

t.test('a cursor that is none is refused', async t => {
  const { watch, jobs } = await start(t)
  for (const value of ['x', '-1', '1.5', '1e3', '0x1', '1234567890123456', '1,2']) {
    t.match([(await watch({ 'last-event-id': value })).status, (await watch({}, `?after=${value}`)).status], [400, 400], value)
  }
  t.match([(await watch({ 'last-event-id': '' })).status, (await watch({}, '?after=')).status, (await watch({}, '?after=1&after=2')).status], [400, 400, 400])
  t.same(jobs.calls, [])
})

t.test('a browser that has seen the end is told not to come again', async t => {
  const { watch, job, jobs } = await start(t)
  for (const seen of ['3', '4']) t.equal((await watch({ 'last-event-id': seen })).status, 204, seen)
  t.equal((await watch({ 'last-event-id': '2' })).status, 200)
  const asked = await watch({}, '?after=2')
  t.match(await asked.text(), /id: 3/)
  jobs.jobs.set(job.id, { ...job, status: 'processing' })
  const running = await watch({ 'last-event-id': '3' })
  t.equal(running.status, 200)
  await running.body!.cancel()
})

t.test('what happens meanwhile is told at once; a stream that waits has a heart', async t => {
  const { watch, finish, jobs, job } = await start(t, { last: false, job: jobRow({ status: 'processing', lastSeq: 2 }), events: { heartbeatMs: 20 } })
  const answer = await watch()
  let text = ''
  const reading = (async () => { for await (const chunk of answer.body!) text += Buffer.from(chunk).toString() })()
  await eventually(() => assert.ok(text.split('\n\n').filter(each => each === ':').length >= 3))
  t.match(text, /id: 2/)
  t.notMatch(text, /id: 3/)
  jobs.jobs.set(job.id, completedRow({ id: job.id }))
  finish()
  await reading
  t.match(text, /id: 3\nevent: generation_complete\ndata: .*"status":"completed"/)
  t.equal(jobs.watching, 0)
})

t.test('a job that was removed before its last event is shown still ends its stream', async t => {
  const { watch, finish, jobs, job } = await start(t, { last: false, job: jobRow({ status: 'processing', lastSeq: 2 }) })
  const answer = await watch({}, '?after=2')
  await eventually(() => assert.equal(jobs.watching, 1))
  jobs.jobs.delete(job.id)
  finish()
  t.match(await answer.text(), new RegExp(`id: 3\\nevent: generation_complete\\ndata: ${JSON.stringify({ jobId: job.id })}\\n\\n$`))
})

t.test('a client that goes ends its watcher, and so does the end of the service', async t => {
  const { port, jobs, job, app, watch } = await start(t, { last: false, job: jobRow({ status: 'processing' }) })
  const client = await rawClient(port)
  client.send(`GET /api/v1/jobs/${job.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  await eventually(() => assert.equal(jobs.watching, 1))
  client.hangUp()
  await eventually(() => assert.equal(jobs.watching, 0))
  const answer = await watch()
  await eventually(() => assert.equal(jobs.watching, 1))
  await app.close()
  t.match(await answer.text(), /retry: \d+\n\n$/)
  t.equal(jobs.watching, 0)
})
