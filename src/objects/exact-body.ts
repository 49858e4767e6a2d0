/**
 * Reads a body of known length. It is given out as it comes, and the end only when the length was right. The body is
 * never destroyed here: its owner may still have to answer on the same socket.
 *
 * It looks at the stream's state and waits for any event in between, and not for one promise raced against the signal:
 * such a race adds a reaction to the signal's promise with every chunk of a body that may have millions.
 */
import type { Readable } from 'node:stream'
import { ObjectBodyInvalid, ObjectStoreFailed } from './port.ts'

const EVENTS = ['readable', 'end', 'error', 'close'] as const

/** @throws ObjectBodyInvalid where the body fails, ends early or goes on; ObjectStoreFailed where the signal aborts */
export async function* exactly(body: Readable | Uint8Array, size: number, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks = body instanceof Uint8Array ? [body] : readAll(body, signal)
  let seen = 0
  throwIfCancelled(signal)
  for await (const chunk of chunks) {
    seen += chunk.length
    if (seen > size) throw tooLong(size)
    if (chunk.length > 0) yield chunk
    throwIfCancelled(signal)
  }
  if (seen < size) throw tooShort(size, seen)
}

/** The chunks of a body until it ends. @throws ObjectBodyInvalid where it fails before; ObjectStoreFailed where the signal aborts */
export async function* readAll(body: Readable, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  let wake: () => void = ignore
  const onEvent = (): void => wake()
  for (const event of EVENTS) body.on(event, onEvent)
  signal?.addEventListener('abort', onEvent)
  try {
    for (;;) {
      throwIfCancelled(signal)
      const chunk = body.read() as Uint8Array | null
      if (chunk !== null) yield chunk
      else if (body.readableEnded) return
      else if (body.destroyed) throw bodyFailed(body.errored)
      else await new Promise<void>(resolve => { wake = resolve })
    }
  } finally {
    for (const event of EVENTS) body.off(event, onEvent)
    signal?.removeEventListener('abort', onEvent)
    body.on('error', ignore) // one that comes later must not become an uncaught error
  }
}

/** Bodies that have failed may say so again after nobody listens to them any more. */
export function ignore(): void {}

/** @throws ObjectStoreFailed with the signal's reason as cause */
export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(signal)
}

export function cancelled(signal: AbortSignal): ObjectStoreFailed {
  const { reason } = signal
  const late = reason instanceof Error && reason.name === 'TimeoutError'
  return new ObjectStoreFailed(late ? 'no answer in the time that it was given' : 'the caller cancelled this', { cause: reason })
}

export function tooLong(size: number): ObjectBodyInvalid {
  return new ObjectBodyInvalid(`the body is longer than ${size} bytes`)
}

export function tooShort(size: number, seen: number): ObjectBodyInvalid {
  return new ObjectBodyInvalid(`the body ended after ${seen} of ${size} bytes`)
}

export function bodyFailed(cause: unknown): ObjectStoreFailed {
  if (cause instanceof ObjectStoreFailed) return cause // a part of a body that was read by us
  return new ObjectBodyInvalid('the body failed before its end', { cause: cause ?? new Error('the body was closed before its end') })
}

/** @throws ObjectBodyInvalid */
export function wrongHash(): ObjectBodyInvalid {
  return new ObjectBodyInvalid('the body does not have the given sha256')
}
