/**
 * Schemathesis reads the served OpenAPI document and asks the running service, with workers, what it says: good and bad
 * requests to every operation, and answers as they are documented. Nothing may be a fault of ours, undocumented, or let in without
 * a credential.
 *
 * One check is left out, positive_data_acceptance: a schema cannot say that a cursor, a key or a Content-Length has to be a right
 * one. The requests come as through a proxy, because /metrics is open on loopback otherwise.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { eventually } from '../support/raw-client.ts'
import { pythonOrSkip } from '../support/python.ts'
import { startService, type ListeningService } from '../support/service-process.ts'

const ADMIN_TOKEN = 'a-token-of-the-admin'
const SECRET = 'a-secret-of-thirty-two-characters'
const FILE_TIMEOUT_MS = 300_000
const EXAMPLES_MAX = 2
const SEED = 1
/**
 * A process for each: with several workers in one, Python 3.11 now and then fails to parse its own source ("AST constructor
 * recursion depth mismatch").
 */
const SHARES = [
  ['--include-path-regex', '^/v2'],
  ['--include-path-regex', '^/(api/v1/jobs|jobs|generate)'],
  ['--exclude-path-regex', '^/(v2|api/v1/jobs|jobs|generate)']
]
const HOOKS = join(import.meta.dirname, 'python/schemathesis_hooks.py')
const CHECKS = [
  'not_a_server_error', 'status_code_conformance', 'content_type_conformance', 'response_headers_conformance', 'response_schema_conformance', 'negative_data_rejection',
  'missing_required_header', 'unsupported_method', 'allow_header_conformance', 'ignored_auth', 'use_after_free', 'ensure_resource_availability'
]

const authorization = { authorization: `Bearer ${ADMIN_TOKEN}` }

interface Json { [name: string]: Json & string }

async function post(service: ListeningService, path: string, body: unknown): Promise<Json> {
  const answer = await service.call(path, JSON.stringify(body), { ...authorization, 'content-type': 'application/json' })
  assert.ok(answer.status < 300, JSON.stringify(answer.body))
  return answer.body as Json
}

/** Things that are there, so that more is reached than answers 404: parameters of paths by the path that has them. */
async function layOut(service: ListeningService): Promise<Record<string, Record<string, string>>> {
  const staged = await service.call('/upload-proxy?filename=x&size=5', 'hello', authorization)
  const { upload } = staged.body as Json
  await post(service, '/finalize', { key: upload!.key })
  const job = await post(service, '/api/v1/jobs', { model: 'identity', input: { tensors: [{ name: 'x', datatype: 'FP32', shape: [2], data: [1, 2] }] } })
  await eventually(async () => assert.equal((await service.call(`/api/v1/jobs/${job.job_id}`, undefined, authorization)).body.status, 'completed'), 30_000)
  const form = new FormData()
  form.append('file', new Blob(['hello']), 'hello.txt')
  const file = await (await fetch(`${service.url}/files/upload`, { method: 'POST', body: form, headers: authorization })).json() as Json
  const id = { id: String(job.job_id) }
  const [model, version] = [{ name: 'identity' }, { name: 'identity', version: '1' }]
  return {
    '/uploads/{id}/events': { id: String(upload!.id) },
    '/api/v1/jobs/{id}': id,
    '/api/v1/jobs/{id}/events': id,
    '/api/v1/jobs/{id}/results/{name}': { ...id, name: 'output.json' },
    '/api/v1/jobs/{id}/download-tokens': id,
    '/api/v1/jobs/{id}/cancel': id,
    '/api/v1/jobs/{id}/retry': id,
    '/jobs/{jobId}': { jobId: id.id },
    '/jobs/{jobId}/events': { jobId: id.id },
    '/jobs/{jobId}/download/{filename}': { jobId: id.id, filename: 'output.json' },
    '/files/{id}': { id: String(file.file_id) },
    '/files/{id}/signed-url': { id: String(file.file_id) },
    '/v2/repository/models/{name}/load': { name: 'edges' },
    '/v2/repository/models/{name}/unload': { name: 'edges' },
    '/v2/models/{name}': model,
    '/v2/models/{name}/ready': model,
    '/v2/models/{name}/infer': model,
    '/v2/models/{name}/versions/{version}': version,
    '/v2/models/{name}/versions/{version}/ready': version,
    '/v2/models/{name}/versions/{version}/infer': version
  }
}

