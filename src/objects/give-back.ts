/**
 * The memory of a chunk that has done its work goes at once. Left to the collector, every 10 to 50 MiB of bodies that pass make
 * it mark the whole heap: measured, that was half of what an upload costs, two thirds of a download and of a form.
 */

/** Only for a chunk that nobody else looks at any more. A slice is left alone: what it is a slice of may be somebody's. */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength && !buffer.detached) buffer.transfer(0)
}

/** Memory that is one stream's alone, however a parser slices it: the slices come in order, and none is looked at after a later one. */
const ofOneStream = new WeakSet<ArrayBufferLike>()

/** Says so of a chunk as it comes in, before it is parsed. One that shares its memory, as the first of a connection may, is left alone. */
export function claimMemory({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength) ofOneStream.add(buffer)
}

/** Once a slice of other memory has come. What nobody claimed is left alone: a parser has memory of its own, which it goes on using. */
export function giveBackClaimed(buffer: ArrayBufferLike | undefined): void {
  if (buffer instanceof ArrayBuffer && ofOneStream.has(buffer) && !buffer.detached) buffer.transfer(0)
}
