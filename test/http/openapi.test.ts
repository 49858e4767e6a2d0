import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { Type, type TSchema } from 'typebox'
import { Check } from 'typebox/value'
import { catalogue, type ErrorName } from '../../src/errors.ts'
import { statusOf } from '../../src/http/error-bodies.ts'
import { errorsWithoutRoute } from '../../src/http/error-docs.ts'
import { flatErrors } from '../../src/http/errors.ts'
import { refuseOtherMethods } from '../../src/http/method-not-allowed.ts'
import { taskNamed, taskNames } from '../../src/inference/tasks/index.ts'
import { startApp } from '../support/start-app.ts'
import { startEdge } from '../support/start-edge.ts'

async function flat(app: FastifyInstance): Promise<void> {
  flatErrors(app)
  app.post('/flat', { schema: { body: Type.Object({ key: Type.String() }), response: { 200: Type.Object({ ok: Type.Boolean() }) } } }, async () => ({ ok: true }))
  refuseOtherMethods(app)
}

async function nested(app: FastifyInstance): Promise<void> {
  app.get('/nested/:id', { schema: { params: Type.Object({ id: Type.String() }), response: { 200: Type.Object({ id: Type.String() }) } } }, async () => ({ id: 'x', secret: 'y' }))
  refuseOtherMethods(app)
}

interface Operation {
  parameters?: { name: string, required: boolean }[]
  requestBody?: { required: boolean, content: Record<string, Media> }
  responses: Record<string, { description: string, headers: Record<string, { schema: { enum?: string[] } }>, content: Record<string, Media> }>
}

interface Media { schema: object, example?: unknown, examples?: Record<string, { value: unknown }> }

interface Document {
  openapi: string
  info: { description: string }
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, object>, securitySchemes: object }
}

t.test('the document is OpenAPI 3.1 and has the routes with their errors, and no others', async t => {
  const { app } = await startEdge(t, { routes: [flat, nested] })
  const response = await app.inject('/openapi.json')
  const document = response.json<Document>()
  t.match(document.openapi, /^3\.1\./)
  t.same(Object.keys(document.paths).toSorted(), ['/flat', '/livez', '/nested/{id}', '/readyz'])
  t.same(Object.keys(document.paths['/flat'] ?? {}), ['post'], 'refusals of other methods are hidden')
  for (const [path, method, schema, statuses] of [
    ['/flat', 'post', 'FlatError', ['200', '400', '408', '413', '415', '500', '501', '503']],
    ['/nested/{id}', 'get', 'NestedError', ['200', '400', '500', '501', '503']]
  ] as const) {
    const responses = document.paths[path]?.[method]?.responses ?? {}
    t.same(Object.keys(responses), statuses, path)
    for (const status of statuses.slice(1)) {
      t.match(responses[status]?.content, { 'application/json': { schema: { allOf: [{ $ref: `#/components/schemas/${schema}` }] } } }, `${path} ${status}`)
    }
    t.ok(document.components.schemas[schema])
  }
  t.match(document.components.securitySchemes, { bearer: { type: 'http', scheme: 'bearer' }, adminHeader: { name: 'x-alga-admin' } })
})

