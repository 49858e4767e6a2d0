/**
 * Connections to the S3 server: kept alive, at most `maxSockets`, with water marks of STREAM_HIGH_WATER_MARK_BYTES in
 * both directions. The time limit for connecting is kept here and not by the SDK, whose clock also runs while a request
 * waits in the queue for a connection that others are using.
 */
import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { Duplex } from 'node:stream'
import { STORE_CONNECT_TIMEOUT_MS, STORE_IDLE_TIMEOUT_MS, STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'

class LimitedHttpAgent extends HttpAgent {
  override createConnection(...args: Parameters<HttpAgent['createConnection']>): Duplex | null | undefined {
    return limited(super.createConnection(...args), 'connect')
  }
}

class LimitedHttpsAgent extends HttpsAgent {
  override createConnection(...args: Parameters<HttpsAgent['createConnection']>): Duplex | null | undefined {
    return limited(super.createConnection(...args), 'secureConnect')
  }
}

function limited(socket: Duplex | null | undefined, connected: 'connect' | 'secureConnect'): Duplex | null | undefined {
  const timer = setTimeout(() => socket?.destroy(new Error(`no connection within ${STORE_CONNECT_TIMEOUT_MS} ms`)), STORE_CONNECT_TIMEOUT_MS)
  for (const event of [connected, 'error', 'close']) socket?.once(event, () => clearTimeout(timer))
  return socket
}

export interface S3Agents { httpAgent: HttpAgent, httpsAgent: HttpsAgent }

export function s3Agents(maxSockets: number): S3Agents {
  const options = { keepAlive: true, timeout: STORE_IDLE_TIMEOUT_MS, maxSockets, maxFreeSockets: maxSockets, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES }
  return { httpAgent: new LimitedHttpAgent(options), httpsAgent: new LimitedHttpsAgent(options) }
}
