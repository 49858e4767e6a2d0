/** The client against a real Redis that goes away, comes back, stands still, and does not let us in. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { freePort } from '../scripts/servers/tethered.ts'
import { createLogger } from '../src/logging.ts'
import { redisClient, RedisUnavailable, type RedisClient } from '../src/redis.ts'
import { makeCertificate } from './support/certificates.ts'
import { eventually } from './support/raw-client.ts'
import { redisOrSkip } from './support/redis.ts'
import { startService } from './support/service-process.ts'
import { stallingProxy } from './support/stalling-proxy.ts'

interface Client extends RedisClient { text: () => string, logged: (action: string) => Record<string, unknown>[] }

async function open(t: Test, url: string): Promise<Client> {
  const lines: Record<string, unknown>[] = []
  const destination = { write: (line: string) => { lines.push(JSON.parse(line) as Record<string, unknown>) } }
  const client = redisClient({ url, log: createLogger({ level: 'debug', destination }) })
  t.teardown(() => client.close())
  await client.open()
  return { ...client, text: () => JSON.stringify(lines), logged: action => lines.filter(line => line.action === action) }
}

/** Sends commands as text; what Redis answers is not looked at but for having come. */
async function command(port: number, text: string): Promise<void> {
  await new Promise<void>((done, fail) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`${text}\r\n`))
    socket.once('error', fail)
    socket.once('data', () => {
      socket.destroy()
      done()
    })
  })
}

t.test('there is no Redis: it is said once, everything is refused at once, and it goes on trying', async t => {
  const client = await open(t, `redis://127.0.0.1:${await freePort()}`)
  for (const ask of [() => client.check(), () => client.read('k', 10), () => client.count('k', 1000)]) await t.rejects(async () => { await ask() }, RedisUnavailable)
  await eventually(() => assert.ok(client.logged('redis.connection.failed').length > 0))
  await t.rejects(client.check(), RedisUnavailable)
  t.equal(client.logged('redis.connection.failed').length, 1)
})

t.test('a name that is none', async t => {
  const client = await open(t, 'redis://there-is-no-such-host.invalid')
  await t.rejects(client.check(), RedisUnavailable)
})

const redis = await redisOrSkip(t)
if (redis !== undefined) {
  const { port } = redis

  t.test('keys are read as bytes, no further than asked for', async t => {
    const client = await open(t, redis.url)
    const key = randomUUID()
    t.equal(await client.read(key, 10), null, 'what is not there is null')
    await command(port, `SET ${key} "a\\xff\\x00bcdef"`)
    t.same(await client.read(key, 100), Buffer.from('a\xff\0bcdef', 'latin1'))
    t.same(await client.read(key, 3), Buffer.from('a\xff\0', 'latin1'))
    const list = randomUUID()
    await command(port, `RPUSH ${list} x`)
    t.equal(await client.read(list, 10), null, 'so is what is no text')
    t.equal(client.logged('redis.connection.ready').length, 1)
  })

  t.test('counts are whole however many count at once, and begin anew when their window is over', async t => {
    const [one, two] = await Promise.all([open(t, redis.url), open(t, redis.url)])
    const key = randomUUID()
    const counted = await Promise.all(Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? one : two).count(key, 60_000)))
    t.same(counted.map(({ count }) => count).toSorted((a, b) => a - b), Array.from({ length: 100 }, (_, n) => n + 1))
    for (const { leftMs } of counted) t.ok(leftMs > 50_000 && leftMs <= 60_000)
    const short = randomUUID()
    t.equal((await one.count(short, 100)).count, 1)
    await eventually(async () => assert.equal((await one.count(short, 100)).count, 1))
    const endless = randomUUID()
    await command(port, `SET ${endless} 1000`)
    await eventually(async () => assert.equal((await one.count(endless, 100)).count, 1), 5_000) // a count without an end is given one
  })

  t.test('an address with a number has its own keys; one that the server does not have is no other', async t => {
    const key = randomUUID()
    await command(port, `SET ${key} zero`)
    const first = await open(t, `${redis.url}/1`)
    t.equal(await first.read(key, 10), null)
    const beyond = await open(t, `${redis.url}/999`)
    await t.rejects(beyond.read(key, 10), RedisUnavailable)
    t.equal(beyond.logged('redis.connection.failed').length, 1)
  })
}

