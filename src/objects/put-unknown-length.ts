/**
 * Streams a body whose length nobody knows yet. Files take it as it comes. S3 wants to know the length of each request first, so
 * one part is held at a time:
 *
 *   fill a part ─▶ it ends within the first       one PutObject
 *              └─▶ it goes on                     multipart: fill, send, fill, send …; what is left is the last part
 *
 * The body is not read while a part is sent: one part is all that an upload holds, and a slow store slows down whoever sends.
 * A body that fails, or that is cancelled, leaves nothing: nothing was sent yet, or the upload is aborted.
 */
import { PARTS_MAX, SPARE_PARTS_MAX, UNKNOWN_PART_BYTES } from '../limits.ts'
import { giveBackInTurn } from './give-back.ts'
import type { ETag, MultipartPart, ObjectStore } from './port.ts'
import { withIntent, type MultipartIntents } from './with-intent.ts'

export interface PutUnknownLengthOptions {
  /** Most bytes that the body may have; whoever makes it ends it there with an error of its own. Parts grow so that PARTS_MAX are enough. */
  maxBytes: number
  contentType?: string
  /** As in put. */
  createOnly?: boolean
  signal?: AbortSignal
  /** bytes of a part; default UNKNOWN_PART_BYTES */
  partBytes?: number
  /**
   * Parts of bodies that were stored, for the next ones: this one takes its part from there, and leaves it there. Left to the
   * collector, each would make it mark the whole heap: a fifth of what a form costs.
   */
  spareParts?: Buffer[]
}

/** Rejects as put() does, or with what the body throws. The body is ended then. */
export async function putUnknownLength(store: ObjectStore, intents: MultipartIntents, key: string, body: AsyncIterable<Uint8Array>, options: PutUnknownLengthOptions): Promise<{ etag: ETag, size: number }> {
  const { signal, createOnly = false, maxBytes, contentType } = options
  if (store.putUnsized !== undefined) return await putWhole(store.putUnsized, key, body, options)
  const given = { ...(contentType !== undefined && { contentType }), ...(signal && { signal }) }
  const source = new Filler(body, Math.max(options.partBytes ?? UNKNOWN_PART_BYTES, Math.ceil(maxBytes / PARTS_MAX)), options.spareParts ?? [])
  try {
    const first = await source.fill()
    const put = source.ended ? { ...await store.put(key, first, { ...given, size: first.length, createOnly }), size: first.length } : await withIntent(store, intents, key, given, async upload => {
      const parts: MultipartPart[] = []
      let size = 0
      for (let bytes = first; bytes.length > 0; bytes = source.ended ? bytes.subarray(0, 0) : await source.fill()) {
        parts.push(await store.putPart(upload, parts.length + 1, bytes, { size: bytes.length, ...(signal && { signal }) }))
        size += bytes.length
      }
      const done = await store.completeMultipart(upload, parts, { createOnly, ...(signal && { signal }) })
      return { ...done, size }
    })
    source.keepPart()
    return put
  } finally {
    await source.close()
  }
}

async function putWhole(putUnsized: NonNullable<ObjectStore['putUnsized']>, key: string, body: AsyncIterable<Uint8Array>, { contentType, createOnly, signal }: PutUnknownLengthOptions): Promise<{ etag: ETag, size: number }> {
  const seen = giveBackInTurn()
  let failure: { cause: unknown } | undefined
  async function* chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for await (const chunk of body) {
        seen(chunk)
        yield chunk
      }
    } catch (cause) {
      failure = { cause }
      throw cause
    }
  }
  try {
    return await putUnsized(key, chunks(), { ...(contentType !== undefined && { contentType }), ...(createOnly !== undefined && { createOnly }), ...(signal && { signal }) })
  } catch (error) {
    throw failure === undefined ? error : failure.cause
  }
}

function takePart(spareParts: Buffer[], bytes: number): Buffer {
  const at = spareParts.findIndex(({ length }) => length === bytes)
  // memory that nobody writes to is not taken from the machine: a small body costs no whole part
  return spareParts.splice(at, at === -1 ? 0 : 1)[0] ?? Buffer.allocUnsafeSlow(bytes)
}

/** One sequence of chunks, given out in parts that are whole but for the last. Each part is written over the one before. */
class Filler {
  /** True when the part given last was the last. */
  ended = false
  readonly #chunks: AsyncIterator<Uint8Array>
  readonly #part: Buffer
  readonly #spareParts: Buffer[]
  #rest: Uint8Array = new Uint8Array(0)
  readonly #seen = giveBackInTurn()

  constructor(body: AsyncIterable<Uint8Array>, partBytes: number, spareParts: Buffer[]) {
    this.#spareParts = spareParts
    this.#chunks = body[Symbol.asyncIterator]()
    this.#part = takePart(spareParts, partBytes)
  }

  async fill(): Promise<Uint8Array> {
    let length = this.#take(this.#rest, 0)
    while (!this.ended && this.#rest.length === 0) {
      const { done, value } = await this.#chunks.next()
      if (done === true) this.ended = true
      else length = this.#take(value, length)
    }
    return this.#part.subarray(0, length)
  }

  /** For the next body. Only where all was stored: what failed may still be on its way through a socket. */
  keepPart(): void {
    if (this.#spareParts.length < SPARE_PARTS_MAX) this.#spareParts.push(this.#part)
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  /** Copies what fits, and keeps the rest. A part that is just full is not given out before the next chunk, or the end, is seen. */
  #take(chunk: Uint8Array, at: number): number {
    this.#seen(chunk)
    const fits = Math.min(chunk.length, this.#part.length - at)
    this.#part.set(chunk.subarray(0, fits), at)
    this.#rest = chunk.subarray(fits)
    return at + fits
  }
}
