import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import assert from 'node:assert/strict'
import t from 'tap'
import type { Test } from 'tap'
import { ObjectStoreFailed, type ObjectStore, type OpenObject } from '../../src/objects/port.ts'
import { completedRow } from '../support/job-rows.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { startJobs, type JobsEdgeOptions } from '../support/start-jobs.ts'

const bytes = randomBytes(300_000)
const sha256 = createHash('sha256').update(bytes).digest('hex')

/** One completed job with one result, over a store whose opened bodies are kept. */
async function start(t: Test, options: JobsEdgeOptions & { content?: Uint8Array, file?: object } = {}) {
  const opened: OpenObject[] = []
  const edge = await startJobs(t, {
    ...options,
    over: store => {
      const under = options.over?.(store) ?? store
      return { ...under, open: async (key, wanted) => {
        const object = await under.open(key, wanted)
        opened.push(object)
        return object
      } }
    }
  })
  const job = completedRow()
  edge.jobs.jobs.set(job.id, job)
  const file = await edge.file(options.content ?? bytes, options.file)
  edge.jobs.files.set('image.png', file)
  const path = `/api/v1/jobs/${job.id}/results/image.png`
  return { ...edge, opened, file, path, read: (headers: Record<string, string> = {}, method = 'GET') => fetch(edge.url + path, { method, headers }) }
}

async function bytesOf(answer: Response): Promise<Buffer> {
  return Buffer.from(await answer.arrayBuffer())
}

t.test('a result comes whole, with everything that is known of it', async t => {
  const { read, opened } = await start(t, { file: { filename: 'Übersicht.png' } })
  const answer = await read()
  t.equal(answer.status, 200)
  t.match(Object.fromEntries(answer.headers), {
    'content-type': 'image/png', 'content-length': '300000', etag: `"${sha256}"`, 'last-modified': 'Tue, 14 Nov 2023 22:13:20 GMT', 'accept-ranges': 'bytes',
    'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`, 'x-content-type-options': 'nosniff', 'cache-control': 'private, no-cache',
    'content-disposition': `attachment; filename="_bersicht.png"; filename*=UTF-8''%C3%9Cbersicht.png`
  })
  t.ok((await bytesOf(answer)).equals(bytes))
  const head = await read({}, 'HEAD')
  t.equal(head.status, 200)
  t.same([head.headers.get('content-length'), head.headers.get('etag'), head.headers.get('content-type')], ['300000', `"${sha256}"`, 'image/png'])
  t.equal(opened.length, 1, 'HEAD opens nothing')
})

t.test('ranges are read from the store as they are asked for', async t => {
  const { read } = await start(t)
  for (const [range, from, to] of [['bytes=0-99', 0, 100], ['bytes=299990-', 299_990, 300_000], ['bytes=-7', 299_993, 300_000], ['bytes=5-5', 5, 6], ['bytes=299999-400000', 299_999, 300_000], ['bytes=0-', 0, 300_000]] as const) {
    const answer = await read({ range })
    t.equal(answer.status, 206, range)
    t.equal(answer.headers.get('content-range'), `bytes ${from}-${to - 1}/300000`)
    t.equal(answer.headers.get('content-length'), String(to - from))
    t.ok((await bytesOf(answer)).equals(bytes.subarray(from, to)), range)
  }
  for (const range of ['bytes=0-1,5-6', 'bytes=x', 'lines=1-2']) {
    const answer = await read({ range })
    t.equal(answer.status, 200, range)
    t.equal((await bytesOf(answer)).length, bytes.length)
  }
  t.equal((await read({ range: 'bytes=0-1', 'if-range': '"other"' })).status, 200)
  t.equal((await read({ range: 'bytes=0-1', 'if-range': `"${sha256}"` })).status, 206)
})

