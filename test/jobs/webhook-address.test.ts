import t from 'tap'
import type { LookupAddress } from 'node:dns'
import { AddressRefused, isPrivateAddress, publicLookup, webhookUrlFault } from '../../src/jobs/webhook-address.ts'
import { sendWebhook, signatureOf } from '../../src/jobs/send-webhook.ts'
import { webhookReceiver } from '../support/webhook-receiver.ts'

t.test('addresses that are not public', async t => {
  for (const address of [
    '0.0.0.0', '0.1.2.3', '10.0.0.1', '100.64.0.1', '100.127.255.255', '127.0.0.1', '127.255.0.1', '169.254.169.254', '172.16.0.1', '172.31.255.255', '192.0.0.1',
    '192.0.2.1', '192.168.1.1', '198.18.0.1', '198.51.100.7', '203.0.113.9', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255',
    '::', '::1', '::127.0.0.1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:10.1.2.3', '0:0:0:0:0:ffff:a00:1', '64:ff9b::10.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::1',
    '2002:7f00:1::', '2002:a00:1::1', '2001::1', '2001:db8::1', '100::1', 'fc00::1', 'fd12:3456::1', 'fe80::1', 'fe80::1%eth0', 'febf::1', 'fec0::1', 'ff02::1',
    '::ffff:0:127.0.0.1', '::ffff:0:8.8.8.8', '1::1', '64:ff9a::8.8.8.8', '1fff::1', '4000::1', '8000::1', 'e000::1',
    '', 'example.com', '127.1', '0177.0.0.1'
  ]) t.equal(isPrivateAddress(address), true, address)
  for (const address of [
    '1.1.1.1', '8.8.8.8', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255', '172.15.0.1', '172.32.0.1', '192.167.1.1', '223.255.255.255',
    '2606:4700:4700::1111', '2a00:1450::1', '3ffe::1', '::ffff:8.8.8.8', '64:ff9b::808:808', '2002:808:808::1'
  ]) t.equal(isPrivateAddress(address), false, address)
})

const fault = (url: unknown, allowPrivate = false): string | undefined => webhookUrlFault(url, { allowPrivate })

t.test('what is said of an address when a job is created', async t => {
  for (const url of ['http://127.0.0.1', 'http://127.1/', 'http://0177.0.0.1/', 'http://0x7f000001/', 'http://2130706433/', 'http://[::1]:80/', 'http://[::ffff:7f00:1]/', 'https://10.0.0.8/x', 'http://0/']) {
    t.match(fault(url), /private/, url)
    t.equal(fault(url, true), undefined, `${url} where private ones are allowed`)
  }
  for (const url of ['https://example.com/hook?x=1', 'http://localhost:8080/', 'http://8.8.8.8/', 'http://[2606:4700:4700::1111]/']) t.equal(fault(url), undefined, url)
  for (const url of [undefined, 5, '', 'x', '/hook', 'ftp://example.com', 'file:///etc/passwd', 'http://', 'http://u:p@example.com/', 'http://u@example.com/', `http://example.com/${'x'.repeat(2048)}`]) {
    t.type(fault(url, true), 'string', String(url).slice(0, 40))
  }
})

const resolveTo = (...addresses: string[]) => publicLookup((_name, _options, callback) =>
  callback(null, addresses.map((address): LookupAddress => ({ address, family: address.includes(':') ? 6 : 4 }))))

function ask(lookup: ReturnType<typeof publicLookup>, all: boolean): Promise<unknown> {
  return new Promise((resolve, reject) => lookup('name', { all }, (error, address, family) => error ? reject(error) : resolve(all ? address : [address, family])))
}

t.test('a look-up gives out public addresses only, in both of its forms', async t => {
  t.same(await ask(resolveTo('10.0.0.1', '8.8.8.8', '::1', '2606:4700::1'), true), [{ address: '8.8.8.8', family: 4 }, { address: '2606:4700::1', family: 6 }])
  t.same(await ask(resolveTo('10.0.0.1', '8.8.8.8'), false), ['8.8.8.8', 4])
  for (const all of [true, false]) await t.rejects(ask(resolveTo('127.0.0.1', '::1'), all), AddressRefused)
  const failing = publicLookup((_name, _options, callback) => callback(Object.assign(new Error('ENOTFOUND'), { code: 'ENOTFOUND' }), []))
  await t.rejects(ask(failing, true), { code: 'ENOTFOUND' })
})

const base = { id: 'job.1', body: '{"a":1}', secret: 'a secret of the tests', signal: new AbortController().signal }

t.test('nothing is sent to a private address, whether it is written out or hides behind a name', async t => {
  const receiver = await webhookReceiver(t)
  for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '2130706433']) {
    await t.rejects(sendWebhook({ ...base, url: `http://${host}:${receiver.port}/`, allowPrivate: false }), AddressRefused, host)
  }
  t.same(receiver.deliveries, [])
  t.equal(await sendWebhook({ ...base, url: `http://localhost:${receiver.port}/`, allowPrivate: true }), 200)
})

t.test('what is sent is signed, and the status is what comes back', async t => {
  const receiver = await webhookReceiver(t)
  receiver.answer((response, request) => {
    t.match(request.headers, { 'content-type': 'application/json', 'content-length': '7', 'x-penstock-event-id': 'job.1' })
    response.statusCode = 418
    response.end()
  })
  t.equal(await sendWebhook({ ...base, url: receiver.url, allowPrivate: true }), 418)
  t.match(receiver.deliveries, [{ body: base.body, signature: signatureOf(base.body, base.secret) }])
  t.equal(signatureOf('what do ya want for nothing?', 'Jefe'), 'sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843', 'RFC 4231, test case 2')
})

t.test('redirects are not followed', async t => {
  const target = await webhookReceiver(t)
  const receiver = await webhookReceiver(t)
  for (const status of [301, 302, 303, 307, 308]) {
    receiver.answer(response => response.writeHead(status, { location: target.url }).end())
    t.equal(await sendWebhook({ ...base, url: receiver.url, allowPrivate: true }), status)
  }
  t.same(target.deliveries, [])
})

t.test('whoever never answers, answers for ever, or is not there, holds nobody up', async t => {
  const receiver = await webhookReceiver(t)
  receiver.answer(() => {})
  await t.rejects(sendWebhook({ ...base, url: receiver.url, allowPrivate: true, timeoutMs: 50 }))
  let written = 0
  receiver.answer(response => {
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(16 * 1024))) written += 16 * 1024
      if (!response.destroyed) response.once('drain', more)
    }
    more()
  })
  t.equal(await sendWebhook({ ...base, url: receiver.url, allowPrivate: true }), 200)
  t.ok(written < 32 * 1024 * 1024, `${written} bytes of an answer without end`)
  receiver.answer(response => {
    response.write('slow')
  })
  t.equal(await sendWebhook({ ...base, url: receiver.url, allowPrivate: true, timeoutMs: 100 }), 200, 'the status was there')
  await t.rejects(sendWebhook({ ...base, url: 'http://127.0.0.1:1/', allowPrivate: true }), { code: 'ECONNREFUSED' })
  await t.rejects(sendWebhook({ ...base, url: receiver.url, allowPrivate: true, signal: AbortSignal.abort() }), { name: 'AbortError' })
})
