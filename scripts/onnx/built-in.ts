/**
 * The models that come with Penstock: small, written by hand, each with arithmetic that does what its name says. None was
 * trained, none pretends to be.
 */
import type { Constant, Graph, Node, Value } from './model.ts'

export interface BuiltIn { manifest: { name: string, version: number, task: string, [key: string]: unknown }, graph: Graph }

/** Luminance of linear weights (ITU-R BT.709), over R, G and B. */
const LUMINANCE = [0.2126, 0.7152, 0.0722]

const rgb = (name: string): Value => ({ name, type: 'float', shape: ['n', 3, 'h', 'w'] })
const RGB_MANIFEST = { layout: 'NCHW', channels: 3, range: [0, 1], dtype: 'float32' }

const node = (op: string, inputs: string[], output: string, attributes: Node['attributes'] = {}): Node => ({ op, inputs, outputs: [output], attributes })
const scalar = (name: string, value: number): Constant => ({ name, shape: [], data: [value] })
const repeat = (values: readonly number[], times: number): number[] => Array.from({ length: times }, () => values).flat()

/** Pads height and width by `by` pixels: the picture goes on beyond its border as it is there. */
function pads(name: string, by: number): Constant {
  return { name, shape: [8], data: [0, 0, by, by, 0, 0, by, by].map(BigInt) }
}

const identity: BuiltIn = {
  manifest: { name: 'identity', version: 1, task: 'tensor', description: 'y = x, for float32 of any shape: to try the way there and back.' },
  graph: {
    name: 'identity', doc: 'y = x',
    inputs: [{ name: 'x', type: 'float' }], outputs: [{ name: 'y', type: 'float' }],
    nodes: [node('Identity', ['x'], 'y')]
  }
}

const identityImage: BuiltIn = {
  manifest: {
    name: 'identity-image', version: 1, task: 'image-to-image', description: 'The image as it is: decoded, passed through, encoded again.',
    input: { name: 'image', ...RGB_MANIFEST }, output: { name: 'same', ...RGB_MANIFEST }
  },
  graph: { name: 'identity-image', doc: 'the image as it is', inputs: [rgb('image')], outputs: [rgb('same')], nodes: [node('Identity', ['image'], 'same')] }
}

/** Weight of a sample at distance `x` (Keys' cubic convolution, a = −0.5, also known as Catmull-Rom). */
function cubic(x: number): number {
  const d = Math.abs(x)
  if (d <= 1) return 1.5 * d ** 3 - 2.5 * d ** 2 + 1
  return d < 2 ? -0.5 * d ** 3 + 2.5 * d ** 2 - 4 * d + 2 : 0
}

/** A pixel becomes four; their centres lie a quarter to either side of its own. Weights of the five pixels around it. */
const PHASES = [-0.25, 0.25].map(at => [-2, -1, 0, 1, 2].map(offset => cubic(offset - at)))
const CUBIC_KERNELS = PHASES.flatMap(down => PHASES.flatMap(across => down.flatMap(y => across.map(x => y * x))))

const upscale2x: BuiltIn = {
  manifest: {
    name: 'upscale-2x', version: 1, task: 'image-to-image', description: 'Twice as wide and high, by bicubic interpolation (Catmull-Rom).',
    input: { name: 'image', ...RGB_MANIFEST }, output: { name: 'larger', ...RGB_MANIFEST }
  },
  graph: {
    name: 'upscale-2x', doc: 'bicubic interpolation as four convolutions, whose outputs are interleaved',
    inputs: [rgb('image')], outputs: [{ name: 'larger', type: 'float', shape: ['n', 3, 'h2', 'w2'] }],
    nodes: [
      node('Pad', ['image', 'pads'], 'padded', { mode: 'edge' }),
      node('Conv', ['padded', 'kernels'], 'phases', { group: 3, kernel_shape: [5, 5] }),
      node('DepthToSpace', ['phases'], 'overshooting', { blocksize: 2, mode: 'CRD' }),
      node('Clip', ['overshooting', 'black', 'white'], 'larger')
    ],
    constants: [pads('pads', 2), { name: 'kernels', shape: [12, 1, 5, 5], data: repeat(CUBIC_KERNELS, 3) }, scalar('black', 0), scalar('white', 1)]
  }
}

/** A full step from black to white gives 1. */
const SOBEL_X = [-1, 0, 1, -2, 0, 2, -1, 0, 1].map(weight => weight / 4)
const SOBEL_Y = [-1, -2, -1, 0, 0, 0, 1, 2, 1].map(weight => weight / 4)

