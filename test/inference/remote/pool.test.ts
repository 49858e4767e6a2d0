/** The side of a GPU node's client, alone, against a node that behaves as it should and one that does not. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { InferenceFailed, type InferencePool, type RunHooks, type RunRequest, type RunResult } from '../../../src/inference/port.ts'
import { createRemotePool } from '../../../src/inference/remote/pool.ts'
import { canonicalKey } from '../../../src/objects/keys.ts'
import { memoryObjectStore } from '../../../src/objects/memory.ts'
import type { ObjectStore } from '../../../src/objects/port.ts'
import { playedPool } from '../../support/played-pool.ts'
import { eventually } from '../../support/raw-client.ts'
import { json, line, lines, startNode, TOKEN, type Answer, type Script, type ScriptedNode } from '../../support/scripted-node.ts'

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const INPUT = Buffer.from('the bytes of a video, or of something else')
const RESULT = Buffer.from('{"classes":[]}')
const MODEL = { name: 'upscale-2x', version: '1', sha256: 'a'.repeat(64), key: 'k', size: 1, task: 'image-to-image', manifest: {} }
const ID = 'job-1_attempt'

const INTENTS = { record: async () => ({ id: '1' }), setUploadId: async () => {}, touch: async () => {}, remove: async () => {} }

interface World {
  peer: ScriptedNode
  store: ObjectStore
  pool: InferencePool
  keys: string[]
  progress: unknown[]
  run(hooks?: Partial<RunHooks>, more?: Partial<RunRequest>): Promise<RunResult>
  staged(): Promise<string[]>
}

async function world(t: Test, script: Script, { slots = 1, input = INPUT, url }: { slots?: number, input?: Buffer, url?: string } = {}): Promise<World> {
  const peer = await startNode(t, script)
  const store = memoryObjectStore()
  await store.createBucket()
  const key = canonicalKey(digest(INPUT), 'object')
  await store.put(key, input, { size: input.length })
  const pool = createRemotePool({ node: url === undefined ? peer.node : { url, token: TOKEN }, slots, store, intents: INTENTS, local: playedPool(store) })
  t.teardown(() => pool.close())
  const keys: string[] = []
  const progress: unknown[] = []
  return {
    peer, store, pool, keys, progress,
    run: (hooks = {}, more = {}) => pool.run({
      id: 'job-1.attempt', task: 'image-to-image', model: MODEL, params: { tile: 64 },
      inputs: [{ name: 'input', key, sha256: digest(INPUT), size: INPUT.length, contentType: 'image/png' }], ...more
    }, { timeoutMs: 20_000, onStaging: each => void keys.push(each), onProgress: each => void progress.push(each), ...hooks }),
    async staged() {
      const found: string[] = []
      for await (const each of store.list('sha256/_staging/')) found.push(each.key)
      return found
    }
  }
}

const completed = (more: Record<string, unknown> = {}) => line({
  status: 'completed', jobId: ID, progress: 100, totalFrames: null, fileSize: RESULT.length, sha256: digest(RESULT), resultDownloadUrl: `/result/${ID}`, ...more
})
const half = line({ status: 'processing', progress: 50, currentFrame: 5, totalFrames: 10 })
const bytes = (body: Buffer = RESULT, headers: Record<string, string> = {}): Answer => response => void response.writeHead(200, { 'content-length': String(body.length), 'content-type': 'application/json', ...headers }).end(body)
const chunked = (body: Buffer): Answer => response => { response.writeHead(200); response.write(body.subarray(0, 1)); setImmediate(() => response.end(body.subarray(1))) }
const hang: Answer = () => {}
const good: Script = { process: lines(half, completed()), result: bytes() }
const says = (more: Record<string, unknown>): Script => ({ ...good, process: lines(half, line({ jobId: ID, ...more })) })

/** What of a run that fails is the node's fault: it may be tried again, and nothing is left. */
async function failsAs(t: Test, script: Script, message: RegExp, expected: Record<string, unknown> = { code: 'node_failed', retryable: true }): Promise<World> {
  const made = await world(t, script)
  await t.rejects(made.run(), { name: 'InferenceFailed', ...expected, message }, String(message))
  t.same(await made.staged(), [], 'nothing is in staging')
  t.equal(made.pool.free, 1, 'its place is free again')
  return made
}

