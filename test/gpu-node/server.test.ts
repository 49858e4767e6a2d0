/** The side of a GPU node's server, alone, asked as another machine would. Its models run in real workers. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t, { type Test } from 'tap'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { removeExpired, NODE_OWNER } from '../../src/gpu-node/expire.ts'
import { stagingKey } from '../../src/objects/keys.ts'
import { randomUUID } from 'node:crypto'
import { file, formHead, partHead, type FormPart } from '../support/multipart.ts'
import { askNode, beginOnNode, digest, formBody, jsonBody, type Line } from '../support/node-client.ts'
import { eventually } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

t.setTimeout(180_000)
const TOKEN = 'a-token-of-the-nodes'
const AUTH = { authorization: `Bearer ${TOKEN}` }

interface Node extends StartedApp {
  process(parts: readonly FormPart[], headers?: Record<string, string>): ReturnType<typeof askNode>
  begin(parts: readonly FormPart[]): ReturnType<typeof beginOnNode>
  cancel(jobId: unknown): ReturnType<typeof askNode>
  result(jobId: string): Promise<Response>
  staged(): Promise<string[]>
}

const SLEEPER = `
const { argv: [, , output], stdout } = process
stdout.write('{"progress":10}\\n')
setTimeout(() => { require('node:fs').writeFileSync(output + '/done.txt', 'done') }, 60_000)`
const WRITER = `
const { readFileSync, writeFileSync } = require('node:fs')
const [, , input, output] = process.argv
writeFileSync(output + '/a.txt', 'first'); writeFileSync(output + '/b.json', JSON.stringify({ bytes: readFileSync(input).length }))`

/** A node with the built-in models, and two commands as models. */
async function startNode(t: Test, env: Record<string, string> = {}, names: readonly string[] = []): Promise<Node> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-node-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'sleeper.cjs'), SLEEPER)
  await writeFile(join(folder, 'writer.cjs'), WRITER)
  const builtIn = join(import.meta.dirname, '../../src/inference/models')
  const models = join(folder, 'models')
  await mkdir(models)
  for (const name of names) await symlink(join(builtIn, name), join(models, name))
  for (const name of ['sleeper', 'writer']) {
    await mkdir(join(models, name, '1'), { recursive: true })
    await writeFile(join(models, name, '1/model.json'), JSON.stringify({ name, version: 1, task: 'exec' }))
    await writeFile(join(models, name, '1/model.onnx'), await readFile(join(builtIn, 'identity/1/model.onnx')))
  }
  await writeFile(join(folder, 'tasks.json'), JSON.stringify({ tasks: [
    { name: 'sleeper', argv: [process.execPath, join(folder, 'sleeper.cjs'), '{output}'] },
    { name: 'writer', argv: [process.execPath, join(folder, 'writer.cjs'), '{input}', '{output}'] }
  ] }))
  const app = await startApp(t, {
    ROLES: 'gpu-node', AI_INTERNAL_TOKEN: TOKEN, DEVICE: 'cpu', WORKERS: '1', CANCEL_GRACE_MS: '100', MODELS_DIR: models, EXEC_TASKS_FILE: join(folder, 'tasks.json'), ...env
  })
  const store = openObjectStore(app.config)
  t.teardown(() => store.close())
  const auth = env.AI_INTERNAL_TOKEN === '' ? {} : AUTH
  return {
    ...app,
    process: (parts, headers = {}) => askNode(app.url, '/process-upload', formBody(parts, { ...auth, ...headers })),
    begin: parts => beginOnNode(app.url, '/process-upload', formBody(parts, auth)),
    cancel: jobId => askNode(app.url, '/cancel', jsonBody({ jobId }, auth)),
    result: jobId => fetch(`${app.url}/result/${jobId}`, { headers: auth }),
    async staged() {
      const keys: string[] = []
      for await (const { key } of store.list('sha256/_staging/')) keys.push(key)
      return keys
    }
  }
}

const photo = (width = 40): Promise<Buffer> => sharp({ create: { width, height: 30, channels: 3, background: '#c04020' } }).png().toBuffer()
const last = (lines: readonly Line[]): Line => lines.at(-1)!
/** Of most tests here. */
const node = await startNode(t, { MAX_FILE_SIZE_MB: '1', ADMIN_TOKEN: 'a-token-of-the-admin', SHUTDOWN_GRACE_MS: '200' }, ['upscale-2x', 'color-classes', 'thumbprint', 'identity'])

