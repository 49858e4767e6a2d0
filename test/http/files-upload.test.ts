import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { FILENAME_MAX_BYTES, MULTIPART_FIELDS_MAX, MULTIPART_PART_HEADERS_MAX_BYTES, UNKNOWN_PART_BYTES } from '../../src/limits.ts'
import { openRecordStore } from '../../src/stores.ts'
import { BOUNDARY, file, form, formHead, partHead, type FormPart } from '../support/multipart.ts'
import { nothingLeft } from '../support/nothing-left.ts'
import { startOverStub } from '../support/over-stub.ts'
import { administrator, guest, PEOPLE_ENV, publicForm, user } from '../support/people.ts'
import { eventually, rawClient } from '../support/raw-client.ts'
import { ask, read, sendForm, share } from '../support/shared-files.ts'
import { startApp, type StartedApp } from '../support/start-app.ts'

const bytes = randomBytes(200_000)
const sha256 = createHash('sha256').update(bytes).digest('hex')
const keyOf = (hash: string) => `sha256/${hash}/object`
const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=', 'base64')

const plain = (content: Uint8Array | string = 'x', filename = 'a.bin', type = 'application/octet-stream'): FormPart => file(content, 'file', filename, type)

async function rowsOf({ config }: StartedApp): Promise<number> {
  const records = openRecordStore(config)
  try {
    return (await records.files.list({ holder: { subject: 'dev', account: 'local' }, limit: 100 })).length
  } finally {
    await records.close()
  }
}

t.test('a file is stored, recorded, and answered with what is known of it', async t => {
  const app = await startApp(t, { PUBLIC_BASE_URL: 'https://files.example.com/' })
  const { status, headers, body } = await sendForm(app, [plain(bytes)])
  t.equal(status, 201)
  t.strictSame(body, { file_id: body.file_id, public_url: `https://files.example.com/files/${body.file_id}`, size: 200_000, content_type: 'application/octet-stream', sha256 })
  t.equal(headers.get('location'), `/files/${body.file_id}`)
  await nothingLeft(app, [keyOf(sha256)])
  const again = await sendForm(app, [plain(bytes)])
  t.not(again.body.file_id, body.file_id, 'the same bytes are another file')
  await nothingLeft(app, [keyOf(sha256)])
  t.match((await ask(app, 'GET', '/files')).body, { items: [{ file_id: again.body.file_id }, { file_id: body.file_id, access: 'account', owner: 'dev', account: 'local', filename: 'a.bin' }] })
  t.equal((await sendForm(app, [plain('')])).status, 201, 'a file of no bytes is one')
})

t.test('every kind of caller may share, and owns what it shared', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const callers = { user: [await user(app, 'ada'), 'ada', 'acme'], guest: [await guest(app, 'visitor'), 'visitor', 'acme'], admin: [administrator, null, null] } as const
  for (const [name, [headers, owner, account]] of Object.entries(callers)) {
    const id = await share(app, name, headers)
    t.match((await ask(app, 'GET', '/files', undefined, headers)).body, { items: [{ file_id: id, owner, account }] }, name)
  }
  const form = await publicForm(app)
  t.equal((await read(app, `/files/${await share(app, 'form', form)}`, form)).status, 200)
  const refused = await sendForm(app, [plain()])
  t.equal(refused.status, 401)
  t.equal(refused.headers.get('connection'), 'close')
})

t.test('a caller without a credential is refused before its body is read', async t => {
  const app = await startApp(t, PEOPLE_ENV)
  const client = await rawClient(app.port)
  client.send(formHead('/files/upload', 50_000_000) + partHead({ name: 'file', filename: 'a' }))
  t.equal((await client.answer()).status, 401)
  await client.closed
  const polite = await rawClient(app.port)
  polite.send(formHead('/files/upload', 1000, { expect: '100-continue' }))
  t.match(await polite.answer(), { status: 401 }, 'and never invited')
  await nothingLeft(app)
})

t.test('a file that nearly has the boundary in it, where chunks end, keeps every byte', async t => {
  const app = await startApp(t)
  const almost = `\r\n--${BOUNDARY}`.slice(0, -1)
  // each is a chunk of its own: what the parser holds back of one is sent on with the next, or begins the boundary there
  const chunks = [`one${almost}`, 'two\r', 'three\r\n', `four${almost}`, `${almost}`, 'five\r', '\n-six\r\n--', 'seven']
  const client = await rawClient(app.port)
  client.send(formHead('/files/upload'))
  for (const chunk of [partHead({ name: 'file', filename: 'a.bin' }), ...chunks, `\r\n--${BOUNDARY}--\r\n`]) {
    client.send(`${chunk.length.toString(16)}\r\n${chunk}\r\n`)
    await delay(20)
  }
  client.send('0\r\n\r\n')
  const { status, body } = await client.answer()
  t.equal(status, 201, body)
  t.match(JSON.parse(body), { size: chunks.join('').length, sha256: createHash('sha256').update(chunks.join('')).digest('hex') })
})

