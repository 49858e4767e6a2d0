/**
 * Every route of the running service is called with secrets in every place where a request can hold one: credentials that are
 * taken and credentials that are not, in headers, cookies, queries, addresses and bodies. None of them, and none of the service's own,
 * may be in a log line.
 */
import t from 'tap'
import { randomBytes } from 'node:crypto'
import { createLogger } from '../../src/logging.ts'
import { eventually } from '../support/raw-client.ts'
import { routesOf } from '../support/route-table.ts'
import { RESULT, seederOf } from '../support/seed.ts'
import { signGuest } from '../support/sign-token.ts'
import { startApp } from '../support/start-app.ts'

const FILE_TIMEOUT_MS = 240_000
/** Some routes answer for ever. */
const CALL_MS = 1000
const TOGETHER = 16
const SECRET_MIN_CHARACTERS = 16

const secrets = new Set<string>()
/** A text that is found again wherever it turns up. */
function secret(): string {
  const text = `hush${randomBytes(16).toString('hex')}`
  secrets.add(text)
  return text
}

const own = {
  ADMIN_TOKEN: secret(), AI_INTERNAL_TOKEN: secret(), METRICS_TOKEN: secret(), GUEST_TOKEN_SECRET: secret(), SIGNED_URL_SECRET: secret(), WEBHOOK_SECRET: secret(), REDIS_SESSION_SECRET: secret(),
  REDIS_URL: `redis://user:${secret()}@127.0.0.1:1`,
  PERMISSION_CALLBACK_URL: `http://user:${secret()}@127.0.0.1:1/may-read?key=${secret()}`,
  OIDC_JWKS_URL: `http://127.0.0.1:1/keys?key=${secret()}`,
  OIDC_TOKEN_URL: `http://127.0.0.1:1/token?key=${secret()}`, OIDC_CLIENT_ID: 'penstock', OIDC_CLIENT_SECRET: secret(), FILE_GATEWAY_BASE_URL: 'http://127.0.0.1:1', FILE_GATEWAY_AUDIENCE: 'files'
}
/** All routes that there are. */
const everything = { ROLES: 'api,gpu-node', WORKERS: '1', DEVICE: 'cpu', LEGACY_ROUTES: 'true' }
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** A JWT that cannot be checked, since its issuer is not there. */
function jwt(): string {
  const token = `${Buffer.from('{"alg":"ES256","kid":"1"}').toString('base64url')}.${Buffer.from(JSON.stringify({ sub: 'x' })).toString('base64url')}.${secret()}`
  secrets.add(token)
  return token
}

/** One that the service has given out. */
function known(text: unknown): string {
  if (typeof text !== 'string' || text.length < SECRET_MIN_CHARACTERS) throw new Error(`this is no secret: ${String(text)}`)
  secrets.add(text)
  return text
}

/** Each in its own place. */
function wrongCredentials(): Record<string, string>[] {
  const cookies = ['file_service_auth', 'token', 'guest-token', 'public-token', 'session']
  return [
    bearer(secret()), bearer(`pst_${secret()}`), bearer(jwt()), { authorization: `Basic ${secret()}` }, { authorization: secret() },
    { 'x-guest-authorization': secret() }, { 'x-public-authorization': `Token ${secret()}` }, { 'proxy-authorization': `Basic ${secret()}` },
    ...cookies.map(name => ({ cookie: `${name}=${secret()}` })),
    { cookie: cookies.map(name => `${name}=${secret()}`).join('; ') }
  ]
}

function bodies(): { type: string, body: string }[] {
  const address = `https://user:${secret()}@hooks.invalid/${secret()}?token=${secret()}`
  return [
    { type: 'application/json', body: JSON.stringify({ token: secret(), password: secret(), model: 'identity', input: { sha256: 'a'.repeat(64) }, webhook: { url: address } }) },
    { type: 'application/json', body: `{"token":"${secret()}` },
    { type: 'application/x-www-form-urlencoded', body: `file_id=${secret()}&token=${secret()}` },
    { type: 'multipart/form-data; boundary=x', body: `--x\r\ncontent-disposition: form-data; name="token"\r\n\r\n${secret()}\r\n--x\r\ncontent-disposition: form-data; name="webhook"\r\n\r\n{"url":"${address}"}\r\n--x--\r\n` },
    { type: 'application/octet-stream', body: secret() }
  ]
}

/** `:token` is a secret itself; ids are those of things that are there. */
function addressOf(path: string, ids: Record<string, string>): string {
  const filled = path.replaceAll(/:(\w+)/g, (_, name: string) => name === 'token' ? secret() : encodeURIComponent(ids[name] ?? 'x')).replace('*', 'x')
  return `${filled}?token=${secret()}&signature=${secret()}&access_token=${secret()}&expires=4102444800`
}

t.setTimeout(FILE_TIMEOUT_MS)

