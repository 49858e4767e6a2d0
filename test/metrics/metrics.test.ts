/** What /metrics says after things have happened, at a whole service. */
import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { addGauges } from '../../src/metrics/gauges.ts'
import { createMetrics } from '../../src/metrics/metrics.ts'
import { CHECK_TIMEOUT_MS } from '../../src/limits.ts'
import type { HealthReport } from '../../src/http/health/probing.ts'
import { InferenceFailed } from '../../src/inference/port.ts'
import type { JobObserver } from '../../src/jobs/observer.ts'
import { createJobService } from '../../src/jobs/service.ts'
import { ALICE, jobWorld } from '../support/job-world.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { ADMIN, startApp } from '../support/start-app.ts'

type Samples = Map<string, number>

function read(text: string): Samples {
  return new Map(text.split('\n').filter(line => line !== '' && !line.startsWith('#')).map(line => {
    const end = line.lastIndexOf(' ')
    return [line.slice(0, end), Number(line.slice(end + 1))]
  }))
}

async function scrape(url: string): Promise<Samples> {
  return read(await (await fetch(`${url}/metrics`)).text())
}

/** Every metric that is promised, and by what prefix of a sample it shows. */
const PROMISED = [
  'penstock_uploads_total{kind="object",outcome="succeeded"}', 'penstock_upload_bytes_total{kind="object"}', 'penstock_upload_duration_seconds_count', 'penstock_upload_size_bytes_sum',
  'penstock_upload_slots_in_use', 'penstock_finalize_total{kind="object",result="created"}', 'penstock_jobs_waiting', 'penstock_jobs_running', 'penstock_job_oldest_waiting_seconds',
  'penstock_job_dispatch_seconds_count', 'penstock_job_queue_seconds_count', 'penstock_store_operation_seconds_count{operation="put",outcome="ok"}',
  'penstock_http_requests_total{route="/upload-proxy",method="POST",status="200"}', 'process_open_fds', 'nodejs_eventloop_lag_p99_seconds', 'nodejs_heap_size_used_bytes'
]
const PROMISED_TYPES = ['penstock_jobs_total', 'penstock_job_run_seconds', 'penstock_worker_restarts_total']