t.test('a job goes out as a form of known length, its progress comes back, and its result is staged', async t => {
  const { peer, store, pool, run, keys, progress } = await world(t, good)
  const started: unknown[] = []
  const running = run({ onStarted: execution => void started.push(execution) })
  t.equal(pool.free, 0)
  const { results, execution } = await running
  t.same(results, [{ name: 'image.png', filename: 'image.png', key: keys[0], etag: results[0]!.etag, size: RESULT.length, sha256: digest(RESULT), contentType: 'application/json' }])
  t.same(await buffer((await store.open(keys[0]!)).body), RESULT)
  t.same(progress, [{ stage: 'inference', progress: 50, message: '5 of 10 tiles' }])
  t.same([started.length, execution], [1, { provider: 'remote', device: 'played', worker: 'gpu-node' }])
  t.same(peer.asked.map(({ method, path }) => `${method} ${path}`), ['GET /health', 'POST /process-upload', `GET /result/${ID}`])
  t.ok(peer.asked.every(({ headers }) => headers.authorization === `Bearer ${TOKEN}`))
  const { headers, body } = peer.asked[1]!
  t.same([Number(headers['content-length']), headers['transfer-encoding']], [body.length, undefined])
  t.match(headers, { 'x-task': 'image-to-image', 'x-model-version': '1', 'x-model-sha256': MODEL.sha256 })
  const form = await new Response(new Uint8Array(body), { headers: { 'content-type': String(headers['content-type']) } }).formData()
  t.same([form.get('jobId'), form.get('model'), form.get('params')], [ID, 'upscale-2x', '{"tile":64}'])
  t.equal(await (form.get('input') as unknown as Blob).text(), INPUT.toString())
  t.equal(pool.free, 1)
})

t.test('frames become a percentage, which never says that all is done', async t => {
  const { run, progress, peer } = await world(t, {
    process: lines(line({ status: 'processing', currentFrame: 1, totalFrames: 4 }), line({ status: 'processing', progress: 100, currentFrame: 9, totalFrames: 4 }), line({ status: 'processing', progress: 'much' }), line({ status: 'waiting' }), completed()),
    result: bytes()
  })
  await run({}, { task: 'video-to-video' })
  t.same(progress, [
    { stage: 'inference', progress: 25, message: '1 of 4 frames' },
    { stage: 'inference', progress: 99, message: '4 of 4 frames' },
    { stage: 'inference', progress: null, message: null }
  ])
  t.match(peer.of('/process-upload')[0]!.body.toString(), /name="video"; filename="input\.mp4"/)
})

t.test('lines may be split anywhere, and the last needs no end', async t => {
  const text = Buffer.from(line({ status: 'processing', progress: 7, note: 'ü' }) + half.trimEnd() + '\r\n\n' + completed().trimEnd())
  for (const size of [1, 2, 3, 7, 1000]) {
    const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, at) => text.subarray(at * size, (at + 1) * size))
    const { run, progress } = await world(t, { process: lines(...pieces), result: bytes() })
    t.equal((await run()).results.length, 1, `in pieces of ${size}`)
    t.match(progress, [{ progress: 7 }, { progress: 50 }])
  }
})

t.test('what is no line ends the job, and the node is told', async t => {
  for (const [what, message] of [
    ['rubbish\n', /no JSON/], ['[1]\n', /no JSON object/], ['null\n', /no JSON object/], [line({ progress: 1 }), /without a status/], [line({ status: 7 }), /without a status/],
    ['{"status":"comp', /no JSON/], ['', /ended before it said/], [half, /ended before it said/],
    [line({ status: 'completed', jobId: 'another' }), /another job/], [line({ status: 'completed' }), /cannot be read/],
    [completed({ fileSize: -1 }), /cannot be read/], [completed({ fileSize: '5' }), /cannot be read/], [completed({ sha256: 'abc' }), /cannot be read/],
    [completed({ results: [{ name: 'a\nb', filename: 'x', contentType: 'y/z', fileSize: 1, sha256: digest(RESULT) }] }), /cannot be read/],
    [`${'x'.repeat(5 * 1024 * 1024)}`, /without an end/]
  ] as const) {
    const { peer } = await failsAs(t, { ...good, process: lines(what) }, message)
    t.same(peer.of(`/result/${ID}`), [], 'no result is asked for')
    await eventually(() => assert.deepEqual(peer.of('/cancel').map(({ body }) => body.toString()), [JSON.stringify({ jobId: ID })]))
  }
})

t.test('a node that breaks off in the middle', async t => {
  await failsAs(t, { ...good, process: async response => { response.write(half); setImmediate(() => response.destroy()) } }, /broke off in the middle of the job/)
  await failsAs(t, { ...good, process: response => void response.destroy() }, /broke off/)
  await failsAs(t, { ...good, result: response => { response.writeHead(200, { 'content-length': String(RESULT.length) }); response.write(RESULT.subarray(0, 3)); setImmediate(() => response.destroy()) } }, /broke off in the middle of its result/)
})