t.test('names are cleaned', async t => {
  const app = await startApp(t)
  const cases: [string, string][] = [
    ['Größe 日本 عربى.txt', 'Größe 日本 عربى.txt'], ['a  b__c.txt', 'a_b_c.txt'], ['...hidden. ', 'hidden'], ['<a>|b?.txt', '_a_b_.txt'],
    ['../../etc/passwd', 'passwd'], ['C:\\dir\\x.txt', 'x.txt'], ['evil\u202Egnp.exe', 'evil_gnp.exe'], ['***', '_'], ['..', 'unnamed_file'],
    ['a;filename=b.txt', 'a_filename_b.txt'], ['100%.txt', '100_.txt'], [`${'ü'.repeat(200)}.pdf`, `${'ü'.repeat((FILENAME_MAX_BYTES - 5) / 2)}.pdf`]
  ]
  for (const [given, cleaned] of cases) {
    const { body } = await sendForm(app, [['filename', given], plain()])
    const field = (await ask(app, 'GET', '/files?limit=1')).body.items[0]
    t.equal(field.file_id, body.file_id)
    if (!/[/\\]/.test(given)) t.equal(field.filename, cleaned, given)
    if (given.includes('"')) continue
    await sendForm(app, [plain('x', given)])
    t.equal((await ask(app, 'GET', '/files?limit=1')).body.items[0].filename, cleaned, `as the name of the part: ${given}`)
  }
})