t.test('every reference in the document leads somewhere', async t => {
  const { app } = await startEdge(t, { routes: [flat, nested] })
  const text = (await app.inject('/openapi.json')).body
  const document = JSON.parse(text) as Document
  const references = [...text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(match => match[1]!)
  t.ok(references.length > 0)
  for (const name of references) t.ok(document.components.schemas[name], name)
})

/** Codes of the errors that are documented for a status of an operation. */
function codesOf(media: Media | undefined): string[] {
  return examplesOf(media).map(value => {
    const { code, error } = value as { code?: string, error: { code: string } }
    return code ?? error.code
  })
}

t.test('every route of the service that is not hidden is in its document, each error with its status and code', async t => {
  const { app: { server } } = await startApp(t, { ROLES: 'api,gpu-node', DEVICE: 'cpu', WORKERS: '1', MODELS_DIR: t.testdir() })
  const document = (await server.inject('/openapi.json')).json<Document>()
  const shown = server.knownRoutes.filter(route => !route.hidden).flatMap(({ url, methods }) => methods.map(method => ({ url, method })))
    .filter(({ url, method }) => method !== 'HEAD' && !url.startsWith('/docs/static'))
  t.ok(shown.length >= 10, 'the routes are found')
  const seen = new Set<string>(errorsWithoutRoute)
  for (const { url, method } of shown) {
    const operation = document.paths[url.replaceAll(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()]
    t.ok(operation, `${method} ${url}`)
    const dialect = /upload-proxy|finalize|abort/.test(url) ? 'flat' : url.startsWith('/v2') ? 'oip' : 'nested'
    for (const [status, { headers, content }] of Object.entries(operation?.responses ?? {})) {
      t.match(status, /^\d{3}$/, `${method} ${url}: no status stands for many`)
      t.ok(headers['X-Request-Id'], `${method} ${url} ${status}: X-Request-Id`)
      if (status < '400' || ['/readyz', '/health', '/v2/health/ready'].includes(url)) continue
      const { examples = {} } = content['application/json'] ?? { schema: {} }
      t.not(Object.keys(examples).length, 0, `${method} ${url} ${status}`)
      for (const name of Object.keys(examples) as ErrorName[]) {
        seen.add(name)
        t.equal(String(statusOf(name, dialect)), status, `${method} ${url} ${status} ${name}`)
      }
    }
  }
  const missing = Object.keys(catalogue).filter(name => !seen.has(name))
  t.same(missing, [], 'every error can be met')
  for (const name of errorsWithoutRoute) t.match(document.info.description, `\`${catalogue[name].nested}\``)
})

t.test('of jobs it says what a caller needs: events of each media type, params of each task, what may be left out', async t => {
  const { app: { server } } = await startApp(t)
  const document = (await server.inject('/openapi.json')).json<Document>()
  for (const path of ['/api/v1/jobs/{id}/events', '/uploads/{id}/events']) {
    const { content } = document.paths[path]!.get!.responses['200']!
    t.match(content['text/event-stream']?.example, /^(id: .+\n)?event: .+\ndata: \{.+\}\n\n$/, path)
    const line = String(content['application/x-ndjson']?.example)
    t.match(line, /^[^\n]+\n$/, path)
    t.match(JSON.parse(line), { event: String, data: Object }, path)
  }
  const bodyOf = (path: string) => document.paths[path]!.post!.requestBody!.content['application/json']!.schema as { required?: string[], properties: Record<string, { description: string }> }
  t.same(bodyOf('/api/v1/jobs/{id}/download-tokens').required, ['name'])
  t.same(bodyOf('/api/v1/jobs').required, ['input'])
  const { description } = bodyOf('/api/v1/jobs').properties.params!
  for (const task of taskNames()) {
    t.match(description, `\`${task}\``)
    for (const param of Object.keys((taskNamed(task)!.params as { properties: object }).properties)) t.match(description, `\`${param}\``, `${task} ${param}`)
  }
})

t.test('what routes really answer with is what their document says', async t => {
  const app = await startApp(t, { EXT_BUNDLES_RATELIMIT_MAX: '30', REFUSED_RATE_LIMIT_MAX: '4', MAX_OBJECT_SIZE_BYTES: '100', ADMIN_TOKEN: 'a-token-of-the-admin' })
  const document = await (await fetch(`${app.url}/openapi.json`)).json() as Document
  const admin = { 'x-alga-admin': 'true' }
  const json = { ...admin, 'content-type': 'application/json' }
  const upload = (query: string, headers: Record<string, string> = admin): [string, string, RequestInit] => ['/upload-proxy', `/upload-proxy?${query}`, { method: 'POST', body: 'hello', headers }]
  const post = (path: string, body: string, headers: Record<string, string> = json): [string, string, RequestInit] => [path, path, { method: 'POST', body, headers }]
  const key = `sha256/_staging/${crypto.randomUUID()}/object`
  const statuses: number[] = []
  for (const [path, url, init] of [
    upload('filename=x&size=5'), upload('filename=x'), upload('filename=x&size=5&kind=x'), upload('filename=x&size=101'), upload(`filename=x&size=5&declaredHash=${'a'.repeat(64)}`),
    upload('', {}), upload('', { authorization: 'Bearer x' }),
    post('/finalize', JSON.stringify({ key })), post('/finalize', '{'), post('/finalize', 'x'.repeat(5_000_000)), post('/finalize', 'x', { ...admin, 'content-type': 'text/plain' }),
    post('/finalize', JSON.stringify({ key, x: 1 })), post('/api/ext-bundles/abort', JSON.stringify({ key })), post('/abort', JSON.stringify({ key: 'x' })),
    ['/extensions', '/extensions?limit=0', { headers: admin }], ['/extensions', '/extensions', {}], ['/extensions', '/extensions', { headers: { authorization: 'Bearer x' } }],
    ['/extensions', '/extensions', { headers: admin }], ['/extensions/{id}/versions', '/extensions/x/versions', { headers: admin }],
    ['/uploads/{id}/events', `/uploads/${crypto.randomUUID()}/events`, { headers: admin }], ['/uploads/{id}/events', '/uploads/x/events', { headers: admin }],
    ['/extensions', '/extensions', {}], upload('', {})
  ] as [string, string, RequestInit][]) {
    const answer = await fetch(app.url + url, init)
    const documented = document.paths[path]?.[(init.method ?? 'GET').toLowerCase()]?.responses[answer.status]
    const name = `${path} ${answer.status}`
    statuses.push(answer.status)
    t.ok(documented, name)
    const promised = Object.keys(documented?.headers ?? {}).map(each => each.toLowerCase())
    for (const header of ['x-request-id', 'x-ratelimit-limit', 'ratelimit-reset', 'retry-after', 'repr-digest', 'www-authenticate', 'x-upload-proxy-why']) {
      if (answer.headers.has(header)) t.ok(promised.includes(header), `${name} ${header}`)
    }
    const { code, error } = await answer.json() as { code?: string, error?: { code?: string } }
    if (answer.ok) continue
    t.ok(codesOf(documented?.content['application/json']).includes(code ?? error?.code ?? ''), `${name} ${code ?? error?.code}`)
    const why = answer.headers.get('x-upload-proxy-why')
    if (path === '/upload-proxy') t.ok(documented?.headers['x-upload-proxy-why']?.schema.enum?.includes(why ?? ''), `${name} ${why}`)
  }
  t.same([...new Set(statuses)].toSorted(), [200, 400, 401, 403, 404, 413, 415, 429], 'they were of all kinds')
})

function required(operation: Operation | undefined): Record<string, boolean> {
  return Object.fromEntries((operation?.parameters ?? []).map(each => [each.name, each.required]))
}

t.test('an upload is documented as a body of bytes with what must be given; what has a default need not be', async t => {
  const { app: { server } } = await startApp(t)
  const { paths } = (await server.inject('/openapi.json')).json<Document>()
  for (const path of ['/upload-proxy', '/api/ext-bundles/upload-proxy']) {
    t.same(required(paths[path]?.post), { filename: true, size: true, declaredHash: false, kind: false, uploadId: false })
    t.same(paths[path]?.post?.requestBody, { required: true, content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } } })
  }
  t.same(required(paths['/extensions']?.get), { limit: false, cursor: false })
  const watching = paths['/uploads/{id}/events']?.get?.responses ?? {}
  t.same(Object.keys(watching['200']?.content ?? {}), ['text/event-stream', 'application/x-ndjson'])
  t.same(Object.keys(watching['404']?.content ?? {}), ['application/json'], 'its errors are no events')
})

