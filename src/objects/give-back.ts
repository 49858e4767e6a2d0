/**
 * The memory of a chunk that has done its work goes at once. Left to the collector, every 10 to 50 MiB of bodies that pass make
 * it mark the whole heap: measured, that was half of what an upload costs, two thirds of a download and of a form.
 */

/** Only for a chunk that nobody else looks at any more. A slice is left alone: what it is a slice of may be somebody's. */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength && !buffer.detached) buffer.transfer(0)
}