t.test('conditions and ranges are decided before the object is opened', async t => {
  const { read, opened } = await start(t)
  const outside = await read({ range: 'bytes=300000-' })
  t.equal(outside.status, 416)
  t.equal(outside.headers.get('content-range'), 'bytes */300000')
  t.match(outside.headers.get('content-type'), 'application/json')
  t.match(await outside.json(), { error: { code: 'range_not_satisfiable' } })
  for (const headers of [{ 'if-none-match': `"${sha256}"` }, { 'if-none-match': '*' }, { 'if-modified-since': 'Tue, 14 Nov 2023 22:13:20 GMT' }] as Record<string, string>[]) {
    const answer = await read(headers)
    t.equal(answer.status, 304, JSON.stringify(headers))
    t.equal(answer.headers.get('etag'), `"${sha256}"`)
    t.equal(answer.headers.get('content-disposition'), null)
    t.equal(await answer.text(), '')
  }
  for (const headers of [{ 'if-match': '"other"' }, { 'if-unmodified-since': 'Tue, 14 Nov 2023 22:13:19 GMT' }] as Record<string, string>[]) {
    const answer = await read(headers)
    t.equal(answer.status, 412, JSON.stringify(headers))
    t.match(await answer.json(), { error: { code: 'precondition_failed' } })
  }
  t.equal(opened.length, 0)
})

t.test('an empty file is a file', async t => {
  const { read } = await start(t, { content: new Uint8Array() })
  const answer = await read()
  t.same([answer.status, answer.headers.get('content-length'), await answer.text()], [200, '0', ''])
  t.equal((await read({ range: 'bytes=0-' })).status, 416)
  t.equal((await read({ range: 'bytes=-1' })).status, 200)
})

t.test('a type that is none is only bytes', async t => {
  const { read } = await start(t, { file: { contentType: 'text/html\r\nx: y' } })
  t.equal((await read()).headers.get('content-type'), 'application/octet-stream')
})

t.test('an object that is not there behind its row is a fault of the store, and the answer an error like any other', async t => {
  const { read, store, file, logged } = await start(t)
  await store.delete(file.key)
  const answer = await read()
  t.equal(answer.status, 502)
  t.match(await answer.json(), { error: { code: 'storage_unavailable', message: 'object storage could not be read' } })
  for (const name of ['etag', 'content-disposition', 'repr-digest', 'accept-ranges', 'last-modified', 'cache-control']) t.equal(answer.headers.get(name), null, name)
  await eventually(() => assert.equal(logged('http.request.failed').length, 1))
  t.match(logged('http.request.failed'), [{ code: 'S3_GET_FAILED', err: { type: 'ObjectNotFound' } }])
})

t.test('an object of another size than its row says is not passed on', async t => {
  const { read, opened } = await start(t, { file: { size: 299_999 } })
  const answer = await read()
  t.equal(answer.status, 502)
  t.match(await answer.json(), { error: { code: 'storage_unavailable' } })
  t.ok(opened[0]?.body.destroyed, 'the store is let go of')
})

/** A store whose bodies break off behind so many bytes. */
function breaking(after: number): (store: ObjectStore) => ObjectStore {
  return store => ({
    ...store,
    async open(key, options) {
      const { body, ...info } = await store.open(key, options)
      async function* some(): AsyncGenerator<Buffer> {
        let left = after
        for await (const chunk of body) {
          if (left <= 0) break
          yield (chunk as Buffer).subarray(0, left)
          left -= (chunk as Buffer).length
        }
        throw new ObjectStoreFailed('the store is gone')
      }
      return { ...info, body: Readable.from(some(), { objectMode: false }) }
    }
  })
}

t.test('a store that dies on the way breaks the connection', async t => {
  const { read, logged } = await start(t, { over: breaking(70_000) })
  const answer = await read()
  t.equal(answer.status, 200)
  await t.rejects(answer.arrayBuffer(), 'what is missing shows')
  await eventually(() => assert.equal(logged('http.response.cut').length, 1))
})

t.test('one that dies before the first byte is answered as an error', async t => {
  const { read } = await start(t, { over: breaking(0) })
  const answer = await read()
  t.equal(answer.status, 502)
  t.match(await answer.json(), { error: { code: 'storage_unavailable' } })
  t.equal(answer.headers.get('content-disposition'), null)
  t.equal(answer.headers.get('etag'), null)
})

