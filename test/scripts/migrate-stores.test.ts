import { randomBytes } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { collect } from '../../src/ingest/collect.ts'
import { keysOfHash } from '../../src/objects/keys.ts'
import type { ObjectStore } from '../../src/objects/port.ts'
import { openObjectStore } from '../../src/stores.ts'
import { readConfig } from '../../src/config.ts'
import { migration, readReport, sha256, tempFolder, type Migration } from '../support/migrate.ts'
import { minioOrSkip } from '../support/minio.ts'
import { s3Env } from '../support/over-stub.ts'
import { startApp } from '../support/start-app.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { bundleBytes } from '../support/bundles.ts'

const user = { account: 'local', subject: 'dev' }

/** A service over files that holds files, a bundle with its manifest, and bytes that nothing points at. */
async function filled(t: Test, s3: Record<string, string>): Promise<{ m: Migration, target: ObjectStore, keys: string[] }> {
  const m = await migration(t, { DATA_DIR: await tempFolder(t) })
  const app = await startApp(t, { DATA_DIR: m.config.DATA_DIR })
  for (const [name, bytes] of [['a', 'same'], ['b', 'same'], ['c', randomBytes(3 * 1024 * 1024)], ['empty', '']] as const) {
    const form = new FormData()
    form.append('file', new Blob([bytes]), name)
    t.equal((await fetch(`${app.url}/files/upload`, { method: 'POST', body: form })).status, 201)
  }
  const { body } = await app.upload(await bundleBytes(), { filename: 'a.tar.zst' })
  const finalized = await app.post('/finalize', { key: body.upload.key })
  t.equal(finalized.status, 200)
  await app.app.stop()
  const keys = [...new Set((await m.files(user)).map(({ key }) => key)), finalized.body.canonicalKey as string, finalized.body.manifestKey as string].toSorted()
  const [orphan] = keysOfHash('f'.repeat(64))
  await m.store.put(orphan!, Buffer.from('x'), { size: 1 })
  const target = openObjectStore(readConfig({ ...s3, DATA_DIR: m.config.DATA_DIR }))
  t.teardown(() => target.close())
  // between-stores takes the variables of both stores, which a service refuses
  return { m: { ...m, run: (...args) => m.startWith(s3, args).ended }, target, keys }
}

const keysIn = async (store: ObjectStore): Promise<string[]> => (await Array.fromAsync(store.list(''))).map(({ key }) => key)
const bytesIn = async (store: ObjectStore, key: string): Promise<Buffer> => Buffer.concat(await Array.fromAsync((await store.open(key)).body as AsyncIterable<Buffer>))

t.test('what records point at goes from files to S3 and back under the same keys, and the service goes on with either', async t => {
  const s3 = await minioOrSkip(t)
  if (s3 === undefined) return
  const env = s3Env({ ...s3, bucket: await s3.bucket() })
  const { m, target, keys } = await filled(t, env)
  const there = ['between-stores', '--from', 'fs', '--to', 's3']
  const report = join(await tempFolder(t), 'report.json')
  t.match(await m.run(...there, '--dry-run'), { code: 0, stdout: /planned +5 / })
  t.same(await keysIn(target), [])
  const ended = await m.run(...there, '--verify', '--report', report)
  t.match(ended, { code: 0, stderr: '', stdout: /done +5 [^]*it can be started with OBJECT_STORE=s3/ })
  t.same(await keysIn(target), keys, 'and nothing that no record points at')
  for (const key of keys) t.same(await bytesIn(target, key), await bytesIn(m.store, key), key)
  t.match(await readReport(report), { command: 'between-stores', totals: { done: 5, failed: 0 } })
  t.match(await m.run(...there, '--verify'), { code: 0, stdout: /skipped +5\nfailed +0\n +5 × skipped: is there already, verified/ })

  const app = await startApp(t, { ...env, DATA_DIR: m.config.DATA_DIR })
  const { body } = await app.upload(Buffer.from('later'), { filename: 'later.bin' })
  const later = (await app.post('/finalize', { key: body.upload.key })).body.canonicalKey as string
  await app.app.stop()
  await rm(join(m.config.DATA_DIR, 'objects'), { recursive: true })
  t.match(await m.run('between-stores', '--from', 's3', '--to', 'fs'), { code: 0, stdout: /done +6 [^]*OBJECT_STORE=fs/ })
  t.same(await keysIn(m.store), [...keys, later].toSorted())
  t.equal(sha256(await bytesIn(m.store, later)), later.split('/')[1])
})

t.test('kill -9 in the middle and again: every object once, whole, and nothing unfinished', async t => {
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const { m, target, keys } = await filled(t, s3Env(stub))
  for (const nth of [1, 3]) {
    // one at a time, or the first run could have sent so many that the next has not three to send
    const running = m.startWith(s3Env(stub), ['between-stores', '--from', 'fs', '--to', 's3', '--concurrency', '1'])
    const undo = stub.fault({ operation: 'PutObject', key: /^sha256\//, nth }, { kind: 'before', run: () => void running.child.kill('SIGKILL') })
    t.match(await running.ended, { code: null }, 'it did not end by itself')
    undo()
  }
  t.match(await m.run('between-stores', '--from', 'fs', '--to', 's3', '--verify'), { code: 0 })
  t.same((await keysIn(target)).filter(key => key.startsWith('sha256/')), keys)
  for (const key of keys) t.same(await bytesIn(target, key), await bytesIn(m.store, key), key)
  t.equal(stub.uploads.size, 0)
})

t.test('bytes that are not those of their key, or are gone, are said and never written', async t => {
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const { m, target } = await filled(t, s3Env(stub))
  const [a, , c, empty] = await m.files(user)
  await writeFile(join(m.config.DATA_DIR, 'objects', a!.key), 'Same')
  await rm(join(m.config.DATA_DIR, 'objects', empty!.key))
  await target.put(c!.key, Buffer.from('another'), { size: 7 })
  const ended = await m.run('between-stores', '--from', 'fs', '--to', 's3')
  t.match(ended, { code: 1, stdout: /done +2 [^]*failed +3\n/ })
  for (const reason of [/content does not match the declared hash/, /is not in the source, and a record points at it/, /is in the target with 7 bytes, not 3145728/]) t.match(ended.stdout, reason)
  t.equal(await target.head(a!.key), undefined)
  t.equal((await target.head(c!.key))?.size, 7, 'what is there stays')
})

t.test('a target that breaks in the middle of an object has none of it, and the next run has it whole', async t => {
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const { m, target, keys } = await filled(t, s3Env(stub))
  const undo = stub.fault({ operation: 'PutObject', when: ({ headers }) => Number(headers['content-length']) > 1_000_000 }, { kind: 'cut', afterBytes: 500_000 })
  t.match(await m.run('between-stores', '--from', 'fs', '--to', 's3'), { code: 1, stdout: /done +4 [^]*failed +1\n/ })
  undo()
  t.match(await m.run('between-stores', '--from', 'fs', '--to', 's3'), { code: 0, stdout: /done +1 [^]*skipped +4/ })
  t.same((await keysIn(target)).filter(key => key.startsWith('sha256/')), keys)
})

t.test('what no record points at any more is not copied', async t => {
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const { m } = await filled(t, s3Env(stub))
  const files = await m.files(user)
  for (const { id } of files) await m.records.files.remove(id)
  for await (const _ of collect({ store: m.store, records: m.records, before: new Date(Date.now() + 60_000), remove: true }));
  t.match(await m.run('between-stores', '--from', 'fs', '--to', 's3'), { code: 0, stdout: /done +2 / })
})
