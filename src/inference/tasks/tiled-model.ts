/**
 * Pixels through a model that makes an image of an image, tile by tile (tiles.ts), so that any size runs in the memory of a few:
 *
 *   tile ─▶ tensor ─▶ model ─▶ tensor ─▶ its core into the result
 *
 * The model may make it larger by a whole factor, found out with the first tile, and then the same for all. Values outside the
 * range become the nearest inside; NaN fails the run.
 */
import { Type } from 'typebox'
import { IMAGE_SCALE_MAX, TILE_DEFAULT_PIXELS, TILE_OVERLAP_DEFAULT_PIXELS, TILE_UNIT_PIXELS } from '../../limits.ts'
import type { ModelManifest } from '../manifest.ts'
import { InferenceFailed, type ModelSignature, type WireTensor } from '../port.ts'
import type { Session, TaskContext } from '../task.ts'
import { imageDecoder, imageEncoder, imageSize, imageSpec, type ImageSpec, type Pixels } from './image-tensor.ts'
import type { RawImageWriter, Rectangle } from './raw-image.ts'
import { evenWindow, planTiles, type Tile } from './tiles.ts'

/** Params of tasks that cut images into tiles. */
export const TILE_PARAMS = {
  tile: Type.Optional(Type.Integer({ minimum: 64, maximum: 4096, description: `side of a tile, where the model takes any; without it at most ${TILE_DEFAULT_PIXELS}` })),
  overlap: Type.Optional(Type.Integer({ minimum: 0, maximum: 1024, default: TILE_OVERLAP_DEFAULT_PIXELS, description: 'how far around a pixel the model looks; less than half a tile' }))
}

export interface Specs { input: ImageSpec, output: ImageSpec }
interface Size { width: number, height: number }

/** @throws InferenceFailed invalid_model where this is no model of images */
export function imageSpecs({ inputs, outputs }: ModelSignature, manifest: ModelManifest): Specs {
  return { input: imageSpec('input', manifest, inputs), output: imageSpec('output', manifest, outputs) }
}

export interface TiledRun {
  /** Where the result goes, once it is known how many times as wide and high it is. */
  begin(scale: number): RawImageWriter | Promise<RawImageWriter>
  onTile?(done: number): void
}

export interface TiledModel {
  /** of one image */
  readonly tiles: number
  /** Of images of the size that was said. @throws InferenceFailed, and the reason of the signal between two tiles */
  run(image: { read(region: Rectangle): Pixels }, run: TiledRun): Promise<void>
}

/** For images of this size, with the params `tile` and `overlap` of the run. @throws InferenceFailed invalid_input where those do not go together */
export function tiledModel(context: TaskContext, session: Session, specs: Specs, size: Size): TiledModel {
  const { tiles, windowSize } = plan(context, specs.input, size)
  const toTensor = imageEncoder(specs.input, bytes => context.memory('tensor', bytes))
  const toBytes = imageDecoder(specs.output)
  let scale: number | undefined
  return {
    tiles: tiles.length,
    async run(image, { begin, onTile }) {
      let writer: RawImageWriter | undefined
      for (const [index, { window, core }] of tiles.entries()) {
        context.signal.throwIfAborted()
        const input = toTensor(image.read(window), windowSize.width ?? window.width, windowSize.height ?? window.height)
        const [output] = await session.run([input], [specs.output.name], { reuse: true })
        const factor = scale ??= scaleOf(specs, input, output!)
        assertScale(specs, input, output!, factor)
        writer ??= await begin(factor)
        const region = scaled({ ...core, left: core.left - window.left, top: core.top - window.top }, factor)
        writer.write(scaled(core, factor), target => toBytes(output!, region, target))
        onTile?.(index + 1)
      }
    }
  }
}

/** `windowSize`: what the model takes, where it takes nothing else; smaller images are continued up to it. */
function plan(context: TaskContext, { width, height }: ImageSpec, image: Size): { tiles: Tile[], windowSize: { width: number | null, height: number | null } } {
  const { tile, overlap: asked } = context.params as { tile?: number, overlap?: number }
  const largest = { width: width ?? tile ?? TILE_DEFAULT_PIXELS, height: height ?? tile ?? TILE_DEFAULT_PIXELS }
  const least = Math.min(largest.width, largest.height)
  if (asked !== undefined && asked * 2 >= least) throw new InferenceFailed('invalid_input', `overlap must be less than half a tile, which is ${least} pixels`)
  const overlap = asked ?? Math.min(TILE_OVERLAP_DEFAULT_PIXELS, Math.floor(least / 4))
  // whoever names a size gets it
  const even = (length: number, max: number, isFixed: boolean): number => (isFixed ? max : evenWindow(length, max, overlap, TILE_UNIT_PIXELS))
  const window = {
    width: even(image.width, largest.width, (width ?? tile) !== undefined),
    height: even(image.height, largest.height, (height ?? tile) !== undefined)
  }
  return { tiles: planTiles(image, window, overlap), windowSize: { width, height } }
}

function scaled({ left, top, width, height }: Rectangle, scale: number): Rectangle {
  return { left: left * scale, top: top * scale, width: width * scale, height: height * scale }
}

/** How many times as wide the model makes an image. @throws InferenceFailed invalid_model */
function scaleOf({ input, output }: Specs, given: WireTensor, made: WireTensor): number {
  const scale = imageSize(output, made).width / imageSize(input, given).width
  if (!Number.isInteger(scale) || scale < 1 || scale > IMAGE_SCALE_MAX) throw wrongSize(input, given, output, made)
  return scale
}

function assertScale({ input, output }: Specs, given: WireTensor, made: WireTensor, scale: number): void {
  const [from, to] = [imageSize(input, given), imageSize(output, made)]
  if (to.width !== from.width * scale || to.height !== from.height * scale) throw wrongSize(input, given, output, made)
}

function wrongSize(input: ImageSpec, given: WireTensor, output: ImageSpec, made: WireTensor): InferenceFailed {
  const [from, to] = [imageSize(input, given), imageSize(output, made)]
  return new InferenceFailed('invalid_model', `of ${from.width} × ${from.height} pixels the model made ${to.width} × ${to.height}: it has to be the same whole factor from 1 to ${IMAGE_SCALE_MAX} both ways`)
}
