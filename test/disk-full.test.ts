/** A disk that is full, under the objects and the records: a real one, of a few MiB. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { noisePng } from './support/graphs.ts'
import { BOUNDARY, form } from './support/multipart.ts'
import { keysOf, nothingLeft } from './support/nothing-left.ts'
import { eventually } from './support/raw-client.ts'
import { startService, type ListeningService } from './support/service-process.ts'
import { ask, read, sendForm } from './support/shared-files.ts'
import { inOwnMounts, smallDisk, type SmallDisk } from './support/small-disk.ts'
import { startApp, type Answer, type StartedApp } from './support/start-app.ts'

const MIB = 1024 * 1024
/** What the records may take while something else is to have no room. */
const FOR_RECORDS_BYTES = MIB

interface World { disk: SmallDisk, app: StartedApp }

async function world(t: Test): Promise<World> {
  const disk = smallDisk(t, 16)
  return { disk, app: await startApp(t, { DATA_DIR: disk.folder }) }
}

function flat({ status, body, headers }: Answer): unknown[] {
  return [status, (body as { code: string }).code, headers.get('x-upload-proxy-why')]
}

function nested({ status, body }: Answer): unknown[] {
  return [status, (body as { error?: { code: string } }).error?.code]
}

const keyOf = ({ body }: Answer): string => (body as { upload: { key: string } }).upload.key

