import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { appendFile, chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { bundleBytes } from '../support/bundles.ts'
import { minioOrSkip } from '../support/minio.ts'
import { s3Env } from '../support/over-stub.ts'
import { administrator, PEOPLE_ENV } from '../support/people.ts'
import { postgresOrSkip } from '../support/postgres.ts'
import { eventually } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const ROOT = join(import.meta.dirname, '../..')
/** Eight services, most with a worker, on a machine that does much else. */
t.setTimeout(600_000)

type Env = Record<string, string>
interface Ended { code: number, stdout: string, stderr: string }

function script(name: 'backup' | 'restore', env: Env, ...args: string[]): Promise<Ended> {
  return new Promise(resolve => {
    execFile(process.execPath, [join(ROOT, `scripts/${name}.ts`), ...args], { env: { PATH: process.env.PATH, ...env } }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'penstock-backup-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

/** What callers can see of a service. */
interface Seen { files: unknown, bytes: string, finalized: unknown, extensions: unknown, jobs: unknown, told: string[] }

interface Filled { caller: Env, file: string, key: string }

async function fill(app: StartedApp): Promise<Filled> {
  const minted = await app.post('/admin/tokens', { kind: 'api', account: 'acme', subject: 'ann', scopes: ['penstock:job.read', 'penstock:job.write'] }, administrator)
  const caller = { authorization: `Bearer ${(minted.body as { token: string }).token}` }
  const form = new FormData()
  form.append('access', 'restricted')
  form.append('file', new Blob([randomBytes(3 * 1024 * 1024)]), 'ünï "x"\u2028.bin')
  const { file_id: file } = await (await fetch(`${app.url}/files/upload`, { method: 'POST', body: form, headers: caller })).json() as { file_id: string }
  await fetch(`${app.url}/files/${file}/grants/bob`, { method: 'PUT', headers: caller })
  const bundle = await app.upload(await bundleBytes(), { filename: 'a.tar.zst' }, administrator)
  await app.post('/finalize', { key: bundle.body.upload.key }, administrator)
  const { body } = await app.upload(randomBytes(1024), {}, administrator)
  await app.post('/finalize', { key: body.upload.key }, administrator)
  const made = await app.post('/api/v1/jobs', { model: 'identity', input: { tensors: [{ name: 'x', datatype: 'FP32', shape: [3], data: [1, 2.5, -3] }] } }, caller)
  if (made.status !== 202) throw new Error(JSON.stringify(made.body))
  return { caller, file, key: body.upload.key }
}

async function look(app: StartedApp, { caller, file, key }: Filled): Promise<Seen> {
  const json = async (path: string, headers: Env): Promise<unknown> => await (await fetch(`${app.url}${path}`, { headers })).json()
  const bytes = await (await fetch(`${app.url}/files/${file}`, { headers: caller })).arrayBuffer()
  const events = await fetch(`${app.url}/events`, { headers: { ...caller, accept: 'application/x-ndjson', 'last-event-id': '0' } })
  const told: string[] = []
  for await (const chunk of events.body!.pipeThrough(new TextDecoderStream())) {
    told.push(...chunk.split('\n').filter(Boolean))
    if (told.length >= 2) break
  }
  return {
    files: await json('/files', caller), bytes: createHash('sha256').update(new Uint8Array(bytes)).digest('hex'),
    finalized: (await app.post('/finalize', { key }, administrator)).body.canonicalKey,
    extensions: await json('/extensions', administrator), jobs: await json('/api/v1/jobs', caller), told
  }
}

const SERVICE: Env = { ...PEOPLE_ENV, ROLES: 'api,worker', DEVICE: 'cpu', WORKERS: '1' }

async function roundTrip(t: Test, from: Env, to: Env): Promise<void> {
  const kept = await folder(t)
  const app = await startApp(t, { ...SERVICE, ...from })
  const filled = await fill(app)
  await ended(app, filled)
  const seen = await look(app, filled)
  const source = { ...from, DATA_DIR: app.dataDir }
  const first = await script('backup', source, kept)
  t.match(first, { code: 0, stderr: '', stdout: /^backup of \S+Z: \d+ objects copied \(\d+ bytes\), 0 were there, 0 missing\n$/ })
  await app.upload(randomBytes(10), {}, administrator).then(({ body }) => app.post('/finalize', { key: body.upload.key }, administrator))
  t.match(await script('backup', source, kept, '--verify'), { code: 0, stderr: '', stdout: /: 1 objects copied \(10 bytes\), [1-9]\d* were there, 0 missing/ }, 'only what is new')
  await app.app.stop()

  const target = { ...to, DATA_DIR: await folder(t) }
  const [time] = (await readdir(join(kept, 'backups'))).toSorted()
  t.match(await script('restore', target, kept, '--time', time!.replace('.json', '')), { code: 0, stderr: '', stdout: /^restored \S+: \d+ objects copied/ })
  t.match(await script('restore', target, kept), { code: 2, stderr: /in use already|there are records/ }, 'never over records')
  t.same((await readdir(target.DATA_DIR)).filter(name => name.startsWith('restoring')), [])
  const again = await startApp(t, { ...SERVICE, ...target })
  t.strictSame(await look(again, filled), seen)
  const form = new FormData()
  form.append('file', new Blob(['later']), 'later.txt')
  t.equal((await fetch(`${again.url}/files/upload`, { method: 'POST', body: form, headers: filled.caller })).status, 201, 'and it goes on')
  const { told } = await look(again, filled)
  t.same(told.slice(0, seen.told.length), seen.told)
  await again.app.stop()
}

/** The job has ended, so that nothing changes any more. */
async function ended(app: StartedApp, { caller }: Filled): Promise<void> {
  const { items: [job] } = await (await fetch(`${app.url}/api/v1/jobs`, { headers: caller })).json() as { items: { job_id: string }[] }
  const events = await (await fetch(`${app.url}/api/v1/jobs/${job!.job_id}/events`, { headers: caller })).text()
  if (!events.includes('generation_complete')) throw new Error(events)
}

t.test('files and SQLite → files and SQLite', async t => {
  await roundTrip(t, {}, {})
})

t.test('MinIO and Postgres → MinIO and Postgres', async t => {
  const minio = await minioOrSkip(t)
  const postgres = minio && await postgresOrSkip(t)
  if (!minio || !postgres) return
  const stores = async (): Promise<Env> => ({ ...s3Env({ ...minio, bucket: await minio.bucket() }), DATABASE_URL: await postgres.createDatabase() })
  await roundTrip(t, await stores(), await stores())
})

t.test('from one machine to several, and back: files and SQLite → MinIO and Postgres → files and SQLite', async t => {
  const minio = await minioOrSkip(t)
  const postgres = minio && await postgresOrSkip(t)
  if (!minio || !postgres) return
  const several = async (): Promise<Env> => ({ ...s3Env({ ...minio, bucket: await minio.bucket() }), DATABASE_URL: await postgres.createDatabase() })
  await roundTrip(t, {}, await several())
  await roundTrip(t, await several(), {})
})

/** Of clients that go on all the time. What was answered before it began is in it. */
async function underLoad(t: Test, env: Env): Promise<void> {
  const app = await startApp(t, { ...PEOPLE_ENV, ...env })
  const answered: string[] = []
  const stop = new AbortController()
  const clients = Array.from({ length: 4 }, async () => {
    while (!stop.signal.aborted) {
      const { body } = await app.upload(randomBytes(20_000), {}, administrator)
      answered.push((await app.post('/finalize', { key: body.upload.key }, administrator)).body.canonicalKey as string)
    }
  })
  await eventually(() => assert.ok(answered.length >= 20), 60_000)
  const before = [...answered]
  const kept = await folder(t)
  const backup = await script('backup', { ...env, DATA_DIR: app.dataDir }, kept)
  stop.abort()
  await Promise.all(clients)
  t.match(backup, { code: 0, stderr: '', stdout: / 0 missing/ })
  t.ok(answered.length > before.length, 'clients went on meanwhile')
  const target = { DATA_DIR: await folder(t) }
  t.match(await script('restore', target, kept), { code: 0, stderr: '' })
  const again = await startApp(t, { ...PEOPLE_ENV, ...target })
  for (const key of before) t.match(await again.post('/finalize', { key }, administrator), { status: 200, body: { canonicalKey: key } })
}

t.test('beside a service that is in use: files and SQLite', async t => await underLoad(t, {}))

t.test('beside a service that is in use: MinIO and Postgres', async t => {
  const minio = await minioOrSkip(t)
  const postgres = minio && await postgresOrSkip(t)
  if (!minio || !postgres) return
  await underLoad(t, { ...s3Env({ ...minio, bucket: await minio.bucket() }), DATABASE_URL: await postgres.createDatabase() })
})

t.test('an object that is not whole is named, and the backup says so', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const { body } = await app.upload(randomBytes(1000), {}, administrator)
  const { canonicalKey: key } = (await app.post('/finalize', { key: body.upload.key }, administrator)).body as { canonicalKey: string }
  await app.app.stop()
  const path = join(app.dataDir, 'objects', key)
  await chmod(path, 0o600)
  await writeFile(path, randomBytes(1000))
  const kept = await folder(t)
  t.match(await script('backup', { DATA_DIR: app.dataDir }, kept), { code: 1, stderr: key, stdout: /1 missing/ })
  const [note] = await readdir(join(kept, 'backups'))
  t.match(JSON.parse(await readFile(join(kept, 'backups', note!), 'utf8')), { missing: [{ key }], records: { from: 'sqlite' } })
  t.match(await script('restore', { DATA_DIR: await folder(t) }, kept), { code: 1, stderr: key, stdout: /1 missing/ })
})

t.test('a backup that is not as it was written is not restored, and one that was cut off is none', async t => {
  const app = await startApp(t)
  await app.app.stop()
  const kept = await folder(t)
  t.match(await script('restore', { DATA_DIR: await folder(t) }, kept), { code: 2, stderr: /there is no backup in/ })
  t.equal((await script('backup', { DATA_DIR: app.dataDir }, kept)).code, 0)
  t.equal((await stat(join(kept, 'records'))).mode & 0o077, 0, 'and nobody else can read it')
  const [name] = await readdir(join(kept, 'records'))
  t.equal((await stat(join(kept, 'records', name!))).mode & 0o077, 0)
  await appendFile(join(kept, 'records', name!), 'x')
  const target = await folder(t)
  t.match(await script('restore', { DATA_DIR: target }, kept), { code: 2, stderr: /is not as it was written/ })
  t.same(await readdir(target), [], 'nothing was restored')
  t.match(await script('restore', { DATA_DIR: target }, kept, '--time', 'never'), { code: 2, stderr: /no backup of never/ })
})

t.test('a restore whose objects could not be written brings no records, and is run again as it was', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const { body } = await app.upload(randomBytes(1000), {}, administrator)
  const { canonicalKey: key } = (await app.post('/finalize', { key: body.upload.key }, administrator)).body as { canonicalKey: string }
  await app.app.stop()
  const kept = await folder(t)
  t.equal((await script('backup', { DATA_DIR: app.dataDir }, kept)).code, 0)
  const target = await folder(t)
  // where its folder is to be, something else is
  await mkdir(join(target, 'objects/sha256'), { recursive: true })
  await writeFile(join(target, 'objects', dirname(key)), '')
  t.match(await script('restore', { DATA_DIR: target }, kept), { code: 2, stderr: /1 objects could not be copied/, stdout: '' })
  t.same(await readdir(target), ['objects'])
  await rm(join(target, 'objects', dirname(key)))
  t.match(await script('restore', { DATA_DIR: target }, kept), { code: 0, stdout: /1 objects copied/ })
})

t.test('records that are not there, or of which nobody knows the schema, are not backed up', async t => {
  const kept = await folder(t)
  const empty = await folder(t)
  t.match(await script('backup', { DATA_DIR: empty }, kept), { code: 2, stderr: /there are no records at/ })
  await writeFile(join(empty, 'penstock.db'), '')
  await mkdir(join(empty, 'objects'))
  t.match(await script('backup', { DATA_DIR: empty }, kept), { code: 2, stderr: /never run on these records|not usable/ })
  t.same(await readdir(join(kept, 'records')), [], 'and nothing is left of the attempt')
  t.match(await script('backup', { DATA_DIR: empty }), { code: 2, stderr: /takes one folder/ })
})
