import { randomBytes, randomUUID } from 'node:crypto'
import { request } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import sharp from 'sharp'
import t from 'tap'
import { mediaToken } from '../../src/files/media-token.ts'
import { sweep } from '../../src/ingest/sweep.ts'
import { canonicalKey } from '../../src/objects/keys.ts'
import { openObjectStore, openRecordStore } from '../../src/stores.ts'
import { begin, complete, keep, listed, PNG, put, sha256Of } from '../support/media.ts'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { administrator, guest, PEOPLE_ENV, publicForm, user } from '../support/people.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { ask, read } from '../support/shared-files.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const SECRET = 'a-secret-of-addresses-of-the-tests'
const ENV = { ...PEOPLE_ENV, SIGNED_URL_SECRET: SECRET }
const canonicalOf = (bytes: Uint8Array) => canonicalKey(sha256Of(bytes), 'object')

t.test('init, PUT, complete: the bytes are in the library, under a name of the caller', async t => {
  const app = await startApp(t, { ...ENV, PUBLIC_BASE_URL: 'https://media.example.com' })
  const ada = await user(app, 'ada')
  const begun = await begin(app, ada, { filename: '../my  cät.png', size: PNG.length })
  t.match(begun, { uploadURL: /^https:\/\/media\.example\.com\/media\/upload\/[\w.-]+$/, objectPath: /^media\/[0-9a-f]{32}\/[0-9a-f-]{36}\/_my_cät\.png$/, requiredHeaders: { 'content-type': 'image/png' }, maxBytes: 524_288_000 })
  const left = Date.parse(begun.expiresAt) - Date.now()
  t.ok(left > 14 * 60_000 && left <= 15 * 60_000, `${left} ms`)
  t.match(await complete(app, ada, begun.objectPath), { status: 404, body: { error: { code: 'file_not_found' } } }, 'before the bytes')
  const sent = await put(app, { ...begun, uploadURL: new URL(begun.uploadURL).pathname }, PNG)
  t.equal(sent.status, 200)
  t.match(sent.headers.get('etag'), /^"[^"]+"$/)
  t.strictSame((await listed(app, ada)).items, [], 'not shown before it is complete')
  t.equal((await read(app, `/${encodeURI(begun.objectPath)}`, ada)).status, 404)

  const done = await complete(app, ada, begun.objectPath)
  const address = `/${encodeURI(begun.objectPath)}`
  t.strictSame([done.status, done.body], [200, { url: `https://media.example.com${address}`, path: begun.objectPath }])
  t.strictSame((await complete(app, ada, begun.objectPath)).body, done.body, 'again')
  const { items, next_cursor } = await listed(app, ada)
  t.match(items, [{ path: begun.objectPath, url: done.body.url, size: PNG.length, contentType: 'image/png', lastModified: /Z$/ }])
  t.equal(next_cursor, null)

  const answer = await fetch(app.url + address, { headers: ada })
  t.strictSame(Buffer.from(await answer.arrayBuffer()), PNG)
  t.match(Object.fromEntries(answer.headers), {
    'content-type': 'image/png', 'content-length': String(PNG.length), etag: `"${sha256Of(PNG)}"`, 'accept-ranges': 'bytes', 'x-content-type-options': 'nosniff',
    'content-disposition': /^attachment; .*filename\*=UTF-8''_my_c%C3%A4t\.png$/
  })
  t.match((await read(app, `${address}?inline=1`, ada)).headers, { 'content-disposition': /^inline/ })
  t.match(await read(app, address, { ...ada, range: 'bytes=0-3' }), { status: 206, headers: { 'content-range': `bytes 0-3/${PNG.length}`, 'content-length': '4' } })
  t.match(await read(app, address, { ...ada, 'if-none-match': `"${sha256Of(PNG)}"` }), { status: 304 })
  t.match(await read(app, address, ada, 'HEAD'), { status: 200, headers: { 'content-length': String(PNG.length) }, text: '' })
  await nothingLeft(app, [canonicalOf(PNG)])

  t.match(await ask(app, 'DELETE', address, undefined, ada), { status: 204 })
  for (const method of ['GET', 'DELETE'] as const) t.equal((await fetch(app.url + address, { method, headers: ada })).status, 404, method)
  t.equal((await complete(app, ada, begun.objectPath)).status, 404, 'what was removed is not brought back')
  t.strictSame((await listed(app, ada)).items, [])
})

