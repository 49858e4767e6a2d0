import t from 'tap'
import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { eventually, rawClient, uploadHead, type RawClient } from '../support/raw-client.ts'
import { spawnService, startService, type ListeningService } from '../support/service-process.ts'

/** Of a file that starts a dozen services, on a machine that does much else. */
t.setTimeout(300_000)

const body = randomBytes(400_000)
const size = String(body.length)
const MANY = 32
const MANY_GRACE_MS = 60_000

/** An upload of which the first half has arrived. */
async function halfAnUpload(service: ListeningService, uploadId = randomUUID()): Promise<RawClient> {
  const before = service.logged('ingest.upload.put_start').length
  const client = await rawClient(service.port)
  client.send(uploadHead({ filename: 'x', size, uploadId }, { 'content-length': size }))
  client.send(body.subarray(0, 200_000))
  await eventually(() => assert.ok(service.logged('ingest.upload.put_start').length > before))
  return client
}

async function signal(service: ListeningService, name: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  service.child.kill(name)
  await eventually(() => assert.equal(service.logged('service.stopping').length, 1))
}

t.test('an upload that can end within the grace is answered, and its bytes are there afterwards', async t => {
  const service = await startService(t)
  const client = await halfAnUpload(service)
  await signal(service)
  await eventually(() => assert.rejects(fetch(`${service.url}/livez`)))
  client.send(body.subarray(200_000))
  const answer = await client.answer()
  t.equal(answer.status, 200)
  t.match(answer.head, /connection: close/i)
  t.equal(await service.ended, 0)
  t.equal(service.logged('service.stopped').length, 1)
  const { upload: { key } } = JSON.parse(answer.body) as { upload: { key: string } }
  t.same(await keysOf(service), [key])
  const next = await startService(t, { DATA_DIR: service.dataDir })
  t.equal((await next.call('/finalize', JSON.stringify({ key }), { 'content-type': 'application/json' })).status, 200)
})

t.test('SIGTERM under 32 uploads: it ends within the grace, and all that were answered are there, whole', async t => {
  const service = await startService(t, { SHUTDOWN_GRACE_MS: String(MANY_GRACE_MS) })
  const clients = await Promise.all(Array.from({ length: MANY }, () => halfAnUpload(service)))
  await eventually(() => assert.equal(service.logged('ingest.upload.put_start').length, MANY), MANY_GRACE_MS)
  const startedAt = performance.now()
  await signal(service)
  // one after the other, as they would come from far away
  const answers = await Promise.all(clients.map(async (client, index) => {
    for (let sent = 200_000; sent < body.length; sent += 50_000) {
      client.send(body.subarray(sent, sent + 50_000))
      await delay(index)
    }
    return await client.answer()
  }))
  t.same(answers.map(({ status }) => status), Array.from({ length: MANY }, () => 200))
  t.equal(await service.ended, 0)
  t.ok(performance.now() - startedAt < MANY_GRACE_MS, 'within the grace')
  t.same(service.logged('ingest.upload.refused'), [])
  const keys = answers.map(answer => (JSON.parse(answer.body) as { upload: { key: string } }).upload.key)
  t.same(await keysOf(service), keys.toSorted())
  const next = await startService(t, { DATA_DIR: service.dataDir })
  for (const key of keys) {
    const answer = await next.call('/finalize', JSON.stringify({ key }), { 'content-type': 'application/json' })
    t.match(answer, { status: 200, body: { contentHash: createHash('sha256').update(body).digest('hex') } })
  }
})

t.test('one that cannot is cut off at the end of the grace and leaves nothing', async t => {
  const service = await startService(t, { SHUTDOWN_GRACE_MS: '300' })
  const [stalled, answered] = [await halfAnUpload(service), await halfAnUpload(service)]
  await signal(service, 'SIGINT')
  answered.send(body.subarray(200_000))
  t.equal((await answered.answer()).status, 200)
  const cutOff = await stalled.answer()
  t.equal(cutOff.status, 503, 'it is told, not only cut off')
  t.match(cutOff.head, /x-upload-proxy-why: service_busy/i)
  await stalled.closed
  t.equal(await service.ended, 0)
  const { upload: { key } } = JSON.parse((await answered.answer()).body) as { upload: { key: string } }
  await nothingLeft(service, [key])
  t.match(service.logged('ingest.upload.refused'), [{ result: 'service_busy' }], 'the log says what became of it')
})

