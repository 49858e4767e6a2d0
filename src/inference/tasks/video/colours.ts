/**
 * How the colours of a video become RGB and are made of RGB again: by the matrix that the file names, or the one that players
 * take for its size. The same both ways, and the result says which.
 */
import type { VideoFacts } from './facts.ts'

/** From this height on players take what names no matrix for HD. */
const HD_HEIGHT_PIXELS = 720

/** `scale`: as the filter calls it; `tag`: as the encoder does. */
interface Matrix { scale: string, tag: string }
const SD: Matrix = { scale: 'smpte170m', tag: 'smpte170m' }
const HD: Matrix = { scale: 'bt709', tag: 'bt709' }
const MATRICES: Readonly<Record<string, Matrix>> = {
  bt709: HD, smpte170m: SD, bt470bg: { scale: 'bt470bg', tag: 'bt470bg' }, smpte240m: { scale: 'smpte240m', tag: 'smpte240m' }, fcc: { scale: 'fcc', tag: 'fcc' },
  bt2020nc: { scale: 'bt2020', tag: 'bt2020nc' }
}

export function matrixOf({ colours: { matrix }, height }: Pick<VideoFacts, 'colours' | 'height'>): Matrix {
  return MATRICES[matrix ?? ''] ?? (height >= HD_HEIGHT_PIXELS ? HD : SD)
}

/** Options of the encoder. */
export function colourTags(facts: Pick<VideoFacts, 'colours' | 'height'>): string[] {
  const { primaries, transfer } = facts.colours
  return [
    '-colorspace', matrixOf(facts).tag, '-color_range', 'tv',
    ...(primaries === undefined ? [] : ['-color_primaries', primaries]),
    ...(transfer === undefined ? [] : ['-color_trc', transfer])
  ]
}
