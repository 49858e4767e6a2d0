/**
 * How an image is cut into tiles that overlap. What a model makes of a pixel depends on the pixels around it, so that it is
 * wrong near the border of a tile; there the neighbour's is taken, which is right. Each pixel of the image belongs to the
 * core of exactly one tile, at least `overlap` away from that tile's border, unless this is the image's border too. So for a
 * model that looks no further than `overlap` pixels, the tiles together are what it would make of the whole image.
 *
 *   |◀──── window ────▶|
 *   |    core      |░░░|            every window has the same size: those at the far border are moved back inside
 *              |░░░|   core   |░░░|
 */
import type { Rectangle } from './raw-image.ts'

/** A stretch of one axis: what the model sees, and the part of the image that is taken from what it makes of it. */
export interface Span { start: number, size: number, from: number, to: number }
export interface Tile { window: Rectangle, core: Rectangle }

/** `window` must be more than twice `overlap`. */
export function spans(length: number, window: number, overlap: number): Span[] {
  if (length <= window) return [{ start: 0, size: length, from: 0, to: length }]
  const found: Span[] = []
  for (let from = 0; from < length;) {
    const start = Math.min(Math.max(from - overlap, 0), length - window)
    const end = start + window
    const to = end === length ? length : end - overlap
    found.push({ start, size: window, from, to })
    from = to
  }
  return found
}

/** A window of at most `max` that covers the length with as many steps, and as little twice as can be; a multiple of `unit` where it can. */
export function evenWindow(length: number, max: number, overlap: number, unit: number): number {
  if (length <= max) return length
  const shared = 2 * overlap
  const count = Math.ceil((length - shared) / (max - shared))
  const even = Math.ceil((length - shared) / count) + shared
  return Math.min(max, Math.ceil(even / unit) * unit)
}

/** Row by row. */
export function planTiles(image: { width: number, height: number }, window: { width: number, height: number }, overlap: number): Tile[] {
  const columns = spans(image.width, window.width, overlap)
  return spans(image.height, window.height, overlap).flatMap(row => columns.map(column => ({
    window: { left: column.start, top: row.start, width: column.size, height: row.size },
    core: { left: column.from, top: row.from, width: column.to - column.from, height: row.to - row.from }
  })))
}
