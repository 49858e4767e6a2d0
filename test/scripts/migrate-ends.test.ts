import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { folderOf, manyFiles, migration, readReport, tempFolder } from '../support/migrate.ts'
import { s3Env } from '../support/over-stub.ts'
import { startS3Stub } from '../support/s3-stub.ts'

const user = { account: 'acme', subject: 'u1' }
const asUser = ['--account', 'acme', '--subject', 'u1']

t.test('the first SIGINT lets what is under way finish and begins nothing more', async t => {
  const folder = await folderOf(t, manyFiles(40, 1000))
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const m = await migration(t, s3Env(stub))
  stub.fault({ operation: 'PutObject', key: /^sha256\/_staging/, nth: 5 }, { kind: 'before', run: async () => {
    running.child.kill('SIGINT')
    await delay(300) // the signal is to arrive before the answer
  } })
  const report = join(await tempFolder(t), 'report.json')
  const running = m.start('from-folder', folder, ...asUser, '--concurrency', '2', '--report', report)
  const ended = await running.ended
  t.match(ended, { code: 130, stdout: /failed +0\nended before it was through: it was told to end/ })
  const { entries, totals } = await readReport(report)
  t.ok(totals.done! >= 5 && totals.done! < 40, `${totals.done} were done`)
  t.equal(entries.length, totals.done)
  t.equal((await m.files(user)).length, totals.done)
  t.match(await m.run('from-folder', folder, ...asUser), { code: 0, stdout: new RegExp(`done +${40 - totals.done!} `) })
})

t.test('a second SIGTERM cuts off what is under way, which leaves nothing', async t => {
  const folder = await folderOf(t, { 'slow.bin': randomBytes(9 * 1024 * 1024) })
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const m = await migration(t, s3Env(stub))
  const undo = stub.fault({ operation: 'UploadPart' }, { kind: 'stall-body', afterBytes: 1_000_000 })
  const running = m.start('from-folder', folder, ...asUser)
  await stub.seen({ operation: 'UploadPart' })
  running.child.kill('SIGTERM')
  await delay(200)
  t.equal(running.child.exitCode, null, 'the first lets it go on')
  running.child.kill('SIGTERM')
  t.match(await running.ended, { code: 143, stdout: /failed: was cut off \(slow\.bin\)/ })
  undo()
  t.equal(stub.uploads.size, 0)
  await m.tidy([])
})

t.test('where our own store fails again and again, it gives up and says so', async t => {
  const folder = await folderOf(t, manyFiles(30, 100))
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const m = await migration(t, s3Env(stub))
  const undo = stub.fault({ operation: 'PutObject', key: /^sha256\/_staging/ }, { kind: 'answer', status: 403, code: 'AccessDenied' })
  const ended = await m.run('from-folder', folder, ...asUser, '--concurrency', '1')
  t.match(ended, { code: 1, stdout: /failed +8\nended before it was through: 8 times one after another it was our own store or records/ })
  undo()
  t.match(await m.run('from-folder', folder, ...asUser), { code: 0, stdout: /done +30 / })
})
