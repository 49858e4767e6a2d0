import assert from 'node:assert/strict'
import { duplexPair, type Duplex } from 'node:stream'
import t from 'tap'
import { framedChannel } from '../../src/inference/framed-channel.ts'
import { eventually } from '../support/raw-client.ts'

const MESSAGES = [{ type: 'a', text: 'ü'.repeat(50) }, null, 7n, { data: new Uint8Array(new Float32Array([1.5, Number.NaN]).buffer), inner: [undefined, { a: -0 }] }, 'last']

/** Hears at `far` what is sent to it. */
function listener(maxBytes = 2 ** 30) {
  const [near, far] = duplexPair()
  const heard: unknown[] = []
  const broken: string[] = []
  const channel = framedChannel(near, { maxBytes, onMessage: message => heard.push(message), onBroken: why => broken.push(why) })
  return { channel, far: far.on('error', () => {}), heard, broken }
}

/** The bytes of MESSAGES. */
async function bytesOf(): Promise<Buffer> {
  const [near, far] = duplexPair()
  const channel = framedChannel(near, { maxBytes: 1, onMessage() {}, onBroken() {} })
  for (const message of MESSAGES) channel.send(message)
  channel.end()
  channel.send('nothing to one that is closed')
  return Buffer.concat(await far.toArray() as Buffer[])
}

function writePieces(far: Duplex, bytes: Buffer, size: number): void {
  for (let at = 0; at < bytes.length; at += size) far.write(bytes.subarray(at, at + size))
}

t.test('messages arrive whole and in order, however their bytes do', async t => {
  const bytes = await bytesOf()
  for (const size of [1, 3, 7, 100, bytes.length]) {
    const { far, heard, broken } = listener()
    writePieces(far, bytes, size)
    await eventually(() => assert.equal(heard.length, MESSAGES.length))
    t.same(heard, MESSAGES, `${size} bytes at a time`)
    t.same(broken, [])
  }
})

t.test('bytes that are no message, and a message that is too long, end the channel, and nothing is heard any more', async t => {
  const bytes = await bytesOf()
  for (const [wrong, maxBytes] of [[Buffer.from('0800000000000000deadbeef', 'hex'), 1000], [Buffer.from('ffffffff', 'hex'), 1000], [bytes, 20]] as const) {
    const { channel, far, heard, broken } = listener(maxBytes)
    far.write(wrong)
    await channel.closed
    t.equal(broken.length, 1)
    t.equal(channel.open, false)
    far.write(bytes)
    await new Promise(resolve => { setImmediate(resolve) })
    t.same(heard, [])
    channel.send('nobody hears it')
  }
})

t.test('what cannot be cloned is refused, and nothing of it is sent', async t => {
  const { channel, far } = listener()
  const sent: Buffer[] = []
  far.on('data', (chunk: Buffer) => sent.push(chunk))
  t.throws(() => channel.send({ call() {} }), { message: /could not be cloned/ })
  await new Promise<void>(resolve => { channel.send(1, resolve) })
  await eventually(() => assert.equal(Buffer.concat(sent).readUInt32LE(), Buffer.concat(sent).length - 4))
})