t.test('an upload address is used once', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const begun = await begin(app, ada)
  const other = Buffer.concat([PNG, Buffer.from('more')])
  t.equal((await put(app, begun, PNG)).status, 200)
  t.match(await put(app, begun, other), { status: 410, body: { error: { code: 'gone' } } })
  await complete(app, ada, begun.objectPath)
  t.equal((await put(app, begun, other)).status, 410, 'and not after completion')
  t.strictSame((await read(app, `/${begun.objectPath}`, ada)).headers.etag, `"${sha256Of(PNG)}"`)
  await nothingLeft(app, [canonicalOf(PNG)])
})

t.test('of two bodies at once one counts, and the other leaves nothing', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const begun = await begin(app, ada, { contentType: 'application/octet-stream' })
  const bodies = [randomBytes(300_000), randomBytes(300_000), randomBytes(300_000)]
  const answers = await Promise.all(bodies.map(bytes => put(app, begun, bytes)))
  t.strictSame(answers.map(({ status }) => status).toSorted(), [200, 410, 410])
  t.equal((await complete(app, ada, begun.objectPath)).status, 200)
  const winner = bodies[answers.findIndex(({ status }) => status === 200)]!
  t.equal((await read(app, `/${begun.objectPath}`, ada)).headers.etag, `"${sha256Of(winner)}"`)
  await nothingLeft(app, [canonicalOf(winner)])
})

t.test('an address that is over, changed by one bit, or of another secret, is no credential', async t => {
  const app = await startApp(t, ENV)
  const { uploadURL, requiredHeaders } = await begin(app, await user(app, 'ada'))
  const token = uploadURL.split('/').at(-1)!
  const [id = '', expires = '', signature = ''] = token.split('.')
  const address = (text: string) => ({ uploadURL: `/media/upload/${text}`, requiredHeaders })
  for (const index of [0, 5, token.indexOf('.') + 3, token.lastIndexOf('.') + 1, token.length - 1]) {
    const bytes = Buffer.from(token)
    bytes[index]! ^= 1
    t.match(await put(app, address(bytes.toString('latin1').replaceAll('/', '%2F')), PNG), { status: 401, body: { error: { code: 'invalid_token' } } }, `bit 0 of character ${index}`)
  }
  for (const bad of ['', 'x', `${id}.${expires}`, `${id}.${expires}.`, `${id}.${Number(expires) + 60}.${signature}`, `${randomUUID()}.${expires}.${signature}`, `${token}A`, `${token}=`, mediaToken({ id, expires: Number(expires) }, 'another-secret-of-addresses')]) {
    const { status } = await put(app, address(bad), PNG)
    t.ok(status === 401 || (bad === '' && status >= 400), `${bad || 'none'}: ${status}`)
  }
  const over = mediaToken({ id, expires: Math.floor(Date.now() / 1000) }, SECRET)
  t.match(await put(app, address(over), PNG), { status: 401, body: { error: { code: 'token_expired' } } })
  t.equal((await put(app, address(token), PNG)).status, 200, 'the real one is as good as it was')
})

t.test('without a secret in the configuration all nodes draw the same', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const begun = await begin(app, await user(app, 'ada'))
  const second = await startApp(t, { ...PEOPLE_ENV, DATA_DIR: app.dataDir })
  t.equal((await put(second, begun, PNG)).status, 200)
})

