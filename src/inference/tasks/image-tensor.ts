/**
 * How an image becomes a tensor and back: what the manifest says, where it is silent the graph, where that is silent too
 * float32, NCHW, RGB, 0 to 1.
 *
 *   value = (byte / 255 · range − mean) / std         byte = (value · std + mean) / range · 255
 */
import type { ImageTensor, ModelManifest } from '../manifest.ts'
import { InferenceFailed, type Datatype, type TensorMetadata, type WireTensor } from '../port.ts'
import { fitsKernel, rowDecoder, rowEncoder } from './rgb-rows.ts'

export type Channels = 1 | 3 | 4

/** An image tensor of a model, without anything left open. `height` and `width`: null where any will do. */
export interface ImageSpec {
  name: string
  datatype: 'FP32' | 'FP16' | 'UINT8'
  layout: 'NCHW' | 'NHWC'
  channels: Channels
  height: number | null
  width: number | null
  /** 1 or 255 */
  range: number
  mean: readonly number[]
  std: readonly number[]
}

const DTYPES = { float32: 'FP32', float16: 'FP16', uint8: 'UINT8' } as const

/** @throws InferenceFailed invalid_model where manifest and graph do not agree, or it is no image */
export function imageSpec(which: 'input' | 'output', { [which]: given = {} }: Pick<ModelManifest, 'input' | 'output'>, tensors: readonly TensorMetadata[]): ImageSpec {
  const tensor = pick(which, given, tensors)
  const { name, shape } = tensor
  const datatype = datatypeOf(which, given, tensor)
  // graphs without a shape say the same as those of a scalar
  const dims = shape.length === 0 ? [-1, -1, -1, -1] : shape
  if (dims.length !== 4) throw refused(`${which} "${name}" has the shape [${shape.join(', ')}]: an image has four dimensions`)
  if ((dims[0] ?? -1) > 1) throw refused(`${which} "${name}" takes ${dims[0]} images at once: the first dimension must be free, or 1`)
  const layout = given.layout ?? (isChannels(dims[3]) && !isChannels(dims[1]) ? 'NHWC' : 'NCHW')
  const [declared, height, width] = layout === 'NCHW' ? [dims[1], dims[2], dims[3]] : [dims[3], dims[1], dims[2]]
  const channels = given.channels ?? (declared !== undefined && declared > 0 ? declared : given.mean?.length ?? 3)
  if (!isChannels(channels) || (declared !== undefined && declared >= 0 && declared !== channels)) {
    throw refused(`${which} "${name}" has the shape [${shape.join(', ')}], which is no ${layout} of ${channels} channels`)
  }
  const { mean = Array<number>(channels).fill(0), std = Array<number>(channels).fill(1) } = given
  if (mean.length !== channels || std.length !== channels) throw refused(`mean and std of ${which} "${name}" must have ${channels} numbers`)
  return { name, datatype, layout, channels, height: fixed(height), width: fixed(width), range: given.range?.[1] ?? (datatype === 'UINT8' ? 255 : 1), mean, std }
}

function pick(which: string, { name }: ImageTensor, tensors: readonly TensorMetadata[]): TensorMetadata {
  const found = name === undefined && tensors.length === 1 ? tensors[0] : tensors.find(each => each.name === name)
  if (found !== undefined) return found
  throw refused(name === undefined ? `the model has ${tensors.length} ${which}s: the manifest must name one` : `the model has no ${which} "${name}"`)
}

function datatypeOf(which: string, { dtype }: ImageTensor, { name, datatype }: TensorMetadata): ImageSpec['datatype'] {
  if (dtype !== undefined && DTYPES[dtype] !== datatype) throw refused(`${which} "${name}" is ${datatype}, and not ${dtype} as the manifest says`)
  const taken: readonly Datatype[] = Object.values(DTYPES)
  if (!taken.includes(datatype)) throw refused(`${which} "${name}" is ${datatype}: images are ${taken.join(', ')}`)
  return datatype as ImageSpec['datatype']
}

function isChannels(value: number | undefined): value is Channels {
  return value === 1 || value === 3 || value === 4
}

function fixed(dimension: number | undefined): number | null {
  return dimension !== undefined && dimension > 0 ? dimension : null
}

/** Where the byte of channel 0 at (0, 0) lies, and how far the next pixel to the right, and below, is. */
export interface Pixels { bytes: Uint8Array, start: number, right: number, down: number, width: number, height: number }

export function packed(bytes: Uint8Array, width: number, height: number, channels: Channels): Pixels {
  return { bytes, start: 0, right: channels, down: width * channels, width, height }
}

type Elements = Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer> | Uint8Array<ArrayBuffer>

const ELEMENT_BYTES = { FP32: 4, FP16: 2, UINT8: 1 } as const

function elements(datatype: ImageSpec['datatype'], memory: ArrayBuffer, count: number): Elements {
  return datatype === 'FP32' ? new Float32Array(memory, 0, count) : datatype === 'FP16' ? new Float16Array(memory, 0, count) : new Uint8Array(memory, 0, count)
}

