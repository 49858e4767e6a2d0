/**
 * Lines out of a body, however its bytes are split. A line ends with LF, or CR LF; the last needs no end. What is held is one line
 * of at most `maxBytes`: a peer that never ends its line cannot fill the memory.
 */
const LF = 10

/** @throws what `tooLong` makes, and what the body throws */
export async function* linesOf(body: AsyncIterable<Uint8Array>, maxBytes: number, tooLong: () => Error): AsyncGenerator<string, void, undefined> {
  let held: Uint8Array[] = []
  let bytes = 0

  function hold(piece: Uint8Array): void {
    bytes += piece.length
    if (bytes > maxBytes) throw tooLong()
    // many small pieces of one line would each keep the chunk that they lie in
    if (piece.length > 0) held.push(Buffer.from(piece))
  }

  function release(): string {
    const line = Buffer.concat(held, bytes).toString()
    held = []
    bytes = 0
    return line.endsWith('\r') ? line.slice(0, -1) : line
  }

  for await (const chunk of body) {
    let from = 0
    for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, from)) {
      hold(chunk.subarray(from, at))
      from = at + 1
      yield release()
    }
    hold(chunk.subarray(from))
  }
  if (bytes > 0) yield release()
}