const job = (jobId: string, model: string, part: FormPart = file('some bytes'), more: readonly FormPart[] = []): FormPart[] => [['jobId', jobId], ['model', model], ...more, part]

t.test('a node runs what it is sent, says how it goes, and has the result', async t => {
  const image = await photo()

  await t.test('an image through a model of images', async t => {
    const { status, lines, headers } = await node.process(job('image', 'upscale-2x', file(image), [['params', '{"format":"webp"}']]))
    t.equal(status, 200)
    t.match(headers.get('content-type'), /^application\/x-ndjson/)
    t.same(lines[0], { status: 'processing', progress: 0, currentFrame: null, totalFrames: null })
    t.ok(lines.slice(0, -1).every(line => line.status === 'processing'), 'one line says how it ended, and it is the last')
    const percents = lines.slice(0, -1).map(({ progress }) => progress)
    t.same(percents, [...new Set(percents)], 'none twice')
    const response = await node.result('image')
    const bytes = Buffer.from(await response.arrayBuffer())
    t.match(last(lines), { status: 'completed', jobId: 'image', progress: 100, totalFrames: 1, fileSize: bytes.length, sha256: digest(bytes), resultDownloadUrl: '/result/image', execution: { provider: 'cpu' } })
    t.match(last(lines).results, [{ name: 'image.webp', contentType: 'image/webp' }])
    t.equal((await sharp(bytes).metadata()).width, 80)
    t.match(Object.fromEntries(response.headers), { 'content-type': 'image/webp', 'content-length': String(bytes.length), 'content-disposition': 'attachment; filename="image.webp"; filename*=UTF-8\'\'image.webp', 'cache-control': 'no-store' })
  })

  await t.test('each other task', async t => {
    for (const [model, part, name] of [
      ['color-classes', file(image), 'classes.json'], ['thumbprint', file(image), 'embedding.json'],
      ['identity', file('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}', 'input', 'x.json', 'application/json'), 'output.json']
    ] as const) {
      const { lines } = await node.process(job(model, model, part))
      t.match(last(lines), { status: 'completed', results: [{ name }] }, model)
      t.ok(JSON.parse(await (await node.result(model)).text()))
    }
  })

  await t.test('a command that writes several files gives them one behind the other', async t => {
    const { lines } = await node.process(job('several', 'writer', file('12345', 'input', 'x', 'text/plain')))
    t.match(last(lines).results, [{ name: 'a.txt', fileSize: 5 }, { name: 'b.json', fileSize: 11 }])
    const response = await node.result('several')
    const text = await response.text()
    t.equal(text, 'first{"bytes":5}')
    t.equal(last(lines).sha256, digest(Buffer.from(text)))
    t.equal(response.headers.get('content-type'), 'application/octet-stream')
  })

  await t.test('without a model the default one; an id can be used again when its job is over', async t => {
    t.match(last((await node.process([['jobId', 'image'], file(image)])).lines), { status: 'completed', results: [{ name: 'image.png' }] })
  })

  await t.test('an input that is none fails with a reason, once', async t => {
    const { status, lines } = await node.process(job('broken', 'upscale-2x', file('no image')))
    t.equal(status, 200)
    t.match(last(lines), { status: 'failed', jobId: 'broken', error: /image/, code: 'invalid_input', retryable: false })
    t.equal(lines.filter(line => line.status !== 'processing').length, 1)
    t.equal((await node.result('broken')).status, 404)
  })

  await t.test('nothing is left of it in the bucket', async t => {
    await t.resolves(eventually(async () => assert.deepEqual(await node.staged(), [])))
  })
})