t.test('a name of the part may be quoted, encoded, broken or missing', async t => {
  const app = await startApp(t)
  const named = async (disposition: string) => {
    const body = Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; ${disposition}\r\nContent-Type: text/plain\r\n\r\nx\r\n--${BOUNDARY}--\r\n`)
    const { status } = await sendForm(app, body)
    return status === 201 ? (await ask(app, 'GET', '/files?limit=1')).body.items[0].filename as string : status
  }
  t.equal(await named('filename="a\\"b.txt"'), 'a_b.txt', 'quotes')
  t.equal(await named(`filename*=UTF-8''%C3%9Cber%20uns.txt`), 'Über uns.txt', 'filename*')
  t.equal(await named(`filename="a.txt"; filename*=UTF-8''%C3%9Cber%20uns.txt`), 'a.txt', 'which has no place in a form (RFC 7578, section 4.2): where both are, the plain one counts')
  t.equal(await named(`filename*=UTF-8''..%2F..%2F%E2%80%AEx.txt`), '_x.txt', 'what is in filename* is cleaned too')
  t.equal(await named('filename="a%22b%0D%0aX: y%41.txt"'), 'a_b_X_y_41.txt', 'as browsers escape quotes and line ends')
  t.equal(await named('filename=""'), 'unnamed_file')
  t.equal(await named('filename="a\r\nSet-Cookie: b=c.txt"'), 'a', 'a line end ends the name')
})

t.test('the type is what the first bytes say, else what the client says, and nothing that runs', async t => {
  const app = await startApp(t)
  for (const [content, claimed, stored] of [
    [PNG, 'text/plain', 'image/png'], [PNG, 'text/html', 'image/png'], ['hello', 'text/plain; charset=utf-8', 'text/plain'], ['hello', 'TEXT/CSV', 'text/csv'],
    ['<html><script>', 'text/html', 'application/octet-stream'], ['<svg xmlns="http://www.w3.org/2000/svg"/>', 'image/svg+xml', 'application/octet-stream'],
    ['<?xml version="1.0"?><a/>', 'text/plain', 'application/octet-stream'], ['x', 'text/javascript', 'application/octet-stream'], ['x', 'application/x-evil', 'application/octet-stream'],
    ['%PDF-1.7\n', 'image/png', 'application/pdf'], ['{}', 'application/json', 'application/json']
  ] as [string | Buffer, string, string][]) {
    t.equal((await sendForm(app, [plain(content, 'a', claimed)])).body.content_type, stored, `${claimed}: ${String(content).slice(0, 20)}`)
  }
})

t.test('the type is told however small the pieces are in which the first bytes arrive', async t => {
  const app = await startApp(t)
  const client = await rawClient(app.port)
  const body = form([plain(Buffer.concat([PNG, bytes]), 'a', 'text/plain')])
  client.send(formHead('/files/upload', body.length))
  for (let at = 0; at < 300; at += 7) {
    client.send(body.subarray(at, at + 7))
    await new Promise(resolve => { setImmediate(resolve) })
  }
  client.send(body.subarray(301))
  const { status, body: answer } = await client.answer()
  t.equal(status, 201)
  t.match(JSON.parse(answer), { content_type: 'image/png', size: PNG.length + bytes.length })
})

t.test('the cap holds to the byte, and nothing of what is over it stays', async t => {
  const app = await startApp(t, { MAX_FILE_SIZE_BYTES: '200000', MAX_CONCURRENT_UPLOADS: '1' })
  t.equal((await sendForm(app, [['access', 'public'], plain(bytes)])).status, 201)
  await nothingLeft(app, [keyOf(sha256)])
  const { status, body } = await sendForm(app, [plain(Buffer.concat([bytes, Buffer.from('x')]))])
  t.equal(status, 413)
  t.match(body, { error: { code: 'file_too_large', details: { field: 'file', limit_bytes: 200_000 } } })
  await nothingLeft(app, [keyOf(sha256)])
  t.equal(await rowsOf(app), 1)

  const announced = await rawClient(app.port)
  announced.send(formHead('/files/upload', 50_000_000))
  t.equal((await announced.answer()).status, 413, 'what is announced as far too long is not read')
  await eventually(async () => assert.equal((await sendForm(app, [plain()])).status, 201))
})

t.test('forms that are not right are refused, and nothing of them stays', async t => {
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: '1' })
  const big = plain(bytes)
  for (const [why, message, parts] of [
    ['no part', /"file" is missing/, []],
    ['no file', /"file" is missing/, [['access', 'public']]],
    ['a file that is a field', /file must be a file/, [['file', 'x']]],
    ['a file of another name', /the file "upload" is not known/, [file('x', 'upload')]],
    ['two files', /more than one file/, [big, plain('y')]],
    ['a field behind the file', /access must stand before the file/, [big, ['access', 'public']]],
    ['a field twice', /more than one access/, [['access', 'public'], ['access', 'account'], big]],
    ['a field that nobody knows', /the field "owner" is not known/, [['owner', 'ada'], big]],
    ['a field of every object', /not known here/, [['__proto__', 'x'], big]],
    ['fields without end', new RegExp(`not known|more than ${MULTIPART_FIELDS_MAX}`), Array.from({ length: 10_000 }, (_, index): FormPart => [`f${index}`, 'x'])],
    ['one field 10 000 times', /more than one/, Array.from({ length: 10_000 }, (): FormPart => ['access', 'public'])]
  ] as [string, RegExp, FormPart[]][]) {
    const answer = await sendForm(app, parts)
    t.equal(answer.status, 400, why)
    t.match(answer.body, { error: { code: 'invalid_multipart', message } }, why)
    await nothingLeft(app)
  }
  for (const [field, value] of [['access', 'everyone'], ['access', ''], ['filename', 'x'.repeat(2000)]] as const) {
    const answer = await sendForm(app, [[field, value], big])
    t.equal(answer.status, 400, field)
    t.match(answer.body, { error: { code: 'validation_error', details: { fields: [{ field }] } } })
    await nothingLeft(app)
  }
  t.equal(await rowsOf(app), 0)
  t.equal((await sendForm(app, [plain()])).status, 201, 'the one slot is free')
})

t.test('bodies that are no multipart, or not framed as one', async t => {
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: '1' })
  const whole = form([plain(bytes)])
  const send = async (body: Uint8Array, type: string) => ask(app, 'POST', '/files/upload', body, { 'content-type': type })
  t.match(await send(Buffer.from('{}'), 'application/json'), { status: 415, body: { error: { code: 'unsupported_media_type' } } })
  t.match(await send(Buffer.from('x'), 'application/octet-stream'), { status: 415 })
  t.match(await send(whole, 'multipart/form-data'), { status: 400, body: { error: { code: 'invalid_multipart', message: /boundary/ } } })
  t.match(await send(whole, 'multipart/form-data; boundary=another'), { status: 400, body: { error: { code: 'invalid_multipart' } } })
  t.match(await send(whole.subarray(0, whole.length - 40), `multipart/form-data; boundary=${BOUNDARY}`), { status: 400, body: { error: { code: 'invalid_multipart' } } })
  const header = Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nX-Long: ${'x'.repeat(1024 * 1024)}\r\n\r\nx\r\n--${BOUNDARY}--\r\n`)
  const long = await send(header, `multipart/form-data; boundary=${BOUNDARY}`)
  t.ok([201, 400].includes(long.status), `headers of a part beyond ${MULTIPART_PART_HEADERS_MAX_BYTES} bytes are not kept: ${long.status}`)
  await eventually(async () => assert.equal((await sendForm(app, [plain()])).status, 201))
})

