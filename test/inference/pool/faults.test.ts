/** Workers that die, hang and grow: each costs one run at most, and another takes its place. */
import t from 'tap'
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { eventually } from '../../support/raw-client.ts'
import { isAlive, makePool, startPool } from '../../support/scripted-pool.ts'
import type { Step } from '../../support/scripted-worker.ts'

const deaths: Record<string, Step> = {
  'exits with 0': { exit: 0 }, 'exits with 1': { exit: 1 }, 'is killed': { kill: 'SIGKILL' }, 'aborts': { kill: 'SIGABRT' },
  'has an uncaught error': { throw: 'a bug' }, 'closes its channel': { disconnect: true }
}

for (const [what, step] of Object.entries(deaths)) {
  t.test(`a worker that ${what} loses its run alone`, async t => {
    const { run, pool, restarts } = await startPool(t, { workers: 2 })
    const other = run('other', [{ sleepMs: 500 }])
    await t.rejects(run('1', [step]), { code: 'worker_lost', retryable: true })
    await other
    await run('2', [])
    await eventually(() => assert.equal(pool.free, 2), 20_000)
    t.same(restarts, ['crash'])
  })
}

t.test('a thread with an uncaught error, or one that exits, loses its run alone', async t => {
  const { run, pool } = await startPool(t, { isolation: 'thread' })
  await t.rejects(run('1', [{ throw: 'a bug' }]), { code: 'worker_lost', message: /a bug/ })
  await run('2', [])
  await t.rejects(run('3', [{ exit: 4 }]), { code: 'worker_lost', message: /exit code 4/ })
  await run('4', [])
  t.equal(pool.status()[0]?.id, '1.3')
})

t.test('a process that does not listen is killed when a cancelled run has had its grace', async t => {
  const { run, pool, restarts } = await startPool(t, { cancelGraceMs: 100 })
  const pid = pool.status()[0]!.pid!
  const cancel = new AbortController()
  await t.rejects(run('1', [{ spinMs: 60_000 }], { signal: cancel.signal, onStarted: () => cancel.abort() }), { code: 'cancelled' })
  t.notOk(isAlive(pid), 'it is gone when the answer is there')
  await run('2', [])
  t.same(restarts, ['cancelled'])
})

for (const [what, step] of Object.entries({ 'hangs in a loop': { spinMs: 60_000 }, 'never answers': { never: true } } satisfies Record<string, Step>)) {
  t.test(`a process that ${what} is killed when its time is over`, async t => {
    const { run, pool, restarts } = await startPool(t)
    const pid = pool.status()[0]!.pid!
    await t.rejects(run('1', [step], { timeoutMs: 200 }), { code: 'timeout', retryable: false })
    t.notOk(isAlive(pid))
    await run('2', [])
    t.same(restarts, ['timeout'])
  })
}

t.test('the time of a run is over also while it is being cancelled', async t => {
  const { run } = await startPool(t, { cancelGraceMs: 60_000 })
  const cancel = new AbortController()
  await t.rejects(run('1', [{ never: true }], { timeoutMs: 300, signal: cancel.signal, onStarted: () => cancel.abort() }), { code: 'cancelled' })
})

t.test('a thread is never killed in the middle of a run: whoever asked is answered, the worker is back when it is done', async t => {
  const { run, pool, logged, restarts } = await startPool(t, { isolation: 'thread', cancelGraceMs: 50 })
  await t.rejects(run('1', [{ spinMs: 700 }], { timeoutMs: 100 }), { code: 'timeout' })
  t.match(pool.status(), [{ id: '1.1', state: 'busy', running: '1' }])
  t.equal(pool.free, 0)
  await run('2', [])
  const cancel = new AbortController()
  await t.rejects(run('3', [{ spinMs: 700 }], { signal: cancel.signal, onStarted: () => cancel.abort() }), { code: 'cancelled' })
  await run('4', [])
  t.match(pool.status(), [{ id: '1.1', runs: 4 }])
  t.same(logged('worker.cannot_kill').map(line => line.why), ['timeout', 'cancelled'])
  t.same(restarts, [])
})