if (inOwnMounts(t, import.meta.filename)) {
  void t.test('what the disk has no room for is refused and leaves nothing, and what it has room for goes in', async t => {
    const { disk, app } = await world(t)
    await disk.fill(3 * MIB)
    const large = randomBytes(6 * MIB)
    t.same(flat(await app.upload(large)), [500, 'S3_PUT_FAILED', 's3_put_failed'])
    t.same(nested(await sendFile(app, large)), [502, 'storage_unavailable'])
    t.match(app.logged('http.request.failed').map(({ err }) => err), [{ message: /ENOSPC/ }, { message: /ENOSPC/ }], 'the log says why')
    await nothingLeft(app)
    const small = await app.upload(randomBytes(MIB))
    t.equal(small.status, 200)
    t.equal((await app.post('/finalize', { key: keyOf(small) })).status, 200)
    await disk.makeRoom()
    t.equal((await app.upload(large)).status, 200)
    t.equal((await sendFile(app, large)).status, 201)
  })

  void t.test('several bodies that fill the disk together: each goes in whole or leaves nothing', async t => {
    const { disk, app } = await world(t)
    await disk.fill(5 * MIB)
    const answers = await Promise.all(Array.from({ length: 6 }, () => app.upload(randomBytes(2 * MIB))))
    const refused = answers.filter(({ status }) => status !== 200)
    t.ok(refused.length >= 4, 'there is room for two at most')
    for (const answer of refused) t.same(flat(answer), [500, 'S3_PUT_FAILED', 's3_put_failed'])
    await nothingLeft(app, answers.filter(({ status }) => status === 200).map(keyOf))
  })

  void t.test('without any room nothing is written, everything can be read, and what was acknowledged goes on when there is room', async t => {
    const { disk, app } = await world(t)
    const bytes = randomBytes(100_000)
    const staged = await app.upload(bytes)
    const shared = await sendFile(app, bytes)
    const path = `/files/${(shared.body as { file_id: string }).file_id}`
    const before = await keysOf(app)
    await disk.fill()
    const answers = await Promise.all([
      ...Array.from({ length: 6 }, () => app.upload(randomBytes(10))),
      app.post('/finalize', { key: keyOf(staged) }), app.post('/abort', { key: keyOf(staged) })
    ])
    for (const { status, body } of answers) t.match([status, body], [503, { code: 'RECORDS_UNAVAILABLE' }])
    t.same(nested(await sendFile(app, randomBytes(10))), [503, 'records_unavailable'])
    t.same(nested(await ask(app, 'DELETE', path)), [503, 'records_unavailable'])
    t.match(app.logged('http.request.failed').map(({ err }) => err), answers.map(() => ({ message: /disk is full/ })), 'the log says why')
    const { status, text } = await read(app, path)
    t.same([status, text.length > 0], [200, true])
    for (const probe of ['/livez', '/readyz', '/health', '/metrics', '/files']) t.equal((await fetch(app.url + probe)).status, 200, probe)
    await disk.makeRoom()
    await nothingLeft(app, before)
    t.match(await app.post('/finalize', { key: keyOf(staged) }), { status: 200, body: { contentHash: createHash('sha256').update(bytes).digest('hex') } })
    t.equal((await ask(app, 'DELETE', path)).status, 204)
    t.equal((await app.upload(bytes)).status, 200)
  })

  void t.test('a result that the disk has no room for fails its job and leaves nothing; tried again with room it is there', async t => {
    const disk = smallDisk(t, 40)
    const service = await startService(t, { DATA_DIR: disk.folder, ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu', JOB_MAX_ATTEMPTS: '1' })
    const picture = await noisePng(1000, 1000)
    const id = await failing(service, disk, picture)
    t.match(await jobOf(service, id), { status: 'failed', results: [], error: { code: 'storage_failed', message: 'object storage failed' } })
    t.match(service.logged('jobs.attempt.failed'), [{ err: { cause: /ENOSPC/ } }], 'the log says why')
    await nothingLeft(service, await objectsOf(service))
    await disk.makeRoom()
    t.equal((await ask(service, 'POST', `/api/v1/jobs/${id}/retry`, new Uint8Array())).status, 200)
    const job = await ended(service, id)
    t.match(job, { status: 'completed', results: [{ name: 'image.png', sha256: /^[0-9a-f]{64}$/ }] })
    const result = await fetch(service.url + job.results[0].url)
    t.equal(createHash('sha256').update(await result.bytes()).digest('hex'), job.results[0].sha256)
    await nothingLeft(service, await objectsOf(service))
  })

  void t.test('a job outlasts a disk without any room', async t => {
    const disk = smallDisk(t, 40)
    const service = await startService(t, { DATA_DIR: disk.folder, ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu' })
    const id = await failing(service, disk, await noisePng(1000, 1000))
    await disk.fill()
    t.same(nested(await createJob(service, await noisePng(10, 10))), [503, 'records_unavailable'])
    await eventually(() => assert.ok(['jobs.claim.failed', 'jobs.heartbeat.failed'].some(action => service.logged(action).length > 0)), 60_000)
    t.match(await jobOf(service, id), { status: /^(queued|processing)$/ })
    await disk.makeRoom()
    t.match(await ended(service, id), { status: 'completed', results: [{ name: 'image.png' }] })
    await nothingLeft(service, await objectsOf(service))
  })
}

async function sendFile(app: StartedApp, bytes: Uint8Array): Promise<Answer> {
  return await sendForm(app, [{ name: 'file', filename: 'a.bin', bytes }])
}

async function createJob(service: ListeningService, picture: Uint8Array): Promise<Answer> {
  const body = form([['model', 'upscale-2x'], { name: 'input', filename: 'a.png', type: 'image/png', bytes: picture }])
  return await ask(service, 'POST', '/api/v1/jobs', body, { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` })
}

/** A job whose input fits, and whose result does not: its first attempt has failed. */
async function failing(service: ListeningService, disk: SmallDisk, picture: Uint8Array): Promise<string> {
  await disk.fill(picture.length + FOR_RECORDS_BYTES)
  const { status, body } = await createJob(service, picture)
  assert.equal(status, 202, JSON.stringify(body))
  await eventually(() => assert.ok(service.logged('jobs.attempt.end').length > 0), 60_000)
  return (body as { job_id: string }).job_id
}

async function jobOf(service: ListeningService, id: string): Promise<Answer['body']> {
  return (await service.call(`/api/v1/jobs/${id}`)).body
}

async function ended(service: ListeningService, id: string): Promise<Answer['body']> {
  await eventually(async () => assert.match((await jobOf(service, id)).status, /^(completed|failed|cancelled)$/), 60_000)
  return await jobOf(service, id)
}

/** What is no leftover: all but staging. */
async function objectsOf(service: ListeningService): Promise<string[]> {
  return (await keysOf(service)).filter(key => !key.startsWith('sha256/_staging/'))
}
