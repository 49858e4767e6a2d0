import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { jobRoutes } from '../../src/http/routes/jobs.ts'
import { requireJobReader, requireJobWriter } from '../../src/identity/guards.ts'
import { STAGING_PREFIX } from '../../src/objects/keys.ts'
import { jobWorld, type WorldOptions } from '../support/job-world.ts'
import { BOUNDARY, file, form, formHead, partHead, type FormPart } from '../support/multipart.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startEdge } from '../support/start-edge.ts'

// more than one part of the store's multipart upload
const photo = randomBytes(20_000_000)
const sha256 = createHash('sha256').update(photo).digest('hex')
const model: FormPart = ['model', 'command']

/** The routes over the jobs domain itself: SQLite, a store in a folder, workers that are played. */
async function start(t: Test, options: WorldOptions = {}) {
  const world = await jobWorld(t, options)
  const { config, service, store } = world
  const edge = await startEdge(t, {
    env: { API_V1_RATE_LIMIT_MAX: '0', ...options.env },
    routes: [async app => { await app.register(jobRoutes, { jobs: service, config, store, guards: { read: requireJobReader(config), write: requireJobWriter(config) } }) }]
  })
  return {
    ...edge, world,
    send: (parts: readonly FormPart[], headers: Record<string, string> = {}) => fetch(`${edge.url}/api/v1/jobs`, {
      method: 'POST', body: form(parts) as NonNullable<RequestInit['body']>, headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers }
    }),
    /** No bytes, no upload that is not over, no place and no slot that is taken, and no job. */
    nothingLeft: async () => {
      assert.deepEqual(await world.keys(STAGING_PREFIX), [])
      assert.deepEqual(await world.records.uploads.listStale(Date.now() + 1000, 10), [])
      assert.deepEqual(await world.records.multiparts.listStale(Date.now() + 1000, 10), [])
      assert.equal((await world.records.jobs.stats()).waiting, 0)
      const place = await world.records.jobs.reserve({ clientId: null, userId: 'dev' }, 1)
      assert.ok('reservation' in place)
      await world.records.jobs.releaseReservation(place.reservation)
    }
  }
}

t.test('from a form to a result: made, watched, read', async t => {
  const { send, url, world } = await start(t)
  const made = await send([model, ['params', '{}'], file(photo), file('a reference', 'ref_images')], { 'idempotency-key': 'one' })
  t.equal(made.status, 202)
  const path = `${url}${made.headers.get('location')}`
  t.match(await made.json(), { user_id: 'dev', status: 'queued', input: { sha256, size: photo.length, content_type: 'image/png' } })
  t.equal((await send([model, ['params', '{}'], file(photo), file('a reference', 'ref_images')], { 'idempotency-key': 'one' })).status, 200)
  t.equal((await send([model, file('other')], { 'idempotency-key': 'one' })).status, 409)
  t.same(await world.keys(STAGING_PREFIX), [])

  const events = fetch(`${path}/events`, { headers: { accept: 'application/x-ndjson' } }).then(answer => answer.text())
  world.run()
  const run = await world.pool.next()
  t.same(run.request.inputs.map(({ name, size }) => [name, size]), [['input', photo.length], ['ref_images', 11]])
  run.hooks.onProgress?.({ stage: 'inference', progress: 50, message: null })
  await run.finish('{"done":true}')
  const lines = (await events).trimEnd().split('\n').filter(line => line !== '').map(line => JSON.parse(line) as { event: string, data: { result?: { url: string }, job?: { status: string } } })
  t.equal(lines[0]?.event, 'generation_started')
  t.match(lines.at(-1), { event: 'generation_complete', data: { job: { status: 'completed', progress: 100 } } })
  const result = await fetch(url + lines.at(-1)!.data.result!.url)
  t.equal(await result.text(), '{"done":true}')
  t.match(result.headers.get('content-disposition'), 'filename="output.json"')

  const token = await fetch(`${path}/download-tokens`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"name":"output.json"}' })
  const { url: once } = await token.json() as { url: string }
  t.equal(await (await fetch(url + once)).text(), '{"done":true}')
  t.equal((await fetch(url + once)).status, 404)
  t.equal((await fetch(path, { method: 'DELETE' })).status, 204)
  t.equal((await fetch(path)).status, 404)
})

t.test('a form that is refused, or breaks off, leaves nothing at all', async t => {
  const { send, port, nothingLeft, world } = await start(t, { env: { MULTIPART_INPUT_MAX_BYTES: '10000000', ACTIVE_JOBS_PER_USER: '1', UPLOAD_IDLE_TIMEOUT_MS: '300' } })
  const whole = form([model, file(photo.subarray(0, 9_000_000))])
  for (const [why, body, status] of [
    ['cut off within its file', whole.subarray(0, 8_900_000), 400], ['cut off behind its file', form([model, file(photo.subarray(0, 9_000_000))], ''), 400],
    ['over the limit', form([model, file(photo.subarray(0, 10_000_001))]), 413], ['no such model', form([['model', 'none'], file('x')]), 404],
    ['a field that comes too late', form([model, file(photo.subarray(0, 9_000_000)), ['user_id', 'dev']]), 400], ['another input', form([model, file(photo.subarray(0, 9_000_000)), file('x')]), 400]
  ] as const) {
    const client = await rawClient(port)
    client.send(formHead('/api/v1/jobs', body.length))
    client.send(body)
    t.equal((await client.answer()).status, status, why)
    await nothingLeft()
  }
  for (const [why, act, answer] of [['hung up', 'hangUp', 0], ['stopped', 'wait', 408]] as const) {
    const client = await rawClient(port)
    client.send(formHead('/api/v1/jobs', whole.length))
    client.send(whole.subarray(0, 8_900_000))
    if (act === 'hangUp') {
      await eventually(async () => assert.notDeepEqual(await world.records.uploads.listStale(Date.now() + 1000, 10), []))
      client.hangUp()
    } else t.equal((await client.answer()).status, answer, why)
    await eventually(nothingLeft)
  }
  t.equal((await send([model, file('x')])).status, 202, 'and the next is taken')
})

t.test('who has a job is refused before the file is read', async t => {
  const { send, port, world } = await start(t, { env: { ACTIVE_JOBS_PER_USER: '1' } })
  t.equal((await send([model, file('x')])).status, 202)
  const client = await rawClient(port)
  client.send(formHead('/api/v1/jobs', 100_000_000))
  client.send(Buffer.concat([form([model], partHead({ name: 'input', filename: 'x' })), Buffer.from('the beginning')]))
  const { status, body } = await client.answer()
  t.equal(status, 409)
  t.match(JSON.parse(body), { error: { code: 'user_has_active_job', details: { active_job_id: String } } })
  await client.closed
  t.same(await world.keys(STAGING_PREFIX), [])
})

t.test('tasks that take anything need no file; others say that they need one', async t => {
  const { url } = await start(t)
  const post = (name: string) => fetch(`${url}/generate/${name}`, { method: 'POST' })
  t.equal((await post('command')).status, 202)
  const refused = await post('resize')
  t.match([refused.status, await refused.json()], [400, { error: { code: 'validation_error', details: { fields: [{ field: 'input' }] } } }])
  t.equal((await post('none')).status, 404)
})
