/**
 * A body that breaks off because it is not framed as HTTP asks. No more of it will ever come, but nothing ends its stream:
 * destroying that would destroy the socket, which has to carry the answer. So whoever reads the body is told.
 */
import type { IncomingMessage } from 'node:http'
import type { PenstockError } from '../errors.ts'

const broken = Symbol('broken')

type Breakable = IncomingMessage & { [broken]?: PenstockError }

/** Tells the reader of a body, now or when there is one, that it ends here. */
export function breakBody(message: IncomingMessage, error: PenstockError): void {
  Object.assign(message, { [broken]: error })
  message.emit(broken, error)
}

/** What broke the body so far. */
export function brokenBy(message: IncomingMessage): PenstockError | undefined {
  return (message as Breakable)[broken]
}

/** Calls the listener at most once: now where the body is broken, else when it breaks. */
export function onBroken(message: IncomingMessage, listener: (error: PenstockError) => void): void {
  const error = brokenBy(message)
  if (error === undefined) message.once(broken, listener)
  else listener(error)
}
