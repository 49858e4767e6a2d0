/**
 * Connections to the S3 server: kept alive, at most `maxSockets`. The time limit for connecting is kept here and not by the
 * SDK, whose clock also runs while a request waits in the queue for a connection that others are using.
 *
 * What arrives is read into one piece of memory, always the same: the parser of HTTP copies the bytes of a body out of it
 * at once, as it does on every socket, and what it copied from would be garbage else. That garbage was most of what a
 * download cost, since each of its chunks brings the collector nearer to marking the whole heap.
 *
 * Towards the store the water mark is STREAM_HIGH_WATER_MARK_BYTES; of what comes from there no more than one chunk waits,
 * since several would be copied into one when they are read.
 */
import { Agent as HttpAgent, type ClientRequestArgs } from 'node:http'
import { Agent as HttpsAgent, type RequestOptions } from 'node:https'
import type { OnReadOpts } from 'node:net'
import type { Duplex } from 'node:stream'
import { STORE_CONNECT_TIMEOUT_MS, STORE_IDLE_TIMEOUT_MS, STORE_READ_BYTES, STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'

type Connected = Parameters<HttpAgent['createConnection']>[1]

class LimitedHttpAgent extends HttpAgent {
  override createConnection(options: ClientRequestArgs, callback?: Connected): Duplex | null | undefined {
    return limited(readingInPlace(onread => super.createConnection({ ...options, onread } as ClientRequestArgs, callback)), 'connect')
  }
}

class LimitedHttpsAgent extends HttpsAgent {
  override createConnection(options: RequestOptions, callback?: Connected): Duplex | null | undefined {
    return limited(readingInPlace(onread => super.createConnection({ ...options, onread } as RequestOptions, callback)), 'secureConnect')
  }
}

/** Gives the socket its memory to read into; what is in there is told as ever. */
function readingInPlace(connect: (onread: OnReadOpts) => Duplex | null | undefined): Duplex | null | undefined {
  const socket = connect({
    buffer: Buffer.allocUnsafeSlow(STORE_READ_BYTES),
    callback(length, bytes) {
      socket?.emit('data', bytes.subarray(0, length))
      return true
    }
  })
  return socket
}

function limited(socket: Duplex | null | undefined, connected: 'connect' | 'secureConnect'): Duplex | null | undefined {
  const timer = setTimeout(() => socket?.destroy(new Error(`no connection within ${STORE_CONNECT_TIMEOUT_MS} ms`)), STORE_CONNECT_TIMEOUT_MS)
  for (const event of [connected, 'error', 'close']) socket?.once(event, () => clearTimeout(timer))
  return socket
}

export interface S3Agents { httpAgent: HttpAgent, httpsAgent: HttpsAgent }

export function s3Agents(maxSockets: number): S3Agents {
  const options = { keepAlive: true, timeout: STORE_IDLE_TIMEOUT_MS, maxSockets, maxFreeSockets: maxSockets, readableHighWaterMark: STORE_READ_BYTES, writableHighWaterMark: STREAM_HIGH_WATER_MARK_BYTES }
  return { httpAgent: new LimitedHttpAgent(options), httpsAgent: new LimitedHttpsAgent(options) }
}