t.test('what was declared is what is taken: size, type, length, and no more than the cap', async t => {
  const app = await startApp(t, { ...ENV, MAX_MEDIA_SIZE_BYTES: '1000' })
  const ada = await user(app, 'ada')
  const begun = await begin(app, ada, { size: PNG.length })
  for (const [bytes, headers] of [[PNG.subarray(1), {}], [Buffer.concat([PNG, PNG]), {}], [PNG, { 'content-type': 'text/html' }], [Buffer.alloc(0), {}]] as const) {
    t.match(await put(app, begun, bytes, headers), { status: 400, body: { error: { code: 'validation_error' } } })
  }
  t.equal((await put(app, begun, PNG)).status, 200, 'the right one after all')
  const free = await begin(app, ada, { contentType: 'application/octet-stream' })
  t.equal(free.maxBytes, 1000)
  t.match(await put(app, free, Buffer.alloc(1001)), { status: 413, body: { error: { code: 'file_too_large', details: { limit_bytes: 1000 } } } })
  t.equal((await put(app, free, Buffer.alloc(1000))).status, 200, 'just the cap')
  t.match(await ask(app, 'POST', '/media/upload/init', { filename: 'a', contentType: 'image/png', size: 1001 }, ada), { status: 413, body: { error: { code: 'file_too_large' } } })
  for (const body of [{}, { filename: 'a' }, { filename: '', contentType: 'image/png' }, { filename: 'a', contentType: 'image' }, { filename: 'a', contentType: 'image/png; x=1' }, { filename: 'a', contentType: 'a/b\r\nx: y' }, { filename: 'a', contentType: 'image/png', size: 0 }, { filename: 'a', contentType: 'image/png', size: 1.5 }, { filename: 'a', contentType: 'image/png', path: 'x' }]) {
    t.equal((await ask(app, 'POST', '/media/upload/init', body, ada)).status, 400, JSON.stringify(body))
  }
  const chunked = await begin(app, ada, { contentType: 'text/plain' })
  const client = await rawClient(app.port)
  client.send(`PUT ${new URL(chunked.uploadURL, app.url).pathname} HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`)
  t.equal((await client.answer()).status, 400)
  client.hangUp()
})

t.test('what a file is called and is said to be makes nothing dangerous of it', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const html = Buffer.from('<!doctype html><script>alert(1)</script>')
  for (const [bytes, contentType, expected] of [[html, 'text/html', 'application/octet-stream'], [Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), 'image/svg+xml', 'application/octet-stream'], [PNG, 'text/plain', 'image/png'], [Buffer.from('hello'), 'text/plain', 'text/plain']] as const) {
    const path = await keep(app, ada, bytes, { contentType, filename: 'a b\r\n"%2e%2e\u202e.html' })
    t.match(await read(app, `/${path.split('/').map(encodeURIComponent).join('/')}?inline=1`, ada), { status: 200, headers: { 'content-type': expected, 'x-content-type-options': 'nosniff' } }, contentType)
  }
})

t.test('a client that hangs up leaves nothing, and may try again', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const begun = await begin(app, ada, { contentType: 'application/octet-stream' })
  const bytes = randomBytes(200_000)
  const client = await rawClient(app.port)
  client.send(`PUT ${new URL(begun.uploadURL, app.url).pathname} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\ncontent-length: ${bytes.length}\r\n\r\n`)
  client.send(bytes.subarray(0, 100_000))
  await eventually(() => { if (app.logged('ingest.upload.put_start').length === 0) throw new Error('not yet') })
  client.hangUp()
  await eventually(() => { if (app.logged('media.upload.client_aborted').length === 0) throw new Error('not yet') })
  await nothingLeft(app)
  t.equal((await complete(app, ada, begun.objectPath)).status, 404)
  t.equal((await put(app, begun, bytes)).status, 200)
  t.equal((await complete(app, ada, begun.objectPath)).status, 200)
})

t.test('a body that stops arriving is ended', async t => {
  const app = await startApp(t, { ...ENV, UPLOAD_IDLE_TIMEOUT_MS: '200' })
  const begun = await begin(app, await user(app, 'ada'))
  const client = await rawClient(app.port)
  client.send(`PUT ${new URL(begun.uploadURL, app.url).pathname} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: 100\r\n\r\nabc`)
  t.equal((await client.answer()).status, 408)
  client.hangUp()
  await nothingLeft(app)
})

