import t from 'tap'
import sharp from 'sharp'
import type { Graph } from '../../../scripts/onnx/model.ts'
import { FREE_IMAGE, identityOf, noise, noisePng, oneNode, pixels } from '../../support/graphs.ts'
import { resultsOf, startTestWorker, type TestWorker } from '../../support/worker.ts'
import type { ModelRef } from '../../../src/inference/port.ts'

const worker = await startTestWorker(t)
const image = { channels: 3, range: [0, 1] }
/** sharp takes `depth`, of which its types know nothing. */
const DEEP = { width: 8, height: 8, channels: 3 as const, depth: 'ushort' }

const divide = (by: number): Graph => oneNode('Div', { type: 'float', shape: FREE_IMAGE }, undefined, { constants: [{ name: 'by', shape: [], data: [by] }] })

async function through(w: TestWorker, model: ModelRef, bytes: Buffer, params: Record<string, unknown> = {}): Promise<Buffer> {
  const [result] = resultsOf(await w.run('image-to-image', model, [await w.put(bytes)], { params }))
  return await w.read(result!)
}

t.test('an image in tiles comes out as the whole image would', async t => {
  const picture = await noisePng(333, 217)
  for (const name of ['edges', 'upscale-2x', 'identity-image']) {
    const model = await worker.builtIn(name)
    const whole = await pixels(await through(worker, model, picture, { tile: 4096 }))
    for (const [tile, overlap] of [[64, 4], [100, 32], [217, 2]]) {
      const tiled = await pixels(await through(worker, model, picture, { tile, overlap }))
      t.same([tiled.width, tiled.height, tiled.channels], [whole.width, whole.height, whole.channels])
      t.ok(tiled.data.equals(whole.data), `${name}, tiles of ${tile}, overlap ${overlap}`)
    }
  }
})

t.test('without an overlap there are seams, which is what it is for', async t => {
  const picture = await noisePng(200, 200)
  const model = await worker.builtIn('edges')
  const whole = await pixels(await through(worker, model, picture))
  t.notOk((await pixels(await through(worker, model, picture, { tile: 64, overlap: 0 }))).data.equals(whole.data))
})

t.test('upscaling keeps what is even, and is what ONNX Runtime calls cubic', async t => {
  const even = await sharp({ create: { width: 30, height: 20, channels: 3, background: '#336699' } }).png().toBuffer()
  const larger = await pixels(await through(worker, await worker.builtIn('upscale-2x'), even))
  t.same([larger.width, larger.height, larger.channels], [60, 40, 3])
  t.ok(larger.data.every((value, index) => value === [0x33, 0x66, 0x99][index % 3]))
  const resize = oneNode('Resize', { type: 'float', shape: FREE_IMAGE }, { type: 'float', shape: ['n', 3, 'h2', 'w2'] }, {
    nodes: [{ op: 'Resize', inputs: ['x', '', 'scales'], outputs: ['y'], attributes: { mode: 'cubic', cubic_coeff_a: { float: -0.5 }, coordinate_transformation_mode: 'half_pixel' } }],
    constants: [{ name: 'scales', shape: [4], data: [1, 1, 2, 2] }]
  })
  const picture = await noisePng(40, 30)
  const ours = await pixels(await through(worker, await worker.builtIn('upscale-2x'), picture))
  const theirs = await pixels(await through(worker, await worker.model(resize, { task: 'image-to-image' }), picture))
  t.ok(ours.data.every((value, index) => Math.abs(value - theirs.data[index]!) <= 1))
})

t.test('edges are where brightness changes, in one channel', async t => {
  const half = await sharp({ create: { width: 40, height: 20, channels: 3, background: '#000' } })
    .composite([{ input: { create: { width: 20, height: 20, channels: 3, background: '#fff' } }, left: 20, top: 0 }]).png().toBuffer()
  const png = await through(worker, await worker.builtIn('edges'), half)
  t.match(await sharp(png).metadata(), { channels: 1, space: 'b-w' })
  const row = [...await sharp(png).toColourspace('b-w').raw().toBuffer()].slice(0, 40)
  t.same(row.map((value, x) => (value > 0 ? x : -1)).filter(x => x >= 0), [19, 20])
  t.same(row.slice(19, 21), [255, 255])
})

