import t from 'tap'
import { createHash } from 'node:crypto'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Meter, type MeterOptions } from '../../src/ingest/meter.ts'

async function run(chunks: Buffer[], options: MeterOptions): Promise<{ meter: Meter, out: Buffer, error: unknown }> {
  const meter = new Meter(options)
  const out: Buffer[] = []
  const sink = new Writable({ write(chunk: Buffer, _encoding, done) { out.push(chunk); done() } })
  const error = await pipeline(Readable.from(chunks, { objectMode: false }), meter, sink).then(() => undefined, (reason: unknown) => reason)
  return { meter, out: Buffer.concat(out), error }
}

const body = Buffer.from('the quick brown fox jumps over the lazy dog')
const sha256 = createHash('sha256').update(body).digest('hex')
const inPieces = [body.subarray(0, 7), body.subarray(7, 8), body.subarray(8)]

t.test('a body that is as announced passes through, counted and digested', async t => {
  const { meter, out, error } = await run(inPieces, { size: body.length, declaredSha256: sha256 })
  t.equal(error, undefined)
  t.same(out, body)
  t.equal(meter.sha256, sha256)
  t.equal(meter.taken, body.length)
  t.ok(meter.complete)
})

t.test('of a body that is wrong the reader never sees the end', async t => {
  const cases: [string, MeterOptions, object][] = [
    ['one byte too long', { size: body.length - 1 }, { code: 'BAD_REQUEST', why: 'body_size_mismatch', details: { reason: 'body_longer_than_size', expected: body.length - 1, received: body.length } }],
    ['one byte too short', { size: body.length + 1 }, { code: 'BAD_REQUEST', why: 'body_size_mismatch', details: { reason: 'body_shorter_than_size', expected: body.length + 1, received: body.length } }],
    ['another hash', { size: body.length, declaredSha256: 'f'.repeat(64) }, { code: 'HASH_MISMATCH', details: { declared: 'f'.repeat(64), computed: sha256 } }]
  ]
  for (const [name, options, expected] of cases) {
    const { meter, out, error } = await run(inPieces, options)
    t.match(error, expected, name)
    t.ok(out.length < Math.min(options.size, body.length), `${name}: the last bytes were held back`)
    t.notOk(meter.complete, name)
    t.throws(() => meter.sha256, name)
  }
})

t.test('what the reader has not taken is not counted as taken', async t => {
  const meter = new Meter({ size: 100 })
  meter.write(Buffer.alloc(40))
  meter.write(Buffer.alloc(40))
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(meter.received, 80)
  t.equal(meter.taken, 0)
  t.ok(meter.backedUp)
  meter.read()
  t.equal(meter.taken, 40, 'the newest chunk is held back')
  t.notOk(meter.backedUp)
  meter.destroy()
})