t.test('health comes first: nothing is sent to a node that is not well', async t => {
  for (const [health, message] of [
    [json(503, {}), /answers 503/], [json(302, {}, { location: '/elsewhere' }), /answers 302/], [json(200, { model_loaded: false }), /no model loaded/], [json(200, { model_loaded: 'yes' }), /no model loaded/],
    [(response => void response.end('well')) as Answer, /does not say how it is/], [(response => void response.end('x'.repeat(200_000))) as Answer, /too long/], [(response => void response.destroy()) as Answer, /broke off/]
  ] as const) {
    const { peer } = await failsAs(t, { ...good, health }, message)
    t.same(peer.asked.map(({ path }) => path), ['/health'])
  }
})

t.test('a node that takes the connection and says nothing has five seconds', async t => {
  const { peer } = await failsAs(t, { ...good, health: hang }, /^the GPU node does not answer$/)
  await t.resolves(eventually(() => assert.equal(peer.connections.open, 0)))
})

t.test('a node that is not there', async t => {
  const gone = await startNode(t)
  const { run } = await world(t, good, { url: gone.url.replace(/\d+$/, '1') })
  await t.rejects(run(), { code: 'node_failed', retryable: true, message: /^the GPU node cannot be reached$/ })
})

t.test('a node that refuses', async t => {
  const no = (status: number, code: string, message = 'because'): Script => ({ ...good, process: json(status, { error: { code, message } }) })
  await failsAs(t, no(401, 'invalid_token'), /does not take our token/)
  await failsAs(t, no(403, 'forbidden'), /does not take our token/)
  await failsAs(t, no(409, 'job_id_in_use'), /has a job with this id/)
  await failsAs(t, no(503, 'model_not_loaded'), /no model loaded/)
  await failsAs(t, no(503, 'service_busy'), /is busy/)
  await failsAs(t, no(500, 'internal_error'), /answered 500/)
  await failsAs(t, no(404, 'not_found'), /takes no jobs/)
  await failsAs(t, { ...good, process: json(307, {}, { location: 'http://127.0.0.1:1/process-upload' }) }, /elsewhere/)
  await failsAs(t, no(400, 'validation_error', 'params.tile must be\nless, see /etc/x'), /^the GPU node refused the job: params\.tile must be less, see …$/, { code: 'invalid_input', retryable: false })
  await failsAs(t, no(404, 'model_not_found'), /does not have this model/, { code: 'invalid_model', retryable: false })
  await failsAs(t, no(409, 'model_version_exists'), /other bytes/, { code: 'invalid_model', retryable: false })
  const { peer } = await failsAs(t, no(413, 'file_too_large'), /larger than the GPU node takes/, { code: 'invalid_input', retryable: false })
  t.same(peer.of('/cancel'), [], 'there is nothing to cancel')
})

t.test('a node that refuses before it has read the body is understood, and the rest is not sent', async t => {
  const { peer } = await failsAs(t, { ...good, readsAll: false, process: json(401, { error: { code: 'invalid_token' } }, { connection: 'close' }) }, /does not take our token/)
  await eventually(() => assert.equal(peer.connections.open, 0))
})

t.test('what a node says of a failure', async t => {
  await failsAs(t, says({ status: 'failed', error: 'the image is\u0000 broken', code: 'invalid_input', retryable: false }), /^the image is broken$/, { code: 'invalid_input', retryable: false })
  await failsAs(t, says({ status: 'failed', error: 'no memory', code: 'resource_exhausted', retryable: true }), /no memory/, { code: 'resource_exhausted', retryable: true })
  await failsAs(t, says({ status: 'failed', error: 'out of memory' }), /^the GPU node failed: out of memory$/, { code: 'node_failed', retryable: false })
  await failsAs(t, says({ status: 'failed' }), /no reason was given/, { code: 'node_failed', retryable: false })
  // nobody but us may say that this job is to be cancelled, or put back for a shutdown of ours
  await failsAs(t, says({ status: 'failed', error: 'it ends', code: 'shutdown' }), /it ends/)
  await failsAs(t, says({ status: 'failed', error: 'it is full', code: 'busy' }), /it is full/)
  const { peer } = await failsAs(t, says({ status: 'cancelled', error: 'no' }), /cancelled the job/)
  t.same(peer.of('/cancel'), [], 'it is over there')
})

