/** The instruments of the benchmarks: a wrong one would make every figure wrong. */
import { createHash } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import type { LoadReport } from '../../scripts/bench/load.ts'
import { ioBytes, measure, median } from '../../scripts/bench/measure.ts'
import { order, startProgram } from '../../scripts/bench/processes.ts'
import { format, isMet } from '../../scripts/bench/report.ts'

const MIB = 1024 * 1024

async function start(t: Test, file: string, env?: Record<string, string>) {
  const program = await startProgram(file, env)
  t.teardown(() => program.stop())
  return program
}

t.test('the sink answers what the service asks of a store', async t => {
  const { url } = await start(t, 'sink.ts')
  const call = (method: string, path: string, headers: Record<string, string> = {}, body?: string) => fetch(`${url}/bucket${path}`, { method, headers, ...(body === undefined ? {} : { body }) })
  t.equal((await call('HEAD', '')).status, 200)
  t.equal((await call('HEAD', '/a')).status, 404)
  const put = await call('PUT', '/a', { 'if-none-match': '*' }, 'bytes')
  t.equal(put.status, 200)
  t.equal((await call('PUT', '/a', { 'if-none-match': '*' }, 'others')).status, 412)
  const etag = put.headers.get('etag') ?? ''
  const head = await call('HEAD', '/a')
  t.same([head.headers.get('content-length'), head.headers.get('etag')], ['5', etag])
  t.equal(await (await call('GET', '/a')).text(), 'bytes')
  t.equal((await call('PUT', '/b', { 'x-amz-copy-source': '/bucket/a', 'x-amz-copy-source-if-match': '"other"' })).status, 412)
  t.match(await (await call('PUT', '/b', { 'x-amz-copy-source': '/bucket/a', 'x-amz-copy-source-if-match': etag })).text(), '<CopyObjectResult>')
  t.match(await (await call('GET', '?list-type=2&prefix=')).text(), /<Key>a<\/Key>[^]*<Key>b<\/Key>/)
  t.equal((await call('DELETE', '/a')).status, 204)
  t.equal((await call('HEAD', '/a')).status, 404)
  t.equal((await call('POST', '/a?uploads=')).status, 501, 'it does not pretend to what it cannot do')
})

t.test('the load generator sends every byte through the baseline, which hashes what reaches the sink', async t => {
  const sink = await start(t, 'sink.ts')
  const baseline = await start(t, 'baseline.ts', { STORE_URL: `${sink.url}/bucket` })
  const load = await start(t, 'load.ts')
  const sizeBytes = 3 * MIB + 1
  const report = await order<LoadReport>(load, { url: `${baseline.url}/`, headers: {}, count: 5, parallel: 2, sizeBytes })
  t.same(report.statuses, { 200: 5 })
  t.match(JSON.parse(report.lastBody), { sha256: /^[0-9a-f]{64}$/ })
  const listed = await (await fetch(`${sink.url}/bucket?list-type=2&prefix=`)).text()
  t.same([...listed.matchAll(/<Size>(\d+)<\/Size>/g)].map(match => Number(match[1])), Array.from({ length: 5 }, () => sizeBytes))

  const body = Buffer.alloc(MIB, 'x')
  const answer = await fetch(`${baseline.url}/`, { method: 'POST', body })
  t.same(await answer.json(), { sha256: createHash('sha256').update(body).digest('hex') })
})

t.test('an upload that fails is reported as what it was', async t => {
  const load = await start(t, 'load.ts')
  const report = await order<LoadReport>(load, { url: 'http://127.0.0.1:1/', headers: {}, count: 2, parallel: 2, sizeBytes: 10 })
  t.same(report.statuses, { 0: 2 })
})

t.test('CPU time and memory of a process are what it used', { skip: process.platform === 'linux' ? false : 'there is no /proc' }, async t => {
  const { cost } = await measure(process.pid, async () => {
    const until = process.cpuUsage().user + 300_000
    const held = Buffer.alloc(64 * MIB, 1)
    while (process.cpuUsage().user < until) createHash('sha256').update(held.subarray(0, MIB)).digest()
  })
  t.ok(cost.cpuSeconds >= 0.25 && cost.cpuSeconds <= 2, `${cost.cpuSeconds} s for work of 0.3 s`)
  t.ok(cost.peakRssMib >= 64, `${cost.peakRssMib} MiB while 64 MiB were held`)
  const before = ioBytes(process.pid)
  const sink = await start(t, 'sink.ts')
  await fetch(`${sink.url}/bucket/a`, { method: 'PUT', body: Buffer.alloc(8 * MIB) })
  t.ok(ioBytes(process.pid).written - before.written >= 8 * MIB, 'bytes through a socket are counted')
})

t.test('medians and bounds', async t => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  const figure = { name: 'ratio', value: 1.1, unit: '×' }
  t.equal(isMet(figure), undefined)
  t.equal(isMet({ ...figure, bound: { at: 'most', value: 1.1 } }), true)
  t.equal(isMet({ ...figure, bound: { at: 'most', value: 1 } }), false)
  t.equal(isMet({ ...figure, bound: { at: 'least', value: 1.2 } }), false)
  const report = { name: 'x', setup: {}, rows: [{ a: 1, b: 2.5 }], figures: [{ ...figure, bound: { at: 'most', value: 1 } as const }] }
  t.match(format(report), /a {6}b\n1 {2}2\.500\n\n {2}ratio: 1\.100 × {2}\(at most 1: MISSED\)/)
})
