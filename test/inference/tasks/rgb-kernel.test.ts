/** The kernel against the arithmetic that it stands for. */
import t from 'tap'
import { imageDecoder, imageEncoder, packed, type ImageSpec } from '../../../src/inference/tasks/image-tensor.ts'
import { KERNEL_PIXELS_MAX } from '../../../src/inference/tasks/rgb-kernel.ts'
import { noise } from '../../support/graphs.ts'

const spec: ImageSpec = { name: 'x', datatype: 'FP32', layout: 'NCHW', channels: 3, height: null, width: null, range: 1, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
const memory = (bytes: number): ArrayBuffer => new ArrayBuffer(bytes)
/** Around what it holds at once, and around sixteen. */
const SIZES = [[1, 1], [5, 3], [16, 1], [17, 2], [333, 40], [1000, 9], [KERNEL_PIXELS_MAX, 2], [KERNEL_PIXELS_MAX + 1, 2]] as const

t.test('tensors are what they were made to be, in every place', async t => {
  for (const [width, height] of SIZES) {
    const bytes = noise(width, height)
    const { data, shape } = imageEncoder(spec, memory)(packed(bytes, width, height, 3))
    t.same(shape, [1, 3, height, width])
    const values = new Float32Array(data.buffer, 0, width * height * 3)
    const worst = values.reduce((most, value, at) => {
      const [channel, pixel] = [Math.floor(at / (width * height)), at % (width * height)]
      return Math.max(most, Math.abs(value - (bytes[pixel * 3 + channel]! / 255 - spec.mean[channel]!) / spec.std[channel]!))
    }, 0)
    t.ok(worst < 1e-6, `${width} × ${height}: ${worst}`)
  }
})

t.test('pixels come back as they were, whole, in part, and in reverse', async t => {
  for (const [width, height] of SIZES) {
    const bytes = noise(width, height)
    const tensor = imageEncoder(spec, memory)(packed(bytes, width, height, 3))
    const decode = imageDecoder(spec)
    const back = new Uint8Array(bytes.length)
    decode(tensor, { left: 0, top: 0, width, height }, { bytes: back, start: 0, down: width * 3 })
    t.ok(bytes.equals(back), `${width} × ${height}`)
    decode(tensor, { left: 0, top: 0, width, height }, { bytes: back, start: 0, down: width * 3, reversed: true })
    t.ok(back.every((value, at) => value === bytes[at + 2 - 2 * (at % 3)]), `${width} × ${height} in reverse`)
    if (width < 5 || height < 3) continue
    const region = { left: 2, top: 1, width: width - 4, height: height - 2 }
    const part = new Uint8Array(region.width * region.height * 3 + 6).fill(7)
    decode(tensor, region, { bytes: part, start: 3, down: region.width * 3 })
    t.ok(part.every((value, at) => {
      const [pixel, channel] = [Math.floor((at - 3) / 3), (at - 3) % 3]
      if (pixel < 0 || pixel >= region.width * region.height) return value === 7
      return value === bytes[((1 + Math.floor(pixel / region.width)) * width + 2 + pixel % region.width) * 3 + channel]
    }), `the middle of ${width} × ${height}, and nothing beside it`)
  }
})

t.test('what lies outside becomes the nearest inside, and NaN is found wherever it is', async t => {
  const plain = { ...spec, mean: [0, 0, 0], std: [1, 1, 1] }
  const decode = imageDecoder(plain)
  for (const width of [1, 15, 16, 17]) {
    for (let at = 0; at < width * 3; at += 1) {
      const values = new Float32Array(width * 3).fill(0.5)
      const tensor = { name: 'x', datatype: 'FP32', shape: [1, 3, 1, width], data: new Uint8Array(values.buffer) } as const
      const pixel = new Uint8Array(width * 3)
      const shown = (value: number): number => {
        values[at] = value
        decode({ ...tensor, shape: [...tensor.shape] }, { left: 0, top: 0, width, height: 1 }, { bytes: pixel, start: 0, down: 0 })
        return pixel[at % width * 3 + Math.floor(at / width)]!
      }
      t.same([Infinity, -Infinity, 1e30, -1e30, 1.001, -0.001, 0.25, 1].map(shown), [255, 0, 255, 0, 255, 0, 64, 255])
      t.throws(() => shown(Number.NaN), { code: 'invalid_model', message: 'the model gave NaN in "x", which is no colour' })
      t.equal(shown(0), 0, 'and it is not remembered')
    }
  }
})
