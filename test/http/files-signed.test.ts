import t from 'tap'
import { SIGNED_URL_MAX_SECONDS } from '../../src/limits.ts'
import { administrator, guest, PEOPLE_ENV, user } from '../support/people.ts'
import { ask, read, share } from '../support/shared-files.ts'
import { startApp } from '../support/start-app.ts'

t.test('a signed address needs no credential, and says what may be done with it', async t => {
  const app = await startApp(t, { ...PEOPLE_ENV, PUBLIC_BASE_URL: 'https://files.example.com' })
  const ada = await user(app, 'ada')
  const id = await share(app, '%PDF-1.7', ada, { access: 'restricted' })
  const sign = async (body: unknown = {}, headers = ada) => ask(app, 'POST', `/files/${id}/signed-url`, body, headers)
  const { status, headers, body } = await sign({ expires_in: 60 })
  t.equal(status, 200)
  t.equal(headers.get('cache-control'), 'no-store')
  t.ok(Math.abs(Date.parse(body.expires_at) - Date.now() - 60_000) < 5000)
  t.ok(body.url.startsWith(`https://files.example.com/files/${id}?`))
  const path = body.url.slice('https://files.example.com'.length)
  t.match(await read(app, path), { status: 200, text: '%PDF-1.7', headers: { 'content-disposition': /^attachment/ } })
  t.equal((await read(app, path, { range: 'bytes=0-3' })).text, '%PDF')
  t.equal((await read(app, path, {}, 'HEAD')).status, 200)
  t.equal((await read(app, path, { authorization: 'Bearer bad' })).status, 200, 'no other credential is looked at')
  const inline = (await sign({ inline: true })).body.url.slice('https://files.example.com'.length)
  t.match(await read(app, inline), { status: 200, headers: { 'content-disposition': /^inline/, 'cross-origin-resource-policy': 'cross-origin' } }, 'pages of others may show it')
  t.match(await read(app, `/files/${id}`, ada), { headers: { 'cross-origin-resource-policy': 'same-origin' } })

  const refused = async (address: string) => {
    const answer = await ask(app, 'GET', address)
    t.match(answer.body, { error: { code: 'invalid_token' } }, address)
    return answer.status
  }
  t.equal(await refused(`${path}&inline=1`), 401, 'another disposition')
  t.equal(await refused(inline.replace('inline=1&', '')), 401)
  for (const name of ['expires', 'signature']) {
    const url = new URL(path, app.url)
    const value = url.searchParams.get(name)!
    for (const other of [value.slice(0, -1), `${value}0`, `0${value}`, '', value.replace(/.$/, last => (last === '1' ? '2' : '1'))]) {
      url.searchParams.set(name, other)
      t.equal(await refused(url.pathname + url.search), 401, `${name}=${other}`)
    }
  }
  t.equal(await refused(path.replace(/expires=\d+&/, '')), 401)
  const other = await share(app, 'other', ada)
  t.equal(await refused(path.replace(id, other)), 401, 'of another file')
  t.equal((await ask(app, 'DELETE', path)).status, 401, 'it is for reading alone')

  for (const body of [{ expires_in: 0 }, { expires_in: SIGNED_URL_MAX_SECONDS + 1 }, { expires_in: '60' }, { inline: 'yes' }, { x: 1 }]) t.equal((await sign(body)).status, 400, JSON.stringify(body))
  t.equal((await sign({ expires_in: SIGNED_URL_MAX_SECONDS }, administrator)).status, 200)
  t.equal((await sign({}, await user(app, 'bob'))).status, 403)
  t.equal((await sign({}, await guest(app, 'visitor'))).status, 404)

  t.equal((await ask(app, 'DELETE', `/files/${id}`, undefined, ada)).status, 204)
  t.match(await ask(app, 'GET', path), { status: 404, body: { error: { code: 'file_not_found' } } }, 'it dies with the file')
  await share(app, '%PDF-1.7', ada)
  t.equal((await read(app, path)).status, 404, 'and the same bytes do not bring it back')
})

t.test('an address is over at its second', async t => {
  const app = await startApp(t)
  const id = await share(app, 'x', {})
  const { body } = await ask(app, 'POST', `/files/${id}/signed-url`, { expires_in: 1 })
  t.equal((await read(app, body.url)).status, 200)
  await new Promise(resolve => { setTimeout(resolve, Date.parse(body.expires_at) - Date.now()) })
  t.match(await ask(app, 'GET', body.url), { status: 401, body: { error: { code: 'token_expired' } } })
})

t.test('all nodes and every start share one secret; another secret takes no address of before', async t => {
  const first = await startApp(t)
  const id = await share(first, 'x', {})
  const { url } = (await ask(first, 'POST', `/files/${id}/signed-url`, {})).body
  const second = await startApp(t, { DATA_DIR: first.dataDir })
  t.equal((await read(second, url)).status, 200)
  const third = await startApp(t, { DATA_DIR: first.dataDir, SIGNED_URL_SECRET: 'a-secret-of-the-operator' })
  t.equal((await read(third, url)).status, 401)
  const own = (await ask(third, 'POST', `/files/${id}/signed-url`, {})).body.url
  t.equal((await read(third, own)).status, 200)
  t.equal((await read(first, own)).status, 401)
})