const edges: BuiltIn = {
  manifest: {
    name: 'edges', version: 1, task: 'image-to-image', description: 'Where brightness changes: the magnitude of the Sobel gradient, in grey.',
    input: { name: 'image', ...RGB_MANIFEST }, output: { name: 'edges', ...RGB_MANIFEST, channels: 1 }
  },
  graph: {
    name: 'edges', doc: 'luminance, its gradient by Sobel kernels, the length of that',
    inputs: [rgb('image')], outputs: [{ name: 'edges', type: 'float', shape: ['n', 1, 'h', 'w'] }],
    nodes: [
      node('Conv', ['image', 'luminance'], 'grey', { kernel_shape: [1, 1] }),
      node('Pad', ['grey', 'pads'], 'padded', { mode: 'edge' }),
      node('Conv', ['padded', 'sobel'], 'gradient', { kernel_shape: [3, 3] }),
      node('ReduceL2', ['gradient'], 'length', { axes: [1], keepdims: 1 }),
      node('Clip', ['length', 'black', 'white'], 'edges')
    ],
    constants: [
      pads('pads', 1), { name: 'luminance', shape: [1, 3, 1, 1], data: LUMINANCE },
      { name: 'sobel', shape: [2, 1, 3, 3], data: [...SOBEL_X, ...SOBEL_Y] }, scalar('black', 0), scalar('white', 1)
    ]
  }
}

const COLOURS: Readonly<Record<string, readonly [number, number, number]>> = {
  black: [0, 0, 0], white: [1, 1, 1], grey: [0.5, 0.5, 0.5], red: [0.86, 0.12, 0.12], orange: [1, 0.55, 0], yellow: [1, 0.9, 0.1],
  green: [0.13, 0.6, 0.2], cyan: [0.1, 0.8, 0.85], blue: [0.1, 0.25, 0.85], purple: [0.5, 0.15, 0.65], pink: [1, 0.6, 0.75], brown: [0.45, 0.27, 0.1]
}
/** How quickly certainty grows with nearness. */
const SHARPNESS = 20

/** −|x − c|² is 2c·x − |c|² and a part that all colours share: so the nearest colour is a linear layer. */
const colours = Object.values(COLOURS)
const COLOUR_WEIGHTS = [0, 1, 2].flatMap(channel => colours.map(colour => SHARPNESS * 2 * colour[channel]!))
const COLOUR_BIASES = colours.map(colour => -SHARPNESS * colour.reduce((sum, value) => sum + value * value, 0))

const colorClasses: BuiltIn = {
  manifest: {
    name: 'color-classes', version: 1, task: 'image-classification', description: 'Which of twelve colours the average of the image is nearest to.',
    input: { name: 'image', ...RGB_MANIFEST }, labels: Object.keys(COLOURS)
  },
  graph: {
    name: 'color-classes', doc: 'average colour, distance to each of the named ones, softmax',
    inputs: [rgb('image')], outputs: [{ name: 'probabilities', type: 'float', shape: ['n', colours.length] }],
    nodes: [
      node('GlobalAveragePool', ['image'], 'average'),
      node('Flatten', ['average'], 'colour', { axis: 1 }),
      node('Gemm', ['colour', 'weights', 'biases'], 'nearness'),
      node('Softmax', ['nearness'], 'probabilities', { axis: 1 })
    ],
    constants: [{ name: 'weights', shape: [3, colours.length], data: COLOUR_WEIGHTS }, { name: 'biases', shape: [colours.length], data: COLOUR_BIASES }]
  }
}

const thumbprint: BuiltIn = {
  manifest: {
    name: 'thumbprint', version: 1, task: 'embedding',
    description: 'Brightness of 8 by 8 fields, without its mean, at length 1: alike for copies of one image, whatever their size and quality.',
    input: { name: 'image', ...RGB_MANIFEST }
  },
  graph: {
    name: 'thumbprint', doc: 'luminance, averages of 8 by 8 fields, mean taken off, divided by the length',
    inputs: [{ name: 'image', type: 'float', shape: ['n', 3, 64, 64] }], outputs: [{ name: 'embedding', type: 'float', shape: ['n', 64] }],
    nodes: [
      node('Conv', ['image', 'luminance'], 'grey', { kernel_shape: [1, 1] }),
      node('AveragePool', ['grey'], 'fields', { kernel_shape: [8, 8], strides: [8, 8] }),
      node('Flatten', ['fields'], 'brightness', { axis: 1 }),
      node('ReduceMean', ['brightness'], 'mean', { axes: [1], keepdims: 1 }),
      node('Sub', ['brightness', 'mean'], 'centred'),
      node('ReduceL2', ['centred'], 'length', { axes: [1], keepdims: 1 }),
      // of an image that is the same all over the length is nothing: its thumbprint is zero, not NaN
      node('Max', ['length', 'least'], 'divisor'),
      node('Div', ['centred', 'divisor'], 'embedding')
    ],
    constants: [{ name: 'luminance', shape: [1, 3, 1, 1], data: LUMINANCE }, scalar('least', 1e-3)]
  }
}

export const builtIn: readonly BuiltIn[] = [identity, identityImage, upscale2x, edges, colorClasses, thumbprint]
