import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { collect } from '../../src/ingest/collect.ts'
import { folderOf, manyFiles, migration, sha256 } from '../support/migrate.ts'
import { s3Env } from '../support/over-stub.ts'
import { eventually } from '../support/raw-client.ts'
import { startS3Stub } from '../support/s3-stub.ts'

const user = { account: 'acme', subject: 'u1' }
const asUser = ['--account', 'acme', '--subject', 'u1']

for (const operation of ['PutObject', 'CopyObject', 'DeleteObject'] as const) {
  t.test(`kill -9 in the middle of it, at ${operation}, and once more: nothing is doubled, nothing is lost`, async t => {
    const files = manyFiles(12, 1000)
    const folder = await folderOf(t, { ...files, 'twin.bin': files['000.bin']! })
    const stub = await startS3Stub()
    t.teardown(() => stub.close())
    const m = await migration(t, s3Env(stub))
    const killed = Promise.withResolvers<void>()
    // what it asks for at its start is the probe
    const undo = stub.fault({ operation, key: /^sha256\//, nth: 6 }, { kind: 'before', run: () => {
      running.child.kill('SIGKILL')
      killed.resolve()
    } })
    const running = m.start('from-folder', folder, ...asUser)
    await killed.promise
    t.match(await running.ended, { code: null })
    undo()
    const before = await m.files(user)
    t.ok(before.length < 13, `${before.length} were there`)
    t.match(await m.run('from-folder', folder, ...asUser, '--verify'), { code: 0, stdout: new RegExp(`done +${13 - before.length} `) })
    const after = await m.files(user)
    t.same(after.map(({ filename }) => filename), [...Object.keys(files), 'twin.bin'])
    for (const file of after) t.equal(sha256(await m.bytesOf(file)), file.sha256)
    t.same(before.map(({ id }) => id).filter(id => !after.some(file => file.id === id)), [])
    await m.tidy(after)
  })
}

t.test('kill -9 again and again, beside a collector without grace and a second import of the same: each file once', async t => {
  const files = manyFiles(60, 30_000)
  const folder = await folderOf(t, files)
  const m = await migration(t)
  const stop = new AbortController()
  const collecting = (async () => {
    while (!stop.signal.aborted) {
      for await (const _ of collect({ store: m.store, records: m.records, before: new Date(Date.now() + 60_000), remove: true }));
      await delay(5)
    }
  })()
  for (const at of [3, 20]) {
    const both = [m.start('from-folder', folder, ...asUser), m.start('from-folder', folder, ...asUser)]
    await eventually(() => assert.ok(both.some(({ output }) => output().split('\n').length > at)), 20_000)
    for (const { child } of both) child.kill('SIGKILL')
    await Promise.all(both.map(({ ended }) => ended))
  }
  await m.run('from-folder', folder, ...asUser)
  stop.abort()
  await collecting
  // what such a collector took in the middle of it at each try is left for the next run
  const last = await m.run('from-folder', folder, ...asUser)
  t.match(last, { code: 0 }, last.stdout)
  const imported = await m.files(user)
  t.same(imported.map(({ filename }) => filename), Object.keys(files))
  for (const file of imported) t.equal(sha256(await m.bytesOf(file)), sha256(files[file.filename]!))
  await m.tidy(imported)
})
