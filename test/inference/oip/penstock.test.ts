/** Models that run at another Penstock, in a process of its own: every task makes the same bytes as here. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import t from 'tap'
import sharp from 'sharp'
import type { ModelRef, RunInput, StagedResult } from '../../../src/inference/port.ts'
import { encodeTensors, TENSOR_FRAMES } from '../../../src/inference/tensor-frames.ts'
import { ffmpegOrSkip } from '../../support/ffmpeg.ts'
import { noisePng } from '../../support/graphs.ts'
import { preparing } from '../../support/preparing.ts'
import { eventually } from '../../support/raw-client.ts'
import { json, startInferServer, type Answer } from '../../support/scripted-infer-server.ts'
import { startService, type ListeningService } from '../../support/service-process.ts'
import { resultsOf, startTestWorker, tensorsOf, wire, type TestWorker } from '../../support/worker.ts'

t.setTimeout(300_000)
const TOKEN = 'the-administrator-of-the-models'
const warnings: Error[] = []
process.on('warning', warning => warnings.push(warning))

const prepared = preparing(t)
const there = await startService(t, { ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu', ADMIN_TOKEN: TOKEN, TRUST_ADMIN_HEADER: 'false', INFER_MAX_BYTES: String(4 * 1024 * 1024) })
const infer = { url: there.url, token: TOKEN }
const ffmpeg = await ffmpegOrSkip(t)
const here = await startTestWorker(t, { ffmpeg: ffmpeg?.ffmpeg ?? null })
const remote = await startTestWorker(t, { infer, ffmpeg: ffmpeg?.ffmpeg ?? null })

async function both(task: string, name: string, content: Uint8Array | string, contentType: string, params: Record<string, unknown> = {}): Promise<[there: StagedResult[], here: StagedResult[]]> {
  const run = async (worker: TestWorker, model: Promise<ModelRef>, input: Promise<RunInput>): Promise<StagedResult[]> => resultsOf(await worker.run(task, await model, [await input], { params }))
  return await Promise.all([remote, here].map(worker => run(worker, worker.builtIn(name), worker.put(content, contentType)))) as [StagedResult[], StagedResult[]]
}

const picture = await noisePng(150, 90)
const tensors = '{"id":"7","inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2.5,-3,0.1]}]}'
const frames = encodeTensors([wire('x', 'FP32', [3], Float32Array.of(1, Number.NaN, Number.NEGATIVE_INFINITY))])
const cases: [task: string, model: string, content: Uint8Array | string, contentType: string, params?: Record<string, unknown>][] = [
  ['tensor', 'identity', tensors, 'application/json'],
  ['tensor', 'identity', frames, TENSOR_FRAMES],
  ['image-classification', 'color-classes', picture, 'image/png', { top_k: 12 }],
  ['embedding', 'thumbprint', picture, 'image/png'],
  ['image-to-image', 'upscale-2x', picture, 'image/png'],
  ['image-to-image', 'edges', picture, 'image/png', { tile: 64, overlap: 8 }],
  ['image-to-image', 'identity-image', await noisePng(500, 400, 4), 'image/png', { tile: 64, overlap: 4 }]
]
prepared()
for (const [task, model, content, contentType, params] of cases) {
  t.test(`${task} of ${contentType} through ${model}: the same bytes as here`, async t => {
    const [elsewhere, local] = await both(task, model, content, contentType, params)
    t.match(elsewhere[0]?.sha256, /^[0-9a-f]{64}$/)
    t.same(elsewhere.map(({ name, sha256 }) => [name, sha256]), local.map(({ name, sha256 }) => [name, sha256]))
  })
}

if (ffmpeg !== undefined) {
  t.test('video-to-video through upscale-2x: the same bytes as here', async t => {
    const video = await ffmpeg.make('video.mp4', ['-f', 'lavfi', '-i', 'testsrc2=size=160x120:rate=25:duration=1', '-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p'])
    const [elsewhere, local] = await both('video-to-video', 'upscale-2x', video, 'video/mp4')
    t.equal((await ffmpeg.pixels(await remote.read(elsewhere[0]!))).compare(await ffmpeg.pixels(await here.read(local[0]!))), 0)
  })
}

t.test('a synchronous inference, too', async t => {
  const tensors = [wire('x', 'FP32', [3], Float32Array.of(1, Number.NaN, 3))]
  const [elsewhere, local] = await Promise.all([remote, here].map(async worker => tensorsOf(await worker.run('tensor', await worker.builtIn('identity'), [], { tensors }))))
  t.same(elsewhere, local)
})

t.test('the worker has what ran there as its execution, and fetched no model', async t => {
  t.match(remote.said[0], { type: 'ready', execution: { provider: 'remote', device: 'penstock' } })
  await t.rejects(readdir(remote.settings.modelCacheDir), { code: 'ENOENT' })
  t.same(warnings, [])
})

t.test('what the other one refuses', async t => {
  const model = await remote.builtIn('identity')
  const big = [wire('x', 'FP32', [2_000_000], new Float32Array(2_000_000))]
  t.match(await remote.run('tensor', model, [], { tensors: big }), { code: 'invalid_input', message: 'the tensors are larger than the inference server takes', retryable: false })
  t.match(await remote.run('tensor', { ...model, name: 'nobody' }, [], { tensors: big }), { code: 'invalid_model', message: 'the inference server does not have model "nobody" version "1": model "nobody" version "1" is not here, or not loaded', retryable: false })
  const stranger = await startTestWorker(t, { infer: { url: there.url, token: 'a-token-that-is-wrong' } })
  t.match(await stranger.run('tensor', model, [], { tensors: big }), { code: 'node_failed', message: 'the inference server does not take our token', retryable: false })
})

async function finished(service: ListeningService, model: string, input: Uint8Array | string, type: string) {
  const form = new FormData()
  form.set('model', model)
  form.set('input', new Blob([input as NonNullable<ConstructorParameters<typeof Blob>[0]>[number]], { type }), 'input')
  const made = await (await fetch(`${service.url}/api/v1/jobs`, { method: 'POST', body: form })).json() as { job_id: string }
  let job: { status: string, attempt: number, execution?: object, error?: object } | undefined
  await eventually(async () => {
    job = await (await fetch(`${service.url}/api/v1/jobs/${made.job_id}`)).json() as NonNullable<typeof job>
    assert.ok(['completed', 'failed'].includes(job.status), job.status)
  }, 60_000)
  return { id: made.job_id, ...job! }
}

const health = async (service: ListeningService): Promise<any> => (await service.call('/health')).body // eslint-disable-line typescript/no-explicit-any

/** Children of a process, with what anybody on the machine may see of them. */
function seenOf(pid: number): string {
  const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(pid)]).toString().split('\n').map(Number).filter(Boolean)
  return children.map(child => ['cmdline', 'environ'].map(name => readFileSync(`/proc/${child}/${name}`, 'utf8')).join(' ')).join('\n')
}