t.test('two that complete at once get the same answer', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  for (let round = 0; round < 5; round++) {
    const begun = await begin(app, ada)
    await put(app, begun, PNG)
    const answers = await Promise.all(Array.from({ length: 6 }, () => complete(app, ada, begun.objectPath)))
    t.strictSame(answers.map(({ status }) => status), Array.from(answers, () => 200))
    t.equal(new Set(answers.map(({ body }) => JSON.stringify(body))).size, 1)
  }
  t.equal((await listed(app, ada)).items.length, 5)
  await nothingLeft(app, [canonicalOf(PNG)])
})

t.test('a service that dies between the bytes and their completion loses nothing', async t => {
  const first = await startApp(t, { ...ENV })
  const ada = await user(first, 'ada')
  const begun = await begin(first, ada)
  await put(first, begun, PNG)
  await first.app.stop()
  const second = await startApp(t, { ...ENV, DATA_DIR: first.dataDir })
  t.equal((await complete(second, ada, begun.objectPath)).status, 200)
  t.equal((await read(second, `/${begun.objectPath}`, ada)).status, 200)
})

t.test('what was swept meanwhile is as if it never came', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const begun = await begin(app, ada)
  await put(app, begun, PNG)
  const [store, records] = [openObjectStore(app.config), openRecordStore(app.config)]
  t.teardown(() => Promise.all([store.close(), records.close()]))
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  t.match(await sweep({ store, records, log }, new Date(Date.now() + 1000), new AbortController().signal), { uploads: 1, failed: 0 })
  await nothingLeft(app)
  t.match(await complete(app, ada, begun.objectPath), { status: 404, body: { error: { code: 'file_not_found' } } })
})

/** A GET of just this target, which `fetch` would tidy up. */
async function getRaw(app: StartedApp, path: string, headers: Record<string, string>, method = 'GET'): Promise<{ status: number, body: string }> {
  return await new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port: app.port, path, headers, method, agent: false }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => { body += text }).on('end', () => resolve({ status: response.statusCode!, body }))
    }).on('error', reject).end()
  })
}

t.test('paths with dots, absolute ones, encoded ones and those of others are not there, and all say the same', async t => {
  const app = await startApp(t, ENV)
  const [ada, bob, eve] = [await user(app, 'ada'), await user(app, 'bob'), await user(app, 'ada', 'other')]
  const path = await keep(app, ada)
  const [, me = '', id = '', name = ''] = path.split('/')
  const paths = [
    `/media/${me}/../${me}/${id}/${name}`, `/media/./${me}/${id}/${name}`, `/media//${me}/${id}/${name}`, `/media/${me}/${id}//${name}`, `/media/${me}%2F${id}/${name}`, `/media/${me}/${id}%2f${name}`,
    `/media/%2e%2e/media/${me}/${id}/${name}`, `/media/..%2f..%2fetc/passwd`, `/media/%2Fetc%2Fpasswd`, `/media/C:%5Cwindows`, `/media/${me}/${id}/${name}%00`, `/media/${me}/${id}/${name}/`, `/media/${me}/${id}`, `/media/${me}/`,
    `/media/${me.toUpperCase()}/${id}/${name}`, `/media/${me}/${id.toUpperCase()}/${name}`, `/media/${me}/${randomUUID()}/${name}`, `/media/${me}/images/${id}_0.png`, `/media/${me}/${id}/${name}%20`, `/media/${me}/..`,
    `/media/x`, `/media/${'0'.repeat(32)}/${id}/${name}`
  ]
  const missing = (await getRaw(app, `/media/${me}/${randomUUID()}/x`, ada))
  const message = (JSON.parse(missing.body) as { error: { message: string } }).error.message
  t.equal(missing.status, 404)
  for (const each of paths) {
    for (const method of ['GET', 'DELETE']) {
      const { status, body } = await getRaw(app, each, ada, method)
      t.equal(status, 404, `${method} ${each}`)
      t.match(JSON.parse(body), { error: { code: /^(file_)?not_found$/ } }, `${method} ${each}`)
    }
    t.equal((await getRaw(app, each, ada, 'HEAD')).status, 404, `HEAD ${each}`)
  }
  for (const headers of [bob, eve, administrator]) {
    for (const method of ['GET', 'DELETE']) t.match(JSON.parse((await getRaw(app, `/${path}`, headers, method)).body), { error: { code: 'file_not_found', message } })
    t.equal((await complete(app, headers, path)).status, 404)
    t.strictSame((await listed(app, headers)).items, [])
  }
  for (const objectPath of [`/${path}`, path.slice(6), `media/../${path}`, `${path}/`, encodeURIComponent(path), path.replace(me, 'ada'), 'x', `${path}\0`]) t.equal((await complete(app, ada, objectPath)).status, 404, objectPath)
  t.equal((await getRaw(app, `/${path}`, ada)).status, 200, 'it is still there')
  t.equal((await getRaw(app, `/%6dedia/${me}/${id}/${name}`, ada)).status, 200, 'an encoding of the same letters is the same path')
})

