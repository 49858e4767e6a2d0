import { randomBytes } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { constants, createZstdCompress, gzipSync, zstdCompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { PenstockError } from '../../../src/errors.ts'
import { readManifestFromBundle } from '../../../src/ingest/bundle/manifest-in-bundle.ts'
import { BUNDLE_ENTRIES_MAX, MANIFEST_MAX_BYTES, TAR_EXTENDED_HEADER_MAX_BYTES, ZSTD_DECODERS_MAX } from '../../../src/limits.ts'
import { ObjectStoreFailed } from '../../../src/objects/port.ts'
import { makeBundle, streamOf, type BundleEntry } from '../../support/bundles.ts'

const manifest = '{"name":"x"}'

t.test('the manifest is found at the root, with ./ and one directory down', async t => {
  for (const name of ['manifest.json', './manifest.json', 'dir/manifest.json', './dir/manifest.json']) {
    const bundle = await makeBundle([{ name: 'readme.md', content: 'hello' }, { name, content: manifest }])
    t.equal(await read(bundle), manifest, name)
  }
})

t.test('the first manifest in the order of the archive wins, wherever it lies', async t => {
  const bundle = await makeBundle([{ name: 'dir/manifest.json', content: 'first' }, { name: 'manifest.json', content: 'second' }])
  t.equal(await read(bundle), 'first')
})

t.test('names that only resemble a manifest are passed over', async t => {
  const names = ['a/b/manifest.json', '../manifest.json', '/manifest.json', 'Manifest.json', 'manifest.json.bak', 'xmanifest.json', 'manifest.json/x', './a/../manifest.json']
  await rejects(t, await makeBundle(names.map(name => ({ name, content: manifest }))), 'manifest_not_in_bundle')
})

t.test('only a regular file counts as the manifest', async t => {
  const bundle = await makeBundle([
    { name: 'manifest.json', type: 'symlink', linkname: '/etc/passwd' },
    { name: 'manifest.json', type: 'link', linkname: 'other.json' },
    { name: 'manifest.json', type: 'directory' },
    { name: 'manifest.json', type: 'fifo' },
    { name: 'dir/manifest.json', content: manifest }
  ])
  t.equal(await read(bundle), manifest)
})

t.test('an archive without entries, or without a manifest, is told from one that cannot be read', async t => {
  await rejects(t, await makeBundle([]), 'manifest_not_in_bundle')
  await rejects(t, await makeBundle([{ name: 'a', content: 'b' }]), 'manifest_not_in_bundle')
})

t.test('a manifest after 10 000 entries is found', async t => {
  const bundle = await makeBundle([...files(10_000), { name: 'manifest.json', content: manifest }])
  t.equal(await read(bundle), manifest)
})

t.test('long names of pax and GNU are read', async t => {
  const long = `${'d'.repeat(200)}/manifest.json`
  t.equal(await read(await makeBundle([{ name: `${'e'.repeat(300)}.txt`, content: 'x' }, { name: long, content: manifest }])), manifest, 'pax')
  const gnu = [...block('././@LongLink', 'L', Buffer.from(`${long}\0`)), ...block(long.slice(0, 100), '0', Buffer.from(manifest)), Buffer.alloc(1024)]
  t.equal(await read(zstdCompressSync(Buffer.concat(gnu))), manifest, 'GNU')
})

t.test('a pax header may give the size, and global headers are passed over', async t => {
  const parts = [
    ...block('g', 'g', Buffer.from(pax('comment', 'path=manifest.json'))),
    ...block('x', 'x', Buffer.from(pax('mtime', '1.5') + pax('size', '600'))), header('big.bin', '0', 0), Buffer.alloc(1024),
    ...block('manifest.json', '0', Buffer.from(manifest)), Buffer.alloc(1024)
  ]
  t.equal(await read(zstdCompressSync(Buffer.concat(parts))), manifest)
})

t.test('sizes in base 256, v7 headers and a lone block of zeros are read as tar programs do', async t => {
  const big = header('a.bin', '0', 0, block => { Buffer.from('800000000000000000000200', 'hex').copy(block, 124) })
  const v7 = header('manifest.json', '\0', manifest.length, block => { block.fill(0, 257, 265) })
  const parts = [big, Buffer.alloc(512), Buffer.alloc(512), v7, padded(Buffer.from(manifest))]
  t.equal(await read(zstdCompressSync(Buffer.concat(parts))), manifest)
})

t.test('damaged headers are refused as no archive', async t => {
  const rest = [...block('manifest.json', '0', Buffer.from(manifest)), Buffer.alloc(1024)]
  const archives: Record<string, Buffer[]> = {
    'checksum': [header('a', '0', 0).fill('b', 0, 1), ...rest],
    'negative size': [header('a', '0', 0, block => { Buffer.alloc(12, 0xff).copy(block, 124) }), ...rest],
    'size that is no number': [header('a', '0', 0, block => { block.write('9z', 124) }), ...rest],
    'pax record without length': [...block('x', 'x', Buffer.from('path=a\n')), ...rest],
    'pax record longer than its header': [...block('x', 'x', Buffer.from('99 path=a\n')), ...rest],
    'pax record with a negative length': [...block('x', 'x', Buffer.from('-5 path=a\n')), ...rest],
    'pax size that is no number': [...block('x', 'x', Buffer.from(pax('size', 'NaN'))), ...rest],
    'huge pax header': [header('x', 'x', TAR_EXTENDED_HEADER_MAX_BYTES + 1), ...rest],
    'pax header without an entry': block('x', 'x', Buffer.from(pax('path', 'manifest.json'))).slice(0, 1)
  }
  for (const [name, parts] of Object.entries(archives)) await rejects(t, zstdCompressSync(Buffer.concat(parts)), 'not_a_tar_zst', name)
})

t.test('an archive that was cut short is refused as no archive', async t => {
  const tar = await makeBundle([{ name: 'a', content: 'x'.repeat(1000) }, { name: 'manifest.json', content: manifest }], { compress: false })
  for (const length of [100, 700, 1600, 2052]) await rejects(t, zstdCompressSync(tar.subarray(0, length)), 'not_a_tar_zst', `${length} bytes`)
  await rejects(t, zstdCompressSync(tar.subarray(0, 1536)), 'manifest_not_in_bundle', 'between two entries: only the end mark lacks')
})

t.test('what is not zstd, not a whole zstd stream, or not a tar inside is refused', async t => {
  const bundle = await makeBundle([{ name: 'a', content: randomBytes(200_000) }, { name: 'manifest.json', content: manifest }])
  const cases: Record<string, Buffer> = {
    'nothing': Buffer.alloc(0),
    'one byte': Buffer.from('x'),
    'text': Buffer.from('hello, this is no archive at all'),
    'gzip': gzipSync(await makeBundle([{ name: 'manifest.json', content: manifest }], { compress: false })),
    'plain tar': await makeBundle([{ name: 'manifest.json', content: manifest }], { compress: false }),
    'zstd of nothing': zstdCompressSync(Buffer.alloc(0)),
    'zstd of text': zstdCompressSync('x'.repeat(5000)),
    'zstd of random bytes': zstdCompressSync(randomBytes(5000)),
    'zstd with garbage after it': Buffer.concat([zstdCompressSync(header('a', '0', 0)), Buffer.from('garbage after it')]),
    'zstd magic only': bundle.subarray(0, 4),
    'truncated zstd': bundle.subarray(0, 100_000),
    'damaged zstd': Buffer.concat([bundle.subarray(0, 20), randomBytes(1000), bundle.subarray(1020)])
  }
  for (const [name, bytes] of Object.entries(cases)) await rejects(t, bytes, 'not_a_tar_zst', name)
})

t.test('a bundle of several zstd frames is read whole, however they fall into chunks', async t => {
  const tar = await makeBundle([{ name: 'a', content: randomBytes(3000) }, { name: 'manifest.json', content: manifest }], { compress: false })
  const skippable = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.from('meta')])
  const frames = [skippable]
  for (let at = 0; at < tar.length; at += 700) frames.push(zstdCompressSync(tar.subarray(at, at + 700)), skippable)
  const bytes = Buffer.concat(frames)
  for (const chunkBytes of [1, 7, 711, 1000, bytes.length]) t.equal(await read(bytes, chunkBytes), manifest, `chunks of ${chunkBytes}`)
  t.equal(await readManifestFromBundle(Readable.from(frames, { objectMode: false })), manifest, 'a frame to a chunk')
})

