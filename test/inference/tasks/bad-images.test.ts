/** Images that are none, or not what they say. Each is the caller's fault, says so, and leaves nothing behind. */
import t from 'tap'
import { crc32, deflateSync, gzipSync } from 'node:zlib'
import { readdir } from 'node:fs/promises'
import sharp from 'sharp'
import { noise, noisePng } from '../../support/graphs.ts'
import { startTestWorker } from '../../support/worker.ts'

const worker = await startTestWorker(t)
const tasks = [['image-to-image', 'identity-image'], ['image-classification', 'color-classes'], ['embedding', 'thumbprint']] as const

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type), data])
  const [length, crc] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  crc.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, crc])
}

/** A PNG whose header says this size, over the data of one row. */
function lyingPng(width: number, height: number): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', header), chunk('IDAT', deflateSync(Buffer.alloc(1 + 30))), chunk('IEND', Buffer.alloc(0))])
}

const svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><image href="file:///etc/passwd"/></svg>'
const jpeg = await sharp(noise(400, 300), { raw: { width: 400, height: 300, channels: 3 } }).jpeg().toBuffer()
const png = await noisePng(400, 300)

const cases: Record<string, [Buffer, RegExp]> = {
  'nothing at all': [Buffer.alloc(0), /^the input is empty/],
  'a text': [Buffer.from('hello, I am an image'), /^the input is no image that is taken: JPEG, PNG, WebP, GIF, TIFF and AVIF are$/],
  'a PDF': [Buffer.from('%PDF-1.7\n%âãÏÓ\n'), /^the input is no image/],
  SVG: [Buffer.from(svg), /^SVG is not taken as an image/],
  'SVG, compressed': [gzipSync(svg), /^the input is no image/],
  'SVG behind the first bytes of a PNG': [Buffer.concat([png.subarray(0, 8), Buffer.from(svg)]), /^the image cannot be decoded/],
  'SVG behind the first bytes of a JPEG': [Buffer.concat([jpeg.subarray(0, 3), Buffer.from(svg)]), /^the image cannot be decoded/],
  'the format of our own files': [Buffer.concat([Buffer.from('b6a6f208', 'hex'), Buffer.alloc(60)]), /^the input is no image/],
  'a PNG that claims 100000 × 100000': [lyingPng(100_000, 100_000), /^the image has 100000 × 100000 = 10000000000 pixels, more than the 268435456 that are taken$/],
  'a PNG that claims more rows than it has': [lyingPng(10, 5000), /^the image cannot be decoded/],
  'a PNG without a size': [lyingPng(0, 10), /^the image (cannot be decoded|has no size)/],
  'a PNG that was cut off': [png.subarray(0, png.length / 2), /^the image cannot be decoded/],
  'a JPEG that was cut off': [jpeg.subarray(0, jpeg.length / 2), /^the image cannot be decoded/],
  'only the first bytes of a JPEG': [jpeg.subarray(0, 20), /^the image cannot be decoded/],
  'a WebP of nothing': [Buffer.from('RIFF\x04\0\0\0WEBP', 'latin1'), /^the image cannot be decoded/]
}

for (const [name, [bytes, message]] of Object.entries(cases)) {
  t.test(`${name} is refused, with the reason`, async t => {
    for (const [task, model] of tasks) {
      const answer = await worker.run(task, await worker.builtIn(model), [await worker.put(bytes, 'image/png')])
      t.match(answer, { type: 'failed', code: 'invalid_input', retryable: false, message, reason: null }, task)
      t.notMatch(answer, { message: /penstock-worker|\/tmp/ }, 'without a path of this machine')
    }
    t.same(await worker.staged(), [])
    t.same(await readdir(worker.settings.workDir).catch(() => []), [])
  })
}

t.test('the pixels that a manifest allows are counted from the header', async t => {
  const model = await worker.builtIn('identity-image')
  const small = { ...model, manifest: { ...model.manifest as object, limits: { maxPixels: 100 } } }
  t.match(await worker.run('image-to-image', small, [await worker.put(await noisePng(11, 10))]), { code: 'invalid_input', message: 'the image has 11 × 10 = 110 pixels, more than the 100 that are taken' })
  t.match(await worker.run('image-to-image', small, [await worker.put(await noisePng(10, 10))]), { type: 'done' })
})

t.test('stored bytes that are not those of the digest are the store\'s fault, and can be tried again', async t => {
  const input = await worker.put(png)
  await worker.store.put(input.key, Buffer.alloc(png.length, 1), { size: png.length })
  t.match(await worker.run('image-to-image', await worker.builtIn('edges'), [input]), { code: 'storage_failed', retryable: true })
  await worker.store.delete(input.key)
  t.match(await worker.run('image-to-image', await worker.builtIn('edges'), [input]), { code: 'storage_failed', message: 'an object that it needs is not there', reason: 'there is no such object' }, 'the log is told why')
})