t.test('a client that goes lets go of the store', async t => {
  const { port, path, opened, logged } = await start(t, { content: randomBytes(20_000_000) })
  const client = await rawClient(port)
  client.socket.pause()
  client.send(`GET ${path} HTTP/1.1\r\nHost: x.localhost\r\n\r\n`)
  await eventually(() => assert.equal(opened.length, 1))
  t.notOk(opened[0]!.body.destroyed)
  client.hangUp()
  await eventually(() => assert.ok(opened[0]!.body.destroyed))
  await eventually(() => assert.equal(logged('http.request.completed').at(-1)?.aborted, true))
  t.same(logged('http.response.cut'), [], 'which is no error')
})

t.test('a client that goes while the store is being asked ends the question', async t => {
  let aborted = false
  const { port, path, logged } = await start(t, {
    over: store => ({
      ...store,
      open: async (_key, { signal } = {}) => {
        await once(signal!, 'abort')
        aborted = true
        throw new ObjectStoreFailed('cancelled')
      }
    })
  })
  const client = await rawClient(port)
  client.send(`GET ${path} HTTP/1.1\r\nHost: x.localhost\r\n\r\n`)
  await delay(50)
  client.hangUp()
  await eventually(() => assert.ok(aborted))
  await eventually(() => assert.equal(logged('http.request.completed').length, 1))
  t.same(logged('http.request.failed'), [])
})

t.test('a download is good once, whole and on no condition', async t => {
  const { call, jobs, file, url } = await start(t)
  const job = [...jobs.jobs.keys()][0]!
  const answer = await call('POST', `/api/v1/jobs/${job}/download-tokens`, { body: { name: 'image.png', expires_in: 600 } })
  t.equal(answer.status, 200)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  const { url: path, ...rest } = await answer.json() as { url: string }
  t.same([path, rest], ['/api/v1/downloads/a-token-that-nobody-guesses', { expires_at: '2023-11-14T22:13:20.000Z' }])
  t.same(jobs.calls.at(-1)?.args, [job, { name: 'image.png', expires_in: 600 }])
  jobs.downloads.set('a-token-that-nobody-guesses', file)
  t.equal((await fetch(url + path, { method: 'HEAD' })).status, 405, 'to look is not to use it up')
  const download = await fetch(url + path, { headers: { range: 'bytes=0-1', 'if-none-match': '*', authorization: 'Bearer wrong' } })
  t.equal(download.status, 200)
  t.same([download.headers.get('accept-ranges'), download.headers.get('cache-control'), download.headers.get('etag')], ['none', 'no-store', null])
  t.ok((await bytesOf(download)).equals(bytes))
  const again = await fetch(url + path)
  t.equal(again.status, 404)
  t.match(await again.json(), { error: { code: 'file_not_found' } })
})

t.test('what can be no token is not looked up', async t => {
  const { call, jobs } = await start(t)
  for (const token of ['x', 'a'.repeat(257), '%00'.repeat(20), 'a-token-that/nobody', '..%2f..%2f..%2f..%2f']) t.ok([400, 404].includes((await call('GET', `/api/v1/downloads/${token}`)).status), token)
  t.same(jobs.calls.filter(({ name }) => name === 'takeDownload'), [])
})

t.test('a token lives as long as is asked for, within bounds', async t => {
  const { call, jobs } = await start(t)
  const path = `/api/v1/jobs/${[...jobs.jobs.keys()][0]}/download-tokens`
  t.equal((await call('POST', path, { body: { name: 'image.png' } })).status, 200)
  t.same(jobs.calls.at(-1)?.args[1], { name: 'image.png', expires_in: 3600 })
  for (const body of [{}, { name: '' }, { name: 'x', expires_in: 0 }, { name: 'x', expires_in: 86_401 }, { name: 'x', expires_in: '60' }, { name: 'x', expires_in: 1.5 }, { name: 'x\u0000' }, { name: 'x', more: 1 }]) {
    t.equal((await call('POST', path, { body })).status, 400, JSON.stringify(body))
  }
  jobs.fail.set('downloadToken', new (await import('../../src/errors.ts')).PenstockError('RESULT_NOT_FOUND'))
  t.match(await (await call('POST', path, { body: { name: 'other' } })).json(), { error: { code: 'result_not_found' } })
})