t.test('a result is where we would look, or the job has failed: nothing is asked of anybody else', async t => {
  const elsewhere = await startNode(t, { result: bytes() })
  for (const url of [
    `${elsewhere.url}/result/${ID}`, `//127.0.0.1/result/${ID}`, '/result/another', `/result/${ID}/`, `/result/${ID}?path=/etc/passwd`, `/result/${ID}#x`, `/result/../result/${ID}x`, `/RESULT/${ID}`,
    '/result/job%2d1_attempt', 'file:///etc/passwd', `http://user@127.0.0.1/result/${ID}`, '', 'javascript:1', `\\\\host\\result\\${ID}`, `/result/${ID}\r\nX: y`
  ]) {
    const { peer } = await failsAs(t, { ...good, process: lines(completed({ resultDownloadUrl: url })) }, /another place for the result/)
    t.same(peer.of(`/result/${ID}`), [], url)
  }
  t.same(elsewhere.asked, [])
})

t.test('the whole address of the result is taken too', async t => {
  let url = ''
  const { run, peer } = await world(t, { ...good, process: (response, ...rest) => lines(completed({ resultDownloadUrl: `${url}/result/${ID}` }))(response, ...rest) })
  url = peer.url
  t.equal((await run()).results.length, 1)
})

t.test('a result that is not what was said is no result', async t => {
  await failsAs(t, { ...good, result: bytes(Buffer.concat([RESULT, RESULT])) }, /another length/)
  await failsAs(t, { ...good, result: bytes(RESULT.subarray(1)) }, /another length/)
  await failsAs(t, { ...good, result: bytes(Buffer.alloc(RESULT.length)) }, /other bytes/)
  // without a length of its own
  await failsAs(t, { ...good, result: chunked(Buffer.concat([RESULT, RESULT])) }, /another length/)
  await failsAs(t, { ...good, result: chunked(RESULT.subarray(1)) }, /another length/)
  await failsAs(t, { ...good, result: chunked(Buffer.alloc(RESULT.length)) }, /other bytes/)
  await failsAs(t, { process: lines(completed({ fileSize: undefined })), result: chunked(Buffer.alloc(RESULT.length)) }, /other bytes/)
  await failsAs(t, { ...good, result: json(302, {}, { location: `/result/${ID}` }) }, /elsewhere/)
  await failsAs(t, { ...good, result: json(404, {}) }, /does not have the result/)
  await failsAs(t, { ...good, result: bytes(RESULT, { 'content-encoding': 'gzip' }) }, /compressed/)
  const { peer } = await failsAs(t, { process: lines(completed({ fileSize: 4 * 1024 ** 4 })), result: bytes() }, /cannot be read/)
  t.same(peer.of(`/result/${ID}`), [])
  await failsAs(t, { process: lines(completed({ fileSize: undefined })), result: response => void response.writeHead(200, { 'content-length': String(6 * 1024 ** 3) }).flushHeaders() }, /more than the store takes/, { code: 'invalid_input' })
})

t.test('a node that says neither length nor hash is taken at its word, and what came is hashed', async t => {
  const { run } = await world(t, { process: lines(line({ status: 'completed', resultDownloadUrl: `/result/${ID}`, sha256: null })), result: response => void response.writeHead(200, { 'content-type': 'image/webp' }).end(RESULT) })
  t.match((await run()).results, [{ size: RESULT.length, sha256: digest(RESULT), contentType: 'image/webp' }])
})

t.test('several files come as one result, each looked at for itself', async t => {
  const parts = [Buffer.from('first'), Buffer.alloc(0), Buffer.alloc(300_000, 'x')]
  const whole = Buffer.concat(parts)
  const results = parts.map((part, at) => ({ name: `f${at}`, filename: `f${at}.txt`, contentType: 'text/plain', fileSize: part.length, sha256: digest(part) }))
  const said = (more: Record<string, unknown> = {}) => completed({ fileSize: whole.length, sha256: digest(whole), results, ...more })
  const { run, store } = await world(t, { process: lines(said()), result: bytes(whole) })
  const { results: staged } = await run()
  t.same(staged.map(({ name, filename, size, sha256 }) => [name, filename, size, sha256]), results.map(({ name, filename, fileSize, sha256 }) => [name, filename, fileSize, sha256]))
  for (const [at, { key }] of staged.entries()) t.same(await buffer((await store.open(key)).body), parts[at])
  for (const [more, message] of [[{ sha256: digest(RESULT) }, /other bytes/], [{ results: results.slice(1) }, /not as long/], [{ results: results.with(0, { ...results[0]!, sha256: digest(RESULT) }) }, /other bytes/]] as const) {
    const bad = await world(t, { process: lines(said(more)), result: bytes(whole) })
    await t.rejects(bad.run(), { code: 'node_failed', message })
    // whoever asked removes what was staged before, as it does of every run
    t.ok((await bad.staged()).every(key => bad.keys.includes(key)))
  }
})