t.test('everything that is promised is there', async t => {
  const app = await startApp(t)
  const { body } = await app.upload(Buffer.from('hello'))
  await app.post('/finalize', { key: body.upload.key })
  const answer = await fetch(`${app.url}/metrics`)
  t.match(answer.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  const text = await answer.text()
  const samples = read(text)
  for (const name of PROMISED) t.ok(samples.has(name), name)
  for (const name of PROMISED_TYPES) t.match(text, `# TYPE ${name} `)
  t.match(Object.fromEntries(samples), { 'penstock_upload_bytes_total{kind="object"}': 5, 'penstock_upload_slots': 64, 'penstock_dependency_up{dependency="records"}': 1, 'penstock_dependency_up{dependency="redis"}': undefined })
})

t.test('uploads and finalizes are counted by how they ended, each once', async t => {
  const app = await startApp(t, { UPLOAD_IDLE_TIMEOUT_MS: '200', MAX_OBJECT_SIZE_BYTES: '100' })
  const first = await app.upload(Buffer.from('hello'))
  const second = await app.upload(Buffer.from('hello'))
  for (const { body } of [first, second]) await app.post('/finalize', { key: body.upload.key })
  await app.post('/finalize', { key: `sha256/_staging/${crypto.randomUUID()}/object` })
  await app.post('/finalize', { key: 'x' })
  await app.upload(Buffer.from('hello'), { declaredHash: 'a'.repeat(64) })
  await app.upload(Buffer.alloc(101))
  await app.upload(Buffer.from('hello'), { kind: 'nonsense' })
  await app.upload(Buffer.from('hello'), {}, { authorization: 'Bearer wrong' })
  const stalled = await rawClient(app.port)
  stalled.send(`${uploadHead({ filename: 'x', size: '5' }, { ...ADMIN, 'content-length': '5' })}ab`)
  await stalled.answer()
  const gone = await rawClient(app.port)
  gone.send(`${uploadHead({ filename: 'x', size: '5' }, { ...ADMIN, 'content-length': '5' })}ab`)
  await eventually(async () => assert.equal((await scrape(app.url)).get('penstock_upload_slots_in_use'), 1))
  gone.hangUp()
  await eventually(async () => assert.equal((await scrape(app.url)).get('penstock_uploads_total{kind="object",outcome="aborted"}'), 1))
  const samples = Object.fromEntries([...await scrape(app.url)].filter(([name]) => /^penstock_(uploads_total|finalize_total|upload_slots_in_use|upload_duration_seconds_count|upload_size_bytes_sum)/.test(name)))
  t.same(samples, {
    'penstock_uploads_total{kind="object",outcome="succeeded"}': 2,
    'penstock_uploads_total{kind="object",outcome="hash_mismatch"}': 1,
    'penstock_uploads_total{kind="object",outcome="idle_timeout"}': 1,
    'penstock_uploads_total{kind="object",outcome="aborted"}': 1,
    'penstock_uploads_total{kind="unknown",outcome="size_exceeds_cap"}': 1,
    'penstock_uploads_total{kind="unknown",outcome="kind_invalid"}': 1,
    'penstock_uploads_total{kind="unknown",outcome="rbac_forbidden"}': 1,
    'penstock_finalize_total{kind="object",result="created"}': 1,
    'penstock_finalize_total{kind="object",result="deduplicated"}': 1,
    'penstock_finalize_total{kind="object",result="refused"}': 1,
    'penstock_finalize_total{kind="unknown",result="refused"}': 1,
    'penstock_upload_slots_in_use': 0,
    'penstock_upload_duration_seconds_count': 2,
    'penstock_upload_size_bytes_sum': 10
  })
})

t.test('requests are counted by the pattern of their route, so that nobody makes series', async t => {
  const app = await startApp(t)
  for (const id of [crypto.randomUUID(), crypto.randomUUID()]) {
    await fetch(`${app.url}/files/${id}`)
    await fetch(`${app.url}/nowhere/${id}`)
  }
  await fetch(`${app.url}/livez`, { method: 'PROPFIND' })
  const raw = await rawClient(app.port)
  raw.send('GET /files/%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  await raw.answer()
  const counts = Object.fromEntries([...await scrape(app.url)].filter(([name]) => name.startsWith('penstock_http_requests_total')))
  t.same(counts, {
    'penstock_http_requests_total{route="/files/:id",method="GET",status="404"}': 2,
    'penstock_http_requests_total{route="unknown",method="GET",status="404"}': 2,
    'penstock_http_requests_total{route="/livez",method="other",status="405"}': 1,
    'penstock_http_requests_total{route="unknown",method="GET",status="400"}': 1
  })
})

function waited({ waitedSeconds }: { waitedSeconds: number }): string {
  return waitedSeconds >= 0 && waitedSeconds < 60 ? 'soon' : 'late'
}

t.test('jobs are counted by whoever brings them to their end', async t => {
  const seen: string[] = []
  const observer: JobObserver = {
    claimed: job => void seen.push(`claimed ${waited(job)}`),
    started: job => void seen.push(`started ${waited(job)}`),
    ran: ({ model }) => void seen.push(`ran ${model}`),
    ended: ({ model, status }) => void seen.push(`${model} ${status}`)
  }
  const world = await jobWorld(t, { env: { JOB_MAX_ATTEMPTS: '1' } })
  const service = createJobService({ ...world, observer })
  const waiting = await world.create({ cache: false })
  for (let n = 0; n < 2; n++) await service.cancel(ALICE, waiting.id)
  t.same(seen, ['identity cancelled'], 'cancelled while it waited, and counted once')

  world.pool.play(run => run.finish('1'))
  world.run({ observer })
  await world.ended((await world.create({ cache: false })).id)
  await eventually(() => assert.deepEqual(seen, ['identity cancelled', 'claimed soon', 'started soon', 'ran identity', 'identity completed']))
  seen.length = 0
  world.pool.play(async run => run.fail(new InferenceFailed('invalid_input', 'so it is')))
  await world.ended((await world.create({ cache: false })).id)
  await eventually(() => assert.deepEqual(seen, ['claimed soon', 'started soon', 'ran identity', 'identity failed']))
})

const report: HealthReport = { status: 'healthy', modelLoaded: true, dependencies: {} as HealthReport['dependencies'] }

function gauges(queue: () => Promise<{ waiting: number, running: number, oldestCreatedAt: number | null }>): () => Promise<Samples> {
  const { registry } = createMetrics()
  addGauges(registry, { slotsInUse: () => 0, slotsMax: 1, queue, health: () => report, version: '1.0.0' })
  return async () => read(await registry.metrics())
}

t.test('the queue is looked at once for all its figures, and not at every scrape', async t => {
  let asked = 0
  const take = gauges(async () => { asked += 1; return { waiting: 3, running: 2, oldestCreatedAt: Date.now() - 5000 } })
  const [first] = await Promise.all([take(), take()])
  await take()
  t.match(Object.fromEntries(first!), { penstock_jobs_waiting: 3, penstock_jobs_running: 2 })
  const oldest = first!.get('penstock_job_oldest_waiting_seconds')!
  t.ok(oldest >= 5 && oldest < 60)
  t.equal(asked, 1)
})

async function withoutQueue(t: Test, queue: () => Promise<never>): Promise<void> {
  const began = performance.now()
  const samples = await gauges(queue)()
  t.ok(performance.now() - began < CHECK_TIMEOUT_MS + 2000)
  t.notOk(samples.has('penstock_jobs_waiting') || samples.has('penstock_jobs_running'), 'no figures that are not known')
  t.equal(samples.get('penstock_upload_slots_in_use'), 0, 'the others are there')
}

t.test('records that fail leave out the figures of the queue', t => withoutQueue(t, async () => { throw new Error('down') }))
t.test('records that hang hold up nobody for long', t => withoutQueue(t, () => new Promise(() => {})))