t.test('a thread whose time is over is told, so that it can stop by itself', async t => {
  const { run } = await startPool(t, { isolation: 'thread' })
  await t.rejects(run('1', [{ sleepUnlessCancelledMs: 20_000 }], { timeoutMs: 100 }), { code: 'timeout' })
  const startedAt = performance.now()
  await run('2', [])
  t.ok(performance.now() - startedAt < 10_000)
})

t.test('commands that a worker has started go with it', async t => {
  const { run } = await startPool(t)
  let sleeper = 0
  const note = { onProgress: ({ message }: { message: string | null }) => { sleeper = Number(message) } }
  await t.rejects(run('1', [{ spawnSleeper: true }, { kill: 'SIGKILL' }], note), { code: 'worker_lost' })
  t.ok(sleeper > 0)
  await eventually(() => assert.ok(!isAlive(sleeper)))
  await t.rejects(run('2', [{ spawnSleeper: true }, { never: true }], { ...note, timeoutMs: 500 }), { code: 'timeout' })
  await eventually(() => assert.ok(!isAlive(sleeper)))
})

t.test('an idle worker that is killed is replaced', async t => {
  const { run, pool, logged } = await startPool(t)
  const pid = pool.status()[0]!.pid!
  process.kill(pid, 'SIGKILL')
  await eventually(() => assert.ok(pool.status().some(status => status.state === 'idle' && status.pid !== pid)), 20_000)
  await run('1', [])
  t.match(logged('worker.ended'), [{ reason: 'crash', how: 'SIGKILL', was: 'idle' }])
})

t.test('Ctrl-C in a terminal does not reach the workers', async t => {
  const { run, pool } = await startPool(t)
  const pid = pool.status()[0]!.pid!
  t.doesNotThrow(() => process.kill(-pid, 0), 'it leads a process group of its own')
  process.kill(pid, 'SIGTERM')
  await run('1', [])
  t.equal(pool.status()[0]?.pid, pid)
})

t.test('a worker is replaced after its runs', async t => {
  const { run, pool, restarts } = await startPool(t, { maxJobs: 2 })
  const workers: string[] = []
  for (let turn = 1; turn <= 5; turn += 1) workers.push((await run(`${turn}`, [])).execution.worker)
  t.same(workers, ['1.1', '1.1', '1.2', '1.2', '1.3'])
  t.same(restarts, ['max_jobs', 'max_jobs'])
  t.equal(pool.status().length, 1)
})

t.test('a thread is replaced after its runs', async t => {
  const { run, restarts } = await startPool(t, { isolation: 'thread', maxJobs: 1, maxRssBytes: 1 })
  t.same([(await run('1', [])).execution.worker, (await run('2', [])).execution.worker], ['1.1', '1.2'])
  await eventually(() => assert.deepEqual(restarts, ['max_jobs', 'max_jobs']))
})

t.test('a process that has grown is replaced', async t => {
  const { run, pool, restarts } = await startPool(t, { maxRssBytes: 300 * 1024 * 1024 })
  await run('1', [])
  t.ok((pool.status()[0]?.rss ?? 0) > 10 * 1024 * 1024, 'its memory is shown')
  t.same(restarts, [])
  await run('2', [{ leakMib: 300 }])
  t.equal((await run('3', [])).execution.worker, '1.2')
  t.same(restarts, ['max_rss'])
})

t.test('a worn worker that does not stop is killed', async t => {
  const { run, logged } = await startPool(t, { maxJobs: 1, start: { ignoreStop: true } })
  await run('1', [])
  t.equal((await run('2', [])).execution.worker, '1.2')
  t.equal(logged('worker.does_not_stop').length >= 1, true)
})

t.test('a worker that talks nothing but nonsense is ended', async t => {
  const { run, restarts } = await startPool(t)
  await t.rejects(run('1', [{ say: { type: 'what' }, times: 5000 }, { never: true }]), { code: 'worker_lost' })
  await run('2', [])
  t.same(restarts, ['crash'])
})

