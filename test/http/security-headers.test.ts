import t from 'tap'
import { startEdge } from '../support/start-edge.ts'

const strict = "default-src 'none';frame-ancestors 'none'"

t.test('answers of the API can be neither framed, sniffed nor run as a page', async t => {
  const { app } = await startEdge(t)
  for (const url of ['/livez', '/nowhere', '/openapi.json', '/%zz']) {
    const { headers } = await app.inject(url)
    t.equal(headers['content-security-policy'], strict, url)
    t.equal(headers['x-frame-options'], 'DENY')
    t.equal(headers['x-content-type-options'], 'nosniff')
    t.equal(headers['referrer-policy'], 'strict-origin-when-cross-origin')
    t.equal(headers['strict-transport-security'], undefined)
    t.equal(headers['x-powered-by'], undefined)
  }
})

t.test('HSTS is for production only', async t => {
  const { app } = await startEdge(t, { env: { NODE_ENV: 'production', ADMIN_TOKEN: 'a-token-of-production' } })
  t.match((await app.inject('/livez')).headers['strict-transport-security'], /^max-age=31536000/)
})

t.test('CORS is off unless origins are listed', async t => {
  const { app } = await startEdge(t)
  const response = await app.inject({ url: '/livez', headers: { origin: 'https://app.example.com' } })
  t.same(Object.keys(response.headers).filter(name => name.startsWith('access-control')), [])
})

t.test('listed origins may read answers, errors too, with the headers a client needs', async t => {
  const { app } = await startEdge(t, { env: { CORS_ORIGIN: 'https://app.example.com,https://other.example.com' } })
  for (const [url, origin] of [['/livez', 'https://app.example.com'], ['/nowhere', 'https://other.example.com']] as const) {
    const { headers } = await app.inject({ url, headers: { origin } })
    t.equal(headers['access-control-allow-origin'], origin)
    t.equal(headers['access-control-allow-credentials'], 'true', 'with the cookies of its user')
    t.match(headers.vary, /Origin/i)
    for (const name of ['X-Request-Id', 'RateLimit-Remaining', 'X-RateLimit-Remaining', 'Location', 'ETag', 'Repr-Digest', 'Accept-Ranges', 'Content-Disposition', 'Content-Range', 'X-Upload-Proxy-Why', 'Retry-After']) {
      t.ok(String(headers['access-control-expose-headers']).split(', ').includes(name), name)
    }
  }
  const { headers } = await app.inject({ url: '/livez', headers: { origin: 'https://evil.example' } })
  t.equal(headers['access-control-allow-origin'], undefined)
})

t.test('an OPTIONS that is no preflight is no error', async t => {
  const { app } = await startEdge(t, { env: { CORS_ORIGIN: 'https://app.example.com' } })
  t.equal((await app.inject({ method: 'OPTIONS', url: '/livez' })).statusCode, 204)
})
