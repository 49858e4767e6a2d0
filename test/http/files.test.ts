import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startIssuer } from '../support/jwks.ts'
import { minioOrSkip } from '../support/minio.ts'
import { keysOf } from '../support/nothing-left.ts'
import { administrator, guest, PEOPLE_ENV, publicForm, user } from '../support/people.ts'
import { ask, read, sendForm, share } from '../support/shared-files.ts'
import { startApp } from '../support/start-app.ts'

t.test('own files are listed newest first, by page, type and name', async t => {
  const app = await startApp(t, { ...PEOPLE_ENV, PUBLIC_BASE_URL: 'https://files.example.com' })
  const [ada, bob] = [await user(app, 'ada'), await user(app, 'bob')]
  const names = ['Report.pdf', 'photo ÄÖ.png', 'notes.txt', 'photo 2.jpg']
  const types = ['application/pdf', 'image/png', 'text/plain', 'image/jpeg']
  const ids: string[] = []
  for (const [index, filename] of names.entries()) ids.unshift(await share(app, filename, ada, { filename, type: types[index]!, access: 'public' }))
  await share(app, 'x', bob)
  const list = async (query = '', headers = ada) => (await ask(app, 'GET', `/files${query}`, undefined, headers)).body
  const whole = await list()
  t.strictSame(whole.items.map(({ file_id }: { file_id: string }) => file_id), ids)
  t.match(whole.items[1], { filename: 'notes.txt', content_type: 'text/plain', size: 9, access: 'public', owner: 'ada', account: 'acme', created_at: /Z$/, public_url: `https://files.example.com/files/${ids[1]}` })
  t.strictSame(Object.keys(whole.items[0]).toSorted(), ['access', 'account', 'content_type', 'created_at', 'file_id', 'filename', 'owner', 'public_url', 'sha256', 'size'])
  t.equal(whole.next_cursor, null)
  const seen: string[] = []
  for (let cursor = ''; ;) {
    const page = await list(`?limit=3${cursor}`)
    seen.push(...page.items.map(({ file_id }: { file_id: string }) => file_id))
    if (page.next_cursor === null) break
    cursor = `&cursor=${encodeURIComponent(page.next_cursor)}`
  }
  t.strictSame(seen, ids)
  for (const [query, expected] of [
    ['?type=image/', ['photo 2.jpg', 'photo ÄÖ.png']], ['?type=IMAGE/png', ['photo ÄÖ.png']], ['?q=PHOTO', ['photo 2.jpg', 'photo ÄÖ.png']], [`?q=${encodeURIComponent('äö')}`, ['photo ÄÖ.png']],
    ['?q=photo&type=image/jpeg', ['photo 2.jpg']], ['?q=%25', []]
  ] as const) {
    t.strictSame((await list(query)).items.map(({ filename }: { filename: string }) => filename), expected, query)
  }
  t.strictSame((await list('', administrator)).items, [], 'the administrator has none of its own')
  for (const query of ['?limit=0', '?limit=101', '?limit=x', '?cursor=x', '?type=%20', '?q=', '?limit=1&limit=2']) {
    t.equal((await ask(app, 'GET', `/files${query}`, undefined, ada)).status, 400, query)
  }
})

t.test('its owner and administrators rename a file and say who may read it', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const [ada, bob, eve] = [await user(app, 'ada'), await user(app, 'bob'), await user(app, 'eve', 'other')]
  const id = await share(app, 'x', ada)
  const change = async (body: unknown, headers = ada) => ask(app, 'PATCH', `/files/${id}`, body, headers)
  t.match(await change({ filename: '../a  b.txt' }), { status: 200, body: { file_id: id, filename: '_a_b.txt', access: 'account' } })
  t.match((await read(app, `/files/${id}`, ada)).headers['content-disposition'], 'filename="_a_b.txt"')
  t.match(await change({ access: 'restricted' }, administrator), { status: 200, body: { access: 'restricted', filename: '_a_b.txt' } })
  t.equal((await read(app, `/files/${id}`, bob)).status, 403)
  t.match(await change({ access: 'public', filename: 'b' }), { status: 200, body: { access: 'public', filename: 'b' } })
  for (const headers of [bob, eve]) t.match(await change({ filename: 'mine' }, headers), { status: 403, body: { error: { code: 'forbidden' } } })
  for (const body of [{}, { access: 'all' }, { owner: 'bob' }, { filename: 5 }, [], { filename: 'x'.repeat(1025) }]) t.equal((await change(body)).status, 400, JSON.stringify(body))
  t.equal((await ask(app, 'PATCH', `/files/${randomUUID()}`, { filename: 'x' }, ada)).status, 404)
})

