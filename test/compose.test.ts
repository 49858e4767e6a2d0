/**
 * Brings up every profile of compose.yaml from nothing, and uses it through its published ports: the stack alone, looking into
 * the bucket past Penstock; killed with SIGKILL in the middle of its work; with a GPU node, whose image is that of
 * Dockerfile.cuda as far as it can be had without CUDA; and with Prometheus and Grafana, where their images are there.
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { findProgram, provideProgram, type Program } from '../scripts/servers/debian.ts'
import { freePort, startTethered } from '../scripts/servers/tethered.ts'
import { cleanEnvironment, composeStack, engineAnswers, ROOT, run, type Stack } from './support/compose.ts'
import { isRequired } from './support/minio.ts'
import { eventually } from './support/raw-client.ts'

const SIZE_BYTES = 20 * 1024 * 1024
/** Fetching base images, two builds, and half a dozen servers that start on a slow machine several times. */
const FILE_TIMEOUT_MS = 30 * 60_000
/** Leases that lapse, and the pause before another attempt, with the time that the work takes. */
const JOB_TIMEOUT_MS = 180_000
const PROMETHEUS = { name: 'Prometheus', files: ['prometheus'], debian: 'prometheus' }
const OBSERVERS = ['prom/prometheus:v3.5.0', 'grafana/grafana:12.1.0']

/** Run in the service's container, with its own credentials: what the bucket holds, without asking Penstock. */
const LIST_BUCKET = `
import { S3Client, ListObjectsV2Command } from '@aws-sdk/client-s3'
const { S3_ENDPOINT: endpoint, S3_REGION: region, S3_BUCKET: Bucket, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey } = process.env
const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }))
// the built-in models lie there too, each with its manifest
const models = new Set(Contents.flatMap(({ Key }) => Key.endsWith('/model.onnx') ? [Key.slice(0, -'model.onnx'.length)] : []))
const others = Contents.filter(({ Key }) => !models.has(Key.slice(0, Key.lastIndexOf('/') + 1)))
console.log(JSON.stringify(others.map(({ Key, Size }) => ({ key: Key, size: Size }))))
process.exit(0)`

const engine = engineAnswers()
const skip = engine || isRequired('docker') ? false : 'no Docker engine with Compose v2 answers'
t.setTimeout(FILE_TIMEOUT_MS)

interface Finalized { canonicalKey: string, contentHash: string, deduplicated: boolean }

async function upload({ url, headers }: Stack, bytes: Buffer): Promise<{ status: number, body: { upload: { key: string } } }> {
  const digest = createHash('sha256').update(bytes).digest('hex')
  const response = await fetch(`${url}/upload-proxy?filename=a.bin&size=${bytes.length}&declaredHash=${digest}`, { method: 'POST', headers, body: new Uint8Array(bytes) })
  return { status: response.status, body: await response.json() as { upload: { key: string } } }
}

async function finalize({ url, headers }: Stack, key: string): Promise<{ status: number, body: Finalized }> {
  const response = await fetch(`${url}/finalize`, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify({ key }) })
  return { status: response.status, body: await response.json() as Finalized }
}

async function tensorJob({ url, headers }: Stack): Promise<string> {
  const tensors = [{ name: 'x', datatype: 'FP32', shape: [3], data: [1, 2.5, -3] }]
  const created = await fetch(`${url}/api/v1/jobs`, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify({ model: 'identity', input: { tensors }, cache: false }) })
  const body = await created.json() as { job_id: string }
  assert.equal(created.status, 202, JSON.stringify(body))
  return body.job_id
}

interface Job { status: string, attempt: number, error?: unknown, results: { name: string }[] }

/** Listens until it has ended: who asks again and again soon asks too often. */
async function ended({ url, headers }: Stack, id: string): Promise<Job> {
  const events = await fetch(`${url}/api/v1/jobs/${id}/events`, { headers, signal: AbortSignal.timeout(JOB_TIMEOUT_MS) })
  const heard = await events.text()
  const response = await fetch(`${url}/api/v1/jobs/${id}`, { headers })
  const job = await response.json() as Job
  assert.equal(response.status, 200, JSON.stringify(job))
  assert.match(job.status, /^(completed|failed|cancelled)$/, heard)
  return job
}