function examplesOf(media: Media | undefined): unknown[] {
  return media?.example === undefined ? Object.values(media?.examples ?? {}).map(({ value }) => value) : [media.example]
}

t.test('bodies and answers have examples, and these are what their schemas ask for', async t => {
  const { app: { server } } = await startApp(t)
  const { paths } = (await server.inject('/openapi.json')).json<Document>()
  for (const [path, method, answers, bodies] of [
    ['/upload-proxy', 'post', 1, 0], ['/finalize', 'post', 3, 3], ['/abort', 'post', 2, 1], ['/extensions', 'get', 1, 0], ['/extensions/{id}/versions', 'get', 1, 0]
  ] as const) {
    const operation = paths[path]?.[method]
    const media = [operation?.responses['200']?.content['application/json'], operation?.requestBody?.content['application/json']]
    t.same(media.map(each => examplesOf(each).length), [answers, bodies], path)
    for (const each of media) for (const example of examplesOf(each)) t.ok(Check(each!.schema as TSchema, example), `${path} ${JSON.stringify(example).slice(0, 60)}`)
  }
  t.equal(examplesOf(paths['/uploads/{id}/events']?.get?.responses['200']?.content['text/event-stream']).length, 1)
})

t.test('what a response schema does not name does not leave', async t => {
  const { app } = await startEdge(t, { routes: [nested] })
  t.same((await app.inject('/nested/1')).json(), { id: 'x' })
})

