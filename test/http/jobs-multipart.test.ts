import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { PenstockError } from '../../src/errors.ts'
import { JOB_PARAMS_MAX_BYTES, MULTIPART_FIELDS_MAX, REF_IMAGE_MAX_BYTES, REF_IMAGES_MAX } from '../../src/limits.ts'
import { BOUNDARY, file, form, formHead, partHead, type FormPart } from '../support/multipart.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startJobs, type JobsEdge } from '../support/start-jobs.ts'

const photo = randomBytes(200_000)
const sha256 = createHash('sha256').update(photo).digest('hex')
const model: FormPart = ['model', 'upscale-2x']

interface Sent { status: number, headers: Headers, body: any } // eslint-disable-line typescript/no-explicit-any

async function send(edge: JobsEdge, parts: readonly FormPart[] | Uint8Array, headers: Record<string, string> = {}): Promise<Sent> {
  const answer = await fetch(`${edge.url}/api/v1/jobs`, {
    method: 'POST', body: (parts instanceof Uint8Array ? parts : form(parts)) as NonNullable<RequestInit['body']>,
    headers: { 'content-type': `multipart/form-data; boundary=${BOUNDARY}`, ...headers }
  })
  return { status: answer.status, headers: answer.headers, body: await answer.json() }
}

/** Nothing of the draft stays, and no job was made. */
function assertDiscarded({ jobs }: JobsEdge, drafts = 1): void {
  assert.deepEqual(jobs.drafts.map(({ discarded, committed }) => [discarded, committed]), Array.from({ length: drafts }, () => [1, undefined]))
  assert.equal(jobs.jobs.size, 0)
}

t.test('a form with a file becomes a job', async t => {
  const edge = await startJobs(t)
  const answer = await send(edge, [
    model, ['version', '1'], ['user_id', 'ann'], ['params', '{"tile":256}'], ['priority', '-3'], ['cache', 'false'], ['webhook', '{"url":"https://example.com/hook"}'],
    file(photo), file('one', 'ref_images', 'a.png'), file('two', 'ref_images', 'b.png')
  ], { 'idempotency-key': 'key-1' })
  t.equal(answer.status, 202)
  t.match(answer.body, { job_id: String, status: 'queued', user_id: 'ann' })
  t.equal(answer.headers.get('location'), `/api/v1/jobs/${answer.body.job_id}`)
  const [draft] = edge.jobs.drafts
  t.same(draft?.parts.map(({ name, filename, contentType, bytes }) => [name, filename, contentType, bytes]), [
    ['input', 'photo.png', 'image/png', 200_000], ['ref_images', 'a.png', 'image/png', 3], ['ref_images', 'b.png', 'image/png', 3]
  ])
  t.equal(draft?.parts[0]?.sha256, sha256)
  t.match(draft, { userId: 'ann', principal: { kind: 'developer' }, discarded: 0, options: { idempotencyKey: 'key-1' } })
  t.same(draft?.committed, { model: 'upscale-2x', version: '1', user_id: 'ann', params: { tile: 256 }, priority: -3, cache: false, webhook: { url: 'https://example.com/hook' } })
})

t.test('fields but user_id may follow the files; image and video are other names for input', async t => {
  const edge = await startJobs(t)
  for (const name of ['input', 'image', 'video']) {
    const { status } = await send(edge, [file('x', name), model, ['params', '{}']])
    t.equal(status, 202, name)
    t.match(edge.jobs.drafts.at(-1), { parts: [{ name: 'input', bytes: 1 }], userId: undefined, committed: { model: 'upscale-2x', params: {} } })
  }
})

t.test('who names no model gets the default for images, or for videos', async t => {
  const edge = await startJobs(t, { env: { DEFAULT_IMAGE_MODEL: 'edges', DEFAULT_VIDEO_MODEL: 'upscale-2x' } })
  t.equal((await send(edge, [file('x', 'image')])).status, 202)
  t.same(edge.jobs.drafts[0]?.committed, { model: 'edges' })
  for (const part of [file('x', 'video'), file('x', 'input', 'a.mp4', 'video/mp4')]) {
    t.equal((await send(edge, [part])).status, 202)
    t.same(edge.jobs.drafts.at(-1)?.committed, { model: 'upscale-2x', video: true })
  }
  t.equal((await send(edge, [file('x', 'input', 'a.bin', 'application/octet-stream'), ['task', 'video-to-video']])).status, 202)
  t.same(edge.jobs.drafts.at(-1)?.committed, { model: 'upscale-2x', task: 'video-to-video' })
})