t.test('the whole service: jobs and /v2 run there, models are still looked at here, and the token stays where it is', async t => {
  const service = await startService(t, { ROLES: 'api,worker', WORKERS: '1', INFER_URL: `${there.url}/`, INFER_TOKEN: TOKEN })
  const job = await finished(service, 'upscale-2x', picture, 'image/png')
  t.match(job, { status: 'completed', attempt: 1, execution: { provider: 'remote', device: 'penstock', cached: false } })
  const result = Buffer.from(await (await fetch(`${service.url}/api/v1/jobs/${job.id}/results/image.png`)).arrayBuffer())
  t.match(await sharp(result).metadata(), { width: 300, height: 180 })

  const found = await health(service)
  t.match(found, { status: 'healthy', device: 'penstock', model_loaded: true, dependencies: { infer: { status: 'up' }, workers: { status: 'up' }, gpu_node: { status: 'disabled' } } })
  const answer = await service.call('/v2/models/identity/infer', tensors, { 'content-type': 'application/json' })
  t.match(answer, { status: 200, body: { outputs: [{ name: 'y', data: [1, 2.5, -3] }] } })

  const broken = await service.call('/upload-proxy?kind=model&filename=model.onnx&size=5', 'wrong')
  t.equal(broken.status, 200)
  const refused = await service.call('/finalize', JSON.stringify({ key: broken.body.upload.key, manifestJson: JSON.stringify({ name: 'wrong', version: 1, task: 'tensor' }) }), { 'content-type': 'application/json' })
  t.match(refused, { status: 400, body: { code: 'INVALID_MODEL' } })

  t.notOk(service.output().includes(TOKEN), 'it is in no line')
  const seen = seenOf(service.child.pid!)
  t.ok(seen.includes('worker.ts'), 'the worker is found')
  t.notOk(seen.includes(TOKEN), 'nor in what others see of the worker')
})

t.test('a server that is out for a moment costs an attempt, and one that refuses costs the job', async t => {
  let refusals = 0
  const server = await startInferServer(t)
  const { infer: well } = server.script
  const once: Answer = (response, request, body) => {
    refusals += 1
    return (refusals === 1 ? json(503, { error: 'starting' }) : well!)(response, request, body)
  }
  Object.assign(server.script, { model: json(200, { inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, -1] }], outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, -1] }] }), infer: once })
  const service = await startService(t, { ROLES: 'api,worker', WORKERS: '1', INFER_URL: server.address.url })
  t.match(await finished(service, 'identity', tensors, 'application/json'), { status: 'completed', attempt: 2, execution: { provider: 'remote', device: 'played' } })

  server.script.infer = json(400, { error: 'not these' })
  t.match(await finished(service, 'identity', '{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}', 'application/json'), {
    status: 'failed', attempt: 1, error: { code: 'invalid_input', message: 'the inference server refused the tensors: not these' }
  })
})

t.test('a service whose inference server is not there starts, says so, and refuses for the moment what needs it', async t => {
  const server = await startInferServer(t)
  await server.close()
  const service = await startService(t, { ROLES: 'api,worker', WORKERS: '1', INFER_URL: server.address.url })
  t.match(await health(service), { status: 'degraded', dependencies: { infer: { status: 'down', error: 'the inference server cannot be reached' }, workers: { status: 'up' } } })
  t.match(await service.call('/v2/models/identity/infer', tensors, { 'content-type': 'application/json' }), { status: 503 })
  t.match(service.logged('worker.ready')[0], { provider: 'remote', note: 'the inference server cannot be reached' })
})
