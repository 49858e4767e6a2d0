import t from 'tap'
import assert from 'node:assert/strict'
import { startOverStub } from '../support/over-stub.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

/** The lines that say what became of one upload. */
function linesOf(app: StartedApp, id: string): Record<string, unknown>[] {
  return app.logs.filter(line => line.request_id === id && String(line.action).startsWith('ingest.upload.') && 'result' in line)
}

t.test('whatever ends an upload, one line says who, what, how much, where to and what became of it', async t => {
  const app = await startApp(t, { REFUSED_RATE_LIMIT_MAX: '3', EXT_BUNDLES_RATELIMIT_MAX: '4', MAX_OBJECT_SIZE_BYTES: '100' })
  const body = Buffer.from('hello')
  const asked = { filename: 'a.bin', size: '5' }
  const actor = 'admin:local:dev'
  const nobody = { 'x-alga-admin': 'no' }
  const key = /^sha256\/_staging\/[0-9a-f-]{36}\/object$/
  const cases: [string, number, Record<string, string>, Record<string, string>, Record<string, unknown>][] = [
    ['success', 200, asked, {}, { action: 'ingest.upload.success', result: 'succeeded', actor, size: 5, bytes: 5, key }],
    ['hash', 400, { ...asked, declaredHash: 'a'.repeat(64) }, {}, { action: 'ingest.upload.refused', result: 'hash_mismatch', actor, size: '5', bytes: 5, key }],
    ['cap', 400, { ...asked, size: '101' }, {}, { action: 'ingest.upload.refused', result: 'size_exceeds_cap', actor, size: '101', bytes: 0 }],
    ['nobody', 403, asked, nobody, { action: 'ingest.upload.refused', result: 'rbac_forbidden', actor: 'developer:local:dev', bytes: 0 }],
    ['wrong', 401, asked, { ...nobody, authorization: 'Bearer x' }, { action: 'ingest.upload.refused', result: 'rbac_forbidden', actor: 'anonymous' }],
    ['third', 403, asked, { ...nobody, 'content-type': 'text/plain' }, { result: 'rbac_forbidden' }],
    ['flood', 429, asked, nobody, { action: 'ingest.upload.refused', result: 'rate_limited', actor: 'developer:local:dev' }],
    ['fourth', 400, { ...asked, kind: 'x' }, {}, { result: 'kind_invalid', kind: 'x' }],
    ['rate', 429, asked, {}, { action: 'ingest.upload.refused', result: 'rate_limited', actor, bytes: 0 }]
  ]
  for (const [id, status, query, headers, line] of cases) {
    const answer = await app.upload(body, query, { ...headers, 'x-request-id': id })
    t.equal(answer.status, status, id)
    await eventually(() => assert.equal(linesOf(app, id).length, 1))
    t.match(linesOf(app, id), [{ level: 'info', filename: 'a.bin', duration_ms: Number, ...line }], id)
    if (status !== 200) t.equal(linesOf(app, id)[0]!.result, answer.headers.get('x-upload-proxy-why'), 'the line says what the caller was told')
  }
})

t.test('what a client leaves behind is in its line, with the bytes so far', async t => {
  const app = await startApp(t)
  const client = await rawClient(app.port)
  client.send(`${uploadHead({ filename: 'a.bin', size: '10' }, { 'content-length': '10', 'x-request-id': 'gone' })}1234`)
  await eventually(() => assert.equal(app.logged('ingest.upload.put_start').length, 1))
  client.hangUp()
  await eventually(() => assert.equal(linesOf(app, 'gone').length, 1))
  t.match(linesOf(app, 'gone'), [{ action: 'ingest.upload.client_aborted', result: 'client_aborted', actor: 'admin:local:dev', filename: 'a.bin', size: '10', bytes: 4, key: /_staging/, duration_ms: Number }])
})

t.test('a fault of the store is a line of level error, with its cause', async t => {
  const { app, stub } = await startOverStub(t)
  await stub.close()
  const answer = await app.upload(Buffer.from('x'), {}, { 'x-request-id': 'fault' })
  t.equal(answer.status, 500)
  await eventually(() => assert.equal(linesOf(app, 'fault').length, 1))
  t.match(linesOf(app, 'fault'), [{ level: 'error', action: 'ingest.upload.error', result: 's3_put_failed', err: { message: String }, actor: 'admin:local:dev' }])
})