void t.test('no log line of any route has a secret, whatever became of the request', async t => {
  let output = ''
  const app = await startApp(t, { ...own, ...everything, OIDC_ISSUER: 'http://127.0.0.1:1', OIDC_AUDIENCE: 'penstock' }, destination => createLogger({ level: 'trace', destination: { write(line: string) { output += line; destination.write(line) } } }))
  const admin = bearer(own.ADMIN_TOKEN)
  const seeder = seederOf(t, app)
  const owner = { subject: 'alice', account: 'acme', clientId: null }
  await seeder.model('identity')
  const ids = { id: (await seeder.job(owner, 'completed')).id, jobId: (await seeder.job(owner, 'completed')).id, name: 'identity', filename: RESULT, version: '1', model: 'identity', subject: 'bob' }
  let sent = 0

  async function call(method: string, address: string, init: { headers?: Record<string, string>, body?: string } = {}): Promise<Response | undefined> {
    sent += 1
    try {
      const { body, headers } = init
      const withBody = body !== undefined && !['GET', 'HEAD'].includes(method)
      const answer = await fetch(app.url + address, { method, headers: { referer: `http://localhost/?token=${secret()}`, ...headers }, redirect: 'manual', signal: AbortSignal.timeout(CALL_MS), ...(withBody && { body }) })
      await answer.arrayBuffer()
      return answer
    } catch {
      return undefined // an answer without an end, or a body that was refused on its way
    }
  }

  await t.test('routes with every credential and body', async t => {
    const routes = (await routesOf(app.app.server)).filter(route => !route.includes(' /docs'))
    t.ok(routes.length > 50)
    for (const each of ['POST /process-upload', 'POST /jobs', 'POST /api/v1/jobs/:id/promote']) t.ok(routes.includes(each), each)
    const calls = routes.flatMap(route => {
      const [listed = '', path = ''] = route.split(' ')
      const method = listed === 'ANY' ? 'POST' : listed
      const [first] = bodies()
      return [
        ...wrongCredentials().map(headers => () => call(method, addressOf(path, ids), { headers: { ...headers, 'content-type': first!.type }, body: first!.body })),
        ...bodies().flatMap(({ type, body }) => [own.ADMIN_TOKEN, own.AI_INTERNAL_TOKEN].map(token => () => call(method, addressOf(path, ids), { headers: { ...bearer(token), 'content-type': type }, body })))
      ]
    })
    for (let next = 0; next < calls.length; next += TOGETHER) await Promise.all(calls.slice(next, next + TOGETHER).map(each => each()))
    t.ok(sent > routes.length * 10)
  })

  await t.test('tokens and addresses that the service gives out, and takes', async t => {
    const { body: { token, id: tokenId } } = await app.post('/admin/tokens', { kind: 'api', account: 'acme', subject: 'alice', scopes: ['penstock:upload', 'penstock:job.read', 'penstock:job.write'] }, admin)
    const { body: { token: form } } = await app.post('/admin/tokens', { kind: 'public', account: 'acme' }, admin)
    for (const each of [token, form]) known(each)
    const guest = await signGuest(own.GUEST_TOKEN_SECRET)
    known(guest)
    const alice = bearer(token as string)
    for (const headers of [alice, { cookie: `token=${token}` }, { 'x-guest-authorization': guest }, { cookie: `guest-token=${guest}` }, { 'x-public-authorization': `Token ${form}` }]) {
      t.match((await call('GET', '/files', { headers }))?.status, /^(200|403)$/, Object.keys(headers).join())
    }
    const fileId = await seeder.file(owner, 'restricted')
    const { body: { url } } = await app.post(`/files/${fileId}/signed-url`, {}, alice)
    const signed = new URL(String(url), app.url)
    known(signed.searchParams.get('signature'))
    for (const method of ['GET', 'HEAD']) t.equal((await call(method, signed.pathname + signed.search))?.status, 200)
    t.equal((await call('GET', `${signed.pathname}?signature=${secret()}&expires=${signed.searchParams.get('expires')}`))?.ok, false)
    await call('GET', `/files/${fileId}`, { headers: { cookie: `guest-token=${guest}` } }) // asks PERMISSION_CALLBACK_URL, which is not there
    const { body: { url: download } } = await app.post(`/api/v1/jobs/${(await seeder.job(owner, 'completed')).id}/download-tokens`, { name: RESULT }, alice)
    known(String(download).split('/').at(-1))
    for (const status of [200, 404]) t.equal((await call('GET', String(download)))?.status, status)
    const { body: { uploadURL } } = await app.post('/media/upload/init', { filename: 'a.mp4', contentType: 'video/mp4' }, alice)
    known(String(uploadURL).split('/').at(-1))
    const put = () => call('PUT', String(uploadURL), { headers: { 'content-type': 'video/mp4' }, body: 'hello' })
    t.equal((await put())?.status, 200)
    await put()
    const { status, body } = await app.post('/api/v1/jobs', { model: 'identity', input: { tensors: [{ name: 'x', shape: [1], datatype: 'FP32', data: [1] }] }, webhook: { url: `https://user:${secret()}@127.0.0.1/${secret()}?token=${secret()}` } }, alice)
    t.ok(status === 202 || status === 400, JSON.stringify(body))
    t.equal((await app.post(`/api/v1/jobs/${(await seeder.job(owner, 'completed')).id}/promote`, { source: RESULT, target_object_key: 'a' }, alice)).status, 503, 'the token endpoint is not there')
    t.equal((await call('GET', '/metrics', { headers: { via: '1.1 x', ...bearer(own.METRICS_TOKEN) } }))?.status, 200)
    t.equal((await call('DELETE', `/admin/tokens/${tokenId}`, { headers: admin }))?.status, 204)
    t.equal((await call('GET', '/files', { headers: alice }))?.status, 401)
  })

  await eventually(() => { if (app.logged('http.request.completed').length < sent) throw new Error('some are still under way') }, 10_000)
  for (const action of ['redis.connection.failed', 'identity.keys.failed']) t.ok(app.logged(action).length > 0, `${action} was among the lines`)
  const lines = output.split('\n')
  const found = lines.filter(line => [...secrets].some(each => line.includes(each)))
  t.same(found.slice(0, 10), [])
  t.same(lines.filter(line => /"(headers|cookie|authorization)":/.test(line)).slice(0, 10), [], 'nor anything of a request\'s headers')
})
