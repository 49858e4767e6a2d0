import { Writable } from 'node:stream'
import t from 'tap'
import { createLogger, describeError, type Logger } from '../src/logging.ts'

function logger(): { log: Logger, lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = []
  const destination = new Writable({ write: (chunk: Buffer, _encoding, done) => { lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>); done() } })
  return { log: createLogger({ level: 'info', destination }), lines }
}

t.test('a line says service, time, level and action', async t => {
  const { log, lines } = logger()
  log.warn({ action: 'sweep.done', removed: 3 }, 'text')
  log.debug('below the level')
  t.match(lines, [{ service: 'penstock', level: 'warn', timestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, action: 'sweep.done', removed: 3, message: 'text' }])
  t.equal(lines.length, 1)
})

t.test('credentials are taken out wherever they are put', async t => {
  const { log, lines } = logger()
  const headers = { authorization: 'Bearer hush', cookie: 'a=hush', 'set-cookie': 'hush', 'x-guest-authorization': 'hush', 'x-public-authorization': 'hush', 'proxy-authorization': 'hush', host: 'x' }
  log.info({ token: 'hush', headers, request: { headers }, ...headers })
  t.notMatch(JSON.stringify(lines), /hush/)
  t.match(lines, [{ headers: { host: 'x' } }])
})

t.test('an address loses its query and its password, in texts and in errors', async t => {
  const { log, lines } = logger()
  const address = 'https://user:hush@store.example/bucket/key?X-Amz-Signature=hush&b=hush'
  log.error({ err: new Error(`GET ${address} failed`, { cause: new Error(`"${address}"`) }) })
  log.info({ address, database: 'postgres://user:hush@db/penstock' }, `see ${address}`)
  t.notMatch(JSON.stringify(lines), /hush/)
  t.match(JSON.stringify(lines), /store\.example\/bucket\/key\?…/)
})

t.test('an error keeps its type, code, status and causes, and nothing that a library hung onto it', async t => {
  const inner = Object.assign(new Error('refused'), { code: 'ECONNREFUSED', request: { headers: { authorization: 'hush' } } })
  const outer = Object.assign(new TypeError('failed', { cause: new AggregateError([inner], 'all') }), { $metadata: { httpStatusCode: 503 }, $response: { body: 'hush' } })
  const described = describeError(outer)
  t.match(described, { type: 'TypeError', message: 'failed', status: 503, stack: /failed/, cause: { type: 'AggregateError', cause: { code: 'ECONNREFUSED', message: 'refused' } } })
  t.notMatch(JSON.stringify(described), /hush/)
})

t.test('a chain of causes that bites its tail ends', async t => {
  const error = new Error('round')
  error.cause = error
  t.match(describeError(error), { cause: { cause: { message: 'round' } } })
  t.equal(describeError('a string'), 'a string')
})