t.test('an upload of another is not completed, before and after its bytes came', async t => {
  const app = await startApp(t, ENV)
  const [ada, bob] = [await user(app, 'ada'), await user(app, 'bob')]
  const begun = await begin(app, ada)
  t.equal((await complete(app, bob, begun.objectPath)).status, 404)
  await put(app, begun, PNG)
  t.equal((await complete(app, bob, begun.objectPath)).status, 404)
  t.equal((await ask(app, 'DELETE', `/${begun.objectPath}`, undefined, bob)).status, 404)
  t.equal((await complete(app, ada, begun.objectPath)).status, 200)
})

t.test('an upload that is not complete can be given up', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const [early, late] = [await begin(app, ada), await begin(app, ada)]
  await put(app, late, PNG)
  for (const { objectPath } of [early, late]) t.equal((await ask(app, 'DELETE', `/${objectPath}`, undefined, ada)).status, 204)
  t.equal((await put(app, early, PNG)).status, 410)
  t.equal((await complete(app, ada, late.objectPath)).status, 404)
})

t.test('guests, public forms and callers without a credential have no library', async t => {
  const app = await startApp(t, ENV)
  for (const headers of [await guest(app, 'g'), await publicForm(app)]) {
    for (const [method, path, body] of [['POST', '/media/upload/init', { filename: 'a', contentType: 'image/png' }], ['GET', '/media', undefined], ['GET', '/media/a/b/c', undefined], ['GET', '/events', undefined]] as const) {
      t.equal((await ask(app, method, path, body, headers)).status, 403, `${method} ${path}`)
    }
  }
  t.equal((await ask(app, 'GET', '/media')).status, 401)
})

