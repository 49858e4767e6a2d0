import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, chmod, mkdir, readdir, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { folderOf, migration, readReport, sha256, startMigration, tempFolder } from '../support/migrate.ts'
import { s3Env } from '../support/over-stub.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { startApp } from '../support/start-app.ts'

const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')
const user = { account: 'acme', subject: 'u1' }
const asUser = ['--account', 'acme', '--subject', 'u1']

t.test('a folder becomes files of a user, with names and types as those of uploads, and again it is passed over', async t => {
  const files = {
    'a/Grüße: 1.txt': 'hello', 'a/b/picture.txt': PNG, 'page.html': '<html><script>1</script>', 'data.json': '{}', 'empty': '',
    'large.bin': randomBytes(20 * 1024 * 1024)
  }
  const folder = await folderOf(t, files)
  await symlink('/etc/hostname', join(folder, 'link'))
  const m = await migration(t)
  const report = join(await tempFolder(t), 'report.json')
  const first = await m.run('from-folder', folder, ...asUser, '--access', 'restricted', '--verify', '--report', report)
  t.match(first, { code: 0, stderr: '' })
  t.match(first.stdout, /done +6 +20\.0 MiB\nskipped +1\nfailed +0\n +1 × skipped: is a link \(link\)/)
  const imported = await m.files(user)
  t.match(imported.map(({ filename, contentType, access, owner }) => [filename, contentType, access, owner.clientId]), [
    ['Grüße_1.txt', 'text/plain', 'restricted', null], ['data.json', 'application/json', 'restricted', null],
    ['empty', 'application/octet-stream', 'restricted', null], ['large.bin', 'application/octet-stream', 'restricted', null],
    ['page.html', 'application/octet-stream', 'restricted', null], ['picture.txt', 'image/png', 'restricted', null]
  ])
  for (const file of imported) t.equal(sha256(await m.bytesOf(file)), file.sha256)
  t.same(imported.map(file => file.sha256).toSorted(), Object.values(files).map(bytes => sha256(Buffer.from(bytes))).toSorted())
  const written = await readReport(report)
  t.match(written, { command: 'from-folder', ended: null, totals: { done: 6, skipped: 1, failed: 0 } })
  t.same(written.entries.filter(({ outcome }) => outcome === 'done').map(entry => entry.file_id).toSorted(), imported.map(({ id }) => id).toSorted())
  t.notOk(existsSync(`${report}.part`))

  const again = await m.run('from-folder', folder, ...asUser, '--verify')
  t.match(again, { code: 0, stdout: /done +0 +0 B\nskipped +7\nfailed +0\n +6 × skipped: is there already, verified/ })
  t.same(await m.files(user), imported)
  t.match(await m.run('from-folder', folder, '--account', 'acme'), { code: 0, stdout: /done +6 / }, 'for others the same folder is another import')
  t.equal((await m.files({ account: 'acme', subject: null })).length, 6)
  await m.tidy(imported)
})

t.test('a dry run says what would be done and stores nothing', async t => {
  const folder = await folderOf(t, { a: '12345', big: '123456' })
  const m = await migration(t)
  const dry = await m.run('from-folder', folder, ...asUser, '--dry-run', '--max-bytes', '5')
  t.match(dry, { code: 1, stdout: /planned +1 +5 B\nskipped +0\nfailed +1\n +1 × failed: has more than 5 bytes \(big\)/ })
  t.same(await m.files(user), [])
  t.same(await Array.fromAsync(m.store.list('')), [])
  t.match(await m.run('from-folder', folder, ...asUser, '--max-bytes', '5'), { code: 1, stdout: /done +1 +5 B\nskipped +0\nfailed +1\n/ })
  t.match(await m.run('from-folder', folder, ...asUser, '--dry-run'), { code: 0, stdout: /planned +1 +6 B\nskipped +1\n/ })
})

t.test('what keeps it from beginning is said, with exit code 2, and the help with 0', async t => {
  const folder = await folderOf(t, { a: '1' })
  const m = await migration(t)
  t.match(await m.run('from-folder', folder, '--account'), { code: 2, stderr: /migrate-files: .*--account.*; --help says more/, stdout: '' })
  t.match(await m.run('from-folder', join(folder, 'none'), ...asUser), { code: 2, stderr: /cannot be read: ENOENT/ })
  t.match(await m.run('from-bucket', '--bucket', 'b', ...asUser), { code: 2, stderr: /SOURCE_S3_ACCESS_KEY_ID is missing in the environment/ })
  t.match(await startMigration(t, { DATA_DIR: join(folder, 'typo') }, ['from-folder', folder, ...asUser]).ended, { code: 2, stderr: /there are no records at/ })
  t.notOk(existsSync(join(folder, 'typo')))
  t.match(await m.run('--help'), { code: 0, stdout: /from-folder <dir>[^]*Exit codes/, stderr: '' })
})

