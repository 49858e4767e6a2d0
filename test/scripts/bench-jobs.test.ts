/** The benchmarks of jobs: that their instruments see what is there, and that each runs, with numbers too small to mean anything. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import { countLost } from '../../scripts/bench/job-listeners.ts'
import { benchJobRows } from '../../scripts/bench/job-rows.ts'
import { JOB_BENCHMARKS } from '../../scripts/bench/jobs.ts'
import type { ListenReport } from '../../scripts/bench/listen.ts'
import type { LoadReport } from '../../scripts/bench/load.ts'
import { cpuSeconds, machineBusy, percentile } from '../../scripts/bench/measure.ts'
import type { PingReport } from '../../scripts/bench/ping.ts'
import { order, startProgram } from '../../scripts/bench/processes.ts'
import type { Report } from '../../scripts/bench/report.ts'
import { minioOrSkip } from '../support/minio.ts'
import { postgresOrSkip } from '../support/postgres.ts'

const TEST_TIMEOUT_SECONDS = 300
t.setTimeout(TEST_TIMEOUT_SECONDS * 1000)
const skip = process.platform === 'linux' ? false : 'there is no /proc'

async function start(t: Test, file: string) {
  const program = await startProgram(file)
  t.teardown(() => program.stop())
  return program
}

/** Every figure is a number, and so is every cell that is no name. */
function isWhole(t: Test, { rows, figures }: Report): void {
  t.ok(rows.length > 0 && figures.length > 0, 'there are rows and figures')
  for (const { name, value } of figures) t.ok(Number.isFinite(value), `${name}: ${value}`)
  for (const row of rows) for (const [column, value] of Object.entries(row)) t.ok(typeof value === 'string' || Number.isFinite(value), `${column}: ${value}`)
}

t.test('percentiles, and how busy the machine was', { skip }, async t => {
  const hundred = Array.from({ length: 100 }, (_, at) => 100 - at)
  t.same([percentile(hundred, 50), percentile(hundred, 99), percentile([7], 99)], [50, 99, 7])
  const before = cpuSeconds(process.pid)
  const { busy } = await machineBusy(async () => {
    const until = process.cpuUsage().user + 200_000
    while (process.cpuUsage().user < until) Math.hypot(Math.random(), Math.random())
  })
  t.ok(busy > 0 && busy <= 1, `${busy}`)
  t.ok(cpuSeconds(process.pid) - before >= 0.15)
})

t.test('the load generator sends JSON, each body another', async t => {
  const bodies: string[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => { body += text }).once('end', () => {
      bodies.push(`${request.headers['content-type']} ${body}`)
      response.writeHead(202).end()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const load = await start(t, 'load.ts')
  const report = await order<LoadReport>(load, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, headers: {}, count: 3, parallel: 1, sizeBytes: 0, json: '{"number":{n}}' })
  t.same(report.statuses, { 202: 3 })
  t.same(bodies, ['application/json {"number":1}', 'application/json {"number":2}', 'application/json {"number":3}'])
})

t.test('the ping says how long answers took, and the listeners what they heard', async t => {
  const server = createServer((request, response) => {
    if (request.url !== '/events') return void response.end('{}')
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('id: 1\nevent: generation_started\ndata: {}\n\n')
    response.write(': alive\n\nid: 4\neve')
    setTimeout(() => response.end('nt: generation_complete\ndata: {}\n\n'), 50)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const ping = await start(t, 'ping.ts')
  await order(ping, { url, intervalMs: 1 })
  const listen = await start(t, 'listen.ts')
  await order(listen, { url: `${url}/events`, count: 3, headers: {} })
  t.same(await order<ListenReport>(listen, {}), { heard: { '1,4': 3 }, ended: { generation_complete: 3 } })
  const { count, p50, p99, max } = await order<PingReport>(ping, {})
  t.ok(count > 0 && p50 > 0 && p99 >= p50 && max >= p99)
})

t.test('a listener that missed, repeated or did not end is counted', async t => {
  const ended = { generation_complete: 4 }
  t.equal(countLost({ heard: { '1,2,3,4': 2, '1,4': 2 }, ended }, [1, 4]), 0, 'what was superseded may be heard or not')
  t.equal(countLost({ heard: { '1,4': 3, '4': 1 }, ended }, [1, 4]), 1)
  t.equal(countLost({ heard: { '1,4': 2, '1,1,4': 1, '4,1': 1 }, ended }, [1, 4]), 2)
  t.equal(countLost({ heard: { '1,4': 4 }, ended: { generation_complete: 3, generation_progress: 1 } }, [1, 4]), 1)
})

t.test('job-rows', { skip }, async t => {
  if (!await postgresOrSkip(t)) return
  const report = await benchJobRows({ rounds: 1, parallel: 1, sizeMib: 0, store: 'sink', count: 1000 })
  isWhole(t, report)
  t.same(report.rows.map(({ records, rows }) => [records, rows]), [['sqlite', 100], ['sqlite', 1000], ['postgres', 100], ['postgres', 1000]])
})

const TINY = { 'job-dispatch': { count: 3 }, 'job-listeners': { parallel: 3, sizeMib: 3 }, 'job-rate': { parallel: 4, count: 8 }, 'job-loop': { parallel: 2, sizeMib: 2 } }

for (const [name, numbers] of Object.entries(TINY)) {
  t.test(name, { skip }, async t => {
    if (!await postgresOrSkip(t) || !await minioOrSkip(t)) return
    const { run, defaults } = JOB_BENCHMARKS[name]!
    isWhole(t, await run({ ...defaults, ...numbers, rounds: 1 }))
  })
}