t.test('a form by the client that everybody uses is read', async t => {
  const edge = await startJobs(t)
  const body = new FormData()
  body.set('model', 'upscale-2x')
  body.set('input', new Blob([photo], { type: 'image/png' }), 'Größe "1".png')
  const answer = await fetch(`${edge.url}/api/v1/jobs`, { method: 'POST', body })
  t.equal(answer.status, 202)
  t.match(edge.jobs.drafts[0]?.parts, [{ sha256, contentType: 'image/png', filename: /^Größe/ }])
})

t.test('a file of no bytes arrives as one', async t => {
  const edge = await startJobs(t)
  t.equal((await send(edge, [model, file('')])).status, 202)
  t.match(edge.jobs.drafts[0]?.parts, [{ name: 'input', bytes: 0 }])
})

t.test('a type that can be no header is only bytes', async t => {
  const edge = await startJobs(t)
  await send(edge, [model, file('x', 'input', 'x', 'image/<b>')])
  await send(edge, [model, { name: 'input', filename: 'x', bytes: 'x' }])
  t.same(edge.jobs.drafts.map(({ parts }) => parts[0]?.contentType), ['application/octet-stream', 'text/plain'])
})

t.test('parts in the wrong order, of the wrong name, kind or number are refused, and nothing stays', async t => {
  const edge = await startJobs(t)
  for (const [why, message, parts] of [
    ['user_id behind a file', /user_id must stand before the files/, [model, file('x'), ['user_id', 'ann']]],
    ['no file', /"input" is missing/, [model]],
    ['no part', /"input" is missing/, []],
    ['no input', /"input" is missing/, [model, file('x', 'ref_images')]],
    ['two inputs', /more than one input/, [model, file('x'), file('y')]],
    ['two inputs by other names', /more than one input/, [model, file('x', 'image'), file('y', 'video')]],
    ['a file of another name', /the file "mask" is not known/, [model, file('x', 'mask')]],
    ['a file without a name', /the file "" is not known/, [model, file('x', '')]],
    ['a field of another name', /the field "modell" is not known/, [['modell', 'x'], file('x')]],
    ['a field twice', /more than one model/, [model, model, file('x')]],
    ['a model that is a file', /model must be a field/, [file('x', 'model')]],
    ['an input that is a field', /input must be a file/, [model, ['input', 'x']]],
    ['a field of every object', /not known here/, [['__proto__', 'x'], model, file('x')]],
    ['a file of every object', /not known here/, [model, file('x', 'constructor')]],
    ['a JSON field that is none', /JSON/, [{ name: 'params', type: 'application/json', bytes: '{' }, model, file('x')]]
  ] as [string, RegExp, FormPart[]][]) {
    edge.jobs.drafts.length = 0
    const { status, body } = await send(edge, parts)
    t.equal(status, 400, why)
    t.match(body, { error: { code: 'invalid_multipart', message } }, why)
    assertDiscarded(edge, edge.jobs.drafts.length)
  }
})

t.test('fields that cannot be what they say are refused before a file is taken', async t => {
  const edge = await startJobs(t)
  for (const [field, message, ...rest] of [
    ['params', 'is not valid JSON', '{'], ['params', 'must be object', '[]'], ['params', 'must be object', '"x"'], ['params', 'is not valid JSON', '{"a":{"__proto__":{"x":1}}}'],
    ['priority', 'must be <= 10', '11'], ['priority', 'must be integer', '1e0'], ['priority', 'must be integer', ''], ['cache', 'must be boolean', 'yes'],
    ['user_id', /pattern/, 'a b'], ['user_id', /pattern/, 'a'.repeat(129)], ['model', /fewer than 1/, ''], ['model', /pattern/, 'a\u0000b'], ['model', /more than 255/, 'a'.repeat(256)],
    ['webhook.url', 'is required', '{}'], ['webhook.x', 'is not known here', '{"url":"https://example.com","x":1}'], ['webhook.events.0', /one of generation_started/, '{"url":"https://example.com","events":["x"]}']
  ] as [string, string | RegExp, string][]) {
    const { status, body } = await send(edge, [[field.split('.')[0]!, rest[0]!], file('x')])
    t.equal(status, 400, `${field} ${rest[0]}`)
    t.match(body, { error: { code: 'validation_error', details: { fields: [{ field, message }] } } }, `${field} ${rest[0]}`)
  }
  t.same(edge.jobs.drafts, [], 'no place was taken')
  t.equal((await send(edge, [model, file('x'), ['priority', '99']])).status, 400, 'behind the files too')
  assertDiscarded(edge)
})