function configuration(parameters: Record<string, Record<string, string>>): string {
  const operations = Object.entries(parameters).map(([path, values]) => {
    const given = Object.entries(values).map(([name, value]) => `"path.${name}" = ${JSON.stringify(value)}`)
    return `[[operations]]\ninclude-path = ${JSON.stringify(path)}\nexclude-method = "DELETE"\nparameters = { ${given.join(', ')} }\n`
  })
  // of methods that a path has not, some stand for all
  const someMethods = '[phases.coverage]\nunexpected-methods = ["PATCH", "TRACE"]\n'
  // there is no other gateway here
  const withoutGateway = '[[operations]]\ninclude-path = "/api/v1/jobs/{id}/promote"\nchecks.not_a_server_error.expected-statuses = ["2xx", "4xx", "502"]\n'
  // a stream that only its reader ends
  const endless = '[[operations]]\ninclude-path = "/events"\nrequest-timeout = 2.0\n'
  return [`hooks = ${JSON.stringify(HOOKS)}\n`, someMethods, ...operations, withoutGateway, endless].join('\n')
}

t.setTimeout(FILE_TIMEOUT_MS)
const python = await pythonOrSkip(t, { timeoutMs: FILE_TIMEOUT_MS - 60_000 })
if (python !== undefined) {
  void t.test('the service answers as its document says, whatever it is asked', async t => {
    const service = await startService(t, {
      ROLES: 'api,worker', WORKERS: '1', LOG_LEVEL: 'info', LEGACY_ROUTES: 'true', ADMIN_TOKEN, WEBHOOK_SECRET: SECRET, GUEST_TOKEN_SECRET: SECRET,
      API_V1_RATE_LIMIT_MAX: '0', FILES_UPLOAD_RATE_LIMIT_MAX: '0', FILES_DOWNLOAD_RATE_LIMIT_MAX: '0'
    })
    const settings = configuration(await layOut(service))
    const runs = await Promise.all(SHARES.map(async share => {
      const folder = await mkdtemp(join(tmpdir(), 'penstock-schemathesis-'))
      t.teardown(() => rm(folder, { recursive: true, force: true }))
      await writeFile(join(folder, 'schemathesis.toml'), settings)
      return await python(join(import.meta.dirname, 'python/run_schemathesis.py'), folder,
        `${service.url}/openapi.json`, ...share, '--phases', 'examples,coverage,fuzzing', '--max-examples', String(EXAMPLES_MAX), '--seed', String(SEED), '--workers', '1',
        '--checks', CHECKS.join(), '--continue-on-failure', '--no-shrink', '--request-timeout', '60', '--no-color',
        '--header', `Authorization: Bearer ${ADMIN_TOKEN}`, '--header', 'Via: 1.1 proxy') as { code: number, output: string }
    }))
    for (const [index, { code, output }] of runs.entries()) {
      if (!t.equal(code, 0, `Schemathesis found nothing: ${SHARES[index]!.join(' ')}`)) console.error(output.slice(Math.max(0, output.indexOf('= FAILURES'))))
    }
    const { paths } = await (await fetch(`${service.url}/openapi.json`)).json() as { paths: Record<string, object> }
    const operations = Object.values(paths).flatMap(path => Object.keys(path)).length
    t.ok(operations > 50)
    const tested = runs.map(({ output }) => Number(/^ +Tested: (\d+)$/m.exec(output)?.[1]))
    t.equal(tested.reduce((sum, count) => sum + count), operations, `nothing was left out: ${tested.join(' + ')}`)
    t.same(service.logged('http.request.failed').filter(({ code }) => code !== 'FILE_GATEWAY_UNAVAILABLE'), [], 'nothing failed inside')
  })
}
