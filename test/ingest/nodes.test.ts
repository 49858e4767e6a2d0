import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { minioOrSkip } from '../support/minio.ts'
import { nothingLeft } from '../support/nothing-left.ts'
import { postgresOrSkip } from '../support/postgres.ts'
import { eventually, rawClient, uploadHead, type RawClient } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'
import { watchUpload } from '../support/watch.ts'

// they wait for each other's looks at the records more than they work
t.jobs = 5

const body = randomBytes(300_000)
const sha256 = createHash('sha256').update(body).digest('hex')
const size = String(body.length)

interface Nodes { a: StartedApp, b: StartedApp }

/** Two nodes over the same stores. */
function severalNodes(name: string, makeEnv: (t: Test) => Promise<Record<string, string>>): void {
  const start = async (t: Test): Promise<Nodes> => {
    const env = await makeEnv(t)
    const a = await startApp(t, env)
    const b = await startApp(t, env.OBJECT_STORE === 's3' ? env : { ...env, DATA_DIR: a.dataDir })
    return { a, b }
  }

  t.test(`${name}: an upload through one node is watched on the other, to its end`, async t => {
    const { a, b } = await start(t)
    const uploadId = randomUUID()
    const client = await halfAnUpload(a, uploadId)
    const watch = watchUpload(t, b.url, uploadId)
    await watch.until('upload_started')
    await watch.until('upload_progress')
    client.send(body.subarray(200_000))
    t.equal((await client.answer()).status, 200)
    await watch.until('upload_complete')
    t.match(watch.events.at(-1), { event: 'upload_complete', data: { sha256, size: body.length } })
    const received = watch.events.filter(each => each.event === 'upload_progress').map(each => Number(each.data.received))
    t.same(received, received.toSorted((x, y) => x - y), 'progress never falls')
    t.ok(received.length > 1 && received[0]! < body.length, 'and was told while it arrived')
    client.hangUp()
  })

  t.test(`${name}: an upload through one node is aborted on the other while it arrives`, async t => {
    const { a, b } = await start(t)
    const uploadId = randomUUID()
    const client = await halfAnUpload(a, uploadId)
    const watch = watchUpload(t, a.url, uploadId)
    await watch.until('upload_started')
    const key = `sha256/_staging/${uploadId}/object`
    t.match(await b.post('/abort', { key }), { status: 200, body: { status: 'deleted' } })
    const startedAt = performance.now()
    const answer = await client.answer()
    t.ok(performance.now() - startedAt < 5000, 'the next look at the row ends it')
    t.match([answer.status, JSON.parse(answer.body)], [409, { code: 'UPLOAD_ABORTED' }])
    t.match(answer.head, /x-upload-proxy-why: upload_aborted/i)
    await watch.until('upload_failed')
    t.match(watch.events.at(-1), { data: { reason: 'aborted' } })
    await nothingLeft(a)
    t.match(await b.post('/finalize', { key }), { status: 400, body: { code: 'STAGING_NOT_FOUND' } })
    client.hangUp()
  })

  t.test(`${name}: an upload aborted on the other node between two looks is not acknowledged`, async t => {
    const { a, b } = await start(t)
    const uploadId = randomUUID()
    const client = await halfAnUpload(a, uploadId)
    await b.post('/abort', { key: `sha256/_staging/${uploadId}/object` })
    client.send(body.subarray(200_000))
    t.equal((await client.answer()).status, 409)
    await nothingLeft(a)
    client.hangUp()
  })

  t.test(`${name}: an upload id is taken on every node`, async t => {
    const { a, b } = await start(t)
    const uploadId = randomUUID()
    const client = await halfAnUpload(a, uploadId)
    t.match(await b.upload(body, { uploadId }), { status: 409, body: { code: 'UPLOAD_ID_IN_USE' } })
    client.send(body.subarray(200_000))
    t.equal((await client.answer()).status, 200, 'the first is not harmed')
    client.hangUp()
  })

  t.test(`${name}: finalizes of one key, spread over both nodes, make one object and give one answer`, async t => {
    const { a, b } = await start(t)
    const { body: { upload: { key } } } = await a.upload(body)
    const first = await b.post('/finalize', { key })
    t.match(first, { status: 200, body: { contentHash: sha256, deduplicated: false } }, 'the node that did not receive it can finalize')
    const { body: { upload } } = await a.upload(randomBytes(20_000))
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? a : b).post('/finalize', { key: upload.key })))
    for (const answer of answers) t.same([answer.status, answer.body], [200, answers[0]!.body])
    await nothingLeft(b, [first.body.canonicalKey, answers[0]!.body.canonicalKey])
  })
}

async function halfAnUpload(app: StartedApp, uploadId: string): Promise<RawClient> {
  const client = await rawClient(app.port)
  client.send(uploadHead({ filename: 'x', size, uploadId }, { 'content-length': size }))
  client.send(body.subarray(0, 200_000))
  await eventually(() => assert.equal(app.logged('ingest.upload.put_start').length, 1))
  return client
}

severalNodes('files + SQLite', async () => ({}))

const minio = await minioOrSkip(t)
const postgres = minio && await postgresOrSkip(t)
if (minio && postgres) {
  severalNodes('MinIO + Postgres', async () => ({
    OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: await minio.bucket(),
    S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey,
    DATABASE_URL: await postgres.createDatabase()
  }))
}
