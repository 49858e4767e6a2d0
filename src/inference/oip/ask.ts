/**
 * Requests to an inference server. Redirects are not followed, no proxy is used, and nothing is taken compressed. Connections
 * are kept for the next request of the same worker: one that the server has closed meanwhile costs a second request, which is
 * no harm, since a model that is asked twice answers twice.
 *
 * How long an answer may take is up to whoever asks (their signal); how long it takes to connect, and that an answer that was
 * begun goes on, is looked after here.
 */
import { Agent as AgentHttp, request as requestHttp, type IncomingMessage } from 'node:http'
import { Agent as AgentHttps, request as requestHttps } from 'node:https'
import { OIP_CONNECT_TIMEOUT_MS, OIP_KEEP_ALIVE_MS, OIP_STALL_TIMEOUT_MS } from '../../limits.ts'
import { InferenceFailed } from '../port.ts'
import { serverFailed } from './failures.ts'

/** It crosses to workers as a message. */
export interface ServerAddress {
  /** Scheme, host and port, and a path where the server has one: `/v2` comes behind it. */
  readonly url: string
  readonly token: string | null
}

export interface Ask {
  method: 'GET' | 'POST'
  path: string
  headers?: Record<string, string>
  /** Sent one behind the other, and not touched before the answer is there. */
  body?: readonly Uint8Array[]
  signal: AbortSignal
}

export interface Connection {
  /** Resolves with the answer, whatever its status. Whoever gets it reads it with readBody, or destroys it. @throws InferenceFailed node_failed */
  ask(what: Ask): Promise<IncomingMessage>
  close(): void
}

export function openConnection(address: ServerAddress): Connection {
  const agent = address.url.startsWith('https:') ? new AgentHttps({ keepAlive: true }) : new AgentHttp({ keepAlive: true })
  return {
    async ask(what) {
      const answer = await send(address, what, agent)
      return answer ?? await send(address, what, false) ?? await Promise.reject(serverFailed('broke off'))
    },
    close: () => agent.destroy()
  }
}

/** Undefined where a kept connection turns out to be closed. */
function send({ url, token }: ServerAddress, { method, path, headers, body = [], signal }: Ask, agent: AgentHttp | false): Promise<IncomingMessage | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage | undefined>()
  const target = new URL(`${url}${path}`)
  const secure = target.protocol === 'https:'
  const outgoing = (secure ? requestHttps : requestHttp)(target, {
    method, agent, signal,
    headers: { 'accept-encoding': 'identity', ...headers, ...(token !== null && { authorization: `Bearer ${token}` }) }
  })
  outgoing.once('socket', socket => {
    // one whose machine is gone is noticed, however long a model takes
    socket.setKeepAlive(true, OIP_KEEP_ALIVE_MS)
    if (outgoing.reusedSocket) return
    const late = setTimeout(() => outgoing.destroy(serverFailed('cannot be reached in time')), OIP_CONNECT_TIMEOUT_MS)
    for (const event of [secure ? 'secureConnect' : 'connect', 'close']) socket.once(event, () => clearTimeout(late))
  })
  // one that comes later is that of the answer too
  outgoing.on('error', error => {
    if (outgoing.reusedSocket && isClosed(error)) resolve(undefined)
    else reject(askError(error))
  })
  outgoing.once('response', response => {
    response.on('error', () => {})
    resolve(response)
  })
  for (const piece of body) outgoing.write(piece)
  outgoing.end()
  return promise
}

function isClosed(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ECONNRESET' || error.code === 'EPIPE'
}

const UNREACHABLE = ['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'ETIMEDOUT']

function askError(error: NodeJS.ErrnoException): InferenceFailed {
  return error instanceof InferenceFailed ? error : serverFailed(UNREACHABLE.includes(error.code ?? '') ? 'cannot be reached' : 'broke off', { cause: error })
}

export interface ReadOptions {
  maxBytes: number
  /** How far into their memory the bytes begin. */
  offset?: number
  /** Where they lie; fresh without it. */
  memory?(bytes: number): ArrayBuffer
}

/** The whole of an answer. @throws InferenceFailed node_failed */
export async function readBody(response: IncomingMessage, { maxBytes, offset = 0, memory = bytes => new ArrayBuffer(bytes) }: ReadOptions): Promise<Buffer> {
  const stall = setTimeout(() => response.destroy(serverFailed('stopped in the middle of its answer')), OIP_STALL_TIMEOUT_MS)
  try {
    const { 'content-encoding': coding, 'content-length': announced } = response.headers
    if (coding !== undefined && coding !== 'identity') throw serverFailed('sends its answer compressed')
    const size = announced === undefined ? undefined : Number(announced)
    if (size !== undefined && size > maxBytes) throw tooLong(maxBytes)
    const room = (bytes: number): Buffer => Buffer.from(memory(offset + bytes), offset, bytes)
    return size === undefined ? await readUnknown(response, maxBytes, stall, room) : await readInto(response, room(size), stall)
  } catch (error) {
    throw error instanceof RangeError ? error : askError(error as Error)
  } finally {
    clearTimeout(stall)
    if (!response.complete) response.destroy()
  }
}

/** Node ends an answer that is not as long as it has said. */
async function readInto(response: IncomingMessage, target: Buffer, stall: NodeJS.Timeout): Promise<Buffer> {
  let filled = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    stall.refresh()
    filled += chunk.copy(target, filled)
  }
  if (filled < target.length) throw serverFailed('gave a shorter answer than it said')
  return target
}

async function readUnknown(response: IncomingMessage, maxBytes: number, stall: NodeJS.Timeout, room: (bytes: number) => Buffer): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    stall.refresh()
    bytes += chunk.length
    if (bytes > maxBytes) throw tooLong(maxBytes)
    chunks.push(chunk)
  }
  const target = room(bytes)
  let filled = 0
  for (const chunk of chunks) filled += chunk.copy(target, filled)
  return target
}

/** It would be so again. */
function tooLong(maxBytes: number): InferenceFailed {
  return serverFailed(`gave an answer of more than ${maxBytes} bytes`, { retryable: false })
}
