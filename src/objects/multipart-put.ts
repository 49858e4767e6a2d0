/**
 * Streams a body of known length, too long for one request, as parts one after another.
 *
 * No part is buffered: each is a stream over the next `partBytes` of the body, and the body is read only as fast as the
 * store takes that part. The last part ends only when the body has ended, so a body that goes on completes nothing.
 */
import { Readable } from 'node:stream'
import { PART_BYTES, PARTS_MAX, STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { Deadline } from './deadline.ts'
import { exactly, ignore } from './exact-body.ts'
import type { ETag, MultipartPart, ObjectStore } from './port.ts'
import { withIntent, type MultipartIntents } from './with-intent.ts'

export interface PutLargeOptions {
  /** bytes of the body */
  size: number
  contentType?: string
  /** As in put. */
  createOnly?: boolean
  signal?: AbortSignal
  /** bytes of a part; default PART_BYTES. Grown so that PARTS_MAX parts are enough. */
  partBytes?: number
}

/** Errors as those of put(). The caller destroys the body on failure; nothing is left in the store. */
export async function putLarge(store: ObjectStore, intents: MultipartIntents, key: string, body: Readable, options: PutLargeOptions): Promise<{ etag: ETag }> {
  const { size, createOnly = false, signal } = options
  const partBytes = Math.max(options.partBytes ?? PART_BYTES, Math.ceil(size / PARTS_MAX))
  return await withIntent(store, intents, key, options, async upload => {
    const parts: MultipartPart[] = []
    // a failed store must not wait for a body that stalls: ending this ends the wait for it
    const reading = new Deadline(signal)
    const source = new Slices(exactly(body, size, reading.signal))
    try {
      for (let at = 0; at < size || parts.length === 0; at += partBytes) {
        const length = Math.min(partBytes, size - at)
        const part = source.take(length, at + length === size)
        parts.push(await store.putPart(upload, parts.length + 1, part, { size: length, ...(signal && { signal }) }).finally(() => part.destroy()))
      }
    } finally {
      reading.abort(new Error('nobody reads this body any more'))
      reading.release()
      await source.close()
    }
    return await store.completeMultipart(upload, parts, { createOnly, ...(signal && { signal }) })
  })
}

/** One sequence of chunks, given out in slices of a number of bytes. */
class Slices {
  readonly #chunks: AsyncGenerator<Uint8Array, void, undefined>
  #rest: Uint8Array | undefined

  constructor(chunks: AsyncGenerator<Uint8Array, void, undefined>) {
    this.#chunks = chunks
  }

  /** A stream over the next `length` bytes; the last one also waits for the end. One at a time. */
  take(length: number, last: boolean): Readable {
    // a failure is given to whoever reads the part; when nobody does any more, it must not become an uncaught error
    return Readable.from(this.#next(length, last), { objectMode: false, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES }).on('error', ignore)
  }

  /** Ends the sequence, which lets go of the body. */
  async close(): Promise<void> {
    await this.#chunks.return()
  }

  async* #next(length: number, last: boolean): AsyncGenerator<Uint8Array, void, undefined> {
    for (let left = length; left > 0;) {
      const chunk = this.#rest ?? (await this.#chunks.next()).value
      if (chunk === undefined) return // the reader finds the part too short
      this.#rest = chunk.length > left ? chunk.subarray(left) : undefined
      const piece = chunk.length > left ? chunk.subarray(0, left) : chunk
      left -= piece.length
      yield piece
    }
    if (last) await this.#chunks.next()
  }
}
