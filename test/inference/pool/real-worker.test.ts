/** The pool with real workers, real models and a bucket of files. */
import t from 'tap'
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import sharp from 'sharp'
import type { HostOrder } from '../../support/pool-host.ts'
import { BUILT_IN, makeBucket, picture, realRun, startRealPool, WORKER } from '../../support/real-pool.ts'
import { eventually } from '../../support/raw-client.ts'
import { isAlive } from '../../support/scripted-pool.ts'

/** So large that it takes seconds. */
const LARGE = { width: 5000, height: 4000 }

for (const isolation of ['process', 'thread'] as const) {
  t.test(`real workers, each a ${isolation}`, async t => {
    const bucket = await makeBucket(t)
    const { pool } = await startRealPool(t, bucket, { isolation })

    t.test('an image goes through a model: read from the bucket, written to staging', async t => {
      const model = await bucket.model('upscale-2x')
      const input = await bucket.input(await picture(700, 500), 'image/png')
      const told: (number | null)[] = []
      const staging: string[] = []
      const { results, tensors, execution } = await realRun(pool, { id: 'image', model, inputs: [input] }, { onProgress: ({ progress }) => told.push(progress), onStaging: key => staging.push(key) })
      t.same(tensors, [])
      t.match(execution, { provider: 'cpu', worker: '1.1' })
      const [result] = results
      const bytes = await bucket.bytes(result!.key)
      t.match(result!.key, /^sha256\/_staging\//)
      t.same(staging, [result!.key], 'it says where it writes')
      t.same([result!.size, result!.sha256], [bytes.length, createHash('sha256').update(bytes).digest('hex')])
      t.match(await sharp(bytes).metadata(), { width: 1400, height: 1000, format: 'png' })
      t.ok(told.length > 0 && told.every(each => each === null || each < 100), 'nothing is done before it is')
      t.same(await bucket.work(), [], 'its folder is gone')
    })

    t.test('tensors go in and come back', async t => {
      const model = await bucket.model('identity')
      const data = new Uint8Array(new Float32Array([1, 2.5, -3]).buffer)
      const { tensors } = await realRun(pool, { id: 'tensors', model, tensors: [{ name: 'x', datatype: 'FP32', shape: [3], data }] })
      t.same(tensors.map(({ datatype, shape, data: bytes }) => ({ datatype, shape, bytes: [...bytes] })), [{ datatype: 'FP32', shape: [3], bytes: [...data] }])
    })

    t.test('what is wrong is said, and the worker goes on', async t => {
      const model = await bucket.model('upscale-2x')
      const text = await bucket.input(Buffer.from('no image'), 'image/png')
      await t.rejects(realRun(pool, { id: 'wrong', model, inputs: [text] }), { code: 'invalid_input', retryable: false })
      const { key, sha256, size } = await bucket.input(Buffer.from('no model'), 'application/octet-stream')
      await t.rejects(pool.checkModel({ key, sha256, size, manifest: { name: 'x', version: 1, task: 'tensor' } }), { code: 'invalid_model' })
      t.equal(pool.status()[0]?.id, '1.1')
    })

    t.test('models are looked at, and brought in', async t => {
      const model = await bucket.model('edges')
      t.match(await pool.checkModel({ ...model }), { inputs: [{ name: 'image', datatype: 'FP32' }], outputs: [{ name: 'edges' }] })
      const file = join(BUILT_IN, 'thumbprint/1/model.onnx')
      const first = await pool.importModel(file, [])
      t.equal((await bucket.bytes(first.staged!.key)).length, first.size)
      t.equal((await pool.importModel(file, [first.sha256])).staged, null)
    })

    t.test('a cancelled run ends and leaves nothing', async t => {
      const model = await bucket.model('upscale-2x')
      const input = await bucket.input(await picture(2000, 1500), 'image/png')
      const before = await bucket.keys()
      const cancel = new AbortController()
      const running = realRun(pool, { id: 'cancelled', model, inputs: [input] }, { signal: cancel.signal, onProgress: () => cancel.abort() })
      await t.rejects(running, { code: 'cancelled' })
      await eventually(async () => assert.deepEqual([await bucket.work(), pool.free], [[], 1]), 30_000)
      t.same(await bucket.keys(), before)
    })
  })
}

t.test('a worker that is killed in the middle of a run costs that run, and the next worker cleans up after it', async t => {
  const bucket = await makeBucket(t)
  const { pool } = await startRealPool(t, bucket)
  const model = await bucket.model('upscale-2x')
  const input = await bucket.input(await picture(LARGE.width, LARGE.height), 'image/png')
  const pid = pool.status()[0]!.pid!
  let killed = false
  const running = realRun(pool, { id: 'killed', model, inputs: [input] }, { onProgress: ({ stage }) => {
    if (stage !== 'inference' || killed) return
    killed = true
    process.kill(pid, 'SIGKILL')
  } })
  await t.rejects(running, { code: 'worker_lost', retryable: true })
  t.ok(killed)
  await realRun(pool, { id: 'again', model, inputs: [await bucket.input(await picture(100, 100), 'image/png')] })
  t.same(await bucket.work(), [])
})

t.test('a run that is over its time is ended in the middle', async t => {
  const bucket = await makeBucket(t)
  const { pool } = await startRealPool(t, bucket)
  const model = await bucket.model('upscale-2x')
  const input = await bucket.input(await picture(LARGE.width, LARGE.height), 'image/png')
  const pid = pool.status()[0]!.pid!
  await t.rejects(realRun(pool, { id: 'late', model, inputs: [input] }, { timeoutMs: 500 }), { code: 'timeout' })
  t.notOk(isAlive(pid))
})

t.test('workers in the middle of a run end when the process that holds the pool is killed', async t => {
  const bucket = await makeBucket(t)
  const model = await bucket.model('upscale-2x')
  const input = await bucket.input(await picture(LARGE.width, LARGE.height), 'image/png')
  const host = fork(join(import.meta.dirname, '../../support/pool-host.ts'), { execArgv: [], serialization: 'advanced' })
  t.teardown(() => host.kill('SIGKILL'))
  const order: HostOrder = {
    options: { workers: 2, isolation: 'process', entry: WORKER, settings: bucket.settings, maxJobs: 0, maxRssBytes: 0, cancelGraceMs: 100, queueMax: 1, startTimeoutMs: 60_000 },
    request: { id: '1', task: model.task, model, params: {}, inputs: [input] }
  }
  host.send(order)
  const [pids] = await once(host, 'message') as [number[]]
  t.equal(pids.length, 2)
  host.kill('SIGKILL')
  await eventually(() => assert.ok(!pids.some(isAlive)), 5000)
})

t.test('a device that is asked for by name is used, or the start fails', async t => {
  const bucket = await makeBucket(t)
  const started = await startRealPool(t, bucket, { settings: { ...bucket.settings, device: 'cuda' } }).catch((error: unknown) => error as Error)
  if (started instanceof Error) t.match(started.message, /DEVICE=cuda cannot be used here/)
  else t.equal(started.pool.status()[0]?.provider, 'cuda')
})