t.test('a request that comes on an open connection after the signal is told to come again', async t => {
  const service = await startService(t)
  const upload = await halfAnUpload(service)
  const late = await rawClient(service.port)
  const json = '{"key":"x"}'
  late.send('POST /finalize HTTP/1.1\r\nhost: 127.0.0.1\r\nx-alga-admin: true\r\n')
  const readiness = await rawClient(service.port)
  readiness.send('GET /readyz HTTP/1.1\r\n')
  await eventually(() => assert.ok(service.logged('ingest.upload.put_start').length === 1))
  await service.call('/livez') // by now the others have arrived too
  await signal(service)
  late.send(`content-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n${json}`)
  const answer = await late.answer()
  t.equal(answer.status, 503)
  t.match(JSON.parse(answer.body), { code: 'SERVICE_BUSY' })
  t.match(answer.head, /retry-after: \d+/i)
  t.match(answer.head, /connection: close/i)
  readiness.send('host: 127.0.0.1\r\n\r\n')
  t.match(JSON.parse((await readiness.answer()).body), { status: 'not_ready', reasons: ['shutting down'] })
  upload.send(body.subarray(200_000))
  t.equal((await upload.answer()).status, 200)
  t.equal(await service.ended, 0)
})

t.test('connections on which nothing is under way do not hold up the end', async t => {
  const service = await startService(t)
  const used = await rawClient(service.port)
  used.send('GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n')
  t.equal((await used.answer()).status, 200)
  const unused = await rawClient(service.port)
  await service.call('/livez') // by now that one has arrived too
  await signal(service)
  const startedAt = performance.now()
  t.equal(await service.ended, 0)
  t.ok(performance.now() - startedAt < 10_000, 'long before the grace of 25 s is over')
  await Promise.all([used.closed, unused.closed])
})

t.test('a second signal ends at once', async t => {
  const service = await startService(t)
  await halfAnUpload(service)
  await signal(service)
  service.child.kill('SIGTERM')
  t.equal(await service.ended, 1)
  t.equal(service.logged('service.stopped').length, 0)
})

t.test('open event streams end with a hint when to come again', async t => {
  const service = await startService(t, { SHUTDOWN_GRACE_MS: '2000' })
  const uploadId = randomUUID()
  const upload = await halfAnUpload(service, uploadId)
  const response = await fetch(`${service.url}/uploads/${uploadId}/events`)
  const text = response.text()
  await signal(service)
  t.match(await text, /event: upload_started\n[^]*retry: \d+\n\n$/)
  upload.send(body.subarray(200_000))
  t.equal((await upload.answer()).status, 200)
  t.equal(await service.ended, 0)
})

t.test('a port that is taken is said in one line, with exit code 1', async t => {
  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => other.close())
  await new Promise(listening => other.once('listening', listening))
  const { port } = other.address() as AddressInfo
  const service = await spawnService(t, { PORT: String(port) })
  t.equal(await service.ended, 1)
  t.match(service.logged('service.start_failed'), [{ level: 'fatal', message: new RegExp(`EADDRINUSE.*127\\.0\\.0\\.1:${port}`) }])
})

t.test('everything that is wrong with the configuration is said at once, with exit code 1', async t => {
  const service = await spawnService(t, { PORT: 'eighty', OBJECT_STORE: 's3', S3_BUCKET: 'b', STAGING_TTL_HOURS: '-1', DATABASE_URL: 'mysql://user:a-secret-password@host/x' })
  t.equal(await service.ended, 1)
  for (const fault of [/PORT must be/, /S3_ACCESS_KEY_ID is missing/, /S3_SECRET_ACCESS_KEY is missing/, /STAGING_TTL_HOURS must be/, /DATABASE_URL must be/]) t.match(service.output(), fault)
  t.notMatch(service.output(), /a-secret-password/)
  t.notMatch(service.output(), /\n {4}at /, 'and no stack of it')
})

t.test('a trust bundle or a record store that cannot be used ends the start with exit code 1, and says which', async t => {
  for (const [env, message] of [
    [{ SIGNING_TRUST_BUNDLE: '/nowhere/trust.pem' }, /SIGNING_TRUST_BUNDLE cannot be used/],
    [{ DATABASE_URL: 'postgres://user:a-secret-password@127.0.0.1:1/x' }, /the postgres record store failed/]
  ] as const) {
    const service = await spawnService(t, env)
    t.equal(await service.ended, 1)
    t.match(service.logged('service.start_failed'), [{ message }])
    t.notMatch(service.output(), /a-secret-password/)
  }
})
