/** Tasks that look at an image as a whole: image-classification and embedding. */
import t from 'tap'
import sharp from 'sharp'
import { FREE_IMAGE, oneNode } from '../../support/graphs.ts'
import { resultsOf, startTestWorker } from '../../support/worker.ts'

const worker = await startTestWorker(t)

async function ask(task: string, model: string, image: Buffer, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
  const [result] = resultsOf(await worker.run(task, await worker.builtIn(model), [await worker.put(image)], { params }))
  t.match(result, { contentType: 'application/json' })
  return JSON.parse((await worker.read(result!)).toString()) as Record<string, unknown>
}

const plain = (background: string, width = 50, height = 40): Promise<Buffer> => sharp({ create: { width, height, channels: 3, background } }).png().toBuffer()
const of = async (image: Buffer, params = {}) => await ask('embedding', 'thumbprint', image, params) as { embedding: number[], dim: number }
const likeness = (a: number[], b: number[]): number => a.reduce((sum, value, index) => sum + value * b[index]!, 0)
const divided = (task: string) => worker.model(oneNode('Div', { type: 'float', shape: FREE_IMAGE }, undefined, { constants: [{ name: 'by', shape: [], data: [0] }] }), { task })
interface Class { label: string, index: number, score: number }

t.test('an image is classified: best first, with labels, as many as asked', async t => {
  for (const [background, label] of [['#dc1f1f', 'red'], ['#000', 'black'], ['#fff', 'white'], ['#1a40d9', 'blue'], ['#ffe61a', 'yellow']] as const) {
    const { classes } = await ask('image-classification', 'color-classes', await plain(background)) as { classes: Class[] }
    t.match(classes[0], { label, score: Number })
    t.equal(classes.length, 5)
    t.same(classes.map(({ score }) => score), classes.map(({ score }) => score).toSorted((a, b) => b - a))
  }
  for (const [top_k, length] of [[1, 1], [3, 3], [1000, 12]]) t.equal((await ask('image-classification', 'color-classes', await plain('#123456'), { top_k }) as { classes: Class[] }).classes.length, length)
  const all = (await ask('image-classification', 'color-classes', await plain('#123456'), { top_k: 12 }) as { classes: Class[] }).classes
  t.ok(Math.abs(all.reduce((sum, { score }) => sum + score, 0) - 1) < 1e-5, 'the model itself gives probabilities')
})

t.test('scores become probabilities when asked, and labels that are missing are numbers', async t => {
  const model = await worker.model({
    name: 'logits', doc: '', inputs: [{ name: 'x', type: 'float', shape: FREE_IMAGE }], outputs: [{ name: 'y', type: 'float', shape: ['n', 3, 1, 1] }],
    nodes: [{ op: 'GlobalAveragePool', inputs: ['x'], outputs: ['average'] }, { op: 'Mul', inputs: ['average', 'much'], outputs: ['y'] }],
    constants: [{ name: 'much', shape: [], data: [1000] }]
  }, { task: 'image-classification', labels: ['r'] })
  const input = await worker.put(await plain('#ff0000'))
  const read = async (params: Record<string, unknown>) => JSON.parse((await worker.read(resultsOf(await worker.run('image-classification', model, [input], { params }))[0]!)).toString()) as unknown
  t.match(await read({}), { classes: [{ label: 'r', index: 0, score: 1000 }, { label: '1', index: 1, score: 0 }, { label: '2', index: 2, score: 0 }] })
  t.match(await read({ softmax: true }), { classes: [{ score: 1 }, { score: 0 }, { score: 0 }] })
})

t.test('how an image of other proportions is fitted is as asked', async t => {
  // a narrow red stripe in the middle of a wide blue image
  const wide = await sharp({ create: { width: 300, height: 100, channels: 3, background: '#1a40d9' } })
    .composite([{ input: { create: { width: 100, height: 100, channels: 3, background: '#dc1f1f' } }, left: 100, top: 0 }]).png().toBuffer()
  const best = async (fit?: string) => (await ask('image-classification', 'color-classes', wide, fit === undefined ? {} : { fit }) as { classes: Class[] }).classes[0]!.label
  t.equal(await best(), 'red', 'cover: the middle')
  t.equal(await best('cover'), 'red')
  t.not(await best('fill'), 'red', 'all of it')
  t.not(await best('contain'), 'red')
})

t.test('an embedding is alike for copies of an image, and not for others', async t => {
  const picture = await sharp({ create: { width: 400, height: 300, channels: 3, background: '#204060' } })
    .composite([{ input: { create: { width: 150, height: 100, channels: 3, background: '#f0e0c0' } }, left: 30, top: 40 }]).png().toBuffer()
  const [original, copy, mirrored] = [await of(picture), await of(await sharp(picture).resize(133, 100).jpeg({ quality: 60 }).toBuffer()), await of(await sharp(picture).flop().toBuffer())]
  t.equal(original.dim, 64)
  t.equal(original.embedding.length, 64)
  t.ok(Math.abs(likeness(original.embedding, original.embedding) - 1) < 1e-5, 'its length is 1')
  t.ok(likeness(original.embedding, copy.embedding) > 0.99)
  t.ok(likeness(original.embedding, mirrored.embedding) < 0.5)
  const even = await of(await plain('#777'), { normalize: true })
  t.ok(even.embedding.every(Number.isFinite), 'an even image has a thumbprint without NaN')
})

t.test('numbers that JSON cannot say fail the run', async t => {
  for (const [task, colour, what] of [['image-classification', '#000', 'NaN'], ['embedding', '#fff', 'Infinity']] as const) {
    const answer = await worker.run(task, await divided(task), [await worker.put(await plain(colour))])
    t.match(answer, { type: 'failed', code: 'invalid_model', message: `the model gave ${what} in "y" at 0, which JSON cannot say` })
  }
})

t.test('an image is decoded no larger than it is needed, and upright', async t => {
  const tall = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#000' } })
    .composite([{ input: { create: { width: 64, height: 32, channels: 3, background: '#fff' } }, left: 0, top: 0 }]).withMetadata({ orientation: 3 }).jpeg().toBuffer()
  const { embedding } = await ask('embedding', 'thumbprint', tall) as { embedding: number[] }
  t.ok(embedding.slice(0, 32).every(value => value < 0) && embedding.slice(32).every(value => value > 0), 'white is below, as EXIF says')
})