t.test('what is wrong with a request is said before anything runs', async t => {
  const image = file(await photo())
  for (const [parts, status, code] of [
    [[['model', 'upscale-2x'], image], 400, 'validation_error'],
    [[['jobId', '../x'], image], 400, 'validation_error'],
    [[['jobId', 'a.b'], image], 400, 'validation_error'],
    [[['jobId', 'x'.repeat(129)], image], 400, 'validation_error'],
    [[['jobId', ''], image], 400, 'validation_error'],
    [[['jobId', 'x']], 400, 'invalid_multipart'],
    [[['jobId', 'x'], file('1', 'ref_images')], 400, 'invalid_multipart'],
    [[['jobId', 'x'], image, image], 400, 'invalid_multipart'],
    [[['jobId', 'x'], image, ['model', 'upscale-2x']], 400, 'invalid_multipart'],
    [[['jobId', 'x'], ['jobId', 'y'], image], 400, 'invalid_multipart'],
    [[['jobId', 'x'], ['path', '/etc/passwd'], image], 400, 'invalid_multipart'],
    [[['jobId', 'x'], ['input', 'text'], image], 400, 'invalid_multipart'],
    [[['jobId', 'x'], file('1', 'other')], 400, 'invalid_multipart'],
    [[['jobId', 'x'], ['params', '{'], image], 400, 'validation_error'],
    [[['jobId', 'x'], ['params', '[]'], image], 400, 'validation_error'],
    [[['jobId', 'x'], ['params', '{"__proto__":{}}'], image], 400, 'validation_error'],
    [[['jobId', 'x'], ['params', '{"unknown":1}'], image], 400, 'validation_error'],
    [[['jobId', 'x'], ['model', 'unknown'], image], 404, 'model_not_found'],
    [[['jobId', 'x'], file(Buffer.alloc(1024 * 1024 + 1))], 413, 'file_too_large']
  ] as [FormPart[], number, string][]) {
    const { status: found, error } = await node.process(parts)
    t.match([found, error?.code], [status, code], JSON.stringify(parts.map(part => Array.isArray(part) ? part : part.name)).slice(0, 80))
  }
  for (const [headers, status, code] of [
    [{ 'x-model-version': '9' }, 404, 'model_not_found'], [{ 'x-model-sha256': 'a'.repeat(64) }, 409, 'model_version_exists'], [{ 'x-model-sha256': 'x' }, 400, 'validation_error'], [{ 'x-task': 'embedding' }, 400, 'validation_error']
  ] as const) {
    const { status: found, error } = await node.process(job('x', 'upscale-2x', image), headers as unknown as Record<string, string>)
    t.match([found, error?.code], [status, code], JSON.stringify(headers))
  }
  t.match(await askNode(node.url, '/process-upload', jsonBody({ jobId: 'x' }, AUTH)), { status: 415 })
  t.match(last((await node.process(job('x', 'upscale-2x', image))).lines), { status: 'completed' }, 'the id was never lost')
  await eventually(async () => assert.deepEqual(await node.staged(), []))
})

t.test('an id is taken as long as its job is under way; a cancel ends it', async t => {
  const sleeping = await node.begin(job('one', 'sleeper'))
  t.match(await node.process(job('one', 'writer')), { status: 409, error: { code: 'job_id_in_use' } })
  t.match(await askNode(node.url, '/process', jsonBody({ jobId: 'one', inputPath: 'x', outputPath: 'y', model: 'writer' }, AUTH)), { status: /^40[49]$/ })
  const other = node.process(job('two', 'writer'))
  const cancelled = await fetch(`${node.url}/cancel`, jsonBody({ jobId: 'one' }, AUTH))
  t.same([cancelled.status, await cancelled.json()], [200, { status: 'cancelled', jobId: 'one' }])
  const lines = await sleeping.rest()
  t.match(last(lines), { status: 'cancelled', jobId: 'one', progress: Number, error: String })
  t.match(last((await other).lines), { status: 'completed' }, 'whoever waited for the worker has it now')
  t.equal((await node.result('one')).status, 404)
  t.match(await node.cancel('one'), { status: 404, error: { code: 'job_not_found' } })
  t.match(await node.cancel('unknown'), { status: 404 })
  t.match(await node.cancel('../x'), { status: 400 })
  t.match(last((await node.process(job('one', 'writer'))).lines), { status: 'completed' }, 'and its id is free')
  await eventually(async () => assert.deepEqual(await node.staged(), []))
})

