/**
 * The channel between the service and a worker that is a process: messages over a stream, each as V8 serialises it, behind
 * its length (4 bytes, little-endian).
 *
 * The channel that Node's `fork` brings along would do the same, but reads what arrives in an event handler of its own: bytes
 * that are no message end the process that receives them, and nobody can catch that. Here they are the end of the channel.
 */
import type { Duplex } from 'node:stream'
import { deserialize, serialize } from 'node:v8'

const LENGTH_BYTES = 4

/** Descriptor of a worker's end. */
export const CHANNEL_FD = 3

export interface FramedChannel {
  readonly open: boolean
  /** To one that is closed: nothing. `sent` is called when it has left, or never will. @throws for what cannot be cloned */
  send(message: unknown, sent?: () => void): void
  /** What was sent before still leaves. Idempotent. */
  end(): void
  /** Settles when nothing is heard any more. Never rejects. */
  readonly closed: Promise<void>
}

export interface FramedChannelOptions {
  /** bytes of a message; a longer one is none */
  maxBytes: number
  onMessage(message: unknown): void
  /** What came is no message: nothing is heard any more. */
  onBroken(why: string): void
}

export function framedChannel(stream: Duplex, { maxBytes, onMessage, onBroken }: FramedChannelOptions): FramedChannel {
  const closed = Promise.withResolvers<void>()
  stream.once('close', closed.resolve)
  stream.on('error', () => {})
  const take = reassembled(maxBytes, bytes => onMessage(deserialize(bytes)))
  stream.on('data', (chunk: Buffer) => {
    try {
      take(chunk)
    } catch (error) {
      stream.destroy()
      onBroken((error as Error).message)
    }
  })
  return {
    get open() { return !stream.destroyed && !stream.writableEnded },
    closed: closed.promise,
    send(message, sent = () => {}) {
      const body = serialize(message)
      if (stream.destroyed || stream.writableEnded) return sent()
      const length = Buffer.alloc(LENGTH_BYTES)
      length.writeUInt32LE(body.length)
      stream.cork()
      stream.write(length)
      stream.write(body, () => sent())
      stream.uncork()
    },
    end: () => void stream.end()
  }
}

/** Hears bytes as they come, and calls `whole` with those of each message. @throws where they are none; then hear no more */
function reassembled(maxBytes: number, whole: (bytes: Buffer) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = []
  let held = 0
  let wanted = LENGTH_BYTES
  let isLength = true
  return chunk => {
    chunks.push(chunk)
    held += chunk.length
    while (held >= wanted) {
      const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, held)
      const part = bytes.subarray(0, wanted)
      chunks = [bytes.subarray(wanted)]
      held -= wanted
      if (!isLength) whole(part)
      else if (part.readUInt32LE() > maxBytes) throw new Error(`a message of ${part.readUInt32LE()} bytes`)
      wanted = isLength ? part.readUInt32LE() : LENGTH_BYTES
      isLength = !isLength
    }
  }
}
