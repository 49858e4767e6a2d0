/**
 * Ends a download when the store stops sending. A reader that is slow is not meant: then bytes wait in the stream's
 * buffer. Where the buffer is empty and the socket has brought nothing since the last look, it is the store.
 */
import type { Readable } from 'node:stream'
import { ObjectStoreFailed } from './port.ts'

/** Returns what stops the watch. */
export function watchStall(body: Readable & { socket?: { bytesRead: number } | null }, ms: number): () => void {
  let seen = -1
  const timer = setInterval(() => {
    const read = body.socket?.bytesRead ?? 0
    const waiting = body.readableLength === 0
    if (waiting && read === seen) body.destroy(new ObjectStoreFailed(`the store sent nothing for ${ms} ms`))
    seen = waiting ? read : -1
  }, ms)
  timer.unref()
  return () => clearInterval(timer)
}
