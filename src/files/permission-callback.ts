/**
 * Asks another service whether a caller may read a file that the rules here refuse: POST with the form field `file_id` and the
 * caller's own credential. 204 is yes; every other answer, a redirect too, is no. Nothing is remembered. At most
 * PERMISSION_CALLS_MAX ask at once; the time of those who wait for that counts. Each has a connection of its own: one that is
 * kept may be closed by the other side just as it is used, which would look like a failure.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Socket } from 'node:net'
import { PenstockError } from '../errors.ts'
import { PERMISSION_CALLS_MAX, PERMISSION_CONNECT_TIMEOUT_MS, PERMISSION_TIMEOUT_MS } from '../limits.ts'

export interface PermissionCallback {
  /**
   * @param credential headers that the caller is known by
   * @throws PERMISSION_CALLBACK_TIMEOUT, PERMISSION_CALLBACK_FAILED; the signal's reason
   */
  allows(fileId: string, credential: Readonly<Record<string, string>>, signal: AbortSignal): Promise<boolean>
  close(): void
}

export interface PermissionTimeouts { connectMs: number, totalMs: number }

const TIMEOUTS: PermissionTimeouts = { connectMs: PERMISSION_CONNECT_TIMEOUT_MS, totalMs: PERMISSION_TIMEOUT_MS }

export function permissionCallback(address: string, { connectMs, totalMs }: PermissionTimeouts = TIMEOUTS): PermissionCallback {
  const url = new URL(address)
  const https = url.protocol === 'https:'
  const agent = new (https ? HttpsAgent : HttpAgent)({ keepAlive: false, maxSockets: PERMISSION_CALLS_MAX })
  const send = https ? httpsRequest : httpRequest

  async function statusOf(fileId: string, credential: Readonly<Record<string, string>>, signal: AbortSignal, timeout: (ms: number) => void): Promise<number> {
    const body = new URLSearchParams({ file_id: fileId }).toString()
    const headers = { ...credential, 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body), 'user-agent': 'penstock' }
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = send(url, { method: 'POST', agent, signal, headers })
      request.on('socket', socket => mindConnecting(socket, https, connectMs, () => timeout(connectMs)))
      request.on('response', resolve).on('error', reject).end(body)
    })
    // the status is all that counts
    answer.on('error', () => {}).destroy()
    return answer.statusCode ?? 0
  }

  return {
    async allows(fileId, credential, signal) {
      const over = new AbortController()
      const timeout = (ms: number): void => over.abort(new PenstockError('PERMISSION_CALLBACK_TIMEOUT', { cause: new Error(`no answer of ${url.origin} within ${ms} ms`) }))
      const timer = setTimeout(() => timeout(totalMs), totalMs)
      try {
        return await statusOf(fileId, credential, AbortSignal.any([signal, over.signal]), timeout) === 204
      } catch (cause) {
        signal.throwIfAborted()
        throw over.signal.aborted ? over.signal.reason : new PenstockError('PERMISSION_CALLBACK_FAILED', { cause })
      } finally {
        clearTimeout(timer)
      }
    },
    close: () => agent.destroy()
  }
}

/** Until it can be written to. */
function mindConnecting(socket: Socket, https: boolean, ms: number, onTimeout: () => void): void {
  const timer = setTimeout(onTimeout, ms)
  const done = (): void => clearTimeout(timer)
  socket.once(https ? 'secureConnect' : 'connect', done).once('close', done)
}