t.test('a map of prefixes says whose the files are', async t => {
  const folder = await folderOf(t, { 'users/7/a/x.txt': '1', 'users/8/x.txt': '2', 'shared/x.txt': '3', 'other.txt': '4' })
  const m = await migration(t)
  const ended = await m.run('from-folder', folder, '--map', 'users/{subject}/=acme/{subject}', '--map', 'shared/=all', '--keep-folders')
  t.match(ended, { code: 0, stdout: /done +3 [^]*1 × skipped: no --map says whose it is \(other\.txt\)/ })
  t.match(await m.files({ account: 'acme', subject: '7' }), [{ filename: 'a_x.txt' }])
  t.match(await m.files({ account: 'acme', subject: '8' }), [{ filename: 'x.txt' }])
  t.match(await m.files({ account: 'all', subject: null }), [{ filename: 'x.txt' }])
})

t.test('a file that cannot be read, or is not any more what was imported, fails alone', async t => {
  const folder = await folderOf(t, { a: '1', secret: '2', b: '3' })
  const m = await migration(t)
  await m.run('from-folder', folder, ...asUser)
  await truncate(join(folder, 'a'), 5)
  await mkdir(join(folder, 'closed'))
  await chmod(join(folder, 'closed'), 0)
  const ended = await m.run('from-folder', folder, ...asUser)
  t.match(ended, { code: 1, stdout: /failed: was imported before, and has another length now: .*\(a\)/ })
  if (process.getuid?.() !== 0) t.match(ended.stdout, /the folder cannot be read: EACCES \(closed\)/)
  t.match(await m.run('from-folder', folder, ...asUser, '--label', 'anew'), { stdout: /done +3 / })
  t.equal((await m.files(user)).length, 6)
})

t.test('a file that is written to while it is read does not become one', async t => {
  const folder = await folderOf(t, { 'growing.bin': randomBytes(9 * 1024 * 1024) })
  const stub = await startS3Stub()
  t.teardown(() => stub.close())
  const m = await migration(t, s3Env(stub))
  stub.fault({ operation: 'CompleteMultipartUpload' }, { kind: 'before', run: () => appendFile(join(folder, 'growing.bin'), 'x') })
  t.match(await m.run('from-folder', folder, ...asUser), { code: 1, stdout: /failed: was written to while it was read/ })
  t.same(await m.files(user), [])
  await m.tidy([])
})

t.test('--verify finds bytes in the store that are not those of the file', async t => {
  const folder = await folderOf(t, { a: 'right' })
  const m = await migration(t)
  await m.run('from-folder', folder, ...asUser)
  const [file] = await m.files(user)
  await writeFile(join(m.config.DATA_DIR, 'objects', file!.key), 'wrong')
  t.match(await m.run('from-folder', folder, ...asUser), { code: 0 }, 'without it nobody looks')
  t.match(await m.run('from-folder', folder, ...asUser, '--verify'), { code: 1, stdout: /failed: the stored bytes have the sha256/ })
  t.match(await m.run('from-folder', folder, '--account', 'other', '--verify'), { code: 1, stdout: /failed: the stored bytes have the sha256/ })
  t.same(await m.files({ account: 'other', subject: null }), [], 'and no file points at them')
  t.same(await readdir(join(m.config.DATA_DIR, 'objects', 'sha256')), [file!.sha256])
})

t.test('beside a running service, what is imported is there for its callers at once', async t => {
  const app = await startApp(t)
  const folder = await folderOf(t, { 'Übersicht.csv': 'a,b', 'large.bin': randomBytes(10 * 1024 * 1024) })
  t.match(await startMigration(t, { DATA_DIR: app.dataDir }, ['from-folder', folder, '--account', 'local', '--subject', 'dev']).ended, { code: 0, stdout: /done +2 / })
  const list = await (await fetch(`${app.url}/files`)).json() as { items: { file_id: string, filename: string, sha256: string }[] }
  t.same(list.items.map(({ filename }) => filename).toSorted(), ['large.bin', 'Übersicht.csv'])
  for (const { file_id: id, sha256: hash } of list.items) {
    const answer = await fetch(`${app.url}/files/${id}`)
    t.equal(sha256(new Uint8Array(await answer.arrayBuffer())), hash)
  }
})
