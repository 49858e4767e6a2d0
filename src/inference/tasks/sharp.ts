/**
 * sharp, loaded when the first image comes: the service, which imports the tasks for their names, never needs it. Of libvips'
 * many readers only those of the formats below stay usable: no SVG, no PDF, nothing that is handed on to ImageMagick.
 */
import type Sharp from 'sharp'

export type SharpModule = typeof Sharp

/** Formats that are taken, by what their files begin with. */
const FORMATS: readonly { name: string, matches(head: Buffer): boolean }[] = [
  { name: 'JPEG', matches: head => head.subarray(0, 3).equals(Buffer.from([0xff, 0xd8, 0xff])) },
  { name: 'PNG', matches: head => head.subarray(0, 8).equals(Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')) },
  { name: 'WebP', matches: head => head.toString('latin1', 0, 4) === 'RIFF' && head.toString('latin1', 8, 12) === 'WEBP' },
  { name: 'GIF', matches: head => /^GIF8[79]a/.test(head.toString('latin1', 0, 6)) },
  { name: 'TIFF', matches: head => ['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].includes(head.toString('latin1', 0, 4)) },
  { name: 'AVIF', matches: head => head.toString('latin1', 4, 8) === 'ftyp' && /avif|avis|mif1/.test(head.toString('latin1', 8, 32)) }
]
export const FORMAT_NAMES = FORMATS.map(({ name }) => name)
export const FORMAT_HEAD_BYTES = 512

/** Undefined: none that is taken. */
export function formatOf(head: Buffer): string | undefined {
  return FORMATS.find(({ matches }) => matches(head))?.name
}

/** `vips` is the form in which pixels lie on disk here (raw-image.ts); no input of it gets past formatOf(). */
const READERS = ['Jpeg', 'Png', 'Webp', 'Nsgif', 'Tiff', 'Heif', 'Vips'].map(name => `VipsForeignLoad${name}`)

export async function loadSharp(threads: number): Promise<SharpModule> {
  const { default: sharp } = await import('sharp')
  sharp.block({ operation: ['VipsForeignLoad'] })
  sharp.unblock({ operation: READERS })
  // one image follows another that has nothing in common with it
  sharp.cache(false)
  sharp.concurrency(threads)
  return sharp
}