t.test('its owner and administrators remove a file, and that there is none is no error', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const [ada, bob] = [await user(app, 'ada'), await user(app, 'bob')]
  const remove = async (id: string, headers = ada) => (await ask(app, 'DELETE', `/files/${id}`, undefined, headers)).status
  const id = await share(app, 'same', ada, { access: 'public' })
  const twin = await share(app, 'same', bob, { access: 'public' })
  t.equal(await remove(id, bob), 403)
  t.equal(await remove(id), 204)
  t.equal(await remove(id), 204)
  t.equal(await remove(id, bob), 204)
  t.equal(await remove(randomUUID()), 204)
  t.equal(await remove('x'), 204)
  t.equal((await read(app, `/files/${id}`, ada)).status, 404)
  t.equal((await read(app, `/files/${twin}`, ada)).text, 'same', 'the bytes are there as long as a file points at them')
  t.equal(await remove(twin, administrator), 204)
  t.equal((await read(app, `/files/${twin}`, bob)).status, 404)
})

t.test('public forms read what callers without a user id brought into the account, and change and list none of it', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const [form, otherForm, elsewhere, ada, visitor] = [await publicForm(app), await publicForm(app), await publicForm(app, 'other'), await user(app, 'ada'), await guest(app, 'visitor')]
  const id = await share(app, 'x', form, { access: 'restricted' })
  t.equal((await read(app, `/files/${id}`, otherForm)).status, 200)
  for (const [method, path, body] of [['PATCH', '', { filename: 'y' }], ['PUT', '/grants/ada', undefined], ['POST', '/signed-url', { expires_in: 60 }]] as const) {
    t.equal((await ask(app, method, `/files/${id}${path}`, body, form)).status, 404, `${method} by whoever sees the token in a page`)
  }
  t.equal((await ask(app, 'DELETE', `/files/${id}`, undefined, form)).status, 204)
  t.equal((await read(app, `/files/${id}`, form)).status, 200, 'nothing was removed')
  t.match(await ask(app, 'GET', '/files', undefined, form), { status: 403, body: { error: { code: 'forbidden' } } })
  for (const [headers, status] of [[elsewhere, 404], [visitor, 404], [ada, 403]] as const) t.equal((await read(app, `/files/${id}`, headers)).status, status)
})

t.test('a service outside any account owns nothing, least of all what an administrator brought', async t => {
  const issuer = await startIssuer(t)
  const app = await startApp(t, { ...PEOPLE_ENV, ...issuer.env })
  const nobody = await issuer.bearer({ sub: undefined, client_id: 'app', tenant_id: undefined, account_id: undefined })
  const id = await share(app, 'x', administrator)
  t.equal((await read(app, `/files/${id}`, nobody)).status, 403)
  t.equal((await ask(app, 'PATCH', `/files/${id}`, { access: 'public' }, nobody)).status, 403)
  t.equal((await ask(app, 'DELETE', `/files/${id}`, undefined, nobody)).status, 403)
  t.equal((await sendForm(app, [{ name: 'file', filename: 'a', type: 'text/plain', bytes: 'x' }], nobody)).status, 403)
  for (const path of ['/files', '/media', '/events']) t.match(await ask(app, 'GET', path, undefined, nobody), { status: 403, body: { error: { code: 'forbidden', message: /neither a user nor an account/ } } }, path)
  await ask(app, 'PATCH', `/files/${id}`, { access: 'public' }, administrator)
  t.equal((await read(app, `/files/${id}`, nobody)).status, 200, 'what every caller may read it may')
})

