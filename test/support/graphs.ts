/** Small models for tests, and images to put through them. */
import sharp from 'sharp'
import type { ElementType, Graph, Value } from '../../scripts/onnx/model.ts'

export type Shape = NonNullable<Value['shape']>

/** One node from `x` to `y`. */
export function oneNode(op: string, input: Omit<Value, 'name'>, output: Omit<Value, 'name'> = input, more: Partial<Graph> = {}): Graph {
  return { name: op, doc: '', inputs: [{ name: 'x', ...input }], outputs: [{ name: 'y', ...output }], nodes: [{ op, inputs: ['x', ...(more.constants ?? []).map(({ name }) => name)], outputs: ['y'] }], ...more }
}

export const identityOf = (type: ElementType, shape?: Shape): Graph => oneNode('Identity', { type, ...(shape !== undefined && { shape }) })

export const FREE_IMAGE: Shape = ['n', 3, 'h', 'w']

/** Different everywhere, the same each time. */
export function noise(width: number, height: number, channels: 1 | 3 | 4 = 3): Buffer {
  const bytes = Buffer.alloc(width * height * channels)
  let state = 1
  for (let index = 0; index < bytes.length; index += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    bytes[index] = state >>> 24
  }
  return bytes
}

export async function noisePng(width: number, height: number, channels: 1 | 3 | 4 = 3): Promise<Buffer> {
  return await sharp(noise(width, height, channels), { raw: { width, height, channels } }).png().toBuffer()
}

/** Pixels as they are to be seen. */
export async function pixels(image: Buffer): Promise<{ width: number, height: number, channels: number, data: Buffer }> {
  const { data, info } = await sharp(image).autoOrient().raw().toBuffer({ resolveWithObject: true })
  return { width: info.width, height: info.height, channels: info.channels, data }
}
