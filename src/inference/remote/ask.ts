/**
 * Requests to a GPU node. Redirects are not followed, no proxy is used, and each request has a connection of its own: none that
 * the node is about to close is used again, and what ends a request ends its connection, which is how the node learns of it.
 */
import { request as requestHttp, type ClientRequest, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import { pipeline, type Readable } from 'node:stream'
import { NODE_ANSWER_MAX_BYTES, NODE_CANCEL_TIMEOUT_MS, NODE_HEALTH_TIMEOUT_MS, NODE_KEEP_ALIVE_MS, NODE_STALL_TIMEOUT_MS } from '../../limits.ts'
import { giveBackClaimed } from '../../objects/give-back.ts'
import { ObjectStoreFailed } from '../../objects/port.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed } from '../port.ts'
import { nodeFailed } from './lines.ts'

export interface NodeAddress {
  /** scheme, host and port */
  readonly url: string
  readonly token: string | undefined
}

export interface Ask {
  method: 'GET' | 'POST'
  path: string
  headers?: Record<string, string>
  body?: Readable | Buffer
  signal: AbortSignal
}

/**
 * Resolves with the answer, whatever its status, as soon as its headers are there; the body goes on being sent behind it. Whoever
 * gets it reads it to its end or destroys it. @throws InferenceFailed node_failed, or what the body throws
 */
export function ask({ url, token }: NodeAddress, { method, path, headers = {}, body, signal }: Ask): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const fail = (error: unknown): void => reject(askError(error))
  const target = new URL(path, url)
  const outgoing = (target.protocol === 'https:' ? requestHttps : requestHttp)(target, {
    method, agent: false, signal,
    headers: { ...headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) }
  })
  outgoing.setTimeout(NODE_STALL_TIMEOUT_MS, () => outgoing.destroy(nodeFailed('does not answer')))
  outgoing.once('socket', socket => socket.setKeepAlive(true, NODE_KEEP_ALIVE_MS))
  // one that comes later is that of the answer too
  outgoing.on('error', fail)
  outgoing.once('response', response => {
    response.on('error', () => {})
    resolve(response)
  })
  if (body === undefined || Buffer.isBuffer(body)) outgoing.end(body)
  else pipeline(body, givingBack(outgoing), error => { if (error) fail(error) })
  return promise
}

/** What of its body is claimed goes as soon as the socket has taken it. */
function givingBack(outgoing: ClientRequest): ClientRequest {
  const write = outgoing.write.bind(outgoing) as (chunk: Uint8Array, done: () => void) => boolean
  outgoing.write = ((chunk: Uint8Array) => write(chunk, () => giveBackClaimed(chunk.buffer))) as typeof outgoing.write
  return outgoing
}

/** What a request failed of: our own bucket, our own wish, or else the node. */
function askError(error: unknown): unknown {
  if (error instanceof InferenceFailed || error instanceof ObjectStoreFailed) return error
  const { code } = error as NodeJS.ErrnoException
  return nodeFailed(code === 'ECONNREFUSED' || code === 'ENOTFOUND' || code === 'EHOSTUNREACH' ? 'cannot be reached' : 'broke off', { cause: error })
}

/** The whole of a small answer. @throws InferenceFailed node_failed */
export async function readAnswer(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > NODE_ANSWER_MAX_BYTES) throw nodeFailed('gave an answer that is too long')
      chunks.push(chunk)
    }
    return Buffer.concat(chunks).toString()
  } catch (error) {
    throw askError(error)
  } finally {
    response.destroy()
  }
}

export interface NodeHealth { device: string | null }

/** @throws InferenceFailed node_failed where it is not there, not well, or has no model */
export async function askHealth(node: NodeAddress, signal?: AbortSignal): Promise<NodeHealth> {
  const late = AbortSignal.timeout(NODE_HEALTH_TIMEOUT_MS)
  try {
    const response = await ask(node, { method: 'GET', path: '/health', signal: signal === undefined ? late : AbortSignal.any([signal, late]) })
    const status = response.statusCode ?? 0
    const text = await readAnswer(response)
    if (status < 200 || status > 299) throw nodeFailed(`is not well: it answers ${status}`)
    const { device, model_loaded: loaded } = parse(text)
    if (loaded !== true) throw nodeFailed('has no model loaded')
    return { device: typeof device === 'string' ? plainReason(device) : null }
  } catch (error) {
    throw late.aborted ? nodeFailed('does not answer', { cause: error }) : error
  }
}

function parse(text: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>
  } catch (cause) {
    throw nodeFailed('does not say how it is', { cause })
  }
}

/** Tells the node that a job is not wanted any more; what it says to that is no matter. Never rejects. */
export async function tellToCancel(node: NodeAddress, jobId: string): Promise<void> {
  const body = Buffer.from(JSON.stringify({ jobId }))
  const headers = { 'content-type': 'application/json', 'content-length': String(body.length) }
  await ask(node, { method: 'POST', path: '/cancel', headers, body, signal: AbortSignal.timeout(NODE_CANCEL_TIMEOUT_MS) }).then(readAnswer).catch(() => {})
}

/** Why a node refuses, from its answer. */
export async function refusal(response: IncomingMessage): Promise<InferenceFailed> {
  const status = response.statusCode ?? 0
  if (status >= 300 && status <= 399) {
    response.destroy()
    return nodeFailed('sends us elsewhere, which is not followed')
  }
  const { code, message } = errorIn(await readAnswer(response).catch(() => ''))
  const said = message === undefined ? '' : `: ${plainReason(message)}`
  switch (status) {
    case 400: return new InferenceFailed('invalid_input', `the GPU node refused the job${said}`)
    case 401:
    case 403: return nodeFailed('does not take our token')
    case 404: return code === 'model_not_found' ? new InferenceFailed('invalid_model', 'the GPU node does not have this model') : nodeFailed('takes no jobs')
    case 409: return code === 'model_version_exists' ? new InferenceFailed('invalid_model', 'the GPU node has other bytes for this version of the model') : nodeFailed('has a job with this id')
    case 413: return new InferenceFailed('invalid_input', 'the input is larger than the GPU node takes')
    case 503: return nodeFailed(code === 'model_not_loaded' ? 'has no model loaded' : 'is busy')
    default: return nodeFailed(`answered ${status}`)
  }
}

function errorIn(text: string): { code?: string, message?: string } {
  try {
    const { error } = Object(JSON.parse(text)) as { error?: unknown }
    const { code, message } = Object(error) as { code?: unknown, message?: unknown }
    return { ...(typeof code === 'string' && { code }), ...(typeof message === 'string' && { message }) }
  } catch {
    return {}
  }
}
