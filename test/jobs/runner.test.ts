import assert from 'node:assert/strict'
import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { InferenceFailed } from '../../src/inference/port.ts'
import { ALICE as alice, jobWorld, TENSORS } from '../support/job-world.ts'
import { eventually } from '../support/raw-client.ts'

t.test('a job runs, tells of it, and its results can be read', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  t.match(run.request, { task: 'tensor', model: { name: 'identity', version: '1' }, inputs: [{ name: 'input', contentType: 'application/json' }] })
  run.hooks.onProgress?.({ stage: 'inference', progress: 40, message: 'two of five' })
  await world.when(id, job => job.progress === 40)
  await run.finish('{"outputs":[]}')
  const job = await world.ended(id)
  t.match(job, { status: 'completed', progress: 100, attempt: 1, execution: { provider: 'cpu', cached: false }, failure: null })
  t.same(Object.keys(job.stageTimings), ['ingest', 'inference', 'persist'])
  t.ok(Object.values(job.stageTimings).every(({ startedAt, finishedAt }) => finishedAt !== null && finishedAt >= startedAt))
  t.equal(await world.resultText(job), '{"outputs":[]}')
  const events = await world.events(id)
  t.same(events.map(({ event }) => event), ['generation_started', 'generation_progress', 'generation_progress', 'generation_complete'])
  t.match(events[1]!.data, { stage: 'inference', progress: 40, message: 'two of five' })
  await eventually(async () => assert.deepEqual(await world.keys('sha256/_staging/'), []))
})

t.test('jobs wait in the records until a worker is free, and the important one goes first', async t => {
  const world = await jobWorld(t, { workers: 2 })
  const low = await world.create({ cache: false })
  const high = await world.create({ cache: false, priority: 5 })
  const first = await world.create({ cache: false, priority: 10 })
  world.run()
  const runs = [await world.pool.next(), await world.pool.next()]
  t.same(runs.map(({ request }) => request.id.split('.')[0]), [first.id, high.id])
  t.match(await world.records.jobs.get(low.id), { status: 'queued', attempt: 0 })
  await runs[0]!.finish('1')
  t.equal((await world.pool.next()).request.id.split('.')[0], low.id)
})

t.test('progress is coalesced, is never 100 before the end, and nothing is written behind the end', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  const began = (await world.when(id, job => job.stage === 'inference')).lastSeq
  for (let progress = 1; progress <= 100; progress++) {
    run.hooks.onProgress?.({ stage: 'inference', progress, message: null })
    await delay(5)
  }
  await world.when(id, job => job.progress === 99)
  const before = (await world.records.jobs.get(id))!.lastSeq
  t.ok(before - began <= 6, `${before - began} notes of a hundred in half a second and a bit`)
  run.hooks.onProgress?.({ stage: 'inference', progress: 50, message: 'late' })
  await run.finish('1')
  const { lastSeq } = await world.ended(id)
  run.hooks.onProgress?.({ stage: 'inference', progress: 60, message: 'later' })
  await delay(600)
  const events = await world.events(id)
  t.equal(events.at(-1)!.event, 'generation_complete')
  t.equal(events.at(-1)!.seq, lastSeq)
})

t.test('an error that another attempt may mend is tried again, as often as it may be', async t => {
  const world = await jobWorld(t, { env: { JOB_MAX_ATTEMPTS: '2' } })
  world.run()
  const { id } = await world.create()
  const first = await world.pool.next()
  first.fail(new InferenceFailed('worker_lost', 'the worker ended'))
  await world.when(id, job => job.status === 'queued' && job.attempt === 1)
  const second = await world.pool.next()
  t.match(await world.records.jobs.get(id), { status: 'processing', attempt: 2 })
  second.fail(new InferenceFailed('worker_lost', 'the worker ended again'))
  t.match(await world.ended(id), { status: 'failed', attempt: 2, failure: { code: 'worker_lost', message: 'the worker ended again' } })
  t.equal((await world.events(id)).filter(({ event }) => event === 'generation_failed').length, 1)
  t.equal(world.pool.begun, 2)
})

t.test('errors of the input or of the time are final at once, and say why; inner ones do not', async t => {
  const world = await jobWorld(t)
  world.run()
  for (const [error, failure] of [
    [new InferenceFailed('invalid_input', 'this is no image'), { code: 'invalid_input', message: 'this is no image' }],
    [new InferenceFailed('timeout', 'it took longer than 600000 ms'), { code: 'timeout', message: 'it took longer than 600000 ms' }],
    [new InferenceFailed('internal_error', 'ENOENT /secret/path'), { code: 'internal_error', message: 'something went wrong here' }]
  ] as const) {
    const { id } = await world.create()
    const run = await world.pool.next()
    run.fail(error)
    t.match(await world.ended(id), { status: 'failed', attempt: 1, failure })
  }
  t.match(world.logged('jobs.attempt.failed').at(-1), { code: 'internal_error', err: { message: 'ENOENT /secret/path' } })
})

t.test('a pool without a free worker after all gives the job back without using up the attempt', async t => {
  const world = await jobWorld(t)
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  run.fail(new InferenceFailed('busy', 'all workers are busy'))
  const again = await world.pool.next()
  t.match(await world.records.jobs.get(id), { status: 'processing', attempt: 1 })
  await again.finish('1')
  t.match(await world.ended(id), { status: 'completed', attempt: 1 })
})