t.test('an endless row of empty frames is ended by a bound', async t => {
  const bytes = Buffer.concat(Array.from({ length: ZSTD_DECODERS_MAX + 2 }, () => Buffer.from('502a4d1800000000', 'hex')))
  await invalid(t, bytes, /zstd frames/)
})

t.test('a frame that asks for a window of more than 128 MiB is refused before it gets it', async t => {
  const bytes = await streamed([Buffer.alloc(1000), Buffer.alloc(1000)], 28)
  const before = process.memoryUsage().rss
  const error = await rejects(t, bytes, 'not_a_tar_zst')
  t.match(error.message, /window/)
  t.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024)
})

t.test('a manifest of exactly 1 MiB is read, one byte more is not', async t => {
  const text = `"${'x'.repeat(MANIFEST_MAX_BYTES - 2)}"`
  t.equal(await read(await makeBundle([{ name: 'manifest.json', content: text }])), text)
  await invalid(t, await makeBundle([{ name: 'manifest.json', size: MANIFEST_MAX_BYTES + 1 }]), /larger than 1048576 bytes/)
})

t.test('a manifest said to be terabytes is refused by its header', async t => {
  const parts = [...block('x', 'x', Buffer.from(pax('size', '9007199254740991'))), header('manifest.json', '0', 0)]
  await invalid(t, zstdCompressSync(Buffer.concat(parts)), /larger than/)
})

