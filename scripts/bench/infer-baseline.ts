/**
 * What an image through a model costs at least in Node: read, decode (sharp), one `run()` of onnxruntime-node over the whole
 * image, encode (sharp), write. No service, no store, no hashes, no tiles. This is the yardstick, so it is made as fast as
 * it can honestly be: one session, warm, its buffers used again.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import sharp from 'sharp'
import { forbidTelemetry } from '../../src/inference/no-telemetry.ts'
import { ready } from './processes.ts'

forbidTelemetry()

export interface InferOrder { model: string, image: string, out: string, count: number, threads: number }
export interface InferReport { seconds: number, bytes: number }

const CHANNELS = 3
let session: InferenceSession | undefined
let planes = new Float32Array(0)
let pixels = Buffer.alloc(0)

/** RGB bytes of one image as three planes from 0 to 1. */
function toPlanes(image: Uint8Array, area: number): Float32Array {
  if (planes.length !== area * CHANNELS) planes = new Float32Array(area * CHANNELS)
  for (let at = 0, from = 0; at < area; at += 1) {
    planes[at] = image[from++]! / 255
    planes[at + area] = image[from++]! / 255
    planes[at + 2 * area] = image[from++]! / 255
  }
  return planes
}

/** Planes from 0 to 1 as bytes, pixel by pixel. */
function toPixels(values: Float32Array, area: number): Buffer {
  if (pixels.length !== values.length) pixels = Buffer.alloc(values.length)
  for (let at = 0, to = 0; at < area; at += 1) {
    for (let plane = at; plane < values.length; plane += area) {
      const value = values[plane]! * 255 + 0.5
      pixels[to++] = value < 0 ? 0 : value > 255 ? 255 : value
    }
  }
  return pixels
}

async function through(loaded: InferenceSession, image: string): Promise<Buffer> {
  const { data, info: { width, height } } = await sharp(await readFile(image)).removeAlpha().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true })
  const input = new Tensor('float32', toPlanes(data, width * height), [1, CHANNELS, height, width])
  const output = (await loaded.run({ [loaded.inputNames[0]!]: input }))[loaded.outputNames[0]!]!
  const [, channels, outHeight, outWidth] = output.dims as [number, 1 | 3, number, number]
  const raw = toPixels(output.data as Float32Array, outHeight * outWidth)
  return await sharp(raw, { raw: { width: outWidth, height: outHeight, channels } }).toColourspace(channels === 1 ? 'b-w' : 'srgb').png().toBuffer()
}

async function obey({ model, image, out, count, threads }: InferOrder): Promise<InferReport> {
  session ??= await InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1, executionProviders: ['cpu'] })
  sharp.concurrency(threads)
  const before = performance.now()
  let bytes = 0
  for (let turn = 0; turn < count; turn += 1) {
    const result = await through(session, image)
    await writeFile(out, result)
    bytes = result.length
  }
  return { seconds: (performance.now() - before) / 1000, bytes }
}

process.on('message', (order: InferOrder) => {
  obey(order).then(report => process.send?.(report), (error: unknown) => {
    console.error(error)
    process.exit(1)
  })
})
ready()