t.test('lists go by prefix and by page', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const paths: string[] = []
  for (let n = 0; n < 5; n++) paths.unshift(await keep(app, ada, Buffer.from(`bytes ${n}`), { filename: `${n}.txt`, contentType: 'text/plain' }))
  const seen: string[] = []
  for (let cursor = ''; ;) {
    const page = await listed(app, ada, `?limit=2${cursor}`)
    seen.push(...page.items.map(({ path }) => path))
    if (page.next_cursor === null) break
    cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`
  }
  t.strictSame(seen.toSorted(), paths.toSorted())
  t.strictSame((await listed(app, ada, `?prefix=${paths[2]!.split('/')[2]}`)).items.map(({ path }) => path), [paths[2]])
  for (const prefix of ['images', 'videos', '..', '%00', '%25']) t.strictSame((await listed(app, ada, `?prefix=${prefix}`)).items, [], prefix)
  for (const query of ['?limit=0', '?limit=101', '?cursor=x', '?limit=x']) t.equal((await ask(app, 'GET', `/media${query}`, undefined, ada)).status, 400, query)
})

t.test('pages of the origins that are listed may send bytes', async t => {
  const app = await startApp(t, { ...ENV, CORS_ORIGIN: 'https://app.example.com' })
  const begun = await begin(app, await user(app, 'ada'))
  const preflight = await fetch(new URL(begun.uploadURL, app.url), { method: 'OPTIONS', headers: { origin: 'https://app.example.com', 'access-control-request-method': 'PUT', 'access-control-request-headers': 'content-type' } })
  t.match(Object.fromEntries(preflight.headers), { 'access-control-allow-origin': 'https://app.example.com', 'access-control-allow-methods': /PUT/ })
  const sent = await put(app, begun, PNG, { origin: 'https://app.example.com' })
  t.match([sent.status, sent.headers.get('access-control-allow-origin')], [200, 'https://app.example.com'])
  t.match(sent.headers.get('access-control-expose-headers'), /ETag/)
})

t.test('files that are removed elsewhere leave the library, and bytes that others point at stay', async t => {
  const app = await startApp(t, ENV)
  const ada = await user(app, 'ada')
  const [first, second] = [await keep(app, ada), await keep(app, ada)]
  await ask(app, 'DELETE', `/files/${first.split('/')[2]}`, undefined, ada)
  t.equal((await read(app, `/${first}`, ada)).status, 404)
  t.equal((await read(app, `/${second}`, ada)).status, 200)
  t.strictSame(await keysOf(app), [canonicalOf(PNG)])
})

t.test('completing with a process makes one job, whose results are media', async t => {
  const app = await startApp(t, { ROLES: 'api,worker', WORKERS: '1', DEVICE: 'cpu' })
  const picture = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#336699' } }).png().toBuffer()
  await eventually(async () => { if ((await fetch(`${app.url}/v2/models/upscale-2x/ready`)).status !== 200) throw new Error('not loaded yet') }, 60_000)
  const begun = await begin(app, {})
  await put(app, begun, picture)
  const process = { model: 'upscale-2x', params: {} }
  t.match(await complete(app, {}, begun.objectPath, { process: { model: 'nobody' } }), { status: 404, body: { error: { code: 'model_not_found' } } })
  const done = await complete(app, {}, begun.objectPath, { process })
  t.match(done, { status: 200, body: { path: begun.objectPath, jobId: /^[0-9a-f-]{36}$/ } })
  t.strictSame((await complete(app, {}, begun.objectPath, { process })).body, done.body, 'the same job')
  const { jobId } = done.body as { jobId: string }
  await eventually(async () => {
    const { body } = await ask(app, 'GET', `/api/v1/jobs/${jobId}`)
    if (body.status !== 'completed') throw new Error(body.status as string)
  }, 60_000)
  const { items } = await listed(app, {}, '?prefix=images')
  const path = `${begun.objectPath.split('/').slice(0, 2).join('/')}/images/${jobId}_0.png`
  t.match(items, [{ path, contentType: 'image/png' }])
  const image = await fetch(`${app.url}/${path}`)
  t.match(await sharp(Buffer.from(await image.arrayBuffer())).metadata(), { width: 16, height: 16, format: 'png' })
  await ask(app, 'DELETE', `/api/v1/jobs/${jobId}`)
  t.strictSame((await listed(app, {}, '?prefix=images')).items, [], 'they go with their job')
  t.equal((await fetch(`${app.url}/${path}`)).status, 404)
})

t.test('where the records fail after the bytes came, the bytes do not stay', async t => {
  const app = await startApp(t, ENV)
  await user(app, 'ada')
  const records = openRecordStore(app.config)
  t.teardown(() => records.close())
  const id = randomUUID()
  await records.media.begin({ id, owner: { subject: 'ada', account: 'acme', clientId: null }, filename: 'a', contentType: 'image/png', size: null, uploadId: null, expiresAt: Date.now() + 60_000 })
  const raw = new DatabaseSync(join(app.dataDir, 'penstock.db'))
  t.teardown(() => raw.close())
  raw.exec(`create trigger fail before update on media_uploads begin select raise(abort, 'no'); end`)
  const address = { uploadURL: `/media/upload/${mediaToken({ id, expires: Math.floor(Date.now() / 1000) + 60 }, SECRET)}`, requiredHeaders: { 'content-type': 'image/png' } }
  t.equal((await put(app, address, PNG)).status, 503)
  await nothingLeft(app)
  raw.exec('drop trigger fail')
  t.equal((await put(app, address, PNG)).status, 200)
})
