/**
 * The memory of a chunk that has done its work goes at once. Left to the collector, every 10 to 50 MiB of bodies that pass make
 * it mark the whole heap: measured, that was half of what an upload costs, two thirds of a download and of a form.
 */

/** Only for a chunk that nobody else looks at any more. A slice is left alone: what it is a slice of may be somebody's. */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength && !buffer.detached) buffer.transfer(0)
}

/** On memory that is one stream's alone, however a parser slices it: the slices come in order, and none is looked at after a later one. */
const CLAIMED = Symbol('of one stream')
type Memory = ArrayBufferLike & { [CLAIMED]?: true }

/** Says so of a chunk as it comes in, before it is parsed. One that shares its memory, as the first of a connection may, is left alone. */
export function claimMemory({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength) (buffer as Memory)[CLAIMED] = true
}

/** Once nobody looks at a slice of it any more. What nobody claimed is left alone: a parser has memory of its own, which it goes on using. */
export function giveBackClaimed(buffer: Memory | undefined): void {
  if (buffer instanceof ArrayBuffer && buffer[CLAIMED] === true && !buffer.detached) buffer.transfer(0)
}

/** For the reader of one stream, who tells it of each chunk before looking at that: what is behind it goes when other memory comes. */
export function giveBackInTurn(): (chunk: Uint8Array) => void {
  let memory: ArrayBufferLike | undefined
  return ({ buffer }) => {
    if (buffer !== memory) giveBackClaimed(memory)
    memory = buffer
  }
}