t.test('a part that never ends is ended, and nothing of it stays', async t => {
  const app = await startApp(t, { UPLOAD_IDLE_TIMEOUT_MS: '150', MAX_CONCURRENT_UPLOADS: '1' })
  for (const sent of [formHead('/files/upload', 300_000), formHead('/files/upload', 300_000) + partHead({ name: 'file', filename: 'a' }), `${formHead('/files/upload', 300_000)}${partHead({ name: 'file', filename: 'a' })}some bytes`]) {
    const client = await rawClient(app.port)
    client.send(sent)
    const { status, body } = await client.answer()
    t.equal(status, 408)
    t.match(JSON.parse(body), { error: { code: 'request_timeout' } })
    await nothingLeft(app)
  }
  t.equal((await sendForm(app, [plain()])).status, 201)
})

t.test('a client that hangs up in the middle leaves nothing', async t => {
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: '1' })
  const client = await rawClient(app.port)
  client.send(formHead('/files/upload', 300_000) + partHead({ name: 'file', filename: 'a' }))
  client.send(bytes.subarray(0, 100_000))
  await eventually(async () => assert.equal((await sendForm(app, [plain()])).status, 503))
  client.hangUp()
  await eventually(() => assert.equal(app.logged('files.upload.client_aborted').length, 1))
  await nothingLeft(app)
  t.equal((await sendForm(app, [plain()])).status, 201, 'the slot is free')
})

t.test('all slots taken: told to come later, without a byte being read', async t => {
  const app = await startApp(t, { MAX_CONCURRENT_UPLOADS: '1', UPLOAD_RETRY_AFTER_SECONDS: '7' })
  const first = await rawClient(app.port)
  first.send(formHead('/files/upload', 300_000) + partHead({ name: 'file', filename: 'a' }))
  await eventually(async () => {
    const answer = await sendForm(app, [plain()])
    assert.equal(answer.status, 503)
    assert.equal(answer.headers.get('retry-after'), '7')
  })
  first.hangUp()
  await eventually(async () => assert.equal((await sendForm(app, [plain()])).status, 201))
  t.pass('and then it may')
})

t.test('a store that fails is answered as such, and nothing is left', async t => {
  const over = await startOverStub(t)
  const { app, stub } = over
  for (const operation of ['PutObject', 'CopyObject'] as const) {
    const heal = stub.fault({ operation }, { kind: 'answer', status: 500, code: 'InternalError' })
    const { status, body } = await sendForm(app, [plain(bytes)])
    t.equal(status, 502, operation)
    t.match(body, { error: { code: 'storage_unavailable' } })
    t.notMatch(JSON.stringify(body), /InternalError|stub|127/)
    heal()
    await nothingLeft(app)
  }
  t.equal((await sendForm(app, [plain(bytes)])).status, 201)
  t.equal((await ask(app, 'GET', '/files')).body.items.length, 1)
})

t.test('a client that has sent all is not blamed for a store that is slow', async t => {
  const { app, stub } = await startOverStub(t, { UPLOAD_IDLE_TIMEOUT_MS: '2000' })
  const [head, end] = [partHead({ name: 'file', filename: 'a.bin' }), `\r\n--${BOUNDARY}--\r\n`]
  const client = await rawClient(app.port)
  // every byte has been taken, and the first part is on its way: nobody looks at the end before that is over
  stub.fault({ operation: 'UploadPart', nth: 1 }, { kind: 'before', async run() {
    client.send(end)
    await delay(2600)
  } })
  client.send(formHead('/files/upload', head.length + UNKNOWN_PART_BYTES + 1 + end.length) + head)
  client.send(Buffer.alloc(UNKNOWN_PART_BYTES + 1, 'x'))
  const { status, body } = await client.answer()
  t.equal(status, 201, body)
  t.match(JSON.parse(body), { size: UNKNOWN_PART_BYTES + 1 })
})

t.test('uploads have a budget of their own', async t => {
  const app = await startApp(t, { FILES_UPLOAD_RATE_LIMIT_MAX: '2' })
  const answers = [await sendForm(app, [plain()]), await sendForm(app, [plain()]), await sendForm(app, [plain()])]
  t.strictSame(answers.map(({ status }) => status), [201, 201, 429])
  t.equal((await read(app, '/files')).status, 200)
})
