/** Two real processes that share nothing but a token: one has the bucket and the jobs, the other the models. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t, { type Test } from 'tap'
import { ffmpegOrSkip } from '../support/ffmpeg.ts'
import { BOUNDARY, file, form, type FormPart } from '../support/multipart.ts'
import { keysOf } from '../support/nothing-left.ts'
import { eventually } from '../support/raw-client.ts'
import { startService, type ListeningService } from '../support/service-process.ts'

t.setTimeout(300_000)
const TOKEN = 'a-token-of-the-nodes'
const WAIT_MS = 60_000
const BUILT_IN = join(import.meta.dirname, '../../src/inference/models')
const WRITER = `
const { readFileSync, writeFileSync } = require('node:fs')
const [, , input, output, marker] = process.argv
const text = readFileSync(input, 'utf8')
process.stdout.write('{"progress":40,"message":"half"}\\n')
if (text === 'wait') setTimeout(() => {}, 60_000)
else { writeFileSync(output + '/a.txt', text.toUpperCase()); writeFileSync(output + '/b.txt', 'second') }`

interface Shown { job_id: string, status: string, progress: number | null, attempt: number, results: { name: string, url: string, size: number, sha256: string, content_type: string }[], error?: { code: string, message: string }, execution?: Record<string, unknown> }

interface App {
  app: ListeningService
  create(parts: readonly FormPart[]): Promise<Shown>
  get(id: string): Promise<Shown>
  ended(id: string): Promise<Shown>
  bytes(url: string): Promise<Buffer>
}

const SHARED = { DEVICE: 'cpu', AI_INTERNAL_TOKEN: TOKEN, CANCEL_GRACE_MS: '200' }

/** Folders of models: of all that come along, and of a command alone; and the file of commands. */
async function layOut(t: Test): Promise<{ all: string, writer: string, tasks: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-two-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [all, writer, tasks] = ['all', 'writer', 'tasks.json'].map(name => join(folder, name)) as [string, string, string]
  await writeFile(join(folder, 'writer.cjs'), WRITER)
  await writeFile(tasks, JSON.stringify({ tasks: [{ name: 'writer', argv: [process.execPath, join(folder, 'writer.cjs'), '{input}', '{output}'] }] }))
  await mkdir(join(writer, 'writer/1'), { recursive: true })
  await writeFile(join(writer, 'writer/1/model.json'), JSON.stringify({ name: 'writer', version: 1, task: 'exec' }))
  await writeFile(join(writer, 'writer/1/model.onnx'), await readFile(join(BUILT_IN, 'identity/1/model.onnx')))
  await mkdir(all)
  for (const name of ['upscale-2x', 'color-classes', 'thumbprint', 'identity']) await symlink(join(BUILT_IN, name), join(all, name))
  await symlink(join(writer, 'writer'), join(all, 'writer'))
  return { all, writer, tasks }
}

async function startApp(t: Test, node: ListeningService, env: Record<string, string>): Promise<App> {
  const app = await startService(t, { ...SHARED, ROLES: 'api,worker', AI_TRANSFER_MODE: 'remote', AI_SERVICE_URL: node.url, API_V1_RATE_LIMIT_MAX: '0', ...env })
  const get = async (id: string): Promise<Shown> => (await app.call(`/api/v1/jobs/${id}`)).body as Shown
  return {
    app, get,
    async create(parts) {
      const { status, body } = await app.call('/api/v1/jobs', new Uint8Array(form(parts)), { 'content-type': `multipart/form-data; boundary=${BOUNDARY}` })
      assert.equal(status, 202, JSON.stringify(body))
      return body as Shown
    },
    async ended(id) {
      await eventually(async () => assert.match((await get(id)).status, /completed|failed|cancelled/), WAIT_MS)
      return await get(id)
    },
    bytes: async url => Buffer.from(await (await fetch(new URL(url, app.url), { headers: { 'x-alga-admin': 'true' } })).arrayBuffer())
  }
}

