import t from 'tap'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Channels, Pixels, Target } from '../../../src/inference/tasks/image-tensor.ts'
import { createRawImage, createRawImageInMemory, openRawImage, rawImageInMemory } from '../../../src/inference/tasks/raw-image.ts'
import { noise } from '../../support/graphs.ts'

const folder = await mkdtemp(join(tmpdir(), 'penstock-raw-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))

/** As they are to be seen, packed. */
function pack({ bytes, start, right, down, width, height }: Pixels, channels: number): Buffer {
  const packed = Buffer.alloc(width * height * channels)
  for (let y = 0, to = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) for (let c = 0; c < channels; c += 1) packed[to++] = bytes[start + x * right + y * down + c]!
  return packed
}

const size = { width: 7, height: 5 }

/** What lay there before must not matter. */
const memory = (bytes: number): ArrayBuffer => new Uint8Array(bytes + 3).fill(77).buffer

function unpack(packed: Buffer, row: number, { bytes, start, down }: Target): void {
  for (let from = 0, to = start; from < packed.length; from += row, to += down) bytes.set(packed.subarray(from, from + row), to)
}

t.test('every rectangle is the same in memory and on disk, whichever way the image is turned', async t => {
  for (const channels of [1, 3, 4] as Channels[]) {
    const stored = noise(size.width, size.height, channels)
    const path = join(folder, `stored-${channels}.v`)
    await sharp(stored, { raw: { ...size, channels } }).toColourspace(channels === 1 ? 'b-w' : 'srgb').toFile(path)
    for (let orientation = 1; orientation <= 8; orientation += 1) {
      const tagged = await sharp(stored, { raw: { ...size, channels } }).withMetadata({ orientation }).png().toBuffer()
      const images = [rawImageInMemory(stored, size, channels, orientation), openRawImage(path, channels, memory, orientation)]
      for (const { left, top, width, height } of [{ left: 0, top: 0, width: orientation > 4 ? 5 : 7, height: orientation > 4 ? 7 : 5 }, { left: 2, top: 1, width: 3, height: 2 }, { left: 4, top: 4, width: 1, height: 1 }]) {
        const expected = await sharp(await sharp(tagged).autoOrient().png().toBuffer()).extract({ left, top, width, height }).toColourspace(channels === 1 ? 'b-w' : 'srgb').raw().toBuffer()
        for (const image of images) t.ok(pack(image.read({ left, top, width, height }), channels).equals(expected), `${channels} channels, orientation ${orientation}, ${left},${top}`)
      }
      for (const image of images) image.close()
    }
  }
})

t.test('what is written in rectangles is read by sharp as a whole, from memory and from disk', async t => {
  for (const channels of [1, 3, 4] as Channels[]) {
    const whole = noise(size.width, size.height, channels)
    const source = rawImageInMemory(whole, size, channels)
    const path = join(folder, `written-${channels}.v`)
    for (const writer of [createRawImageInMemory(size, channels, memory), createRawImage(path, size, channels, memory)]) {
      for (const region of [{ left: 0, top: 0, width: 7, height: 2 }, { left: 0, top: 2, width: 4, height: 3 }, { left: 4, top: 2, width: 3, height: 3 }]) {
        writer.write(region, target => unpack(pack(source.read(region), channels), region.width * channels, target))
      }
      writer.close()
      const read = writer.source === path ? sharp(path) : sharp(writer.source, { raw: { ...size, channels } })
      t.ok((await read.toColourspace(channels === 1 ? 'b-w' : 'srgb').raw().toBuffer()).equals(whole), `${channels} channels`)
    }
  }
})

t.test('a file that is not what was meant is an error', async t => {
  const path = join(folder, 'grey.v')
  await sharp(noise(7, 5, 1), { raw: { ...size, channels: 1 } }).toColourspace('b-w').toFile(path)
  t.throws(() => openRawImage(path, 3, memory), { code: 'internal_error' })
})
