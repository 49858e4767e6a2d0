import t from 'tap'
import { showEventData, showJob } from '../../src/jobs/show.ts'
import { sweepJobs } from '../../src/jobs/retention.ts'
import { ADMIN, ALICE, BOB, jobWorld, SERVICE } from '../support/job-world.ts'

t.test('a job of another is not there, whatever is asked of it; administrators reach all', async t => {
  const world = await jobWorld(t)
  const { id } = await world.create()
  for (const caller of [BOB, SERVICE]) {
    for (const ask of ['get', 'cancel', 'retry', 'remove'] as const) await t.rejects(async () => { await world.service[ask](caller, id) }, { code: 'JOB_NOT_FOUND' }, ask)
    await t.rejects(world.service.result(caller, id, 'output.json'), { code: 'JOB_NOT_FOUND' })
  }
  for (const bad of ['', 'x', `${id}\0`, id.toUpperCase()]) await t.rejects(world.service.get(ALICE, bad), { code: 'JOB_NOT_FOUND' }, JSON.stringify(bad))
  t.equal((await world.service.get(ADMIN, id)).id, id)
  await t.rejects(world.service.get({ ...ALICE, scopes: ['penstock:job.write'] }, id), { code: 'INSUFFICIENT_SCOPE' })
  await t.rejects(world.service.cancel({ ...ALICE, scopes: ['penstock:job.read'] }, id), { code: 'INSUFFICIENT_SCOPE' })
})

t.test('results and downloads: by name, and a token is good once', async t => {
  const world = await jobWorld(t)
  world.pool.play(run => run.finish('text', 'output.json'))
  world.run()
  const { id } = await world.ended((await world.create()).id)
  const file = await world.service.result(ALICE, id, 'output.json')
  t.match(file, { filename: 'output.json', size: 4, owner: { subject: 'alice' } })
  await t.rejects(world.service.result(ALICE, id, 'other'), { code: 'RESULT_NOT_FOUND' })
  for (const seconds of [0, -1, 0.5, 86_401, Number.NaN]) await t.rejects(world.service.downloadToken(ALICE, id, { name: 'output.json', expires_in: seconds }), { code: 'BAD_REQUEST' }, String(seconds))
  const { token, expiresAt } = await world.service.downloadToken(ALICE, id, { name: 'output.json', expires_in: 60 })
  t.ok(expiresAt > Date.now() + 50_000)
  const taken = await Promise.allSettled([1, 2, 3].map(() => world.service.takeDownload(token)))
  t.equal(taken.filter(({ status }) => status === 'fulfilled').length, 1)
  await t.rejects(world.service.takeDownload(token), { code: 'FILE_NOT_FOUND' })
  const after = await world.service.downloadToken(ALICE, id, { name: 'output.json', expires_in: 60 })
  await world.service.remove(ALICE, id)
  await t.rejects(world.service.takeDownload(after.token), { code: 'FILE_NOT_FOUND' }, 'the file went with the job')
})

t.test('remove: at once what waits or is over, and what runs when it has ended', async t => {
  const world = await jobWorld(t)
  world.run()
  const running = await world.create()
  const waiting = await world.create({ cache: false })
  await world.pool.next()
  await world.service.remove(ALICE, waiting.id)
  await world.service.remove(ALICE, running.id)
  for (const { id } of [running, waiting]) {
    t.equal(await world.records.jobs.get(id), undefined)
    t.same(await world.events(id), [])
    await t.rejects(world.service.remove(ALICE, id), { code: 'JOB_NOT_FOUND' })
  }
})

t.test('a job whose node is dead can be removed when its lease is over', async t => {
  const world = await jobWorld(t)
  const { id } = await world.create()
  await world.records.jobs.claim({ token: 'of a dead node', worker: 'dead', leaseMs: 500 })
  world.run()
  await world.service.remove(ALICE, id)
  t.equal(await world.records.jobs.get(id), undefined)
})

t.test('the queue in figures', async t => {
  const world = await jobWorld(t)
  await world.create()
  t.match(await world.service.queue(), { waiting: 1, running: 0, perModel: [{ model: 'identity', waiting: 1 }], workers: [{ id: 'w1', state: 'idle' }] })
})

