import { BUNDLE_DECOMPRESSED_MAX_BYTES } from '../../limits.ts'
import { boundPassed, notATarZst } from './bundle-errors.ts'

const EMPTY = Buffer.alloc(0)

/**
 * Reads a stream of chunks by counts of bytes. Holds one chunk, and what `take` was asked for. Every chunk is counted
 * against BUNDLE_DECOMPRESSED_MAX_BYTES, whether it is looked at or skipped.
 */
export class ByteReader {
  #chunks: AsyncIterator<Buffer>
  #signal: AbortSignal | undefined
  #chunk: Buffer = EMPTY
  #received = 0

  constructor(chunks: AsyncIterable<Buffer>, signal?: AbortSignal) {
    this.#chunks = chunks[Symbol.asyncIterator]()
    this.#signal = signal
  }

  /** Bytes that have come so far. */
  get received(): number {
    return this.#received
  }

  /** Exactly `bytes` bytes, or undefined at the end of the stream. An end within them throws `not_a_tar_zst`. */
  async take(bytes: number): Promise<Buffer | undefined> {
    if (this.#chunk.length === 0 && !await this.#next()) return undefined
    if (this.#chunk.length >= bytes) return this.#shift(bytes)
    const whole = Buffer.allocUnsafe(bytes)
    for (let filled = 0; ;) {
      filled += this.#shift(Math.min(bytes - filled, this.#chunk.length)).copy(whole, filled)
      if (filled === bytes) return whole
      if (!await this.#next()) throw cutShort()
    }
  }

  /** Passes over `bytes` bytes. An end within them throws `not_a_tar_zst`. */
  async skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) {
      if (this.#chunk.length === 0 && !await this.#next()) throw cutShort()
      left -= this.#shift(Math.min(left, this.#chunk.length)).length
    }
  }

  #shift(bytes: number): Buffer {
    const head = this.#chunk.subarray(0, bytes)
    this.#chunk = this.#chunk.subarray(bytes)
    return head
  }

  /** The next chunk that is not empty; false at the end. */
  async #next(): Promise<boolean> {
    do {
      this.#signal?.throwIfAborted()
      const next = await this.#chunks.next()
      if (next.done === true) return false
      this.#chunk = next.value
      this.#received += next.value.length
      if (this.#received > BUNDLE_DECOMPRESSED_MAX_BYTES) {
        throw boundPassed(`no manifest in the first ${BUNDLE_DECOMPRESSED_MAX_BYTES} bytes of the decompressed bundle`)
      }
    } while (this.#chunk.length === 0)
    return true
  }
}

function cutShort(): Error {
  return notATarZst('the tar archive ends too early')
}