t.test('where the client goes, the job ends', async t => {
  await t.test('while it runs', async t => {
    const { first, hangUp } = await node.begin(job('gone', 'sleeper'))
    t.match(first, { status: 'processing', progress: 0 })
    hangUp()
    await eventually(() => assert.match(JSON.stringify(node.logged('node.job.end')), /client_gone/))
    await eventually(async () => assert.equal((await node.cancel('gone')).status, 404), 10_000)
  })
  await t.test('while its input arrives', async t => {
    const socket = connect(node.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(formHead('/process-upload', 1_000_000, AUTH))
    socket.write(`${partHead({ name: 'jobId' })}half\r\n${partHead({ name: 'model' })}writer\r\n${partHead({ name: 'input', filename: 'x' })}${'x'.repeat(1000)}`)
    await eventually(() => assert.match(JSON.stringify(node.logged('node.job.begin')), /"half"/))
    t.equal((await node.process(job('half', 'writer'))).status, 409)
    socket.destroy()
    await once(socket, 'close')
    await t.resolves(eventually(async () => assert.equal((await node.cancel('half')).status, 404), 10_000))
  })
  await t.test('an upload can be cancelled from elsewhere', async t => {
    const socket = connect(node.port, '127.0.0.1')
    let answer = ''
    socket.on('error', () => {}).on('data', (chunk: Buffer) => { answer += chunk.toString() })
    socket.write(formHead('/process-upload', 1_000_000, AUTH))
    socket.write(`${partHead({ name: 'jobId' })}slow\r\n${partHead({ name: 'model' })}writer\r\n${partHead({ name: 'input', filename: 'x' })}${'x'.repeat(1000)}`)
    await eventually(async () => assert.equal((await node.cancel('slow')).status, 200), 10_000)
    await t.resolves(eventually(() => assert.match(answer, /^HTTP\/1\.1 409 [^]*upload_aborted/)))
    socket.destroy()
  })
  await eventually(async () => assert.deepEqual(await node.staged(), []))
  t.match(last((await node.process(job('after', 'writer'))).lines), { status: 'completed' })
})

t.test('nobody but a node is let in, and that is decided before the body is read', async t => {
  for (const [headers, status] of [
    [{}, 401], [{ authorization: 'Bearer wrong' }, 401], [{ authorization: 'Bearer ' }, 401], [{ authorization: TOKEN }, 401], [{ authorization: `Bearer ${TOKEN}x` }, 401],
    [{ authorization: 'Bearer a-token-of-the-admin' }, 403], [{ cookie: `token=${TOKEN}` }, 401]
  ] as [Record<string, string>, number][]) {
    for (const [method, path] of [['POST', '/process-upload'], ['POST', '/process'], ['POST', '/cancel'], ['GET', '/result/x']] as const) {
      const socket = connect(node.port, '127.0.0.1')
      let answer = ''
      socket.on('error', () => {}).on('data', (chunk: Buffer) => { answer += chunk.toString() })
      const all = { host: '127.0.0.1', ...(method === 'POST' && { 'content-type': 'application/json', 'content-length': '1000000' }), ...headers }
      socket.write(`${method} ${path} HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`)
      await eventually(() => assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `)))
      socket.destroy()
    }
  }
  t.equal((await fetch(`${node.url}/health`)).status, 200, 'health is open')
  t.notMatch(JSON.stringify(node.logs), TOKEN, 'the token is in no line of the log')
})

t.test('without a token it is open, but not to pages', async t => {
  const open = await startNode(t, { AI_INTERNAL_TOKEN: '' })
  t.match(last((await open.process(job('open', 'writer'))).lines), { status: 'completed' })
  t.match(await open.process(job('page', 'writer'), { origin: 'https://evil.example' }), { status: 403 })
  t.match(await open.process(job('page', 'writer'), { 'sec-fetch-site': 'cross-site' }), { status: 403 })
})

t.test('a node without a model says so before it reads a body', async t => {
  const empty = t.testdir({ models: {} })
  const bare = await startNode(t, { MODELS_DIR: join(empty, 'models') })
  t.match(await (await fetch(`${bare.url}/health`)).json(), { status: 'degraded', model_loaded: false })
  t.match(await bare.process(job('x', 'writer')), { status: 503, error: { code: 'model_not_loaded' } })
  t.match(await askNode(bare.url, '/process', jsonBody({ jobId: 'x', inputPath: 'a', outputPath: 'b' }, AUTH)), { status: 503 })
})

t.test('/process reads and writes objects and files of the node, and nothing else', async t => {
  const store = openObjectStore(node.config)
  t.teardown(() => store.close())
  const image = await photo()
  await store.put('media/in.png', image, { size: image.length })
  const inputs = join(node.dataDir, 'node-inputs')
  await writeFile(join(inputs, 'in.png'), image)
  const process = (body: Record<string, unknown>) => askNode(node.url, '/process', jsonBody({ jobId: 'p', model: 'upscale-2x', ...body }, AUTH))
  const byKey = await process({ inputPath: 'media/in.png', outputPath: 'work/out.png' })
  t.match(last(byKey.lines), { status: 'completed', resultDownloadUrl: '/result/p' })
  t.equal((await store.head('work/out.png'))?.size, last(byKey.lines).fileSize)
  const byFile = await process({ inputPath: 'in.png', outputPath: join(node.dataDir, 'node-results/out.png') })
  t.match(last(byFile.lines), { status: 'completed' })
  t.equal((await readFile(join(node.dataDir, 'node-results/out.png'))).length, last(byFile.lines).fileSize)
  t.equal(digest(Buffer.from(await (await node.result('p')).arrayBuffer())), last(byFile.lines).sha256)
  t.match(last((await process({ inputPath: 'in.png', outputPath: 'x', model: 'writer' })).lines), { status: 'failed', error: /2 files/, code: 'invalid_input' })
  await symlink('/etc', join(inputs, 'etc'))
  for (const inputPath of ['../penstock.db', '/etc/passwd', 'etc/passwd', 'media/../in.png', '%2e%2e/x', 'in.png\0', 'sha256\\x']) t.match(await process({ inputPath, outputPath: 'out.png' }), { status: 400, error: { code: 'validation_error' } }, JSON.stringify(inputPath))
  for (const outputPath of ['../out.png', '/tmp/out.png', 'nowhere/out.png', 'media/../x', '%2fetc', 'a\0b']) t.match(await process({ inputPath: 'in.png', outputPath }), { status: 400, error: { code: 'validation_error' } }, JSON.stringify(outputPath))
  for (const inputPath of ['missing.png', 'media/missing.png', 'sha256/x/object']) t.match(await process({ inputPath, outputPath: 'out.png' }), { status: 404, error: { code: 'file_not_found' } }, inputPath)
  t.match(await process({ inputPath: 'in.png', outputPath: 'out.png', jobId: 'a/b' }), { status: 400 })
  for (const id of ['..%2f..%2fpenstock.db', '..', 'a.json', '%00', 'x'.repeat(200)]) t.ok([400, 404].includes((await fetch(`${node.url}/result/${id}`, { headers: AUTH })).status), id)
  t.equal((await node.result('never')).status, 404)
  await eventually(async () => assert.deepEqual(await node.staged(), []))
})

t.test('what is older than its time goes, but for what is under way', async t => {
  t.match(last((await node.process(job('old', 'writer'))).lines), { status: 'completed' })
  const inputs = join(node.dataDir, 'node-inputs')
  const results = join(node.dataDir, 'node-results')
  await mkdir(join(inputs, 'below'))
  for (const name of ['below/old.mp4', 'used.mp4', 'young.mp4']) await writeFile(join(inputs, name), 'x')
  const before = new Date(1000)
  for (const path of [join(inputs, 'below/old.mp4'), join(inputs, 'used.mp4'), join(results, 'old.data'), join(results, 'old.json')]) await utimes(path, 0, 0)
  const store = openObjectStore(node.config)
  const records = openRecordStore(node.config)
  t.teardown(async () => {
    await records.close()
    await store.close()
  })
  const uploads = [randomUUID(), randomUUID(), randomUUID()]
  for (const [at, id] of uploads.entries()) {
    const key = stagingKey(id, 'object')
    const { etag } = await store.put(key, Buffer.from('x'), { size: 1 })
    await records.uploads.create({ id, kind: 'object', stagingKey: key, filename: 'x', size: 1, declaredSha256: null, owner: at === 2 ? { ...NODE_OWNER, subject: 'alice' } : NODE_OWNER })
    await records.uploads.stage(id, { sha256: digest(Buffer.from('x')), etag, size: 1 })
  }
  const context = {
    folders: [inputs, results, join(node.dataDir, 'nowhere')], store, records, log: node.app.server.log as never,
    inUse: (what: { file: string } | { uploadId: string }) => 'file' in what ? what.file.endsWith('used.mp4') : what.uploadId === uploads[1]
  }
  t.equal(await removeExpired(context, before), 3, 'files')
  t.same((await readdir(inputs, { recursive: true })).filter(name => /\.mp4$|below/.test(name)).toSorted(), ['below', 'used.mp4', 'young.mp4'])
  t.equal((await node.result('old')).status, 404)
  await removeExpired(context, new Date(Date.now() + 10_000))
  t.same((await readdir(inputs, { recursive: true })).toSorted(), ['below', 'used.mp4'])
  t.same(await readdir(results), [])
  t.same(await readdir('/etc').then(names => names.length > 0), true, 'what a link leads to stays')
  t.same(await Promise.all(uploads.map(async id => (await records.uploads.get(id))?.status)), ['expired', 'staged', 'staged'])
})

t.test('a node that shuts down lets its jobs say how they ended', async t => {
  const { rest } = await node.begin(job('late', 'sleeper'))
  const stopping = node.app.stop()
  t.match(last(await rest()), { status: 'failed', jobId: 'late', code: 'shutdown', retryable: true })
  await stopping
})
