/**
 * A time limit on one request to a store, joined with the caller's signal. It is one timer that is cleared when the request
 * ends: AbortSignal.timeout() would leave a timer of a minute behind every request, thousands under load.
 */
export class Deadline {
  readonly #controller = new AbortController()
  readonly #caller: AbortSignal | undefined
  readonly #onAbort = (): void => this.abort(this.#caller?.reason)
  #timer: NodeJS.Timeout | undefined

  constructor(caller: AbortSignal | undefined, ms?: number) {
    this.#caller = caller
    if (caller?.aborted) this.#onAbort()
    caller?.addEventListener('abort', this.#onAbort)
    if (ms !== undefined) this.restart(ms)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Counts from now. */
  restart(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.abort(new Error(`no answer within ${ms} ms`)), ms)
  }

  /** The time limit is over; the caller's signal still counts. */
  stopClock(): void {
    clearTimeout(this.#timer)
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason)
  }

  /** Lets go of the timer and of the caller's signal. Idempotent. */
  release(): void {
    clearTimeout(this.#timer)
    this.#caller?.removeEventListener('abort', this.#onAbort)
  }
}
