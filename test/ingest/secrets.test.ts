import t from 'tap'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { bundleBytes } from '../support/bundles.ts'
import { s3Env } from '../support/over-stub.ts'
import { ownPostgresOrSkip, type OwnPostgres } from '../support/postgres.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startS3Stub } from '../support/s3-stub.ts'
import { startService } from '../support/service-process.ts'

const ADMIN_TOKEN = 'marker-admin-token-0123456789'
const S3_SECRET = 'marker-s3-secret-0123456789'
const sent = ['marker-wrong-token', 'marker-cookie', 'marker-query', 'marker-guest', 'marker-public', 'marker-proxy']

function noSecretEver(postgres: OwnPostgres): void {
  t.test('no credential shows in any log line, answer or header, whatever succeeds or fails', async t => {
    const stub = await startS3Stub()
    t.teardown(() => stub.close())
    const databaseUrl = await postgres.createDatabase()
    const service = await startService(t, {
      ...s3Env(stub), S3_SECRET_ACCESS_KEY: S3_SECRET, ADMIN_TOKEN, DATABASE_URL: databaseUrl, LOG_LEVEL: 'trace', UPLOAD_IDLE_TIMEOUT_MS: '300'
    })
    const secrets = [ADMIN_TOKEN, S3_SECRET, new URL(databaseUrl).password, ...sent]
    let answers = ''
    const keep = ({ status, headers, body }: { status: number, headers: Headers, body: unknown }): number => {
      answers += `${status} ${JSON.stringify([...headers])} ${JSON.stringify(body)}\n`
      return status
    }
    const admin = { 'x-alga-admin': 'false', authorization: `Bearer ${ADMIN_TOKEN}`, cookie: 'token=marker-cookie; guest-token=marker-cookie', 'x-guest-authorization': 'marker-guest', 'x-public-authorization': 'Token marker-public', 'proxy-authorization': 'Basic marker-proxy' }
    const post = async (path: string, body: Uint8Array | string, headers = {}): Promise<{ status: number, key: string, body: any }> => { // eslint-disable-line typescript/no-explicit-any
      const answer = await service.call(path, body, { ...admin, ...headers })
      return { status: keep(answer), key: answer.body.upload?.key, body: answer.body }
    }
    const json = { 'content-type': 'application/json' }
    const upload = (bytes: Uint8Array, query = 'filename=x&token=marker-query&signature=marker-query') => post(`/upload-proxy?${query}&size=${bytes.length}`, bytes)

    const good = await upload(Buffer.from('good'))
    t.equal(good.status, 200)
    t.equal((await post('/finalize', JSON.stringify({ key: good.key }), json)).status, 200)
    const bundle = await upload(await bundleBytes(), 'filename=a.tar.zst')
    t.equal((await post('/finalize', JSON.stringify({ key: bundle.key }), json)).status, 200)
    t.equal((await post('/finalize', '{"key":1}', json)).status, 400)
    t.equal((await post('/finalize', `{"key":"${ADMIN_TOKEN}`, json)).status, 400, 'JSON that is cut off in the middle of a secret')
    t.equal((await post('/abort', JSON.stringify({ key: 'x' }), json)).status, 400)
    t.equal((await post('/nowhere?token=marker-query', '')).status, 404)
    t.equal((await post('/upload-proxy?filename=x&size=3&kind=marker', 'abc')).status, 400)
    t.equal((await post('/upload-proxy?filename=x&size=3', 'abc', { authorization: 'Bearer marker-wrong-token' })).status, 401)
    t.equal((await post('/upload-proxy?filename=x&size=3', 'abc', { authorization: `Basic ${ADMIN_TOKEN}` })).status, 401)
    const malformed = await rawClient(service.port)
    malformed.send(`GET /livez HTTP/1.1\r\nauthorization: Bearer ${ADMIN_TOKEN}\r\nbroken header\r\n\r\n`)
    answers += JSON.stringify(await malformed.answer())
    const stalled = await rawClient(service.port)
    stalled.send(uploadHead({ filename: 'x', size: '5' }, { 'content-length': '5', authorization: `Bearer ${ADMIN_TOKEN}` }))
    answers += JSON.stringify(await stalled.answer())

    for (const fault of [{ kind: 'answer', status: 403, code: 'SignatureDoesNotMatch' }, { kind: 'cut-answer' }, { kind: 'error-in-200', code: 'InternalError' }] as const) {
      const undo = stub.fault({ operation: ['PutObject', 'CopyObject', 'HeadObject', 'DeleteObject'] }, fault)
      if (fault.kind !== 'error-in-200') t.equal((await upload(randomBytes(1000))).status, 500)
      undo()
      const { key } = await upload(randomBytes(1000))
      const again = stub.fault({ operation: ['CopyObject', 'HeadObject', 'DeleteObject'], key: /^sha256/ }, fault)
      t.equal((await post('/finalize', JSON.stringify({ key }), json)).status, 500)
      await post('/abort', JSON.stringify({ key }), json)
      again()
    }
    await stub.close()
    await upload(randomBytes(1000))
    await postgres.halt()
    t.equal((await post('/abort', JSON.stringify({ key: good.key }), json)).status, 503)
    t.equal(keep(await service.call('/extensions', undefined, admin)), 503)
    t.equal(keep(await service.call('/readyz')), 503)

    service.child.kill('SIGTERM')
    t.equal(await service.ended, 0)
    t.ok(service.logged('ingest.upload.success').length > 0 && service.logged('ingest.upload.error').length > 0 && service.logged('http.request.failed').length > 0)
    t.same(secrets.filter(secret => service.output().includes(secret)), [], 'none is in a log line')
    t.same(secrets.filter(secret => answers.includes(secret)), [], 'none is in an answer')
    t.notMatch(service.output(), /Signature=|x-amz-|AWS4-HMAC/i, 'nor the signature of a request to the store')
    const faults = answers.split('\n').filter(line => line.startsWith('50'))
    t.ok(faults.length > 5)
    for (const fault of faults) assert.doesNotMatch(fault, /127\.0\.0\.1|ECONN|SignatureDoesNotMatch|node_modules|postgres|\bat \//, 'a fault says nothing of its cause')
  })

  t.test('a start that fails does not tell them either', async t => {
    await postgres.halt()
    const stub = await startS3Stub()
    await stub.close()
    for (const env of [{ DATABASE_URL: postgres.url }, { ...s3Env(stub), S3_SECRET_ACCESS_KEY: S3_SECRET, S3_CREATE_BUCKET: 'true' }]) {
      const service = await startService(t, { ADMIN_TOKEN, LOG_LEVEL: 'trace', ...env }).catch((error: unknown) => String(error))
      if (typeof service !== 'string') {
        await eventually(() => assert.ok(service.logged('objects.probe.failed').length > 0))
        service.child.kill('SIGTERM')
        t.equal(await service.ended, 0)
      }
      const output = typeof service === 'string' ? service : service.output()
      for (const secret of [ADMIN_TOKEN, S3_SECRET, new URL(postgres.url).password]) t.notOk(output.includes(secret))
    }
  })
}

const postgres = await ownPostgresOrSkip(t)
if (postgres) noSecretEver(postgres)