t.test('an empty manifest is read as empty text, one that is not UTF-8 is refused', async t => {
  t.equal(await read(await makeBundle([{ name: 'manifest.json', content: '' }])), '')
  await invalid(t, await makeBundle([{ name: 'manifest.json', content: Buffer.from([0x22, 0xff, 0xfe, 0x22]) }]), /UTF-8/)
})

t.test('a small bundle that decompresses to more than 1 GiB is ended by the bound, in little memory and without stopping others', async t => {
  const gigabyte = 1024 * 1024 * 1024
  const bundle = await makeBundle([{ name: 'zeros', size: gigabyte }, { name: 'manifest.json', content: manifest }])
  t.ok(bundle.length < gigabyte / 1000, `the bomb has ${bundle.length} bytes`)
  const delay = monitorEventLoopDelay({ resolution: 5 })
  const before = process.memoryUsage().rss
  delay.enable()
  await invalid(t, bundle, /first 1073741824 bytes/)
  delay.disable()
  t.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024, 'memory')
  t.ok(delay.max / 1e6 < 500, `the event loop was held for at most ${delay.max / 1e6} ms`)
})

t.test('more than 100 000 entries are ended by the bound, the last allowed one may be the manifest', async t => {
  const many = Buffer.concat(Array.from({ length: BUNDLE_ENTRIES_MAX - 1 }, () => header('files/a.txt', '0', 0)))
  const last = [...block('manifest.json', '0', Buffer.from(manifest)), Buffer.alloc(1024)]
  t.equal(await read(zstdCompressSync(Buffer.concat([many, ...last]))), manifest)
  await invalid(t, zstdCompressSync(Buffer.concat([many, header('one-more', '0', 0), ...last])), /first 100000 entries/)
})

t.test('pax headers full of records do not hold the event loop', async t => {
  let records = ''
  for (let i = 0; records.length < TAR_EXTENDED_HEADER_MAX_BYTES - 20; i++) records += pax(i.toString(36), '')
  const hostile = [...block('g', 'g', Buffer.from(records)), ...block('x', 'x', Buffer.from(records))]
  for (let i = 0; i < 1000; i++) hostile.push(...block('x', 'x', Buffer.from(pax('a', 'b'))), header(`f${i}`, '0', 0))
  const bytes = zstdCompressSync(Buffer.concat([...hostile, ...block('manifest.json', '0', Buffer.from(manifest))]))
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  t.equal(await read(bytes), manifest)
  delay.disable()
  t.ok(delay.max / 1e6 < 1000, `held for at most ${delay.max / 1e6} ms`)
})

t.test('reading stops at the manifest: the rest of a large body is never asked for, and the body is destroyed', async t => {
  let asked = 0
  const head = zstdCompressSync(Buffer.concat([...block('manifest.json', '0', Buffer.from(manifest)), header('big', '0', 2 ** 33)]))
  const more = zstdCompressSync(randomBytes(64 * 1024))
  const body = new Readable({ read() { this.push(asked++ === 0 ? head : more) } })
  t.equal(await readManifestFromBundle(body), manifest)
  t.ok(body.destroyed)
  const afterwards = asked
  t.ok(afterwards < 20, `${afterwards} chunks`)
  await sleep(50)
  t.equal(asked, afterwards)
})