const paramsOf = (length: number): FormPart => ['params', JSON.stringify({ a: 'x'.repeat(length - 8) })]

t.test('a field may be as long as its limit, and no longer', async t => {
  const edge = await startJobs(t)
  t.equal((await send(edge, [model, paramsOf(JOB_PARAMS_MAX_BYTES), file('x')])).status, 202)
  const { status, body } = await send(edge, [model, paramsOf(JOB_PARAMS_MAX_BYTES + 1), file('x')])
  t.equal(status, 413)
  t.match(body, { error: { code: 'file_too_large', details: { field: 'params', limit_bytes: JOB_PARAMS_MAX_BYTES } } })
})

const manyFields = (name: (index: number) => string): FormPart[] => Array.from({ length: 10_000 }, (_, index) => [name(index), '1'])

t.test('ten thousand fields are too many, whatever their names', async t => {
  const edge = await startJobs(t)
  const names = ['model', 'version', 'params', 'user_id', 'priority', 'cache', 'webhook']
  for (const [name, message] of [[() => 'model', /more than one model/], [(index: number) => `f${index}`, /"f0" is not known/], [(index: number) => names[index % 7]!, /more than|valid JSON/]] as const) {
    const { status, body } = await send(edge, form([...manyFields(name), file('x')]))
    t.equal(status, 400)
    t.match(body, { error: { message } })
  }
  t.same(edge.jobs.drafts, [])
  t.ok(MULTIPART_FIELDS_MAX < 100)
})

const images = (count: number): FormPart[] => Array.from({ length: count }, () => file('x', 'ref_images'))

t.test('as many reference images as the limit, and not one more', async t => {
  const edge = await startJobs(t)
  t.equal((await send(edge, [model, file('x'), ...images(REF_IMAGES_MAX)])).status, 202)
  t.equal(edge.jobs.drafts[0]?.parts.length, 1 + REF_IMAGES_MAX)
  for (const parts of [[model, file('x'), ...images(REF_IMAGES_MAX + 1)], [model, ...images(REF_IMAGES_MAX + 1), file('x')]]) {
    const other = await startJobs(t)
    const { status, body } = await send(other, parts)
    t.equal(status, 400)
    t.match(body, { error: { code: 'invalid_multipart', message: /more than 10[01] (ref_images|files)/ } })
    assertDiscarded(other)
  }
})

t.test('a file may be as long as its limit, and not one byte longer', async t => {
  const limits = [['input', 1000], ['ref_images', REF_IMAGE_MAX_BYTES]] as const
  for (const [name, limit] of limits) {
    for (const [length, status] of [[limit, 202], [limit + 1, 413]] as const) {
      const edge = await startJobs(t, { env: { MULTIPART_INPUT_MAX_BYTES: '1000' } })
      const parts = [model, ...(name === 'input' ? [] : [file('x')]), file(Buffer.alloc(length), name)]
      const answer = await send(edge, parts).catch((error: unknown) => error as Error)
      // an answer to what is still being sent may be lost to a reset
      if (answer instanceof Error) t.equal(status, 413)
      else t.equal(answer.status, status, `${name} ${length}`)
      if (status === 202) t.equal(edge.jobs.drafts[0]?.parts.at(-1)?.bytes, limit)
      else {
        await eventually(() => assertDiscarded(edge))
        t.match(edge.jobs.drafts[0]?.broken, [{ code: 'PAYLOAD_TOO_LARGE' }])
      }
    }
  }
})

t.test('what is announced as longer than it may be is refused before it is sent', async t => {
  const edge = await startJobs(t, { env: { MULTIPART_INPUT_MAX_BYTES: '1000' } })
  const client = await rawClient(edge.port)
  client.send(formHead('/api/v1/jobs', 2_000_000_000, { expect: '100-continue' }))
  const { status, body } = await client.answer()
  t.equal(status, 413)
  t.match(JSON.parse(body), { error: { code: 'file_too_large', details: { field: 'body' } } })
})