const stagedAt = async (service: ListeningService): Promise<string[]> => (await keysOf(service)).filter(key => key.includes('_staging'))

const photo = (): Promise<Buffer> => sharp({ create: { width: 64, height: 48, channels: 3, background: '#c04020' } }).png().toBuffer()

const text = (content: string): FormPart => file(content, 'input', 'x.txt', 'text/plain')

/** Begins a job that goes on until it is ended. */
async function beginWaiting({ create, get }: App): Promise<string> {
  const { job_id: id } = await create([['model', 'writer'], text('wait')])
  await eventually(async () => assert.equal((await get(id)).progress, 40), WAIT_MS)
  return id
}

/** The results are what they say, and lie in the bucket of the app alone. */
async function isWhole(t: Test, { bytes, app }: App, node: ListeningService, job: Shown): Promise<void> {
  t.match(job, { status: 'completed', progress: 100 }, JSON.stringify(job.error))
  t.match(job.execution, { provider: 'cpu', worker: 'gpu-node', cached: false })
  for (const { url, size, sha256 } of job.results) {
    const found = await bytes(url)
    t.same([found.length, createHash('sha256').update(found).digest('hex')], [size, sha256])
    t.ok((await keysOf(app)).includes(`sha256/${sha256}/object`))
    t.notOk((await keysOf(node)).includes(`sha256/${sha256}/object`), 'the node keeps nothing in its bucket')
  }
}