/** Makes tensors of pixels, in memory of whoever asks. Where the tensor is larger than the image, the image goes on beyond its border as it is there. */
export function imageEncoder(spec: ImageSpec, memory: (bytes: number) => ArrayBuffer): (pixels: Pixels, width?: number, height?: number) => WireTensor {
  const { name, datatype, layout, channels } = spec
  const values = Array.from({ length: channels }, (_, channel) => Float32Array.from({ length: 256 }, (_each, byte) => (byte / 255 * spec.range - spec.mean[channel]!) / spec.std[channel]!))
  const encodeRows = fitsKernel(spec, 0) ? rowEncoder(spec) : undefined
  return (pixels, width = pixels.width, height = pixels.height) => {
    const count = width * height * channels
    const data = elements(datatype, memory(count * ELEMENT_BYTES[datatype]), count)
    const [step, plane] = layout === 'NCHW' ? [1, width * height] : [channels, 1]
    const packedWhole = pixels.right === channels && width === pixels.width && height === pixels.height
    if (encodeRows !== undefined && packedWhole && data instanceof Float32Array && fitsKernel(spec, width)) encodeRows(pixels, data)
    else for (let channel = 0; channel < channels; channel += 1) {
      for (let y = 0; y < height; y += 1) {
        const from = pixels.start + channel + Math.min(y, pixels.height - 1) * pixels.down
        fillRow(data, channel * plane + y * width * step, step, width, pixels, from, values[channel]!)
      }
    }
    const shape = layout === 'NCHW' ? [1, channels, height, width] : [1, height, width, channels]
    return { name, datatype, shape, data: new Uint8Array(data.buffer, 0, data.byteLength) }
  }
}

/** This loop, and that of readRow, see every pixel of the images that the kernel does not. */
function fillRow(data: Elements, start: number, step: number, width: number, { bytes, right, width: given }: Pixels, first: number, values: Float32Array): void {
  const end = Math.min(width, given)
  let to = start
  let from = first
  for (let x = 0; x < end; x += 1, to += step, from += right) data[to] = values[bytes[from]!]!
  const last = values[bytes[from - right]!]!
  for (let x = end; x < width; x += 1, to += step) data[to] = last
}

/** Size of the image in a tensor that a model gave. @throws InferenceFailed invalid_model where it is none */
export function imageSize({ name, layout, channels }: ImageSpec, { shape }: WireTensor): { width: number, height: number } {
  const [batch, a = 0, b = 0, c = 0] = shape
  const [depth, height, width] = layout === 'NCHW' ? [a, b, c] : [c, a, b]
  if (shape.length !== 4 || batch !== 1 || depth !== channels) throw refused(`the model gave "${name}" with the shape [${shape.join(', ')}], which is no ${layout} of ${channels} channels`)
  return { width, height }
}

/** Where pixels go to: the first byte of the first, and how far the next row is. `reversed`: the last channel comes first. */
export interface Target { bytes: Uint8Array, start: number, down: number, reversed?: boolean }

/**
 * Makes bytes of the region of a tensor. What lies outside the range is the nearest that lies in it, infinity too;
 * NaN is no colour at all.
 * @throws InferenceFailed invalid_model at the first NaN
 */
export function imageDecoder(spec: ImageSpec): (tensor: WireTensor, region: { left: number, top: number, width: number, height: number }, target: Target) => void {
  const { channels, layout, range, mean, std } = spec
  const decodeRows = fitsKernel(spec, 0) ? rowDecoder(spec) : undefined
  return (tensor, region, target) => {
    const { left, top, width, height } = region
    const { bytes, start, down, reversed = false } = target
    const size = imageSize(spec, tensor)
    const { buffer, byteOffset, byteLength } = tensor.data
    const data = spec.datatype === 'FP32' ? new Float32Array(buffer, byteOffset, byteLength / 4) : spec.datatype === 'FP16' ? new Float16Array(buffer, byteOffset, byteLength / 2) : tensor.data
    if (decodeRows !== undefined && data instanceof Float32Array && fitsKernel(spec, width)) {
      if (!decodeRows(data, size, region, target)) throw colourless(spec)
      return
    }
    const [step, plane] = layout === 'NCHW' ? [1, size.width * size.height] : [channels, 1]
    for (let channel = 0; channel < channels; channel += 1) {
      const scale = std[channel]! / range * 255
      const offset = mean[channel]! / range * 255
      const place = reversed ? channels - 1 - channel : channel
      for (let y = 0; y < height; y += 1) {
        const from = channel * plane + ((top + y) * size.width + left) * step
        const whole = readRow(bytes, start + y * down + place, channels, width, data, from, step, scale, offset)
        if (!whole) throw colourless(spec)
      }
    }
  }
}

/** False: there is NaN in it. */
function readRow(bytes: Uint8Array, start: number, channels: number, width: number, data: ArrayLike<number>, first: number, step: number, scale: number, offset: number): boolean {
  const rounding = offset + 0.5
  let to = start
  let from = first
  for (let x = 0; x < width; x += 1, to += channels, from += step) {
    const value = data[from]! * scale + rounding
    bytes[to] = value < 0 ? 0 : value > 255 ? 255 : value | 0
    if (Number.isNaN(value)) return false
  }
  return true
}

function colourless({ name }: ImageSpec): InferenceFailed {
  return refused(`the model gave NaN in "${name}", which is no colour`)
}

function refused(message: string): InferenceFailed {
  return new InferenceFailed('invalid_model', message)
}