/** Sources that a policy allows, by directive. */
function policyOf(header: unknown): Map<string, string[]> {
  return new Map(String(header).split(';').map(each => each.trim()).filter(Boolean).map(each => {
    const [name = '', ...sources] = each.split(/\s+/)
    return [name, sources]
  }))
}

t.test('the page of the docs loads nothing that its policy forbids', async t => {
  const { app } = await startEdge(t)
  const page = await app.inject('/docs/')
  t.equal(page.statusCode, 200)
  const policy = policyOf(page.headers['content-security-policy'])
  t.same(policy.get('default-src'), ["'none'"])
  t.same(policy.get('frame-ancestors'), ["'none'"])
  t.same(policy.get('script-src'), ["'self'"])
  const scripts = [...page.body.matchAll(/<script\b([^>]*)>([^]*?)<\/script>/g)]
  t.ok(scripts.length >= 3)
  for (const [, attributes = '', inline = ''] of scripts) {
    t.equal(inline.trim(), '', 'no script inside the page')
    const source = /src="(\.\/[^"]+)"/.exec(attributes)?.[1]
    t.ok(source, 'a script of our own origin')
    const script = await app.inject(`/docs/${source}`)
    t.equal(script.statusCode, 200, String(source))
    t.match(script.headers['content-type'], /javascript/)
  }
  for (const [, href = ''] of page.body.matchAll(/<link\b[^>]*href="([^"]+)"/g)) {
    t.equal((await app.inject(`/docs/${href}`)).statusCode, 200, href)
  }
  t.notMatch(page.body, /<style|\sstyle="|\son\w+="/, 'nothing else that is inline')
  t.equal((await app.inject('/docs/json')).statusCode, 200, 'what the page asks for')
})

t.test('files of the docs that are not there are answered like everything else', async t => {
  const { app } = await startEdge(t)
  for (const url of ['/docs/nothing', '/docs/static/nothing.js', '/docs/static/../../../package.json', '/docs/static/%2e%2e/package.json']) {
    const response = await app.inject(url)
    t.equal(response.statusCode, 404, url)
    t.match(response.json(), { error: { code: 'not_found', request_id: String } })
  }
})

t.test('the document and the docs refuse other methods as everything else does', async t => {
  const { app } = await startEdge(t)
  for (const url of ['/openapi.json', '/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/index.html', '/docs/static/swagger-ui.css']) {
    for (const method of ['POST', 'DELETE', 'PROPFIND'] as const) {
      const response = await app.inject({ method: method as 'POST', url })
      t.match([response.statusCode, response.headers.allow], [405, 'GET, HEAD, OPTIONS'], `${method} ${url}`)
      t.match(response.json(), { error: { code: 'method_not_allowed', request_id: String } })
    }
    const options = await app.inject({ method: 'OPTIONS', url })
    t.match([options.statusCode, options.headers.allow], [204, 'GET, HEAD, OPTIONS'], url)
    t.equal((await app.inject({ method: 'HEAD', url })).statusCode < 400, true, `HEAD ${url}`)
  }
})