t.test('the body is destroyed too when it is refused', async t => {
  const body = new PassThrough()
  body.write('this is no archive')
  await t.rejects(readManifestFromBundle(body), { code: 'MANIFEST_REQUIRED' })
  t.ok(body.destroyed)
})

t.test('a store that fails on the way comes out as that failure', async t => {
  const bundle = await makeBundle([{ name: 'a', content: randomBytes(300_000) }, { name: 'manifest.json', content: manifest }])
  const failure = new ObjectStoreFailed('connection lost')
  for (const sent of [0, 10, 100_000]) {
    const body = Readable.from((function* () {
      if (sent > 0) yield bundle.subarray(0, sent)
      throw failure
    })(), { objectMode: false })
    await t.rejects(readManifestFromBundle(body), failure, `after ${sent} bytes`)
  }
})

t.test('a body that breaks off without an error is not taken for a truncated bundle', async t => {
  const body = new PassThrough()
  body.write(zstdCompressSync(header('a', '0', 1000)))
  setTimeout(() => body.destroy(), 20)
  const error = await readManifestFromBundle(body).catch(caught => caught)
  t.notOk(error instanceof PenstockError)
  t.equal(error.code, 'ERR_STREAM_PREMATURE_CLOSE')
})

t.test('an error of the body after the manifest was found does no harm', async t => {
  const body = new PassThrough()
  body.write(await makeBundle([{ name: 'manifest.json', content: manifest }]))
  t.equal(await readManifestFromBundle(body), manifest)
  body.emit('error', new Error('reset by peer'))
  await sleep(10)
})

t.test('an aborted signal ends a stalled body at once, with its reason, and leaves no listener', async t => {
  const body = new PassThrough()
  body.write(zstdCompressSync(header('a', '0', 1000)))
  const abort = new AbortController()
  setTimeout(() => abort.abort(new Error('client gone')), 20)
  await t.rejects(readManifestFromBundle(body, abort.signal), { message: 'client gone' })
  t.ok(body.destroyed)
  await t.rejects(readManifestFromBundle(new PassThrough(), AbortSignal.abort(new Error('gone before'))), { message: 'gone before' })
})

t.test('an aborted signal ends the expansion of a bomb', async t => {
  const bundle = await makeBundle([{ name: 'zeros', size: 512 * 1024 * 1024 }])
  const abort = new AbortController()
  const body = streamOf(bundle, bundle.length)
  setTimeout(() => abort.abort(new Error('client gone')), 10)
  await t.rejects(readManifestFromBundle(body, abort.signal), { message: 'client gone' })
})

function read(bytes: Buffer, chunkBytes?: number): Promise<string> {
  return readManifestFromBundle(streamOf(bytes, chunkBytes))
}

async function rejects(t: Test, bytes: Buffer, reason: string, name = reason): Promise<PenstockError> {
  const error = await read(bytes).then(text => ({ text }), caught => caught)
  t.match(error, { code: 'MANIFEST_REQUIRED', details: { reason } }, name)
  return error
}

async function invalid(t: Test, bytes: Buffer, message: RegExp): Promise<void> {
  await t.rejects(read(bytes), { code: 'INVALID_MANIFEST', details: { issues: [{ path: '', message }] } })
}

function* files(count: number): Generator<BundleEntry> {
  for (let i = 0; i < count; i++) yield { name: `files/${i}.txt` }
}

/** One header block, written by hand: tar-stream writes no wrong ones. */
function header(name: string, type: string, size: number, change?: (block: Buffer) => void): Buffer {
  const block = Buffer.alloc(512)
  block.write(name, 0, 100)
  block.write('0000644\0', 100)
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124)
  block.write('00000000000\0', 136)
  block.write(type, 156)
  block.write('ustar\u000000', 257)
  change?.(block)
  block.fill(' ', 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

function block(name: string, type: string, data: Buffer): Buffer[] {
  return [header(name, type, data.length), padded(data)]
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - data.length % 512) % 512)])
}

function pax(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  const length = rest.length + 1
  return `${String(length).length === 1 ? length : length + 1}${rest}`
}

/** Compressed as a stream of unknown length, so that the frame asks for its whole window. */
async function streamed(chunks: Buffer[], windowLog: number): Promise<Buffer> {
  const compressor = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } })
  for (const chunk of chunks) {
    compressor.write(chunk)
    await new Promise<void>(resolve => compressor.flush(resolve))
  }
  compressor.end()
  return Buffer.concat(await compressor.toArray())
}