t.test('as callers see it', async t => {
  const world = await jobWorld(t)
  world.pool.play(run => run.finish('text', 'a b.json'))
  const created = await world.create({ user_id: 'alice' })
  t.match(showJob(created), { job_id: created.id, user_id: 'alice', client_id: 'app', status: 'queued', stage: null, progress: null, attempt: 0, results: [], promotions: [] })
  t.same(['started_at', 'completed_at', 'error', 'execution'].filter(key => key in showJob(created)), [])
  world.run()
  const job = await world.ended(created.id)
  const shown = showJob(job, 'https://penstock.example')
  t.match(shown, {
    status: 'completed', progress: 100, execution: { cached: false }, input: { size: created.inputs[0]!.size, content_type: 'application/json' },
    results: [{ name: 'a b.json', size: 4, url: `https://penstock.example/api/v1/jobs/${job.id}/results/a%20b.json`, content_type: 'application/json' }],
    created_at: new Date(job.createdAt).toISOString(), completed_at: new Date(job.completedAt!).toISOString()
  })
  t.equal(shown.stage_timings.inference!.duration_ms, job.stageTimings.inference!.finishedAt! - job.stageTimings.inference!.startedAt)
  const last = (await world.events(job.id)).at(-1)!
  t.match(showEventData(last, job), { jobId: job.id, result: { name: 'a b.json' }, job: { status: 'completed' } })
  t.same(showEventData(last, undefined), { jobId: job.id })
})

t.test('what finished long ago goes with what belongs to it, in batches; what did not stays', async t => {
  const world = await jobWorld(t, { env: { JOB_RETENTION_DAYS: '2' } })
  world.pool.play(run => run.finish('text'))
  world.run()
  const { id, results, inputs } = await world.ended((await world.create()).id)
  const waiting = await world.create({ model: 'command', input: { file_id: results[0]!.fileId } })
  await world.service.cancel(ALICE, waiting.id)
  const queued = await world.records.jobs.create({ ...(await world.records.jobs.get(id))!, id: '00000000-0000-4000-8000-000000000000', inputs: [], idempotency: null, reservation: null, queueMax: 10 })
  t.equal(queued.outcome, 'created')
  await world.ended('00000000-0000-4000-8000-000000000000')
  t.equal(await sweepJobs(world, () => false, Date.now() + 86_400_000), 0, 'not old enough')
  t.equal(await sweepJobs(world, () => true, Date.now() + 3 * 86_400_000), 0, 'stopped')
  t.equal(await sweepJobs(world, () => false, Date.now() + 3 * 86_400_000), 3)
  t.equal(await world.records.jobs.get(id), undefined)
  t.equal(await world.records.files.get(results[0]!.fileId), undefined)
  for (const { sha256 } of [...results, ...inputs]) t.equal(await world.records.objects.isGarbage(sha256, Date.now() + 1000), true)
  const kept = await jobWorld(t)
  await kept.service.cancel(ALICE, (await kept.create()).id)
  t.equal(await sweepJobs(kept, () => false, Date.now() + 1000 * 86_400_000), 0, '0 days keep everything')
})

t.test('the job of an inference runs tensors through a model of any task, without the right to read jobs, beside the active jobs', async t => {
  const world = await jobWorld(t, { env: { ACTIVE_JOBS_PER_USER: '1' } })
  const writer = { ...ALICE, scopes: ['penstock:job.write'] }
  const waiting = await world.create()
  const model = (await world.records.models.find('resize'))!
  const tensors = [{ name: 'x', datatype: 'FP32' as const, shape: [1], data: new Uint8Array(new Float32Array([Number.NaN]).buffer) }]
  const job = await world.service.createInference(writer, { model, tensors })
  t.match(await world.records.jobs.get(job.id), { task: 'tensor', model: { name: 'resize' }, priority: 10, cache: false, owner: waiting.owner, inputs: [{ contentType: 'application/vnd.penstock.tensors' }] })
  await world.service.cancel(ALICE, waiting.id)
  t.ok(await world.create(), 'it takes no place of the user')
  world.pool.play(run => run.finish('text', 'output.json'))
  world.run()
  const names = (await Array.fromAsync(job.watch(AbortSignal.timeout(10_000)))).map(({ event }) => event)
  t.same([names[0], names.at(-1)], ['generation_started', 'generation_complete'])
  t.match(await job.result('output.json'), { filename: 'output.json', size: 4 })
  await t.rejects(job.result('other'), { code: 'RESULT_NOT_FOUND' })
  await job.remove()
  t.equal(await world.records.jobs.get(job.id), undefined)
  await t.rejects(world.service.createInference({ ...ALICE, scopes: ['penstock:job.read'] }, { model, tensors }), { code: 'INSUFFICIENT_SCOPE' })
})
