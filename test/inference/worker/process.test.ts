/** src/worker.ts as a child process and as a thread of a pool, over a store of files. */
import t from 'tap'
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { mkdir, readdir, readFile, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { buffer } from 'node:stream/consumers'
import type { Graph } from '../../../scripts/onnx/model.ts'
import { MODELS } from '../../../scripts/make-models.ts'
import { removeLeftovers } from '../../../src/inference/worker/folders.ts'
import type { HostOrder } from '../../support/pool-host.ts'
import { noisePng, pixels } from '../../support/graphs.ts'
import { eventually } from '../../support/raw-client.ts'
import { isAlive } from '../../support/scripted-pool.ts'
import { startWorkerPools as start } from '../../support/worker-pools.ts'
import { sha256Of, wire } from '../../support/worker.ts'

for (const isolation of ['process', 'thread'] as const) {
  t.test(`isolated as a ${isolation}, a worker reads from the bucket, runs the model, and writes to the bucket`, async t => {
    const { store, input, builtIn, pool: open } = await start(t)
    const { pool, logged } = await open(t, { isolation })
    t.match(pool.status(), [{ state: 'idle', provider: 'cpu', device: String }])
    const picture = await noisePng(40, 30)
    const { results, execution } = await pool.run({ id: '1', task: 'image-to-image', model: await builtIn('identity-image'), params: {}, inputs: [await input(picture)] }, { timeoutMs: 60_000 })
    t.match(execution, { provider: 'cpu', worker: '1.1' })
    t.match(results, [{ name: 'image.png', contentType: 'image/png' }])
    const bytes = await buffer((await store.open(results[0]!.key)).body)
    t.equal(sha256Of(bytes), results[0]!.sha256)
    t.ok((await pixels(bytes)).data.equals((await pixels(picture)).data))
    const identity = await builtIn('identity')
    const tensors = [wire('x', 'FP32', [2], new Float32Array([1, 2]))]
    t.same((await pool.run({ id: '2', task: 'tensor', model: identity, params: {}, inputs: [], tensors }, { timeoutMs: 60_000 })).tensors, [{ ...tensors[0], name: 'y' }])
    t.match(await pool.checkModel({ ...identity }), { inputs: [{ name: 'x' }], outputs: [{ name: 'y' }] })
    t.match(await pool.importModel(join(MODELS, 'edges/1/model.onnx'), []), { staged: { key: /^sha256\/_staging\// }, signature: { inputs: [{ name: 'image', shape: [-1, 3, -1, -1] }] } })
    await t.rejects(pool.run({ id: '3', task: 'image-to-image', model: identity, params: {}, inputs: [await input(Buffer.from('no image'))] }, { timeoutMs: 60_000 }), { code: 'invalid_input' })
    await pool.close()
    t.match(logged('worker.ended'), [{ reason: 'shutdown', how: 'exit code 0' }])
    t.same(logged('worker.does_not_stop'), [])
  })
}

t.test('a provider that is asked for and not there is an error at the start; auto goes on and says so', async t => {
  const { settings, pool: open } = await start(t)
  if ((await readdir('/dev')).some(name => /^(nvidiactl|dri)$/.test(name))) return t.pass('there is a GPU here')
  for (const [device, message] of [['cuda', /^DEVICE=cuda cannot be used here: ONNX Runtime's library for CUDA is not installed$/], ['webgpu', /^DEVICE=webgpu cannot be used here: .*adapter/i]] as const) {
    await t.rejects(open(t, { settings: { ...settings, device } }), { message })
  }
  const { pool, logged } = await open(t, { settings: { ...settings, device: 'auto' } })
  t.match(pool.status(), [{ provider: 'cpu' }])
  t.match(logged('worker.ready'), [{ note: /^no GPU is used \(cuda: .*; webgpu: there is no GPU\)$/ }])
})

/** Minutes of arithmetic in one run of ONNX Runtime, during which its process hears nothing. */
function endless(): Graph {
  const side = 2048
  const steps = Array.from({ length: 2000 }, (_, step) => ({ op: 'MatMul', inputs: [`x${step}`, `x${step}`], outputs: [`x${step + 1}`] }))
  return {
    name: 'endless', doc: '', inputs: [{ name: 'x', type: 'float', shape: [1] }], outputs: [{ name: 'y', type: 'float' }],
    nodes: [{ op: 'Expand', inputs: ['x', 'shape'], outputs: ['x0'] }, ...steps, { op: 'ReduceMean', inputs: ['x2000'], outputs: ['y'], attributes: { keepdims: 0 } }],
    constants: [{ name: 'shape', shape: [2], data: [BigInt(side), BigInt(side)] }]
  }
}

const tensors = [wire('x', 'FP32', [1], new Float32Array([1e-3]))]

t.test('a worker in the middle of a run ends within 5 s when its service is killed', async t => {
  const { options, model } = await start(t)
  const host = fork(join(import.meta.dirname, '../../support/pool-host.ts'), { execArgv: [], serialization: 'advanced' })
  t.teardown(() => host.kill('SIGKILL'))
  const started = new Promise<number[]>(resolve => { host.on('message', resolve as (value: unknown) => void) })
  host.send({ options, request: { id: '1', task: 'tensor', model: await model(endless()), params: {}, inputs: [], tensors } } satisfies HostOrder)
  const [pid] = await started
  await delay(1000) // it is in the run by now
  t.ok(isAlive(pid!))
  host.kill('SIGKILL')
  await eventually(() => assert.ok(!isAlive(pid!)), 5000)
})

t.test('a command ends with its service too, and what it left in its folder goes with the next worker', async t => {
  const script = 'console.log(JSON.stringify({ message: String(process.pid) })); require("fs").writeFileSync(process.argv[1] + "/pid", String(process.pid)); setTimeout(() => {}, 600000)'
  const { options, input, settings, pool: open } = await start(t, { execTasks: { tasks: [{ name: 'm', argv: [process.execPath, '-e', script, '{output}'] }] } })
  const host = fork(join(import.meta.dirname, '../../support/pool-host.ts'), { execArgv: [], serialization: 'advanced' })
  t.teardown(() => host.kill('SIGKILL'))
  const model = { name: 'm', version: '1', sha256: '', key: '', size: 0, task: 'exec', manifest: {} }
  host.send({ options, request: { id: '1', task: 'exec', model, params: {}, inputs: [await input(Buffer.from('x'))] } } satisfies HostOrder)
  const pid = await (async () => {
    for (;;) {
      const [folder] = await readdir(settings.workDir).catch(() => [])
      const text = folder === undefined ? '' : await readFile(join(settings.workDir, folder, 'output/pid'), 'utf8').catch(() => '')
      if (text !== '') return Number(text)
      await delay(20)
    }
  })()
  t.ok(isAlive(pid))
  host.kill('SIGKILL')
  await eventually(() => assert.ok(!isAlive(pid)), 5000)
  t.equal((await readdir(settings.workDir)).length, 1)
  await eventually(async () => {
    const { pool } = await open(t)
    await pool.close()
    assert.deepEqual(await readdir(settings.workDir), [])
  }, 10_000)
})

t.test('a worker that is killed over a run costs that run, and the next one goes on', async t => {
  const { pool: open, model, builtIn } = await start(t)
  const { pool } = await open(t)
  const stop = new AbortController()
  const cancelled = pool.run({ id: '1', task: 'tensor', model: await model(endless()), params: {}, inputs: [], tensors }, { timeoutMs: 60_000, signal: stop.signal, onStarted: () => void setTimeout(() => stop.abort(), 300) })
  await t.rejects(cancelled, { code: 'cancelled' })
  await t.rejects(pool.run({ id: '2', task: 'tensor', model: await model(endless()), params: {}, inputs: [], tensors }, { timeoutMs: 1500 }), { code: /timeout|busy/ })
  t.match(await pool.run({ id: '3', task: 'tensor', model: await builtIn('identity'), params: {}, inputs: [], tensors }, { timeoutMs: 60_000 }), { tensors: [{ name: 'y' }] })
})

t.test('folders of runs whose worker is gone are removed, those of others are not', async t => {
  const { settings: { workDir } } = await start(t)
  const host = hostname().replaceAll(/[^A-Za-z0-9-]/g, '-')
  const names = [`${host}.999999999.abcdef`, `${host}.${process.pid}.abcdef`, 'elsewhere.12.abcdef', 'elsewhere.13.abcdef', 'something', `${host}.x.abcdef`]
  await Promise.all(names.map(name => mkdir(join(workDir, name), { recursive: true })))
  await utimes(join(workDir, 'elsewhere.13.abcdef'), 1, 1)
  await removeLeftovers(workDir)
  t.same((await readdir(workDir)).toSorted(), [names[1], names[2], names[4], names[5]].toSorted())
})
