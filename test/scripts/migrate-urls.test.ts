import { createServer as createHttp, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fetchUrl } from '../../scripts/migrate/fetch-url.ts'
import { urlsSource } from '../../scripts/migrate/urls.ts'
import { migration, readReport, tempFolder } from '../support/migrate.ts'

const user = { account: 'acme', subject: null }
const asUser = ['--account', 'acme']

async function listen(t: Test, server: Server): Promise<string> {
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  t.teardown(() => new Promise(done => {
    server.close(done)
    ;(server as { closeAllConnections?: () => void }).closeAllConnections?.()
  }))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Answers each connection with these very bytes, and then closes, resets or leaves it. */
async function rawServer(t: Test, answer: string, then: 'end' | 'reset' | 'leave'): Promise<string> {
  return await listen(t, createServer(socket => {
    socket.on('error', () => {})
    socket.once('data', () => {
      socket.write(answer, () => {
        if (then === 'end') socket.end()
        if (then === 'reset') socket.resetAndDestroy()
      })
    })
    t.teardown(() => { socket.destroy() })
  }))
}

const answers: Record<string, (request: IncomingMessage, response: ServerResponse) => void> = {
  '/plain.txt': (_, response) => response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8', 'content-length': 5 }).end('plain'),
  '/chunked': (_, response) => {
    response.writeHead(200, { 'content-type': 'text/csv', 'content-disposition': `attachment; filename="x.csv"; filename*=UTF-8''na%C3%AFve%20list.csv` })
    response.write('a,b\n')
    response.end('1,2\n')
  },
  '/quoted': (_, response) => response.writeHead(200, { 'content-disposition': 'inline; filename="a \\"b\\".txt"', 'content-length': 1 }).end('q'),
  '/moved': (_, response) => response.writeHead(302, { location: '/plain.txt' }).end(),
  '/loop': (_, response) => response.writeHead(301, { location: '/loop' }).end(),
  '/to-file': (_, response) => response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
  '/missing': (_, response) => response.writeHead(404).end('<html>not here</html>'),
  '/broken': (_, response) => response.writeHead(503).end(),
  '/part': (_, response) => response.writeHead(206, { 'content-length': 1 }).end('x'),
  '/nowhere': (_, response) => response.writeHead(302).end(),
  '/packed': (_, response) => response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': 3 }).end('abc'),
  '/over': (_, response) => response.writeHead(200, { 'content-length': 1001 }).end(Buffer.alloc(1001)),
  '/over-chunked': (_, response) => {
    response.write(Buffer.alloc(1000))
    response.end('x')
  },
  '/exact': (_, response) => response.writeHead(200, { 'content-length': 1000 }).end(Buffer.alloc(1000)),
  '/dies': (_, response) => {
    response.writeHead(200, { 'content-length': 500 })
    response.write(Buffer.alloc(200), () => response.destroy())
  },
  '/dies-chunked': (_, response) => { response.write(Buffer.alloc(200), () => response.destroy()) },
  '/stalls': (_, response) => {
    response.writeHead(200, { 'content-length': 500 })
    response.write(Buffer.alloc(200))
  }
}

const serve: RequestListener = (request, response) => {
  const answer = answers[new URL(request.url!, 'http://x').pathname]
  if (answer === undefined) return void response.writeHead(404).end()
  answer(request, response)
}

t.test('addresses become files; what is wrong with one of them fails alone and leaves nothing', async t => {
  const url = await listen(t, createHttp(serve))
  const closed = await rawServer(t, 'HTTP/1.0 200 OK\r\n\r\nno length', 'end')
  const short = await rawServer(t, 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort', 'end')
  const rubbish = await rawServer(t, 'SSH-2.0-x\r\n', 'end')
  const reset = await rawServer(t, '', 'reset')
  const dead = await listen(t, createHttp(serve)).then(address => address.replace(/\d+$/, '1'))
  const good = ['/plain.txt?token=secret', '/chunked', '/quoted', '/moved', '/exact\tgiven name.bin', '/plain.txt?token=secret']
  const bad: [string, RegExp][] = [
    [`${url}/loop`, /^leads to more than 5 redirects$/], [`${url}/to-file`, /^is no http or https address$/], [`${url}/missing`, /^answered 404$/],
    [`${url}/broken`, /^answered 503$/], [`${url}/part`, /^answered 206$/], [`${url}/nowhere`, /^answered 302$/], [`${url}/packed`, /^was sent as gzip/],
    [`${url}/over`, /^has more than 1000 bytes$/], [`${url}/over-chunked`, /^has more than 1000 bytes$/],
    [`${url}/dies`, /^broke off: /], [`${url}/dies-chunked`, /^broke off: /], [`${url}/stalls`, /^stopped arriving$/],
    [closed, /^was sent without a length/], [short, /^broke off: /], [rubbish, /^cannot be fetched: /], [reset, /^cannot be fetched: /], [dead, /^cannot be fetched: .*ECONNREFUSED/],
    ['ftp://x/y', /^is no http or https address$/], ['not an address', /^is no http or https address$/], [url.replace('//', '//user:pw@'), /^holds a user name or password$/],
    [`${url}/${'x'.repeat(9000)}`, /^is no http or https address$/], [`${url}/${'x'.repeat(20_000)}`, /^has more than 16384 characters$/]
  ]
  const list = join(await tempFolder(t), 'list.txt')
  await writeFile(list, `\uFEFF# a list\r\n\r\n${[...good.map(path => url + path), ...bad.map(([address]) => address)].join('\r\n')}`)
  const m = await migration(t, { UPLOAD_IDLE_TIMEOUT_MS: '500' })
  const report = join(await tempFolder(t), 'report.json')
  const run = (): ReturnType<typeof m.run> => m.run('from-urls', list, ...asUser, '--allow-private', '--max-bytes', '1000', '--concurrency', '8', '--report', report, '--verify')
  const first = await run()
  t.match(first, { code: 1, stderr: '', stdout: new RegExp(`done +5 +1019 B\nskipped +1\nfailed +${bad.length}\n`) })
  t.notMatch(first.stdout + JSON.stringify(await readReport(report)), /secret/, 'what follows the ? is nobody\'s business')
  const failed = (await readReport(report)).entries.filter(({ outcome }) => outcome === 'failed')
  for (const [index, [address, reason]] of bad.entries()) {
    t.match(failed.find(({ name }) => name.startsWith(`line ${index + good.length + 3}`))?.reason, reason, address.slice(0, 60))
  }
  const files = await m.files(user)
  t.match(files.map(({ filename, contentType }) => [filename, contentType]), [
    ['a_b_.txt', 'text/plain'], ['given name.bin', 'application/octet-stream'], ['naïve list.csv', 'text/csv'], ['moved', 'text/plain'], ['plain.txt', 'text/plain']
  ].toSorted((a, b) => a[0]! < b[0]! ? -1 : 1))
  t.match(await run(), { code: 1, stdout: new RegExp(`done +0 +0 B\nskipped +6\nfailed +${bad.length}\n`) })
  t.same(await m.files(user), files)
  await m.tidy(files)
})

t.test('without --allow-private nothing of a private network is asked, by whatever name', async t => {
  let asked = 0
  const url = await listen(t, createHttp((_, response) => {
    asked += 1
    response.end('inside')
  }))
  const { port } = new URL(url)
  const list = join(await tempFolder(t), 'list.txt')
  const addresses = [url, `http://localhost:${port}/`, `http://[::1]:${port}/`, `http://[::ffff:127.0.0.1]:${port}/`, `http://2130706433:${port}/`, 'http://10.0.0.1/', 'http://169.254.169.254/latest/meta-data/', 'http://[fd00::1]/']
  await writeFile(list, addresses.join('\n'))
  const m = await migration(t)
  t.match(await m.run('from-urls', list, ...asUser), { code: 1, stdout: /done +0 +0 B\nskipped +0\nfailed +8\n/ })
  t.equal(asked, 0)
  t.same(await m.files(user), [])
  t.match(await m.run('from-urls', list, ...asUser, '--dry-run'), { code: 1, stdout: /planned +1 +0 B\nskipped +0\nfailed +7\n/ }, 'a dry run looks up no names')
})

t.test('a server that answers nothing, or sends forever, is left in time', async t => {
  const silent = await rawServer(t, '', 'leave')
  const endless = await listen(t, createHttp((_, response) => {
    const timer = setInterval(() => response.write('x'), 20)
    response.once('close', () => clearInterval(timer))
  }))
  const options = { allowPrivate: true, signal: new AbortController().signal, bodyTimeoutMs: 300, answerTimeoutMs: 100 }
  await t.rejects(fetchUrl(silent, options), { message: 'did not answer within 0.1 s' })
  const { body } = await fetchUrl(endless, options)
  await t.rejects(Array.fromAsync(body), { message: 'took longer than 0.3 s' })
  const stop = new AbortController()
  const fetching = fetchUrl(silent, { ...options, answerTimeoutMs: 60_000, bodyTimeoutMs: 60_000, signal: stop.signal })
  stop.abort()
  await t.rejects(fetching, /cannot be fetched: .*abort/)
})

t.test('a list that can be read no more ends the run, and not in silence', async t => {
  await t.rejects(urlsSource('/does/not/exist', { allowPrivate: false, bodyTimeoutMs: 1 }), /cannot be read: ENOENT/)
  const folder = await tempFolder(t)
  const source = await urlsSource(folder, { allowPrivate: false, bodyTimeoutMs: 1 })
  await t.rejects(Array.fromAsync(source.entries(new AbortController().signal)), /the list cannot be read: EISDIR/)
})