async function isAnswered(t: Test, { url, headers }: Stack, id: string): Promise<void> {
  const result = await (await fetch(`${url}/api/v1/jobs/${id}/results/output.json`, { headers })).json()
  t.match(result, { outputs: [{ data: [1, 2.5, -3] }] })
}

async function isUp(t: Test, stack: Stack, what: string): Promise<boolean> {
  const up = await stack.compose('up', '--build', '--detach', '--wait')
  if (up.code !== 0) t.comment(`${up.stdout}\n${up.stderr}`)
  return t.equal(up.code, 0, what)
}

t.test('a missing secret stops compose before anything starts', { skip }, async t => {
  const { code, stderr } = await run('docker', ['compose', '--env-file', '/dev/null', 'config', '--quiet'], cleanEnvironment())
  t.not(code, 0)
  t.match(stderr, /required variable \w+ is missing a value: missing in \.env - npm run env writes one/)
  const stack = await composeStack(t)
  const without = stack.write('without', Object.entries(stack.secrets).filter(([name]) => name !== 'AI_INTERNAL_TOKEN').map(each => each.join('=')).join('\n'))
  const twoNodes = await run('docker', ['compose', '--env-file', without, '--env-file', 'docker/two-node.env', 'config', '--quiet'], cleanEnvironment())
  t.match(twoNodes, { code: 1, stderr: /required variable AI_INTERNAL_TOKEN is missing a value/ })
  t.equal((await run('docker', ['compose', '--env-file', without, 'config', '--quiet'], cleanEnvironment())).code, 0, 'which nothing else needs')
})

t.test('the files for a GPU go together', { skip }, async t => {
  const stack = await composeStack(t)
  stack.extend('-f', 'compose.yaml', '-f', 'docker/compose.cuda.yaml', '--env-file', 'docker/two-node.env')
  const { code, stdout, stderr } = await stack.compose('config', '--format', 'json')
  t.equal(code, 0, stderr)
  const { services } = JSON.parse(stdout || '{}') as { services: Record<string, { environment: Record<string, string> }> }
  t.notOk(Object.hasOwn(services['gpu-node']!.environment, 'ADMIN_TOKEN'), 'the other machine knows nothing of the administrator')
  t.match(services, {
    penstock: { environment: { AI_TRANSFER_MODE: 'remote', AI_SERVICE_URL: 'http://gpu-node:4000' }, build: { dockerfile: 'docker/Dockerfile' } },
    'gpu-node': { environment: { ROLES: 'gpu-node', DEVICE: 'cuda' }, build: { dockerfile: 'docker/Dockerfile.cuda' }, deploy: { resources: { reservations: { devices: [{ driver: 'nvidia', capabilities: ['gpu'] }] } } } }
  })
})

