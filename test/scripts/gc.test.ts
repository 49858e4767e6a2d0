import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { readConfig } from '../../src/config.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import type { RecordStore } from '../../src/records/port.ts'
import { openObjectStore, openRecordStore, recordsFile } from '../../src/stores.ts'
import { s3Env } from '../support/over-stub.ts'
import { startS3Stub, type S3Stub } from '../support/s3-stub.ts'

const SCRIPT = join(import.meta.dirname, '../../scripts/gc.ts')
const HOUR_MS = 3_600_000
const kept = canonicalKey('a'.repeat(64), 'object')
const orphans = [canonicalKey('b'.repeat(64), 'bundle.tar.zst'), canonicalKey('b'.repeat(64), 'object'), canonicalKey('c'.repeat(64), 'object')]

interface Ended { code: number | null, stdout: string, stderr: string }
interface Running { child: ChildProcess, ended: Promise<Ended> }

function gc(t: Test, env: Record<string, string>, ...args: string[]): Running {
  const child = spawn(process.execPath, [SCRIPT, ...args], { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const out = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => { out.stdout += chunk })
  child.stderr.on('data', chunk => { out.stderr += chunk })
  const ended = once(child, 'close').then(([code]) => ({ ...out, code: code as number | null }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { child, ended }
}

interface Fixture { env: Record<string, string>, stub: S3Stub, store: ObjectStore, records: RecordStore }

/** A bucket with one finalized object and orphans of two hashes, all of them a day and more old. */
async function fixture(t: Test): Promise<Fixture> {
  const stub = await startS3Stub()
  const env = { ...s3Env(stub), DATA_DIR: await folder(t) }
  const config = readConfig(env)
  const [store, records] = [openObjectStore(config), openRecordStore(config)]
  t.teardown(async () => {
    await store.close()
    await records.close()
    await stub.close()
  })
  await records.migrate()
  for (const key of [kept, ...orphans]) await store.put(key, Buffer.from('x'), { size: 1 })
  for (const object of stub.objects.values()) object.lastModified = new Date(Date.now() - 25 * HOUR_MS)
  await finalized(records)
  return { env, stub, store, records }
}

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'penstock-gc-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

async function finalized({ uploads, objects }: RecordStore): Promise<void> {
  const [sha256, id] = ['a'.repeat(64), crypto.randomUUID()]
  await uploads.adopt({ id, kind: 'object', stagingKey: id, filename: 'a', size: 1, declaredSha256: null, owner: { subject: null, account: null, clientId: null } }, { sha256, etag: 'e', size: 1 })
  const claim = await objects.claim({ sha256, key: kept, size: 1, contentType: 'x' }) ?? ''
  await uploads.finalize({ uploadId: id, sha256, canonicalKey: kept, size: 1, contentType: 'x', claim, result: () => ({}) })
}

t.test('gc lists what no record points at, and removes it when told to', async t => {
  const { env, stub } = await fixture(t)
  const listed = await gc(t, env).ended
  t.match(listed, { code: 0, stderr: '' })
  t.match(listed.stdout, /garbage b{64} 2 bytes 2 keys\ngarbage c{64} 1 bytes 1 keys\n2 hashes, 3 bytes could be removed/)
  t.equal(stub.objects.size, 4)
  t.match(await gc(t, env, '--delete', '--grace-hours', '26').ended, { code: 0, stdout: /^0 hashes/ })
  t.match(await gc(t, env, '--delete').ended, { code: 0, stdout: /2 hashes, 3 bytes removed\n$/ })
  t.same([...stub.objects.keys()], [kept])
})

t.test('gc refuses to delete by records that know no object, where there are objects', async t => {
  const { env, stub } = await fixture(t)
  const other = { ...env, DATA_DIR: await folder(t) }
  const records = openRecordStore(readConfig(other))
  t.teardown(() => records.close())
  await records.migrate()
  t.match(await gc(t, other, '--delete').ended, { code: 1, stderr: /know no object at all.*Nothing was removed/ })
  t.equal(stub.objects.size, 4)
  t.match(await gc(t, other).ended, { code: 0, stdout: /3 hashes, 4 bytes could be removed/ }, 'it still lists them')
  stub.objects.clear()
  t.match(await gc(t, other, '--delete').ended, { code: 0, stdout: /^0 hashes/ }, 'an empty bucket is nobody\'s')
})

t.test('gc makes no records: where there are none, and where no service has run on them, it says so', async t => {
  const { env, stub } = await fixture(t)
  const other = { ...env, DATA_DIR: await folder(t) }
  const file = recordsFile(readConfig(other))
  for (const args of [[], ['--delete']]) t.match(await gc(t, other, ...args).ended, { code: 1, stdout: '', stderr: /there are no records at .*penstock\.db: set DATABASE_URL/ })
  t.notOk(existsSync(file))
  await writeFile(file, '')
  t.match(await gc(t, other, '--delete').ended, { code: 1, stdout: '', stderr: /cannot be used, or the service has never run on them/ })
  t.equal(stub.objects.size, 4)
})

t.test('gc takes no grace period in which a finalize may be at work, and says so in its help', async t => {
  const env = { DATA_DIR: await folder(t) }
  for (const hours of ['0', '0.99', '-1', 'x', '1e3', '']) {
    t.match(await gc(t, env, `--grace-hours=${hours}`).ended, { code: 1, stderr: /--grace-hours takes a number from 1 up/ }, hours)
  }
  t.match(await gc(t, env, '--help').ended, { code: 0, stdout: /--grace-hours N[^]*at least 1/ })
})

for (const [name, code] of [['SIGTERM', 143], ['SIGINT', 130]] as const) {
  t.test(`at ${name} gc finishes the hash that it has begun, and begins no other`, async t => {
    const { env, stub, records } = await fixture(t)
    stub.fault({ operation: 'DeleteObject', nth: 1 }, { kind: 'before', run: async () => {
      child.kill(name)
      await delay(500) // the signal is to arrive before the answer
    } })
    const { child, ended } = gc(t, env, '--delete')
    t.match(await ended, { code, stdout: /removed b{64} 2 bytes 2 keys\n1 hashes, 2 bytes removed; ended before/ })
    t.same([...stub.objects.keys()], [kept, orphans[2]])
    t.ok(await records.objects.claim({ sha256: 'b'.repeat(64), key: orphans[1]!, size: 1, contentType: 'x' }), 'the hash is not barred')
  })
}