t.test('two machines', async t => {
  const ffmpeg = await ffmpegOrSkip(t)
  const { all, writer, tasks } = await layOut(t)
  const path = [process.env.PATH, ffmpeg?.env.PATH].filter(Boolean).join(':')
  const ofNode = { ...SHARED, ROLES: 'gpu-node', WORKERS: '1', MODELS_DIR: all, EXEC_TASKS_FILE: tasks, ...ffmpeg?.env, PATH: path }
  const node = await startService(t, ofNode)
  const world = await startApp(t, node, { MODELS_DIR: all })
  const { app, create, ended, bytes } = world
  const image = await photo()

  for (const [model, part, names] of [
    ['upscale-2x', file(image), ['image.png']], ['color-classes', file(image), ['classes.json']], ['thumbprint', file(image), ['embedding.json']],
    ['identity', file('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}', 'input', 'x.json', 'application/json'), ['output.json']],
    ['writer', text('shout'), ['a.txt', 'b.txt']]
  ] as const) {
    await t.test(`${model} goes to the other machine and comes back`, async t => {
      const job = await ended((await create([['model', model], part])).job_id)
      t.same(job.results.map(({ name }) => name), names)
      await isWhole(t, world, node, job)
      if (model === 'writer') t.equal((await bytes(job.results[0]!.url)).toString(), 'SHOUT')
      if (model === 'upscale-2x') t.equal((await sharp(await bytes(job.results[0]!.url)).metadata()).width, 128)
    })
  }

  await t.test('what is larger than any buffer on the way comes there and back byte for byte', async t => {
    const content = randomBytes(6 * 1024 * 1024).toString('hex')
    const job = await ended((await create([['model', 'writer'], text(content)])).job_id)
    await isWhole(t, world, node, job)
    t.ok((await bytes(job.results[0]!.url)).equals(Buffer.from(content.toUpperCase())))
  })

  await t.test('a video goes frame by frame', { skip: ffmpeg === undefined ? 'there is no ffmpeg' : false }, async t => {
    const video = await ffmpeg!.make('in.mp4', ['-f', 'lavfi', '-i', 'testsrc=size=64x48:rate=10:duration=2', '-pix_fmt', 'yuv420p'])
    const job = await ended((await create([['model', 'upscale-2x'], file(video, 'video', 'in.mp4', 'video/mp4')])).job_id)
    await isWhole(t, world, node, job)
    const [stream] = await ffmpeg!.probe(await bytes(job.results[0]!.url))
    t.same([stream?.nb_read_frames, stream?.width], ['20', 128])
  })

  await t.test('what is small and waited for is answered here', async t => {
    const { status, body } = await app.call('/v2/models/identity/infer', JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [3, 4] }] }), { 'content-type': 'application/json' })
    t.match([status, body], [200, { outputs: [{ data: [3, 4] }] }])
  })

  await t.test('an input that is none fails, and is not tried again', async t => {
    t.match(await ended((await create([['model', 'upscale-2x'], file('no image')])).job_id), { status: 'failed', attempt: 1, error: { code: 'invalid_input', message: /image/ } })
  })

  await t.test('health tells of the node, and the node of its device', async t => {
    t.match((await app.call('/health')).body, { dependencies: { gpu_node: { status: 'up' }, workers: { status: 'disabled' } } })
    t.match((await node.call('/health')).body, { model_loaded: true, device: String, dependencies: { workers: { status: 'up' }, gpu_node: { status: 'disabled' } } })
  })

  await t.test('a job that is cancelled here ends there', async t => {
    const id = await beginWaiting(world)
    t.equal((await fetch(`${app.url}/api/v1/jobs/${id}/cancel`, { method: 'POST', headers: { 'x-alga-admin': 'true' } })).status, 200)
    t.match(await ended(id), { status: 'cancelled', results: [] })
    await eventually(() => assert.match(JSON.stringify(node.logged('node.job.end')), /cancelled|client_gone/))
    t.equal((await ended((await create([['model', 'writer'], text('again')])).job_id)).status, 'completed', 'the node is free again')
  })

  await t.test('a wrong token is a reason that can be read', async t => {
    const other = await startApp(t, node, { MODELS_DIR: writer, AI_INTERNAL_TOKEN: 'another-token-than-that', JOB_MAX_ATTEMPTS: '1' })
    t.match(await other.ended((await other.create([['model', 'writer'], text('x')])).job_id), { status: 'failed', error: { code: 'node_failed', message: 'the GPU node does not take our token' } })
  })

  await t.test('nothing is left of it on the node but results, for their time', async t => {
    for (const service of [node, app]) await t.resolves(eventually(async () => assert.deepEqual(await stagedAt(service), [])))
    t.ok((await readdir(join(node.dataDir, 'node-results'))).every(name => /^[A-Za-z0-9_-]+\.(data|json)$/.test(name)))
    t.notMatch(app.output() + node.output(), TOKEN, 'the token is in no log')
  })

  await t.test('an app that dies takes its job along, and the node is free', async t => {
    await beginWaiting(world)
    const before = node.logged('node.job.end').length
    app.child.kill('SIGKILL')
    await t.resolves(eventually(() => assert.match(JSON.stringify(node.logged('node.job.end').slice(before)), /client_gone/), WAIT_MS))
    await t.resolves(eventually(async () => assert.deepEqual(await stagedAt(node), []), WAIT_MS))
  })

  await t.test('a node that dies in the middle costs an attempt; what comes while it is away waits for it, and costs none', async t => {
    const other = await startApp(t, node, { MODELS_DIR: writer, JOB_MAX_ATTEMPTS: '1' })
    const id = await beginWaiting(other)
    node.child.kill('SIGKILL')
    t.match(await other.ended(id), { status: 'failed', error: { code: 'node_failed', message: /^the GPU node broke off/ } })
    const later = await other.create([['model', 'writer'], text('later')])
    await t.resolves(eventually(() => assert.equal(other.app.logged('jobs.waiting').length, 1)))
    t.match(await other.get(later.job_id), { status: 'queued', attempt: 0 })
    t.equal((await other.app.call('/livez')).status, 200)
    await startService(t, { ...ofNode, PORT: String(node.port) })
    t.match(await other.ended(later.job_id), { status: 'completed', attempt: 1 })
    t.equal(other.app.logged('jobs.resumed').length, 1)
  })
})
