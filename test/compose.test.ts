/**
 * Brings up the whole stack of compose.yaml from nothing, sends a file through the published port, looks into the bucket
 * past Penstock, restarts everything, and takes it down with its volumes and its image.
 */
import { execFile, execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import t from 'tap'

const ROOT = join(import.meta.dirname, '..')
const SIZE_BYTES = 20 * 1024 * 1024
/** Fetching the base images, `npm ci` in the build and three servers starting on a slow machine. */
const FILE_TIMEOUT_MS = 15 * 60_000

interface Outcome { readonly code: number, readonly stdout: string, readonly stderr: string }

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Outcome> {
  return new Promise(resolve => {
    execFile(command, args, { cwd: ROOT, env, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr })
    })
  })
}

function engineAnswers(): boolean {
  try {
    execFileSync('docker', ['info'], { stdio: 'ignore' })
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

/** Settings of the shell that runs the tests must not reach the stack. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => /^(PATH|HOME|DOCKER_.*|TMPDIR)$/.test(name))
  const registry = process.env.NPM_CONFIG_REGISTRY ?? process.env.npm_config_registry
  return { ...Object.fromEntries(kept), ...(registry === undefined ? {} : { NPM_CONFIG_REGISTRY: registry }) }
}

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
const required = (process.env.PENSTOCK_REQUIRE ?? '').split(',').includes('docker')
t.setTimeout(FILE_TIMEOUT_MS)

t.test('a missing secret stops compose before anything starts', { skip: engine || required ? false : 'no Docker engine with Compose v2 answers' }, async t => {
  const { code, stderr } = await run('docker', ['compose', '--env-file', '/dev/null', 'config', '--quiet'], cleanEnvironment())
  t.not(code, 0)
  t.match(stderr, /required variable \w+ is missing a value: missing in \.env - npm run env writes one/)
})

t.test('docker compose up gives a service that keeps what it is sent', { skip: engine || required ? false : 'no Docker engine with Compose v2 answers' }, async t => {
  if (!engine) return t.fail('PENSTOCK_REQUIRE names docker, but no Docker engine with Compose v2 answers')
  const folder = mkdtempSync(join(tmpdir(), 'penstock-compose-'))
  const envFile = join(folder, '.env')
  execFileSync(process.execPath, [join(ROOT, 'scripts/make-env.ts'), envFile], { stdio: 'ignore' })
  const secrets = parseEnv(readFileSync(envFile, 'utf8')) as Record<string, string>
  const port = await findFreePort()
  const project = `penstock-test-${randomBytes(4).toString('hex')}`
  const compose = (...args: string[]) => run('docker', ['compose', '--project-name', project, '--env-file', envFile, ...args], { ...cleanEnvironment(), PORT: String(port) })
  const inService = (...args: string[]) => compose('exec', '-T', 'penstock', ...args)
  t.teardown(async () => {
    if (!t.passing()) console.error((await compose('logs', '--no-color', '--tail', '200')).stdout)
    const down = await compose('down', '--volumes', '--rmi', 'local', '--timeout', '5')
    if (down.code !== 0) console.error(down.stderr)
    // the classic builder leaves out the label by which --rmi local would find the image
    await run('docker', ['image', 'rm', '--force', `${project}-penstock`], cleanEnvironment())
    rmSync(folder, { recursive: true, force: true })
  })

  const up = await compose('up', '--build', '--detach', '--wait')
  if (!t.equal(up.code, 0, 'the stack is up and healthy')) return t.comment(`${up.stdout}\n${up.stderr}`)

  const bytes = randomBytes(SIZE_BYTES)
  const digest = createHash('sha256').update(bytes).digest('hex')
  const base = `http://127.0.0.1:${port}`
  const authorization = `Bearer ${secrets.ADMIN_TOKEN}`
  const upload = async () => {
    const response = await fetch(`${base}/upload-proxy?filename=a.bin&size=${SIZE_BYTES}&declaredHash=${digest}`, { method: 'POST', headers: { authorization }, body: bytes })
    return { status: response.status, body: await response.json() as { upload: { key: string } } }
  }
  const finalize = async (key: string) => {
    const response = await fetch(`${base}/finalize`, { method: 'POST', headers: { authorization, 'content-type': 'application/json' }, body: JSON.stringify({ key }) })
    return { status: response.status, body: await response.json() as { canonicalKey: string, contentHash: string, deduplicated: boolean } }
  }

  await t.test('the image runs without root, rights, and a writable root', async t => {
    t.equal((await inService('id', '-u')).stdout.trim(), '1000')
    t.match((await inService('sh', '-c', 'touch /app/x')).stderr, 'Read-only file system')
    t.match((await inService('grep', 'CapEff', '/proc/self/status')).stdout, /CapEff:\s+0{16}/)
    t.match((await inService('cat', '/proc/self/status')).stdout, /NoNewPrivs:\s+1/)
  })

  await t.test('no container can take more rights or more of the machine than it needs', async t => {
    t.match((await inService('cat', '/proc/mounts')).stdout, /^tmpfs \/tmp tmpfs \S*noexec\S*size=65536k/m)
    for (const service of ['penstock', 'minio', 'postgres']) {
      const id = (await compose('ps', '--quiet', service)).stdout.trim()
      const { HostConfig: host } = (JSON.parse((await run('docker', ['inspect', id], cleanEnvironment())).stdout) as [{ HostConfig: { Memory: number, PidsLimit: number } }])[0]
      t.ok(host.Memory >= 1024 ** 3, `${service} has a limit of memory`)
      t.ok(host.PidsLimit > 0, `${service} has a limit of processes`)
      const first = (await compose('exec', '-T', service, 'cat', '/proc/1/limits', '/proc/1/status')).stdout
      t.match(first, /^Max open files +16384 +16384/m, service)
      t.match(first, /^NoNewPrivs:\s+1$/m, service)
      t.match(first, service === 'postgres' ? /^Uid:\s+[1-9][^]*^CapEff:\s+0{16}$/m : /^CapEff:\s+0{16}$/m, `${service} runs without rights`)
    }
  })

  let canonicalKey = ''
  await t.test('a file sent through the published port becomes a canonical object in the bucket', async t => {
    const refused = await fetch(`${base}/upload-proxy?filename=a.bin&size=1`, { method: 'POST', body: 'x' })
    t.equal(refused.status, 403, 'without the admin token nothing is taken')
    const uploaded = await upload()
    t.equal(uploaded.status, 200, JSON.stringify(uploaded.body))
    const finalized = await finalize(uploaded.body.upload.key)
    t.equal(finalized.status, 200, JSON.stringify(finalized.body))
    canonicalKey = finalized.body.canonicalKey
    t.equal(canonicalKey, `sha256/${digest}/object`)
    const listed = await inService('node', '--input-type=module', '--eval', LIST_BUCKET)
    t.same(JSON.parse(listed.stdout || 'null'), [{ key: canonicalKey, size: SIZE_BYTES }], 'the object, and nothing else')
  })

  await t.test('SIGTERM ends the service with exit code 0, and all is there after everything was restarted', async t => {
    await compose('stop')
    const id = (await compose('ps', '--all', '--quiet', 'penstock')).stdout.trim()
    t.equal((await run('docker', ['inspect', '--format', '{{.State.ExitCode}}', id], cleanEnvironment())).stdout.trim(), '0')
    t.equal((await compose('up', '--detach', '--wait')).code, 0)
    const again = await finalize(canonicalKey)
    t.equal(again.status, 200, 'the records know it')
    t.match(again.body, { canonicalKey, contentHash: digest })
    const same = await finalize((await upload()).body.upload.key)
    t.match(same, { status: 200, body: { canonicalKey, deduplicated: true } }, 'the bucket knows it')
    const listed = await inService('node', '--input-type=module', '--eval', LIST_BUCKET)
    t.same(JSON.parse(listed.stdout || 'null'), [{ key: canonicalKey, size: SIZE_BYTES }])
  })

  await t.test('a job sent through the published port is run by a worker of the container', async t => {
    const headers = { authorization, 'content-type': 'application/json' }
    const tensors = [{ name: 'x', datatype: 'FP32', shape: [3], data: [1, 2.5, -3] }]
    const created = await fetch(`${base}/api/v1/jobs`, { method: 'POST', headers, body: JSON.stringify({ model: 'identity', input: { tensors } }) })
    t.equal(created.status, 202)
    const { job_id } = await created.json() as { job_id: string }
    const events = await (await fetch(`${base}/api/v1/jobs/${job_id}/events`, { headers: { authorization } })).text()
    t.match(events, /^event: generation_complete$/m, 'the stream ends with the job')
    const result = await (await fetch(`${base}/api/v1/jobs/${job_id}/results/output.json`, { headers: { authorization } })).json()
    t.match(result, { outputs: [{ data: [1, 2.5, -3] }] })
  })

  await t.test('no secret stands in a log', async t => {
    const { stdout } = await compose('logs', '--no-color', 'penstock')
    t.match(stdout, 'ingest.upload.success')
    for (const [name, value] of Object.entries(secrets).filter(([name]) => name !== 'MINIO_ROOT_USER')) t.notOk(stdout.includes(value), name)
  })
})