t.test('a model of one size gets tiles of that size, and a smaller image is continued up to it', async t => {
  const model = await worker.model(oneNode('Identity', { type: 'float', shape: [1, 3, 48, 64] }), { task: 'image-to-image', input: image, output: image })
  for (const [width, height] of [[200, 100], [64, 48], [20, 100], [3, 2]] as const) {
    const picture = await noisePng(width, height)
    const result = await pixels(await through(worker, model, picture))
    t.same([result.width, result.height], [width, height])
    t.ok(result.data.equals((await pixels(picture)).data), `${width} × ${height}`)
  }
})

t.test('every orientation of EXIF is applied, across tiles too', async t => {
  const model = await worker.builtIn('identity-image')
  for (let orientation = 1; orientation <= 8; orientation += 1) {
    const picture = await sharp(noise(150, 90), { raw: { width: 150, height: 90, channels: 3 } }).withMetadata({ orientation }).png().toBuffer()
    const expected = await pixels(picture)
    t.equal(expected.width, orientation > 4 ? 90 : 150, 'the test itself')
    const result = await pixels(await through(worker, model, picture, { tile: 64, overlap: 3 }))
    t.same([result.width, result.height], [expected.width, expected.height])
    t.ok(result.data.equals(expected.data), `orientation ${orientation}`)
  }
})

t.test('grey, transparent, deep and animated images become what the model takes', async t => {
  const model = await worker.builtIn('identity-image')
  const grey = await pixels(await through(worker, model, await noisePng(30, 20, 1)))
  t.equal(grey.channels, 3)
  const clear = await sharp({ create: { width: 8, height: 8, channels: 4, background: { r: 255, g: 0, b: 0, alpha: 0 } } }).png().toBuffer()
  t.same([...(await pixels(await through(worker, model, clear))).data.subarray(0, 3)], [255, 255, 255], 'what is transparent lies on white')
  const deep = await sharp(Buffer.from(new Uint16Array(8 * 8 * 3).fill(0x8080).buffer), { raw: DEEP }).toColourspace('rgb16').png().toBuffer()
  t.equal((await sharp(deep).metadata()).depth, 'ushort', 'the test itself')
  t.same([...(await pixels(await through(worker, model, deep))).data.subarray(0, 3)], [0x80, 0x80, 0x80])
  const frames = Buffer.concat([Buffer.alloc(10 * 10 * 3, 0), Buffer.alloc(10 * 10 * 3, 255)])
  for (const format of ['gif', 'webp'] as const) {
    const animated = await sharp(frames, { raw: { width: 10, height: 20, channels: 3, pageHeight: 10 } }).toFormat(format, { loop: 0, delay: [100, 100] } as object).toBuffer()
    t.equal((await sharp(animated, { animated: true }).metadata()).pages, 2, 'the test itself')
    const first = await pixels(await through(worker, model, animated))
    t.same([first.width, first.height, ...first.data.subarray(0, 3)], [10, 10, 0, 0, 0], `${format}: the first frame`)
  }
  const rgba = await worker.model(identityOf('float', ['n', 4, 'h', 'w']), { task: 'image-to-image' })
  t.ok((await pixels(await through(worker, rgba, await noisePng(20, 10, 4)))).data.equals(noise(20, 10, 4)), 'a model of four channels keeps them')
})

t.test('formats and quality are as asked, and the result is named after it', async t => {
  const model = await worker.builtIn('identity-image')
  const picture = await worker.put(await noisePng(60, 40))
  for (const [format, name, contentType] of [['png', 'image.png', 'image/png'], ['jpeg', 'image.jpg', 'image/jpeg'], ['webp', 'image.webp', 'image/webp']] as const) {
    const [result] = resultsOf(await worker.run('image-to-image', model, [picture], { params: { format } }))
    t.match(result, { name, filename: name, contentType })
    t.equal((await sharp(await worker.read(result!)).metadata()).format, format)
  }
  const [coarse, fine] = [await through(worker, model, await noisePng(61, 40), { format: 'jpeg', quality: 20 }), await through(worker, model, await noisePng(61, 40), { format: 'jpeg', quality: 95 })]
  t.ok(coarse.length < fine.length)
})