t.test('docker compose up gives a service that keeps what it is sent', { skip }, async t => {
  if (!engine) return t.fail('PENSTOCK_REQUIRE names docker, but no Docker engine with Compose v2 answers')
  const stack = await composeStack(t)
  const { url, headers, secrets } = stack
  if (!await isUp(t, stack, 'the stack is up and healthy')) return
  const bytes = randomBytes(SIZE_BYTES)
  const contentHash = createHash('sha256').update(bytes).digest('hex')

  await t.test('the image runs without root, rights, and a writable root', async t => {
    t.equal((await stack.exec('penstock', 'id', '-u')).stdout.trim(), '1000')
    t.match((await stack.exec('penstock', 'sh', '-c', 'touch /app/x')).stderr, 'Read-only file system')
    t.match((await stack.exec('penstock', 'grep', 'CapEff', '/proc/self/status')).stdout, /CapEff:\s+0{16}/)
    t.match((await stack.exec('penstock', 'cat', '/proc/self/status')).stdout, /NoNewPrivs:\s+1/)
  })

  await t.test('no container can take more rights or more of the machine than it needs', async t => {
    t.match((await stack.exec('penstock', 'cat', '/proc/mounts')).stdout, /^tmpfs \/tmp tmpfs \S*noexec\S*size=65536k/m)
    for (const service of ['penstock', 'minio', 'postgres']) {
      const { HostConfig: host } = await stack.inspect<{ HostConfig: { Memory: number, PidsLimit: number } }>(service)
      t.ok(host.Memory >= 1024 ** 3, `${service} has a limit of memory`)
      t.ok(host.PidsLimit > 0, `${service} has a limit of processes`)
      const first = (await stack.exec(service, 'cat', '/proc/1/limits', '/proc/1/status')).stdout
      t.match(first, /^Max open files +16384 +16384/m, service)
      t.match(first, /^NoNewPrivs:\s+1$/m, service)
      t.match(first, service === 'postgres' ? /^Uid:\s+[1-9][^]*^CapEff:\s+0{16}$/m : /^CapEff:\s+0{16}$/m, `${service} runs without rights`)
    }
  })

  let canonicalKey = ''
  await t.test('a file sent through the published port becomes a canonical object in the bucket', async t => {
    const refused = await fetch(`${url}/upload-proxy?filename=a.bin&size=1`, { method: 'POST', body: 'x' })
    t.equal(refused.status, 403, 'without the admin token nothing is taken')
    const uploaded = await upload(stack, bytes)
    t.equal(uploaded.status, 200, JSON.stringify(uploaded.body))
    const finalized = await finalize(stack, uploaded.body.upload.key)
    t.equal(finalized.status, 200, JSON.stringify(finalized.body))
    canonicalKey = finalized.body.canonicalKey
    t.equal(canonicalKey, `sha256/${contentHash}/object`)
    t.match(finalized.body, { contentHash, deduplicated: false })
    const listed = await stack.exec('penstock', 'node', '--input-type=module', '--eval', LIST_BUCKET)
    t.same(JSON.parse(listed.stdout || 'null'), [{ key: canonicalKey, size: SIZE_BYTES }], listed.stderr)
  })

  await t.test('after a restart of everything it is still there', async t => {
    t.equal((await stack.compose('stop')).code, 0)
    t.equal((await stack.inspect<{ State: { ExitCode: number } }>('penstock')).State.ExitCode, 0)
    t.equal((await stack.compose('up', '--detach', '--wait')).code, 0)
    const again = await finalize(stack, canonicalKey)
    t.equal(again.status, 200, 'the records know it')
    t.match(again.body, { canonicalKey, contentHash })
    const same = await finalize(stack, (await upload(stack, bytes)).body.upload.key)
    t.match(same, { status: 200, body: { canonicalKey, deduplicated: true } }, 'the bucket knows it')
    const listed = await stack.exec('penstock', 'node', '--input-type=module', '--eval', LIST_BUCKET)
    t.same(JSON.parse(listed.stdout || 'null'), [{ key: canonicalKey, size: SIZE_BYTES }])
  })

  await t.test('a job sent through the published port is run by a worker of the container', async t => {
    const id = await tensorJob(stack)
    const events = await (await fetch(`${url}/api/v1/jobs/${id}/events`, { headers })).text()
    t.match(events, /^event: generation_complete$/m, 'the stream ends with the job')
    await isAnswered(t, stack, id)
  })

  await t.test('metrics are for whoever has their token', async t => {
    t.equal((await fetch(`${url}/metrics`)).status, 401)
    const answer = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${secrets.METRICS_TOKEN}` } })
    t.equal(answer.status, 200)
    t.match(await answer.text(), /^penstock_jobs_total\{model="identity",status="completed"\} 1$/m)
  })

  await t.test('every container killed with SIGKILL and started again: nothing that was answered is lost', async t => {
    for (const victims of [['penstock'], ['minio', 'postgres'], ['penstock', 'minio', 'postgres']]) {
      const staged = await upload(stack, randomBytes(1024))
      const job = await tensorJob(stack)
      t.equal((await stack.compose('kill', '--signal', 'KILL', ...victims)).code, 0)
      t.equal((await stack.inspect<{ State: { ExitCode: number } }>(victims[0]!)).State.ExitCode, 137, `${victims.join(' and ')} killed`)
      if (!await isUp(t, stack, 'and up again')) return
      t.equal((await finalize(stack, staged.body.upload.key)).status, 200, 'what was staged can be finalized')
      t.match(await ended(stack, job), { status: 'completed' }, 'the job has ended')
      await isAnswered(t, stack, job)
      t.match(await finalize(stack, canonicalKey), { status: 200, body: { canonicalKey, contentHash } })
    }
  })

  await t.test('a backup is made in the container, beside the service', async t => {
    const backup = await stack.exec('penstock', 'node', 'scripts/backup.ts', '/data/backup')
    t.match(backup, { code: 0, stderr: '', stdout: / 0 missing/ })
    const note = await stack.exec('penstock', 'sh', '-c', 'cat /data/backup/backups/*.json')
    t.match(JSON.parse(note.stdout || 'null'), { records: { from: 'postgres' }, missing: [] })
    t.equal((await stack.exec('penstock', 'test', '-f', `/data/backup/objects/${canonicalKey}`)).code, 0)
  })

  // what comes next replaces the container, and its log with it
  await t.test('no secret stands in a log', async t => await noSecretIsLogged(t, stack, 'penstock'))

  await t.test('two-node: jobs are run by a node that reaches neither the bucket nor the records (image of Dockerfile.cuda on a base without CUDA: no GPU is here)', async t => {
    stack.extend('-f', 'compose.yaml', '-f', stack.write('standin.yaml', `services:
  gpu-node:
    build:
      dockerfile: docker/Dockerfile.cuda
      args: { CUDA_IMAGE: 'node:24-bookworm-slim', ONNXRUNTIME_NODE_INSTALL: skip }
`), '--env-file', 'docker/two-node.env')
    if (!await isUp(t, stack, 'both nodes are up and healthy')) return
    t.equal((await stack.exec('gpu-node', 'id', '-u')).stdout.trim(), '1000')
    t.match((await stack.exec('gpu-node', 'sh', '-c', 'touch /app/x')).stderr, 'Read-only file system')
    for (const store of ['minio', 'postgres']) t.not((await stack.exec('gpu-node', 'getent', 'hosts', store)).code, 0, `${store} has no address there`)

    const video = await stack.bytesOf('penstock', 'ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'testsrc=size=64x48:rate=5:duration=2', '-f', 'matroska', '-c:v', 'libx264', '-pix_fmt', 'yuv420p', '-')
    const form = new FormData()
    form.set('model', 'identity-image')
    form.set('input', new Blob([new Uint8Array(video)], { type: 'video/x-matroska' }), 'a.mkv')
    const created = await (await fetch(`${url}/api/v1/jobs`, { method: 'POST', headers, body: form })).json() as { job_id: string }
    const job = await ended(stack, created.job_id)
    if (!t.match(job, { status: 'completed' }, JSON.stringify(job))) return
    const result = await fetch(`${url}/api/v1/jobs/${created.job_id}/results/${job.results[0]!.name}`, { headers })
    t.match(Buffer.from(await result.arrayBuffer()).subarray(4, 8).toString(), 'ftyp', 'an mp4 came back')
    const tensors = await tensorJob(stack)
    t.match(await ended(stack, tensors), { status: 'completed' })
    await isAnswered(t, stack, tensors)
    const { stdout } = await stack.compose('logs', '--no-color', 'gpu-node')
    t.ok(stdout.split('node.job.begin').length > 2, 'both were run there')

    const last = await tensorJob(stack)
    t.equal((await stack.compose('kill', '--signal', 'KILL', 'gpu-node')).code, 0)
    if (!await isUp(t, stack, 'the node is killed, and up again')) return
    const outcome = await ended(stack, last)
    t.match(outcome, { status: 'completed' }, `and nothing is lost: ${JSON.stringify(outcome.error)}`)
    await isAnswered(t, stack, last)
  })

  const images = await Promise.all(OBSERVERS.map(async image => (await run('docker', ['image', 'inspect', image], cleanEnvironment())).code === 0))
  if (images.every(Boolean)) {
    await t.test('observability: Prometheus scrapes the service, and Grafana shows the dashboard', async t => {
      stack.extend('--profile', 'observability')
      if (!await isUp(t, stack, 'Prometheus and Grafana are up and healthy')) return
      await isScraped(stack.prometheus)
      const grafana = await fetch(`${stack.grafana}/api/search?query=penstock`, { headers: { authorization: `Basic ${Buffer.from(`admin:${secrets.GRAFANA_PASSWORD}`).toString('base64')}` } })
      t.match(await grafana.json(), [{ type: 'dash-db' }])
    })
  } else {
    await t.test('observability, whose images are not here: Debian\'s Prometheus takes docker/prometheus.yml and alerts.yml and scrapes the stack through its port; of Grafana the files alone are checked (metrics/docker-files.test.ts)', async t => {
      const config = await stack.compose('--profile', 'observability', 'config', '--format', 'json')
      t.match((JSON.parse(config.stdout || '{}') as { services: object }).services, { prometheus: { image: OBSERVERS[0] }, grafana: { image: OBSERVERS[1] } }, config.stderr)
      const program = isRequired('docker') ? await provideProgram(PROMETHEUS, line => console.error(line)) : await findProgram(PROMETHEUS)
      if (program === undefined) return t.comment('there is no Prometheus, so nothing was scraped')
      await isScraped(await startPrometheus(t, program, stack))
    })
  }

  await t.test('nor in those of both nodes', async t => await noSecretIsLogged(t, stack, 'penstock', 'gpu-node'))
})

async function noSecretIsLogged(t: Test, { compose, secrets }: Stack, ...services: string[]): Promise<void> {
  for (const service of services) {
    const { stdout } = await compose('logs', '--no-color', service)
    t.match(stdout, 'http.request.completed', service)
    for (const [name, value] of Object.entries(secrets).filter(([name]) => name !== 'MINIO_ROOT_USER')) t.notOk(stdout.includes(value), `${name} in the log of ${service}`)
  }
}

/** Its rules are loaded, and it has figures of the service. */
async function isScraped(prometheus: string): Promise<void> {
  const ask = async (path: string): Promise<{ data: { result: { value: [number, string] }[], groups: { rules: { name: string }[] }[] } }> => await (await fetch(`${prometheus}/api/v1/${path}`)).json() as never
  await eventually(async () => assert.equal((await ask('query?query=up%7Bjob%3D%22penstock%22%7D')).data.result[0]?.value[1], '1'), JOB_TIMEOUT_MS)
  assert.ok(Number((await ask('query?query=sum(penstock_uploads_total)')).data.result[0]?.value[1]) > 0)
  assert.ok((await ask('rules')).data.groups.flatMap(({ rules }) => rules).length > 5)
}

/** With the files of this repository, but for where things are. */
async function startPrometheus(t: Test, program: Program, { url, secrets }: Stack): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-prometheus-'))
  const port = await freePort()
  const token = join(folder, 'token')
  await writeFile(token, secrets.METRICS_TOKEN!, { mode: 0o600 })
  const settings = readFileSync(join(ROOT, 'docker/prometheus.yml'), 'utf8')
    .replace('/etc/prometheus/alerts.yml', join(ROOT, 'docker/alerts.yml')).replace('/run/secrets/metrics_token', token)
    .replace(/dns_sd_configs:\n(?: {6,}.*\n)+/, `static_configs: [{ targets: ['${new URL(url).host}'] }]\n`).replace('127.0.0.1:9090', `127.0.0.1:${port}`)
    .replace('scrape_interval: 15s', 'scrape_interval: 1s').replace('scrape_timeout: 10s', 'scrape_timeout: 1s')
  await writeFile(join(folder, 'prometheus.yml'), settings)
  const server = await startTethered({
    name: 'Prometheus', env: program.env, isReady: async () => await fetch(`http://127.0.0.1:${port}/-/ready`).then(({ ok }) => ok, () => false),
    command: [program.path, `--config.file=${join(folder, 'prometheus.yml')}`, `--storage.tsdb.path=${join(folder, 'data')}`, `--web.listen-address=127.0.0.1:${port}`]
  })
  t.teardown(async () => {
    await server.end('SIGTERM')
    await rm(folder, { recursive: true, force: true })
  })
  return `http://127.0.0.1:${port}`
}
