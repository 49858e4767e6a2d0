/** Rows of pixels to tensors and back by the kernel (rgb-kernel.ts), as many at a time as it holds. */
import type { ImageSpec, Pixels, Target } from './image-tensor.ts'
import { KERNEL_PIXELS_MAX, rgbKernel, type Affine } from './rgb-kernel.ts'

interface Region { left: number, top: number, width: number, height: number }

/** Only tensors of this form; the pixels have to be packed. */
export function fitsKernel({ datatype, layout, channels }: ImageSpec, width: number): boolean {
  return datatype === 'FP32' && layout === 'NCHW' && channels === 3 && width <= KERNEL_PIXELS_MAX
}

/** Fills a tensor of the size of the pixels. */
export function rowEncoder({ range, mean, std }: ImageSpec): (pixels: Pixels, data: Float32Array) => void {
  const kernel = rgbKernel()
  const affine = { scale: std.map(each => range / 255 / each), offset: mean.map((each, channel) => -each / std[channel]!) }
  return ({ bytes, start, down, width, height }, data) => {
    const rows = Math.floor(KERNEL_PIXELS_MAX / width)
    for (let y = 0; y < height; y += rows) {
      const count = Math.min(rows, height - y)
      for (let row = 0; row < count; row += 1) {
        const from = start + (y + row) * down
        kernel.bytes.set(bytes.subarray(from, from + width * 3), row * width * 3)
      }
      kernel.encode(count * width, affine)
      for (const [channel, plane] of kernel.planes.entries()) data.set(plane.subarray(0, count * width), (channel * height + y) * width)
    }
  }
}

/** Makes the pixels of a region of a tensor. False: there was NaN in it. */
export function rowDecoder({ range, mean, std }: ImageSpec): (data: Float32Array, size: { width: number, height: number }, region: Region, target: Target) => boolean {
  const kernel = rgbKernel()
  const affine: Affine = { scale: std.map(each => each / range * 255), offset: mean.map(each => each / range * 255 + 0.5) }
  const backwards: Affine = { scale: affine.scale.toReversed(), offset: affine.offset.toReversed() }
  return (data, size, { left, top, width, height }, { bytes, start, down, reversed = false }) => {
    const rows = Math.floor(KERNEL_PIXELS_MAX / width)
    const planes = reversed ? kernel.planes.toReversed() : kernel.planes
    for (let y = 0; y < height; y += rows) {
      const count = Math.min(rows, height - y)
      for (const [channel, plane] of planes.entries()) {
        const from = (channel * size.height + top + y) * size.width + left
        if (width === size.width) plane.set(data.subarray(from, from + count * width))
        else for (let row = 0; row < count; row += 1) plane.set(data.subarray(from + row * size.width, from + row * size.width + width), row * width)
      }
      if (!kernel.decode(count * width, reversed ? backwards : affine)) return false
      for (let row = 0; row < count; row += 1) bytes.set(kernel.bytes.subarray(row * width * 3, (row + 1) * width * 3), start + (y + row) * down)
    }
    return true
  }
}
