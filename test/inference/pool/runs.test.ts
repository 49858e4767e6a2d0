/** Runs on scripted workers, as processes and as threads. */
import t from 'tap'
import { getEventListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import assert from 'node:assert/strict'
import type { InferenceFailed } from '../../../src/inference/port.ts'
import { eventually } from '../../support/raw-client.ts'
import { MODEL, startPool } from '../../support/scripted-pool.ts'

const model = (digit: string) => ({ model: { ...MODEL, name: digit, sha256: digit.repeat(64) } })

for (const isolation of ['process', 'thread'] as const) {
  t.test(`runs on workers that are a ${isolation} each`, async t => {
    t.test('a run begins, says what it has done, and answers', async t => {
      const { run, pool } = await startPool(t, { isolation })
      const heard: unknown[] = []
      const tensors = [{ name: 'x', datatype: 'FP32' as const, shape: [2], data: new Uint8Array([0, 0, 128, 63, 0, 0, 0, 64]) }]
      const result = await run('r1', [{ progress: 10 }, { progress: 55.5 }, { answerTensors: true }], {
        onStarted: execution => heard.push(['started', execution.worker]),
        onProgress: progress => heard.push(progress)
      }, { tensors })
      t.same(heard, [['started', '1.1'], { stage: 'steps', progress: 10, message: null }, { stage: 'steps', progress: 55.5, message: null }])
      t.same(result.tensors.map(tensor => ({ ...tensor, data: [...tensor.data] })), tensors.map(tensor => ({ ...tensor, data: [...tensor.data] })))
      t.match(result.execution, { provider: 'cpu', worker: '1.1' })
      t.match(pool.status(), [{ id: '1.1', state: 'idle', provider: 'cpu', running: null, runs: 1 }])
      t.equal(pool.status()[0]?.pid === null, isolation === 'thread')
    })

    t.test('where it writes is told before it is there', async t => {
      const { run } = await startPool(t, { isolation })
      const keys: string[] = []
      await t.rejects(run('r1', [{ say: { type: 'staging', id: 'r1', key: 'a' } }, { say: { type: 'staging', id: 'r1', key: 1 } }, { fail: 'worker_lost' }], { onStaging: key => keys.push(key) }), { code: 'worker_lost' })
      t.same(keys, ['a'])
    })

    t.test('as many run at once as there are workers, the others wait in the order they came', async t => {
      const { run, pool } = await startPool(t, { isolation, workers: 2 })
      t.equal(pool.free, 2)
      const begun: string[] = []
      const runs = ['a', 'b', 'c', 'd'].map(id => run(id, [{ sleepMs: id === 'a' ? 600 : 150 }], { onStarted: () => begun.push(id) }))
      t.equal(pool.free, 0)
      t.same(pool.status().map(status => [status.state, status.running]), [['busy', 'a'], ['busy', 'b']])
      await Promise.all(runs)
      t.same([begun.slice(0, 2).toSorted(), ...begun.slice(2)], [['a', 'b'], 'c', 'd'])
      t.equal(pool.free, 2)
    })

    t.test('while every worker is at a job, what somebody waits for gets a worker of its own for a while', async t => {
      const { run, pool, logged } = await startPool(t, { isolation, spareAfterMs: 20, spareIdleMs: 300 })
      const cancel = new AbortController()
      const long = run('long', [{ sleepUnlessCancelledMs: 60_000 }], { signal: cancel.signal })
      const tensors = [{ name: 'x', datatype: 'UINT8' as const, shape: [1], data: new Uint8Array([7]) }]
      const answers = await Promise.all(['1', '2', '3'].map(id => run(id, [{ answerTensors: true }], {}, { tensors })))
      t.same(answers.map(({ execution, tensors: [answer] }) => [execution.worker, answer?.data[0]]), [['0.1', 7], ['0.1', 7], ['0.1', 7]])
      t.match(await pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: {} }), { inputs: [{ name: 'x' }] })
      t.equal(pool.free, 0, 'it is for no job')
      let begun = false
      const next = run('next', [], { onStarted: () => { begun = true } })
      await run('4', [{ sleepMs: 50 }], {}, { tensors })
      t.equal(begun, false)
      await eventually(() => assert.equal(pool.status().length, 1))
      cancel.abort()
      await t.rejects(long, { code: 'cancelled' })
      t.match((await next).execution, { worker: '1.1' })
      t.equal(logged('worker.spare_started').length, 1)
    })

    t.test('what is brief and waits for what is brief gets none', async t => {
      const { run, logged } = await startPool(t, { isolation, spareAfterMs: 10 })
      const tensors = [{ name: 'x', datatype: 'UINT8' as const, shape: [1], data: new Uint8Array([7]) }]
      await Promise.all(['1', '2', '3'].map(id => run(id, [{ sleepMs: 100 }], {}, { tensors })))
      t.equal(logged('worker.spare_started').length, 0)
    })

    t.test('more than may wait are refused', async t => {
      const { run } = await startPool(t, { isolation, queueMax: 1 })
      const first = run('1', [{ sleepMs: 200 }])
      const second = run('2', [])
      await t.rejects(run('3', []), { code: 'busy', retryable: false })
      await Promise.all([first, second])
    })

    t.test('who waits too long is refused, and who is cancelled leaves the line', async t => {
      const { run, pool } = await startPool(t, { isolation })
      const first = run('1', [{ sleepMs: 300 }])
      await t.rejects(run('2', [], { timeoutMs: 20 }), { code: 'busy' })
      const cancel = new AbortController()
      const third = run('3', [], { signal: cancel.signal })
      cancel.abort()
      await t.rejects(third, { code: 'cancelled' })
      await t.rejects(run('4', [], { signal: AbortSignal.abort() }), { code: 'cancelled' })
      await first
      t.equal(pool.free, 1)
      t.equal(pool.status()[0]?.runs, 1)
    })

    t.test('whoever asked hears of every worker that becomes free, until they have enough', async t => {
      const { run, pool } = await startPool(t, { isolation })
      let times = 0
      const stop = pool.onFree(() => { times += 1 })
      pool.onFree(() => { throw new Error('a listener that fails hurts nobody') })
      await Promise.all([run('1', []), run('2', [])])
      t.equal(times, 1, 'one that goes on with the line is not free')
      stop()
      await run('3', [])
      t.equal(times, 1)
    })

    t.test('what the worker says of a failure reaches whoever asked', async t => {
      const { run } = await startPool(t, { isolation })
      await t.rejects(run('1', [{ fail: 'invalid_input' }]), { code: 'invalid_input', message: 'failed as invalid_input', retryable: false })
      await t.rejects(run('2', [{ fail: 'storage_failed', retryable: true }]), { code: 'storage_failed', retryable: true, cause: 'what was behind it' })
      await t.rejects(run('3', [{ fail: 'cancelled' }]), { code: 'internal_error' }, 'a run that nobody cancelled was not cancelled')
      await run('4', [])
    })

    t.test('a worker that listens ends a cancelled run by itself and goes on', async t => {
      const { run, pool, restarts } = await startPool(t, { isolation, cancelGraceMs: 20_000 })
      const cancel = new AbortController()
      await t.rejects(run('1', [{ sleepUnlessCancelledMs: 60_000 }], { signal: cancel.signal, onStarted: () => cancel.abort() }), { code: 'cancelled' })
      await run('2', [])
      t.same(restarts, [])
      t.equal(pool.status()[0]?.id, '1.1')
    })

    t.test('a run that was done before the cancel arrived is done', async t => {
      const { run } = await startPool(t, { isolation, cancelGraceMs: 20_000 })
      const cancel = new AbortController()
      const result = await run('1', [{ spinMs: 100 }], { signal: cancel.signal, onStarted: () => cancel.abort() })
      t.same(result.results, [])
    })

    t.test('no listener stays on a signal, however a run ends', async t => {
      const { run } = await startPool(t, { isolation })
      const { signal } = new AbortController()
      await run('1', [], { signal })
      await t.rejects(run('2', [{ fail: 'invalid_input' }], { signal }))
      const third = run('3', [{ sleepMs: 100 }], { signal })
      await t.rejects(run('4', [], { signal, timeoutMs: 10 }), { code: 'busy' })
      await third
      if (isolation === 'process') await t.rejects(run('5', [{ exit: 1 }], { signal }))
      if (isolation === 'process') await t.rejects(run('6', [{ never: true }], { signal, timeoutMs: 50 }))
      t.same(getEventListeners(signal, 'abort'), [])
    })

    t.test('rubbish, and messages of runs that are not under way, change nothing', async t => {
      const { run, logged, pool } = await startPool(t, { isolation })
      const rubbish: unknown[] = [null, 1, 'done', [], {}, { type: 'done' }, { type: '__proto__' }, { type: 'constructor' }, { type: 'ready', execution: {}, note: null },
        { type: 'ready', execution: { provider: 'cpu', device: '', worker: '' }, note: null }, { type: 'unusable', message: 'now' },
        { type: 'done', id: '1', results: 'many', tensors: [], signature: null, sha256: null, size: null, rss: 0 },
        { type: 'done', id: '1', results: [{}], tensors: [], signature: null, sha256: null, size: null, rss: 0 },
        { type: 'done', id: '2', results: [], tensors: [], signature: null, sha256: null, size: null, rss: 0 },
        { type: 'failed', id: '1', code: 'no such code', message: '', retryable: true, rss: 0 },
        { type: 'failed', id: 'other', code: 'internal_error', message: '', retryable: true, rss: 0 },
        { type: 'progress', id: '1', stage: 'x', progress: Number.NaN, message: null }, { type: 'progress', id: '1', stage: 'x', progress: 101, message: null }]
      const heard: unknown[] = []
      const cancel = new AbortController()
      const { results } = await run('1', [...rubbish.map(say => ({ say })), { progress: 1 }], { signal: cancel.signal, onProgress: each => heard.push(each.progress) })
      t.same(results, [])
      t.same(heard, [1])
      t.equal(logged('worker.stray_message').length, 1, 'it is logged once a worker')
      await run('2', [])
      t.equal(pool.status()[0]?.id, '1.1')
    })

    t.test('a hook that throws does not stop the run', async t => {
      const { run, logged } = await startPool(t, { isolation })
      await run('1', [{ progress: 1 }], { onStarted: () => { throw new Error('hook') }, onProgress: () => { throw new Error('hook') } })
      t.equal(logged('worker.hook_failed').length, 2)
    })

    t.test('params that cannot be sent fail their run alone', async t => {
      const { run, pool } = await startPool(t, { isolation })
      await t.rejects(run('1', [], {}, { params: { do: [], way: () => {} } }), { code: 'internal_error' })
      await run('2', [])
      t.equal(pool.free, 1)
    })

    t.test('what a worker writes is in the log, line by line, and lines without end are cut', async t => {
      const { run, logged } = await startPool(t, { isolation })
      await run('1', [{ print: 'one\ntwo\n' }, { print: 'x'.repeat(10_000) }, { sleepMs: 50 }])
      await eventually(() => {
        const lines = logged('worker.output').map(entry => String(entry.line))
        assert.deepEqual(lines.slice(0, 2), ['one', 'two'])
        assert.ok(lines.length > 2)
      })
      t.ok(logged('worker.output').every(entry => String(entry.line).length <= 4096))
    })

    t.test('a worker gets the environment that it is given and nothing else', async t => {
      process.env.A_SECRET = 'penstock-secret'
      t.teardown(() => { delete process.env.A_SECRET })
      const { run } = await startPool(t, { isolation, env: { PATH: '/bin', GIVEN: 'yes' } })
      const [tensor] = (await run('1', [{ answerEnvironment: true }])).tensors
      const seen = JSON.parse(Buffer.from(tensor!.data).toString()) as { env: Record<string, string>, argv: string[], execArgv: string[] }
      // the test runner adds its own to every process that is started
      t.same(Object.keys(seen.env).filter(name => !/^(NODE_|_TAPJS)/.test(name)).toSorted(), ['GIVEN', ...isolation === 'process' ? ['MALLOC_ARENA_MAX'] : [], 'PATH'])
      t.notMatch(JSON.stringify(seen), /penstock-secret/)
      t.same(seen.execArgv, isolation === 'process' ? ['--heap-growing-percent=400'] : [])
      t.same(seen.argv, [])
    })

    t.test('it prefers the worker that used the model last', async t => {
      const { run } = await startPool(t, { isolation, workers: 2 })
      const [a, b] = await Promise.all([run('1', [{ sleepMs: 50 }], {}, model('a')), run('2', [{ sleepMs: 50 }], {}, model('b'))])
      for (let turn = 0; turn < 3; turn += 1) {
        t.equal((await run(`b${turn}`, [], {}, model('b'))).execution.worker, b.execution.worker)
        t.equal((await run(`a${turn}`, [], {}, model('a'))).execution.worker, a.execution.worker)
      }
    })

    t.test('models are checked and imported in a worker', async t => {
      const { pool } = await startPool(t, { isolation })
      t.match(await pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: {} }), { inputs: [{ name: 'x', shape: [-1, 3] }], outputs: [{ name: 'y' }] })
      await t.rejects(pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: { do: [{ fail: 'invalid_model' }] } }), { code: 'invalid_model' })
      const cancel = new AbortController()
      const checking = pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: { do: [{ sleepUnlessCancelledMs: 60_000 }] } }, cancel.signal)
      cancel.abort()
      await t.rejects(checking, { code: 'cancelled' })
      t.match(await pool.importModel('/f', []), { sha256: 'a'.repeat(64), size: 4, staged: null, signature: { inputs: [{ name: 'x' }] } })
    })

    t.test('a closed pool has answered everyone and takes nothing more', async t => {
      const { run, pool } = await startPool(t, { isolation, workers: 2 })
      const runs = [run('1', [{ spinMs: 400 }]), run('2', [{ sleepMs: 300 }]), run('3', [])].map(each => each.catch((error: unknown) => (error as InferenceFailed).code))
      await delay(100)
      const closing = pool.close()
      t.same(await Promise.all(runs), ['shutdown', 'shutdown', 'shutdown'])
      await Promise.all([closing, pool.close()])
      t.same(pool.status(), [])
      t.equal(pool.free, 0)
      await t.rejects(run('4', []), { code: 'shutdown' })
      await t.rejects(pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: {} }), { code: 'shutdown' })
    })
  })
}