t.test('grants', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const [ada, bob] = [await user(app, 'ada'), await user(app, 'bob/ü')]
  const id = await share(app, 'x', ada, { access: 'restricted' })
  const grant = async (method: string, subject: string, headers = ada, file = id) => (await ask(app, method, `/files/${file}/grants/${encodeURIComponent(subject)}`, undefined, headers)).status
  t.equal(await grant('PUT', 'bob/ü', bob), 403, 'nobody shares with himself')
  t.equal(await grant('PUT', 'bob/ü'), 204)
  t.equal(await grant('PUT', 'bob/ü'), 204)
  t.equal((await read(app, `/files/${id}`, bob)).status, 200)
  t.equal((await ask(app, 'PATCH', `/files/${id}`, { filename: 'x' }, bob)).status, 403, 'who may read may not change')
  await ask(app, 'PATCH', `/files/${id}`, { access: 'account' }, ada)
  await ask(app, 'PATCH', `/files/${id}`, { access: 'restricted' }, ada)
  t.equal(await grant('DELETE', 'bob/ü', administrator), 204)
  t.equal(await grant('DELETE', 'bob/ü'), 204)
  t.equal((await read(app, `/files/${id}`, bob)).status, 403)
  t.equal(await grant('PUT', 'bob', ada, randomUUID()), 404)
  t.equal(await grant('PUT', 'a\u0000b'), 400)
  t.equal(await grant('PUT', 'x'.repeat(300)), 400)
  t.equal((await ask(app, 'GET', `/files/${id}/grants/bob`, undefined, ada)).status, 405)
})

t.test('over S3 and where clients reach the store: bytes come from it with their name and type', async t => {
  const minio = await minioOrSkip(t)
  if (minio === undefined) return
  const s3 = { OBJECT_STORE: 's3', S3_ENDPOINT: minio.endpoint, S3_BUCKET: await minio.bucket(), S3_ACCESS_KEY_ID: minio.accessKeyId, S3_SECRET_ACCESS_KEY: minio.secretAccessKey }
  const app = await startApp(t, { ...PEOPLE_ENV, ...s3, PUBLIC_S3_ENDPOINT: minio.endpoint })
  const ada = await user(app, 'ada')
  const id = await share(app, '%PDF-1.7 of some kind', ada, { filename: 'Größe (1).pdf' })
  t.equal((await keysOf(app)).length, 1)
  t.equal((await read(app, `/files/${id}`, ada)).text, '%PDF-1.7 of some kind')
  for (const [query, kind] of [['?redirect=1', 'attachment'], ['?redirect=1&inline=1', 'inline']] as const) {
    const sent = await read(app, `/files/${id}${query}`, ada)
    t.equal(sent.status, 302)
    t.equal(sent.headers['cache-control'], 'no-store')
    const address = sent.headers.location!
    t.ok(address.startsWith(`${minio.endpoint}/`))
    const answer = await fetch(address)
    t.equal(answer.status, 200)
    t.match(Object.fromEntries(answer.headers), { 'content-type': 'application/pdf', 'content-disposition': new RegExp(`^${kind}; .*filename\\*=UTF-8''Gr%C3%B6%C3%9Fe_1_\\.pdf`) })
    t.equal(await answer.text(), '%PDF-1.7 of some kind')
    t.equal((await fetch(`${address}x`)).status, 403)
  }
  t.equal((await read(app, `/files/${id}?redirect=1`, ada, 'HEAD')).status, 200, 'HEAD is answered here')
  const { body: { url } } = await ask(app, 'POST', `/files/${id}/signed-url`, {}, ada)
  t.equal((await read(app, `${url}&redirect=1`)).status, 302)
  for (const [why, headers, status] of [['nobody', {}, 401], ['another account', await user(app, 'eve', 'other'), 403]] as const) t.equal((await read(app, `/files/${id}?redirect=1`, headers)).status, status, why)
  const inside = await startApp(t, { ...PEOPLE_ENV, ...s3, DATA_DIR: app.dataDir })
  t.equal((await read(inside, `/files/${id}?redirect=1`, ada)).status, 200, 'where clients do not reach the store, they get the bytes')
  const big = await sendForm(app, [{ name: 'file', filename: 'big.bin', bytes: Buffer.alloc(20 * 1024 * 1024, 'x') }], ada)
  t.equal(big.status, 201)
  t.equal((await fetch(`${app.url}/files/${big.body.file_id}`, { headers: ada }).then(async answer => await answer.arrayBuffer())).byteLength, 20 * 1024 * 1024)
})
