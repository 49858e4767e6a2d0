/** The benchmarks of files: that their instruments do what they say, and that each runs, with numbers too small to mean anything. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { FILE_BENCHMARKS } from '../../scripts/bench/files.ts'
import type { LoadReport } from '../../scripts/bench/load.ts'
import { order, startProgram } from '../../scripts/bench/processes.ts'
import type { ReadReport } from '../../scripts/bench/read.ts'
import type { Report } from '../../scripts/bench/report.ts'
import { minioOrSkip } from '../support/minio.ts'
import { postgresOrSkip } from '../support/postgres.ts'

const TEST_TIMEOUT_SECONDS = 300
t.setTimeout(TEST_TIMEOUT_SECONDS * 1000)
const skip = process.platform === 'linux' ? false : 'there is no /proc'

async function start(t: Test, file: string, env?: Record<string, string>) {
  const program = await startProgram(file, env)
  t.teardown(() => program.stop())
  return program
}

async function serve(t: Test, handler: RequestListener): Promise<string> {
  const server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Every figure is a number, and so is every cell that is no name. */
function isWhole(t: Test, { rows, figures }: Report): void {
  t.ok(rows.length > 0 && figures.length > 0, 'there are rows and figures')
  for (const { name, value } of figures) t.ok(Number.isFinite(value), `${name}: ${value}`)
  for (const row of rows) for (const [column, value] of Object.entries(row)) t.ok(typeof value === 'string' || Number.isFinite(value), `${column}: ${value}`)
}

t.test('the load generator sends each body as the file of a form, whole', async t => {
  const received: { part: string | undefined, size: number, file: Buffer }[] = []
  const url = await serve(t, (request, response) => {
    void (async () => {
      const form = await new Response(request as unknown as ReadableStream, { headers: { 'content-type': request.headers['content-type']! } }).formData()
      const [[part, file] = []] = [...form] as [string, File][]
      received.push({ part, size: file?.size ?? 0, file: Buffer.from(await file!.arrayBuffer()) })
      response.writeHead(201).end()
    })()
  })
  const load = await start(t, 'load.ts')
  for (const sizeBytes of [1, 16, 17, 256 * 1024, 600_000]) {
    const report = await order<LoadReport>(load, { url, headers: {}, count: 2, parallel: 1, sizeBytes, part: 'file' })
    t.same(report.statuses, { 201: 2 })
    const [one, other] = received.splice(0)
    t.same([one?.part, one?.size, other?.size], ['file', sizeBytes, sizeBytes])
    if (sizeBytes > 1) t.notOk(one!.file.equals(other!.file), 'no two are equal')
  }
})

t.test('readers count what they read, in turn with each header, and what broke', async t => {
  const body = randomBytes(300_000)
  const callers: unknown[] = []
  const url = await serve(t, (request, response) => {
    callers.push(request.headers.caller)
    response.writeHead(200, { 'content-length': body.length })
    if (request.url === '/') return void response.end(body)
    response.write(body.subarray(0, 100), () => response.destroy())
  })
  const reader = await start(t, 'read.ts')
  const headers = [{ caller: 'a' }, { caller: 'b' }]
  const report = await order<ReadReport>(reader, { url: `${url}/`, headers, count: 5, parallel: 1 })
  t.match(report, { statuses: { 200: 5 }, bytes: 5 * body.length })
  t.same(callers, ['a', 'b', 'a', 'b', 'a'])
  t.match(await order<ReadReport>(reader, { url: `${url}/breaks`, headers, count: 1, parallel: 1 }), { statuses: { 0: 1 }, bytes: 0 })
})

t.test('a slow reader takes no more than its pace', async t => {
  const body = randomBytes(400_000)
  const url = await serve(t, (_request, response) => void response.end(body))
  const reader = await start(t, 'read.ts')
  const { wallSeconds, bytes } = await order<ReadReport>(reader, { url, headers: [{}], count: 2, parallel: 2, bytesPerSecond: 1_000_000 })
  t.equal(bytes, 2 * body.length)
  t.ok(wallSeconds >= 0.35, `${wallSeconds} s for 0.4 s of bytes`)
})

t.test('the pass-through gives what the store has', async t => {
  const body = randomBytes(600_000)
  const asked: unknown[] = []
  const store = await serve(t, (request, response) => {
    asked.push(request.url)
    response.writeHead(200, { 'content-length': body.length }).end(body)
  })
  const baseline = await start(t, 'read-baseline.ts', { STORE_URL: `${store}/bucket` })
  const answer = await fetch(`${baseline.url}/sha256/a/object`)
  t.ok(Buffer.from(await answer.arrayBuffer()).equals(body))
  t.same(asked, ['/bucket/sha256/a/object'])
})

t.test('file-rows', { skip }, async t => {
  if (!await postgresOrSkip(t)) return
  const { run, defaults } = FILE_BENCHMARKS['file-rows']!
  const report = await run({ ...defaults, rounds: 1, count: 2000 })
  isWhole(t, report)
  t.same(report.rows.map(({ records, rows }) => [records, rows]), [['sqlite', 1000], ['sqlite', 2000], ['postgres', 1000], ['postgres', 2000]])
})

t.test('file-jwt', { skip }, async t => {
  const { run, defaults } = FILE_BENCHMARKS['file-jwt']!
  isWhole(t, await run({ ...defaults, rounds: 1, parallel: 2, count: 20 }))
})

const TINY = { 'file-download': { sizeMib: 2, parallel: 2 }, 'file-readers': { sizeMib: 2, parallel: 3 }, 'file-upload': { sizeMib: 6, parallel: 2 } }

for (const [name, numbers] of Object.entries(TINY)) {
  t.test(name, { skip }, async t => {
    if (!await minioOrSkip(t)) return
    const { run, defaults } = FILE_BENCHMARKS[name]!
    isWhole(t, await run({ ...defaults, ...numbers, rounds: 1 }))
  })
}