t.test('a client that waits to be asked for its body is asked', async t => {
  const edge = await startJobs(t)
  const body = form([model, file('x')])
  const client = await rawClient(edge.port)
  let seen = ''
  client.socket.on('data', (chunk: Buffer) => { seen += chunk.toString() })
  client.send(formHead('/api/v1/jobs', body.length, { expect: '100-continue' }))
  await eventually(() => assert.match(seen, /^HTTP\/1\.1 100 Continue\r\n\r\n/))
  client.send(body)
  await eventually(() => assert.match(seen, /HTTP\/1\.1 202 Accepted/))
  t.equal(edge.jobs.drafts[0]?.parts.length, 1)
})

t.test('without a boundary nothing can be read', async t => {
  const edge = await startJobs(t)
  const { status, body } = await send(edge, [model, file('x')], { 'content-type': 'multipart/form-data' })
  t.equal(status, 400)
  t.match(body, { error: { code: 'invalid_multipart', message: /boundary/ } })
  const other = await send(edge, [model, file('x')], { 'content-type': 'multipart/form-data; boundary=other' })
  t.match([other.status, other.body.error.code], [400, 'invalid_multipart'])
  const mixed = await send(edge, [model, file('x')], { 'content-type': `multipart/mixed; boundary=${BOUNDARY}` })
  t.match([mixed.status, mixed.body.error.code], [415, 'unsupported_media_type'])
})

t.test('a body that ends in the middle of a part is no job', async t => {
  const edge = await startJobs(t)
  for (const body of [
    form([model, file(photo)], ''), form([model, file(photo)]).subarray(0, 100_000), form([model, file(photo)], `--${BOUNDARY}\r\nContent-Dispo`), form([model], partHead({ name: 'input', filename: 'x' })),
    form([model], `--${BOUNDARY}`), Buffer.from(`--${BOUNDARY}`), Buffer.from('no part at all')
  ]) {
    edge.jobs.drafts.length = 0
    const { status, body: answer } = await send(edge, body)
    t.equal(status, 400, body.subarray(-30).toString('latin1'))
    t.match(answer, { error: { code: 'invalid_multipart' } })
    assertDiscarded(edge, edge.jobs.drafts.length)
  }
})

t.test('a truncated file ends the write into the store, and is not taken for a whole one', async t => {
  const edge = await startJobs(t)
  const { status } = await send(edge, form([model, file(photo)], '').subarray(0, 150_000))
  t.equal(status, 400)
  t.same(edge.jobs.drafts[0]?.parts, [])
  t.equal(edge.jobs.drafts[0]?.broken.length, 1)
})

t.test('a part that never ends is given up after a while', async t => {
  const edge = await startJobs(t, { env: { UPLOAD_IDLE_TIMEOUT_MS: '200' } })
  for (const beginning of [form([model], `${partHead({ name: 'input', filename: 'x' })}some bytes`), form([model], ''), Buffer.alloc(0), Buffer.from('a preamble')]) {
    const client = await rawClient(edge.port)
    client.send(formHead('/api/v1/jobs', 1_000_000))
    client.send(beginning)
    const { status, head, body } = await client.answer()
    t.equal(status, 408, beginning.toString())
    t.match(JSON.parse(body), { error: { code: 'request_timeout' } })
    t.match(head, /connection: close/i)
    await client.closed
  }
  assertDiscarded(edge)
})

t.test('a body that comes slowly is no fault, nor is a store that takes its time', async t => {
  const edge = await startJobs(t, { env: { UPLOAD_IDLE_TIMEOUT_MS: '300' } })
  edge.jobs.onReceive = () => delay(700)
  const body = form([model, file(randomBytes(2_000_000))])
  const client = await rawClient(edge.port)
  client.send(formHead('/api/v1/jobs', body.length))
  for (let at = 0; at < 5; at++) {
    client.send(body.subarray(at * 20, (at + 1) * 20))
    await delay(150)
  }
  client.send(body.subarray(100))
  t.equal((await client.answer()).status, 202)
})

