import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { keysOf, nothingLeft } from '../support/nothing-left.ts'
import { eventually, rawClient, uploadHead } from '../support/raw-client.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const LIMITED = { EXT_BUNDLES_RATELIMIT_MAX: '100', MAX_CONCURRENT_UPLOADS: '1' }
const chunked = { 'transfer-encoding': 'chunked', 'x-request-id': 'mine' }
const upload = uploadHead({ filename: 'x', size: '5' }, chunked)
const finalize = 'POST /finalize HTTP/1.1\r\nhost: 127.0.0.1\r\nx-alga-admin: true\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nx-request-id: mine\r\n\r\n'

/** Sends the parts one after the other; everything that came until the other side closed. */
async function conversation(t: Test, app: StartedApp, parts: string[]): Promise<string> {
  const client = await rawClient(app.port)
  t.teardown(() => client.hangUp())
  let text = ''
  client.socket.on('data', (chunk: Buffer) => { text += chunk.toString('latin1') })
  for (const part of parts) {
    client.send(part)
    await delay(30)
  }
  await client.closed
  return text
}

function linesOf(app: StartedApp, ...actions: string[]): Record<string, unknown>[] {
  return app.logs.filter(line => actions.includes(String(line.action)))
}

for (const [when, join] of [['in the packet of its head', (head: string, rest: string) => [head + rest]], ['while it is being read', (head: string, rest: string) => [`${head}2\r\nhe\r\n`, rest]]] as const) {
  t.test(`a body whose framing breaks ${when} is refused by its route, with its id, in its dialect`, async t => {
    const app = await startApp(t, LIMITED)
    for (const [head, why] of [[upload, /x-upload-proxy-why: bad_request\r\n/], [finalize, /x-request-id/]] as const) {
      app.logs.length = 0
      const answer = await conversation(t, app, join(head, 'ZZ\r\n'))
      const [answerHead = '', body = ''] = answer.split('\r\n\r\n')
      t.match(answerHead, /^HTTP\/1\.1 400 /)
      t.match(answerHead, /x-request-id: mine\r\n/)
      t.match(answerHead, /\r\nratelimit-remaining: \d+\r\n/)
      t.match(answerHead, /connection: close/i)
      t.match(answerHead, why)
      t.match(JSON.parse(body), { error: 'the body is not framed as HTTP asks', code: 'BAD_REQUEST' })
      await eventually(() => assert.equal(linesOf(app, 'http.request.completed').length, 1))
      t.match(linesOf(app, 'http.request.malformed', 'http.request.completed'), [
        { action: 'http.request.malformed', request_id: 'mine', reason: 'HPE_INVALID_CHUNK_SIZE' },
        { action: 'http.request.completed', request_id: 'mine', status: 400, error: 'BAD_REQUEST' }
      ])
    }
    t.same(app.logged('ingest.upload.client_aborted'), [])
    await nothingLeft(app)
    t.equal((await app.upload(Buffer.from('x'))).status, 200, 'the only slot is free again')
  })
}

t.test('callers and rates come before what is wrong with a body', async t => {
  const app = await startApp(t)
  const nobody = uploadHead({ filename: 'x', size: '5' }, { ...chunked, 'x-alga-admin': 'no' })
  t.match(await conversation(t, app, [`${nobody}ZZ\r\n`]), /^HTTP\/1\.1 403 [^]*x-request-id: mine\r\n[^]*RBAC_FORBIDDEN/)
})

t.test('what follows a whole body and is no request does not take the answer from it; it is the last one', async t => {
  const app = await startApp(t, LIMITED)
  const whole = `${uploadHead({ filename: 'x', size: '5' }, { 'content-length': '5', 'x-request-id': 'mine' })}hello`
  for (const parts of [[`${whole}JUNK\r\n\r\n`], [whole.slice(0, -5), `hello${'JUNK'.repeat(100_000)}`]]) {
    app.logs.length = 0
    const answer = await conversation(t, app, parts)
    t.match(answer, /^HTTP\/1\.1 200 [^]*x-request-id: mine\r\n[^]*"sha256":"2cf24dba5fb0/)
    t.match(answer, /\r\nconnection: close\r\n/i)
    t.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1)
    await eventually(() => assert.equal(linesOf(app, 'http.request.completed').length, 1))
    t.match(linesOf(app, 'http.request.malformed', 'http.request.completed'), [{ request_id: 'mine' }, { request_id: 'mine', status: 200 }])
  }
  t.equal((await keysOf(app)).length, 2)
})

t.test('junk on a connection whose last request was answered is answered by itself', async t => {
  const app = await startApp(t)
  const answer = await conversation(t, app, ['GET /livez HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n', 'JUNK\r\n\r\n'])
  t.match(answer, /^HTTP\/1\.1 200 [^]*HTTP\/1\.1 400 [^]*"code":"validation_error"/)
  t.match(app.logged('http.request.malformed'), [{ status: 400, reason: 'HPE_INVALID_METHOD' }])
  t.not(app.logged('http.request.malformed')[0]?.request_id, 'mine')
})

t.test('a client that merely hangs up has sent nothing malformed, and was not answered', async t => {
  const app = await startApp(t)
  for (const goodbye of ['end', 'resetAndDestroy'] as const) {
    for (const head of [uploadHead({ filename: 'x', size: '5' }, { 'content-length': '5' }), upload, finalize, 'GET /livez HT']) {
      app.logs.length = 0
      const socket = connect(app.port, '127.0.0.1')
      let answer = ''
      socket.on('data', (chunk: Buffer) => { answer += chunk.toString() }).on('error', () => {})
      const closed = new Promise(resolve => { socket.once('close', resolve) })
      socket.write(head)
      await delay(50)
      socket[goodbye]()
      await closed
      if (head !== 'GET /livez HT') {
        await eventually(() => assert.equal(linesOf(app, 'http.request.completed').length, 1))
        t.match(linesOf(app, 'http.request.completed'), [{ status: null, aborted: true }])
      }
      if (head.includes('upload')) await eventually(() => assert.equal(app.logged('ingest.upload.client_aborted').length, 1))
      t.equal(answer, '')
      t.same(app.logged('http.request.malformed'), [], `${goodbye} ${head.slice(0, 20)}`)
    }
  }
  await nothingLeft(app)
})