t.test('an input that is not what its digest says is not sent to its end', async t => {
  for (const input of [Buffer.concat([INPUT, INPUT]), Buffer.alloc(INPUT.length)]) {
    const { run, peer } = await world(t, good, { input })
    await t.rejects(run(), { code: 'storage_failed', retryable: true })
    t.same(peer.of('/process-upload'), [], 'it was never whole')
  }
})

t.test('a cancel ends the request and tells the node; that it knows of no such job is fine', async t => {
  for (const phase of ['health', 'process', 'lines', 'result'] as const) {
    const begun = Promise.withResolvers<void>()
    const stall: Answer = (...args) => { begun.resolve(); return hang(...args) }
    const script: Script = phase === 'lines'
      ? { ...good, process: response => { response.writeHead(200); response.write(half); begun.resolve() }, cancel: json(404, {}) }
      : { ...good, [phase]: stall, cancel: json(404, {}) }
    const { run, peer, pool } = await world(t, script)
    const stop = new AbortController()
    const running = run({ signal: stop.signal })
    await begun.promise
    stop.abort()
    await t.rejects(running, { code: 'cancelled' }, phase)
    await eventually(() => assert.equal(peer.connections.open, 0, `${phase}: its connection is closed`))
    if (phase === 'process' || phase === 'lines') await eventually(() => assert.equal(peer.of('/cancel').length, 1, phase))
    t.equal(pool.free, 1)
  }
  const { run, peer } = await world(t, good)
  await t.rejects(run({ signal: AbortSignal.abort() }), { code: 'cancelled' })
  t.same(peer.asked, [])
})

t.test('a node that takes its time has as long as the job, and no longer', async t => {
  const { run, peer } = await world(t, { ...good, process: response => { response.writeHead(200); response.write(half) } })
  await t.rejects(run({ timeoutMs: 200 }), { code: 'timeout', retryable: false })
  await eventually(() => assert.equal(peer.of('/cancel').length, 1))
})

t.test('no more jobs than places; a place that is free is told of', async t => {
  const gates: (() => void)[] = []
  const { run, pool } = await world(t, { ...good, process: (response, ...rest) => { gates.push(() => void lines(completed())(response, ...rest)) } }, { slots: 2 })
  let told = 0
  pool.onFree(() => { told += 1 })
  const first = run()
  const second = run()
  t.equal(pool.free, 0)
  await t.rejects(run(), { code: 'busy' })
  t.same(pool.status().slice(0, 2).map(({ id, state }) => [id, state]), [['gpu-node.1', 'busy'], ['gpu-node.2', 'busy']])
  await eventually(() => assert.equal(gates.length, 2))
  for (const open of gates) open()
  await Promise.all([first, second])
  t.same([pool.free, told], [2, 2])
})

t.test('closing ends what runs, and takes nothing more', async t => {
  const begun = Promise.withResolvers<void>()
  const { run, pool, peer } = await world(t, { ...good, process: () => begun.resolve() })
  const running = run()
  running.catch(() => {})
  await begun.promise
  await pool.close()
  await t.rejects(running, { code: 'shutdown' })
  await t.rejects(run(), { code: 'shutdown' })
  t.equal(pool.free, 0)
  t.equal(peer.of('/cancel').length, 1, 'the node was told before it closed')
})

t.test('what is small and waited for is not sent away', async t => {
  const store = memoryObjectStore()
  await store.createBucket()
  const local = playedPool(store)
  const peer = await startNode(t)
  const pool = createRemotePool({ node: peer.node, slots: 1, store, intents: INTENTS, local })
  t.teardown(() => pool.close())
  local.play(async run => run.fail(new InferenceFailed('invalid_input', 'here')))
  await t.rejects(pool.run({ id: '1', task: 'tensor', model: MODEL, params: {}, inputs: [], tensors: [] }, { timeoutMs: 1000 }), { message: 'here' })
  await t.rejects(pool.checkModel({ key: 'k', sha256: '', size: 1, manifest: {} }), { message: 'no models are checked here' })
  await t.rejects(pool.importModel('f', []), { message: 'no models are brought in here' })
  t.same(peer.asked, [])
})
