/**
 * The one Transform between a request and the store: it counts and digests, and lets a body end only when it is what was
 * announced.
 *
 * It holds the newest chunk back until the next one (or the end) has come. So the last bytes reach the store only after
 * length and hash were found right: a body that is too long, too short or of another hash never becomes an object there,
 * and there is nothing to remove. It costs one chunk of memory.
 *
 * libuv reads up to 2 MiB from one socket before it turns to the next, and each chunk is hashed at once: with many uploads
 * the event loop came round only after 150 ms. So a Meter lets others have their turn after STREAM_TURN_BYTES (12 ms).
 */
import { createHash } from 'node:crypto'
import { Transform, type TransformCallback } from 'node:stream'
import { PenstockError } from '../errors.ts'
import { STREAM_HIGH_WATER_MARK_BYTES, STREAM_TURN_BYTES } from '../limits.ts'

export interface MeterOptions {
  /** Exact length, in bytes. */
  size: number
  /** Hex sha256 the body must have. */
  declaredSha256?: string | undefined
  /** After each chunk that arrived. Must be cheap. */
  onChunk?: (() => void) | undefined
}

export class Meter extends Transform {
  /** bytes that arrived */
  received = 0
  /** True when the whole body was found right and let through. */
  complete = false
  #sha256: string | undefined
  #held: Buffer | undefined
  #forwarded = 0
  /** bytes since the event loop last had its turn */
  #turn = 0
  readonly #hash = createHash('sha256')
  readonly #options: MeterOptions

  constructor(options: MeterOptions) {
    super({ readableHighWaterMark: STREAM_HIGH_WATER_MARK_BYTES, writableHighWaterMark: STREAM_HIGH_WATER_MARK_BYTES })
    this.#options = options
  }

  /** Hex, once complete. */
  get sha256(): string {
    if (this.#sha256 === undefined) throw new Error('the digest is known only when the body is complete')
    return this.#sha256
  }

  /** Bytes that the reader took. */
  get taken(): number {
    return this.#forwarded - this.readableLength
  }

  /** Is the reader, not the writer, what everything waits for? */
  get backedUp(): boolean {
    return this.readableLength > 0 || this.writableLength > 0
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.received += chunk.length
    if (this.received > this.#options.size) return done(this.#sizeError('body_longer_than_size'))
    this.#options.onChunk?.()
    this.#hash.update(chunk)
    const previous = this.#held
    this.#held = chunk
    if (previous !== undefined) this.#forward(previous)
    this.#turn += chunk.length
    if (this.#turn < STREAM_TURN_BYTES) return done()
    this.#turn = 0
    setImmediate(done)
  }

  override _flush(done: TransformCallback): void {
    if (this.received < this.#options.size) return done(this.#sizeError('body_shorter_than_size'))
    const computed = this.#hash.digest('hex')
    const declared = this.#options.declaredSha256
    if (declared !== undefined && declared !== computed) {
      return done(new PenstockError('HASH_MISMATCH', { why: 'hash_mismatch', details: { declared, computed } }))
    }
    this.#sha256 = computed
    this.complete = true
    if (this.#held !== undefined) this.#forward(this.#held)
    done()
  }

  #forward(chunk: Buffer): void {
    this.#forwarded += chunk.length
    this.push(chunk)
  }

  #sizeError(reason: 'body_longer_than_size' | 'body_shorter_than_size'): PenstockError {
    return new PenstockError('BAD_REQUEST', {
      why: 'body_size_mismatch',
      message: reason === 'body_longer_than_size' ? 'the body is longer than size says' : 'the body is shorter than size says',
      details: { reason, expected: this.#options.size, received: this.received }
    })
  }
}