const le = (length: number): string => Buffer.from(new Uint32Array([length]).buffer).toString('hex')
for (const [what, hex] of [
  ['no serialised value', `${le(8)}deadbeefdeadbeef`], ['a value that breaks off', `${le(4)}ff0f6f22`], ['a length beyond any message', `${le(2 ** 32 - 1)}00`], ['a message of no bytes', le(0)]
] as const) {
  t.test(`bytes on a worker's channel that are ${what} cost one run, and the service lives`, async t => {
    const { run, restarts, logged } = await startPool(t)
    await t.rejects(run('1', [{ progress: 1 }, { write: hex }]), { code: 'worker_lost', retryable: true })
    t.equal((await run('2', [])).execution.worker, '1.2')
    t.same(restarts, ['crash'])
    t.equal(logged('worker.senseless').length, 1)
  })
}

t.test('a model over which workers die is taken for the reason', async t => {
  const { pool, restarts } = await startPool(t)
  await t.rejects(pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: { do: [{ kill: 'SIGSEGV' }] } }), { code: 'invalid_model', retryable: false })
  await eventually(() => assert.deepEqual(restarts, ['crash', 'crash']))
  await pool.checkModel({ key: 'k', sha256: 'a', size: 1, manifest: {} })
})

for (const isolation of ['process', 'thread'] as const) {
  t.test(`a ${isolation} that cannot work says why, and the pool does not start`, async t => {
    const { pool, run } = makePool(t, { isolation, workers: 2, start: { unusable: 'there is no CUDA here' } })
    await t.rejects(pool.start(), { message: 'there is no CUDA here' })
    await t.rejects(pool.start(), { message: 'there is no CUDA here' }, 'it says so every time')
    t.same(pool.status(), [])
    await t.rejects(run('1', []), { code: 'shutdown' })
  })

  t.test(`a ${isolation} that exits before it is ready, or is never ready, does not start`, async t => {
    await t.rejects(makePool(t, { isolation, start: { exit: 7 } }).pool.start(), { message: /exit code 7/ })
    await t.rejects(makePool(t, { isolation, start: { never: true }, startTimeoutMs: 1500 }).pool.start(), { message: /not ready within 1500 ms/ })
  })
}

t.test('a file that is no worker does not start', async t => {
  await t.rejects(makePool(t, { entry: '/nowhere/worker.ts' }).pool.start())
})

t.test('a pool that is closed while it starts leaves nothing', async t => {
  const { pool } = makePool(t, { workers: 2, start: { never: true } })
  const starting = pool.start()
  const closing = pool.close()
  await t.rejects(starting, { code: 'shutdown' })
  await closing
  t.same(pool.status(), [])
})

t.test('workers that die at their start again and again are tried with pauses, and are back when they can', async t => {
  const broken = join(t.testdir(), 'broken')
  const { pool, run, logged, restarts } = await startPool(t, { start: { onlyIfMissing: broken, exit: 9 } })
  await writeFile(broken, '')
  t.ok(existsSync(broken))
  await t.rejects(run('1', [{ exit: 1 }]), { code: 'worker_lost' })
  await t.rejects(run('2', [], { timeoutMs: 100 }), { code: 'busy' }, 'nobody waits for ever')
  await eventually(() => assert.ok(logged('worker.start_postponed').length >= 3), 30_000)
  t.same(logged('worker.start_postponed').slice(0, 3).map(line => line.pauseMs), [250, 500, 1000])
  t.same(restarts.slice(0, 3), ['crash', 'start_failed', 'start_failed'])
  await import('node:fs/promises').then(fs => fs.rm(broken))
  await run('3', [])
  t.equal(pool.free, 1)
})

t.test('workers that die idle and young are tried with pauses', async t => {
  const { logged } = await startPool(t, { start: { exitAfterReady: true } })
  await eventually(() => assert.ok(logged('worker.start_postponed').length >= 2), 30_000)
  t.match(logged('worker.ended')[0], { reason: 'crash', was: 'idle', how: 'exit code 3' })
})

t.test('where the first worker finds a GPU there are only so many', async t => {
  const onGpu = await startPool(t, { workers: 3, workersOnGpu: 1, start: { provider: 'cuda' } })
  t.match(onGpu.pool.status(), [{ provider: 'cuda' }])
  const onCpu = await startPool(t, { workers: 2, workersOnGpu: 1 })
  t.equal(onCpu.pool.status().length, 2)
})
