/**
 * Sends a body of known length through the SDK.
 *
 * The SDK hands a stream to `stream.pipe(request)` and looks at nothing but the request: when the source fails, the
 * request waits for ever. This class takes the place of the stream, and its pipe() does the sending: it counts, reports
 * every way in which the source can fail, knows when the last byte was handed over, and holds the last chunk back until
 * the source has ended. So a body that is too long is refused before the store has its last byte, not when it is stored.
 * It buffers nothing: what pipe() would do with each chunk, and no more, is done here.
 */
import type { ClientRequest } from 'node:http'
import { Readable } from 'node:stream'
import { bodyFailed, ignore, tooLong, tooShort } from './exact-body.ts'
import { giveBack } from './give-back.ts'
import type { ObjectStoreFailed } from './port.ts'

export interface SendEvents {
  /** The body cannot become an object: the request is to be aborted. */
  onInvalid(error: ObjectStoreFailed): void
  /** Nothing more comes from the source; called again when the request has passed the last byte on. */
  onSent(): void
}

export class SendBody extends Readable {
  readonly #source: Readable
  readonly #size: number
  readonly #disposable: boolean
  readonly #events: SendEvents
  #request: ClientRequest | undefined
  #seen = 0
  #held: Uint8Array | undefined

  readonly #onData = (chunk: Uint8Array): void => {
    if (chunk.length === 0) return
    this.#seen += chunk.length
    if (this.#seen > this.#size) return this.#invalid(tooLong(this.#size))
    if (this.#seen === this.#size) this.#held = chunk
    else if (this.#request?.write(chunk, () => this.#giveBack(chunk)) === false) this.#source.pause()
  }

  readonly #onDrain = (): void => { this.#source.resume() }

  readonly #onEnd = (): void => {
    if (this.#seen < this.#size) return this.#invalid(tooShort(this.#size, this.#seen))
    this.#events.onSent()
    const last = this.#held
    this.#request?.end(last, () => { if (last) this.#giveBack(last) })
  }

  readonly #onError = (error: Error): void => this.#invalid(bodyFailed(error))
  readonly #onClose = (): void => { if (!this.#source.readableEnded) this.#invalid(bodyFailed(this.#source.errored)) }
  readonly #onFinish = (): void => this.#events.onSent()

  constructor(source: Readable, { size, disposable = false }: { size: number, disposable?: boolean }, events: SendEvents) {
    super()
    this.#source = source
    this.#size = size
    this.#disposable = disposable
    this.#events = events
    source.on('error', this.#onError).on('close', this.#onClose)
    if (source.destroyed) queueMicrotask(this.#onClose)
  }

  override pipe<T extends NodeJS.WritableStream>(request: T): T {
    this.#request = request as unknown as ClientRequest
    this.#request.on('drain', this.#onDrain).on('finish', this.#onFinish)
    // a server that refuses a body may leave it unread, and the next request on the connection would wait behind it
    this.#request.once('response', ({ statusCode = 0 }) => {
      if (statusCode >= 300) this.#request!.shouldKeepAlive = false
    })
    this.#source.on('data', this.#onData).on('end', this.#onEnd)
    if (this.#source.readableEnded) this.#onEnd()
    else this.#source.resume()
    return request
  }

  override _read(): void {
    this.destroy(new Error('the HTTP client was expected to pipe the body'))
  }

  /** Lets go of the source without destroying it. */
  release(): void {
    this.#source.off('error', this.#onError).off('close', this.#onClose).off('data', this.#onData).off('end', this.#onEnd)
    this.#request?.off('drain', this.#onDrain).off('finish', this.#onFinish)
    this.#source.pause()
    this.#source.on('error', ignore) // one that comes later must not become an uncaught error
    this.destroy()
  }

  /** Of what the socket has taken. */
  #giveBack(chunk: Uint8Array): void {
    if (this.#disposable) giveBack(chunk)
  }

  #invalid(error: ObjectStoreFailed): void {
    this.#source.off('data', this.#onData).off('end', this.#onEnd)
    this.#events.onInvalid(error)
  }
}