t.test('every way of saying what an image is, is understood both ways', async t => {
  const picture = await noisePng(70, 50)
  const original = (await pixels(picture)).data
  const spec = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], channels: 3 }
  for (const [name, graph, manifest, tolerance] of [
    ['normalised', identityOf('float', FREE_IMAGE), { input: spec, output: spec }, 0],
    ['NHWC', identityOf('float', ['n', 'h', 'w', 3]), {}, 0],
    ['NHWC, said', identityOf('float', ['n', 'h', 'w', 'c']), { input: { layout: 'NHWC' }, output: { layout: 'NHWC' } }, 0],
    ['0 to 255', identityOf('float', FREE_IMAGE), { input: { range: [0, 255] }, output: { range: [0, 255] } }, 0],
    ['uint8', identityOf('uint8', FREE_IMAGE), {}, 0],
    ['float16', identityOf('float16', FREE_IMAGE), { input: { dtype: 'float16' }, output: { dtype: 'float16' } }, 0],
    ['no shape', identityOf('float'), {}, 0]
  ] as const) {
    const result = await pixels(await through(worker, await worker.model(graph, { task: 'image-to-image', ...manifest }), picture, { tile: 64 }))
    t.ok(result.data.every((value, index) => Math.abs(value - original[index]!) <= tolerance), name)
  }
})

t.test('what lies outside the range is the nearest inside; NaN fails the run', async t => {
  const white = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#fff' } }).png().toBuffer()
  const infinite = await pixels(await through(worker, await worker.model(divide(0), { task: 'image-to-image' }), white))
  t.ok(infinite.data.every(value => value === 255))
  const negative = await pixels(await through(worker, await worker.model(divide(-1), { task: 'image-to-image' }), white))
  t.ok(negative.data.every(value => value === 0))
  const black = await worker.put(await sharp({ create: { width: 4, height: 4, channels: 3, background: '#000' } }).png().toBuffer())
  t.match(await worker.run('image-to-image', await worker.model(divide(0), { task: 'image-to-image' }), [black]), { type: 'failed', code: 'invalid_model', message: /NaN in "y"/ })
})

t.test('a model whose result has no whole factor of size is named as the reason', async t => {
  const pooled = { ...oneNode('AveragePool', { type: 'float', shape: FREE_IMAGE }, { type: 'float', shape: ['n', 3, 'h2', 'w2'] }) }
  pooled.nodes = [{ ...pooled.nodes[0]!, attributes: { kernel_shape: [2, 2], strides: [2, 2] } }]
  t.match(await worker.run('image-to-image', await worker.model(pooled, { task: 'image-to-image' }), [await worker.put(await noisePng(8, 8))]), {
    type: 'failed', code: 'invalid_model', message: 'of 8 × 8 pixels the model made 4 × 4: it has to be the same whole factor from 1 to 16 both ways'
  })
})

t.test('progress is the tiles that are done, never falls, and is not 100 before the result can be read', async t => {
  const id = 'progress'
  resultsOf(await worker.run('image-to-image', await worker.builtIn('upscale-2x'), [await worker.put(await noisePng(900, 700))], { id, params: { tile: 128 } }))
  const seen = worker.said.flatMap(message => (message.type === 'progress' && message.id === id && message.progress !== null ? [message.progress] : []))
  t.ok(seen.length > 1)
  t.same(seen, seen.toSorted((a, b) => a - b))
  t.ok(Math.max(...seen) < 100)
})

t.test('a cancel is heard between two tiles, and nothing stays', async t => {
  const before = await worker.staged()
  const picture = await worker.put(await noisePng(2000, 2000))
  const answer = worker.run('image-to-image', await worker.builtIn('upscale-2x'), [picture], { id: 'cancelled', params: { tile: 64, overlap: 20 } })
  while (!worker.said.some(message => message.type === 'progress' && message.id === 'cancelled' && message.progress !== null)) await new Promise(setImmediate)
  worker.tell({ type: 'cancel', id: 'cancelled' })
  t.match(await answer, { type: 'failed', code: 'cancelled' })
  t.same(await worker.staged(), before)
  t.match(await worker.run('image-to-image', await worker.builtIn('edges'), [picture]), { type: 'done' }, 'and the worker goes on')
})

t.test('params that do not fit together are named', async t => {
  const picture = await worker.put(await noisePng(20, 20))
  t.match(await worker.run('image-to-image', await worker.builtIn('edges'), [picture], { params: { tile: 64, overlap: 32 } }), { code: 'invalid_input', message: 'overlap must be less than half a tile, which is 64 pixels' })
  const wide = await worker.put(await noisePng(9000, 2))
  t.match(await worker.run('image-to-image', await worker.builtIn('upscale-2x'), [wide], { params: { format: 'webp' } }), { code: 'invalid_input', message: /webp holds at most 16383 on a side/ })
  t.match(await worker.run('image-to-image', await worker.builtIn('edges'), []), { code: 'invalid_input', message: 'there is no input: this task takes one image' })
  t.match(await worker.run('image-to-image', await worker.builtIn('edges'), [picture, picture]), { code: 'invalid_input', message: /there are 2 inputs/ })
})