t.test('cancel: one that waits at once; one that runs when its worker has let go, and its results go', async t => {
  const world = await jobWorld(t)
  world.run()
  const running = await world.create()
  const waiting = await world.create({ cache: false })
  const run = await world.pool.next()
  const staged = await run.stage('partial')
  t.match(await world.service.cancel(alice, waiting.id), { status: 'cancelled' })
  t.match(await world.service.cancel(alice, running.id), { status: 'processing', cancelRequested: true })
  t.match(await world.ended(running.id), { status: 'cancelled', results: [], failure: null })
  await world.store.delete(staged.key) // a worker that is killed cannot: the sweeper does
  const events = await world.events(running.id)
  t.equal(events.filter(({ event }) => event === 'generation_cancelled').length, 1)
  t.match(await world.service.cancel(alice, running.id), { status: 'cancelled' }, 'once more changes nothing')
  t.equal((await world.events(running.id)).length, events.length)
})

t.test('a run that was over before it heard of the cancel: cancelled, and its results are deleted', async t => {
  const world = await jobWorld(t)
  world.pool.obeys = false
  world.run()
  const { id } = await world.create()
  const run = await world.pool.next()
  const staged = await run.stage('too late')
  await world.service.cancel(alice, id)
  await eventually(() => assert.ok(run.hooks.signal?.aborted))
  run.done([staged])
  t.match(await world.ended(id), { status: 'cancelled', results: [] })
  await eventually(async () => assert.deepEqual(await world.keys('sha256/_staging/'), []))
})

t.test('cancel racing completion: one of the two, one terminal event, nothing left in staging', async t => {
  const world = await jobWorld(t)
  world.run()
  const seen = new Set<string>()
  for (let round = 0; round < 30; round++) {
    const { id } = await world.create({ cache: false })
    const run = await world.pool.next()
    const results = [await run.stage(`round ${round}`)]
    run.done(results)
    // from at once to well behind the end
    await delay(round % 6 * 3)
    await world.service.cancel(alice, id)
    const job = await world.ended(id)
    seen.add(job.status)
    t.equal(job.results.length, job.status === 'completed' ? 1 : 0)
    const events = await world.events(id)
    t.equal(events.filter(({ event }) => event !== 'generation_progress' && event !== 'generation_started').length, 1)
    t.not(events.at(-1)!.event, 'generation_progress')
  }
  t.ok(seen.has('completed') && seen.has('cancelled'), [...seen].join())
  await eventually(async () => assert.deepEqual(await world.keys('sha256/_staging/'), []))
})

t.test('shutdown: no new claims, what is quick ends, the rest goes back to the queue without using up the attempt', async t => {
  const world = await jobWorld(t, { workers: 2 })
  const runner = world.run()
  const quick = await world.create({ cache: false })
  const slow = await world.create({ cache: false })
  const [first] = [await world.pool.next(), await world.pool.next()]
  const waiting = await world.create({ cache: false })
  const stopping = runner.stop()
  await first.finish('1')
  await stopping
  t.match(await world.records.jobs.get(quick.id), { status: 'completed' })
  t.match(await world.records.jobs.get(slow.id), { status: 'queued', attempt: 0, attemptToken: null })
  t.match(await world.records.jobs.get(waiting.id), { status: 'queued', attempt: 0 })
  t.equal(world.pool.begun, 2)
  const other = await jobWorld(t, { beside: world, workers: 2 })
  other.pool.play(run => run.finish('2'))
  other.run()
  t.match(await world.ended(slow.id), { status: 'completed', attempt: 1 })
  t.match(await world.ended(waiting.id), { status: 'completed', attempt: 1 })
})

t.test('a model that is gone fails the job', async t => {
  const world = await jobWorld(t)
  const { id } = await world.create()
  world.run({ records: { ...world.records, models: { ...world.records.models, find: async () => undefined } } })
  t.match(await world.ended(id), { status: 'failed', failure: { code: 'invalid_model' } })
})

t.test('memoised: the results of an earlier job of the same owner, unless it is not wanted', async t => {
  const world = await jobWorld(t)
  world.pool.play(run => run.finish(`run ${world.pool.begun}`))
  world.run()
  const first = await world.ended((await world.create()).id)
  const again = await world.ended((await world.create()).id)
  t.match(again, { status: 'completed', execution: { provider: 'cpu', cached: true }, progress: 100 })
  t.equal(await world.resultText(again), 'run 1')
  t.not(again.results[0]!.fileId, first.results[0]!.fileId, 'a file of its own')
  t.equal(world.pool.begun, 1)
  const refused = await world.ended((await world.create({ cache: false })).id)
  t.match(refused, { execution: { cached: false } })
  const other = await world.ended((await world.create({ input: { tensors: [{ ...TENSORS[0]!, data: [3, 4] }] } })).id)
  t.match(other, { execution: { cached: false } })
  await world.service.remove(alice, first.id)
  t.equal(await world.resultText(again), 'run 1', 'what it took stays when the first goes')
})

t.test('a node without commands leaves them to one that has some', async t => {
  const world = await jobWorld(t)
  const without = await jobWorld(t, { beside: world, env: { EXEC_TASKS_FILE: '' } })
  for (const { pool } of [world, without]) pool.play(run => run.finish('{}', 'output.json'))
  without.run()
  const { fileId } = (await world.ended((await world.create()).id)).results[0]!
  const command = await world.create({ model: 'command', input: { file_id: fileId }, priority: 10 })
  const later = await world.ended((await world.create({ cache: false })).id)
  t.equal(later.status, 'completed')
  t.match(await world.records.jobs.get(command.id), { status: 'queued', attempt: 0 })
  world.run()
  t.match(await world.ended(command.id), { status: 'completed', attempt: 1 })
  await t.rejects(without.create({ model: 'command', input: { file_id: fileId } }), { code: 'BAD_REQUEST', message: 'model is a command, and none can be run here' })
  const onlyAsks = await jobWorld(t, { beside: world, env: { EXEC_TASKS_FILE: '', ROLES: 'api' } })
  t.ok(await onlyAsks.create({ model: 'command', input: { file_id: fileId } }), 'another node may have them')
})