t.test('a client that hangs up in the middle leaves nothing', async t => {
  for (const beginning of [form([model, file(photo)]).subarray(0, 100_000), form([model], '')]) {
    const edge = await startJobs(t)
    const client = await rawClient(edge.port)
    client.send(formHead('/api/v1/jobs', 1_000_000))
    client.send(beginning)
    if (beginning.length > 1000) await eventually(() => assert.ok(edge.jobs.drafts[0]!.arriving > 0))
    else await delay(50)
    client.hangUp()
    await eventually(() => assert.equal(edge.logged('jobs.create.client_aborted').length, 1))
    assertDiscarded(edge, edge.jobs.drafts.length)
    t.same(edge.logged('http.request.failed'), [], 'it is nobody\'s fault')
    await eventually(() => assert.equal(edge.logged('http.request.completed').at(-1)?.aborted, true))
  }
})

t.test('a body that breaks the framing of HTTP is answered', async t => {
  const edge = await startJobs(t)
  const client = await rawClient(edge.port)
  const beginning = form([model], partHead({ name: 'input', filename: 'x' }) + 'some bytes')
  client.send(formHead('/api/v1/jobs'))
  client.send(`${beginning.length.toString(16)}\r\n`)
  client.send(beginning)
  client.send('\r\n')
  await eventually(() => assert.equal(edge.jobs.drafts.length, 1))
  client.send('nonsense\r\n')
  const { status, body } = await client.answer()
  t.equal(status, 400)
  t.match(JSON.parse(body), { error: { code: 'validation_error' } })
  await eventually(() => assertDiscarded(edge))
})

t.test('what is behind the last part is passed over, and the connection can be used again', async t => {
  const edge = await startJobs(t)
  const client = await rawClient(edge.port)
  const body = form([model, file('x')], `--${BOUNDARY}--\r\nan epilogue`)
  client.send(formHead('/api/v1/jobs', body.length))
  client.send(body)
  const { status, head } = await client.answer()
  t.equal(status, 202)
  t.notMatch(head, /connection: close/i)
})

t.test('what the service says of a draft is answered, the draft given back and the rest not read', async t => {
  for (const [at, code, status] of [['begin', 'USER_HAS_ACTIVE_JOB', 409], ['begin', 'SERVICE_BUSY', 503], ['commit', 'MODEL_NOT_FOUND', 404], ['commit', 'QUEUE_FULL', 429]] as const) {
    const edge = await startJobs(t)
    edge.jobs.fail.set(at, new PenstockError(code, { retryAfterSeconds: 7 }))
    const body = form([model, file(photo)])
    const client = await rawClient(edge.port)
    client.send(formHead('/api/v1/jobs', at === 'begin' ? 10_000_000 : body.length))
    client.send(body)
    const answer = await client.answer()
    t.equal(answer.status, status, code)
    t.match(answer.head, /retry-after: 7/i)
    if (at === 'begin') {
      t.match(answer.head, /connection: close/i)
      await client.closed
      t.same(edge.jobs.drafts, [])
    } else assertDiscarded(edge)
  }
})

t.test('a store that fails while a file arrives is said to have failed', async t => {
  const edge = await startJobs(t)
  edge.jobs.onReceive = async () => { throw new PenstockError('S3_PUT_FAILED') }
  const { status, body } = await send(edge, [model, file('x')])
  t.equal(status, 502)
  t.match(body, { error: { code: 'storage_unavailable' } })
  assertDiscarded(edge)
})

t.test('the caller is asked for before a byte of the body', async t => {
  const edge = await startJobs(t, { env: { ADMIN_TOKEN: 'a-token-of-the-admin', TRUST_ADMIN_HEADER: 'false' } })
  const client = await rawClient(edge.port)
  client.send(formHead('/api/v1/jobs', 1_000_000))
  const { status, head } = await client.answer()
  t.equal(status, 401)
  t.match(head, /connection: close/i)
  await client.closed
})

t.test('a page of another origin cannot make the browser of the developer send a form', async t => {
  const edge = await startJobs(t)
  for (const [headers, status] of [
    [{ origin: 'https://evil.example' }, 401], [{ origin: 'null' }, 401], [{ host: 'evil.example' }, 401], [{}, 202]
  ] as [Record<string, string>, number][]) {
    const body = form([model, file('x')])
    const client = await rawClient(edge.port)
    client.send(formHead('/api/v1/jobs', body.length, headers))
    client.send(body)
    t.equal((await client.answer()).status, status, JSON.stringify(headers))
  }
})