t.test('killed and restarted', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const client = await open(t, redis.url)
  await client.check()
  await redis.kill('SIGKILL')
  await eventually(() => assert.equal(client.logged('redis.connection.lost').length, 1))
  await t.rejects(client.count('k', 1000), RedisUnavailable)
  await eventually(() => assert.equal(client.logged('redis.connection.failed').length, 1))
  await redis.restart()
  await eventually(() => client.check(), 15_000)
  t.equal((await client.count('k', 60_000)).count, 1, 'what was sent while it was away is not sent later')
  t.equal(client.logged('redis.connection.ready').length, 2)
  t.equal(client.logged('redis.connection.failed').length, 1, 'it was said once')
})

t.test('stopped in the middle of a command, and going on later', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const client = await open(t, redis.url)
  redis.pause()
  t.teardown(() => redis.resume())
  const asked = await Promise.allSettled(Array.from({ length: 20 }, () => client.count('k', 60_000)))
  t.ok(asked.every(each => each.status === 'rejected' && each.reason instanceof RedisUnavailable))
  redis.resume()
  await eventually(() => client.check(), 15_000)
})

t.test('connections that stand still are left, and those that are opened then too', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  const proxy = await stallingProxy(t, redis.port)
  const client = await open(t, `redis://127.0.0.1:${proxy.port}`)
  await client.check()
  proxy.stall()
  await t.rejects(client.check(), RedisUnavailable)
  await eventually(() => assert.ok(proxy.taken > 2), 15_000)
  await t.rejects(client.check(), RedisUnavailable, 'a connection that says nothing does not count')
  proxy.flow()
  await eventually(() => client.check(), 15_000)
})

t.test('a password: right, wrong and missing, and in no log line', async t => {
  const password = 'sesame123'
  const redis = await redisOrSkip(t, { password })
  if (redis === undefined) return
  const right = await open(t, redis.url)
  await right.check()
  for (const url of [`redis://:wrong4567@127.0.0.1:${redis.port}`, `redis://127.0.0.1:${redis.port}`]) {
    const client = await open(t, url)
    await t.rejects(client.check(), RedisUnavailable)
    await eventually(() => assert.ok(client.logged('redis.connection.failed').length > 0))
    t.notMatch(client.text(), /wrong4567/)
  }
  await redis.kill('SIGKILL')
  await eventually(() => assert.equal(right.logged('redis.connection.failed').length, 1))
  t.notMatch(right.text(), /sesame123/)
})

t.test('over TLS it has to be the right server', async t => {
  const redis = await redisOrSkip(t)
  if (redis === undefined) return
  // 127.0.0.1 as its subjectAltName
  const certificate = makeCertificate({
    subject: 'redis', keys: generateKeyPairSync('ec', { namedCurve: 'P-256' }), ca: true,
    extensions: [{ oid: '2.5.29.17', value: Buffer.from([0x30, 0x06, 0x87, 0x04, 127, 0, 0, 1]) }]
  })
  const key = certificate.keys.privateKey.export({ type: 'pkcs8', format: 'pem' })
  const server = createTlsServer({ key, cert: certificate.pem }, socket => {
    const upstream = connect(redis.port, '127.0.0.1')
    for (const each of [socket, upstream]) each.on('error', () => {})
    socket.pipe(upstream).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const url = `rediss://127.0.0.1:${(server.address() as AddressInfo).port}`

  const distrustful = await open(t, url)
  await t.rejects(distrustful.check(), RedisUnavailable)
  t.match(distrustful.logged('redis.connection.failed'), [{ err: { code: /CERT|SELF_SIGNED|VERIFY/ } }])

  const authority = join(t.testdir({ 'ca.pem': certificate.pem }), 'ca.pem')
  const service = await startService(t, { REDIS_URL: url, NODE_EXTRA_CA_CERTS: authority })
  t.equal(service.logged('redis.connection.ready').length, 1)
})

t.test('closing ends it, also twice, and in the middle of trying', async t => {
  const client = await open(t, `redis://127.0.0.1:${await freePort()}`)
  client.close()
  client.close()
  await t.rejects(client.check(), RedisUnavailable)
})
