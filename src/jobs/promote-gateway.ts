/**
 * The file gateway: takes an object from the store with one PUT of its exact length.
 *
 *   token ─▶ open the object ─▶ PUT, with the pace of the gateway ─▶ 2xx and every byte on its way: done
 *     ▲                                                          └─▶ 401: once more, with another token and the object reopened
 *     └──────────────────────────────────────────────────────────────┘
 *
 * A large body waits for the gateway's word that it wants it (`Expect: 100-continue`; RFC 9110, section 10.1.1), for a moment: most
 * of what is refused is refused before a byte of it is read, and by a server that closes at once after its answer too. Each PUT has a
 * connection of its own: a body that streams cannot be sent again when one that was kept closes just then.
 */
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { PenstockError } from '../errors.ts'
import { AUTH_RETRY_AFTER_SECONDS, CHECK_TIMEOUT_MS, GATEWAY_EXPECT_MIN_BYTES, GATEWAY_EXPECT_TIMEOUT_MS, STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { BucketNotFound, ObjectStoreFailed, type ObjectStore, type OpenObject } from '../objects/port.ts'
import { SendBody } from '../objects/s3-body.ts'
import type { ServiceTokens } from './promote-token.ts'

/** What is sent: an object of the store, as the records have it. */
export interface SentObject { key: string, size: number, sha256: string, contentType: string }

export interface FileGateway {
  /** @throws AUTH_SERVICE_UNAVAILABLE, S3_GET_FAILED, FILE_GATEWAY_UNAVAILABLE; BucketNotFound */
  put(target: string, object: SentObject, signal: AbortSignal): Promise<void>
  /** Is it there? Any answer but one of its own faults says so. Sends no token. */
  check(): Promise<void>
}

export interface FileGatewayOptions { baseUrl: string, tokens: ServiceTokens, store: Pick<ObjectStore, 'open'> }

/** How often a PUT that was answered with 401 is tried. */
const TOKENS_MAX = 2
/** RFC 9110, section 15.5.18: the server, or a proxy in front of it, knows no 100-continue. */
const EXPECTATION_FAILED = 417

export function fileGateway({ baseUrl, tokens, store }: FileGatewayOptions): FileGateway {
  const send = sender(baseUrl)

  async function putOnce(target: string, object: SentObject, token: string, expect: boolean, signal: AbortSignal): Promise<number> {
    const source = await open(store, object, signal)
    try {
      return await transfer(source, send(`${baseUrl}/files/${target}`, { method: 'PUT', signal, headers: headersOf(object, token, expect) }), expect)
    } finally {
      source.body.destroy()
    }
  }

  return {
    async put(target, object, signal) {
      for (let attempt = 1; attempt <= TOKENS_MAX; attempt++) {
        const token = await tokens.get(signal)
        const expect = object.size >= GATEWAY_EXPECT_MIN_BYTES
        const first = await translated(() => putOnce(target, object, token, expect, signal))
        const status = first === EXPECTATION_FAILED && expect ? await translated(() => putOnce(target, object, token, false, signal)) : first
        if (isSuccess(status)) return
        if (status !== 401) throw unavailable(new Error(`the file gateway answered ${status}`))
        tokens.drop(token)
      }
      throw new PenstockError('AUTH_SERVICE_UNAVAILABLE', { retryAfterSeconds: AUTH_RETRY_AFTER_SECONDS, cause: new Error('the file gateway refused two tokens, one after the other') })
    },
    async check() {
      const request = send(baseUrl, { method: 'HEAD', signal: AbortSignal.timeout(CHECK_TIMEOUT_MS), headers: { 'user-agent': 'penstock' } })
      const status = await new Promise<number>((resolve, reject) => {
        request.on('response', answer => resolve(statusOf(answer))).on('error', reject).end()
      }).finally(() => request.destroy())
      if (status >= 500) throw new Error(`the file gateway answered ${status}`)
    }
  }
}

type Send = (url: string, options: { method: string, headers: Record<string, string | number>, signal?: AbortSignal }) => ClientRequest

function sender(baseUrl: string): Send {
  const https = baseUrl.startsWith('https:')
  const options = { keepAlive: false, writableHighWaterMark: STREAM_HIGH_WATER_MARK_BYTES }
  const agent = https ? new HttpsAgent(options) : new HttpAgent(options)
  return (url, init) => (https ? httpsRequest : httpRequest)(url, { ...init, agent })
}

function headersOf({ size, sha256, contentType }: SentObject, token: string, expect: boolean): Record<string, string | number> {
  return {
    authorization: `Bearer ${token}`,
    'content-length': size,
    'content-type': /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(;[\x20-\x7e]{1,127})?$/.test(contentType) ? contentType : 'application/octet-stream',
    'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`,
    'user-agent': 'penstock',
    ...(expect && { expect: '100-continue' })
  }
}

/** @throws S3_GET_FAILED, BucketNotFound */
async function open(store: Pick<ObjectStore, 'open'>, { key, size }: SentObject, signal: AbortSignal): Promise<OpenObject> {
  const object = await store.open(key, { signal })
  if (object.size === size) return object
  object.body.destroy()
  throw new ObjectStoreFailed(`${key} has ${object.size} bytes, and ${size} in the records`)
}

/** The status of the answer. One that says yes before it has every byte is waited with until it has. */
async function transfer({ body, size, disposable = false }: OpenObject, request: ClientRequest, expect: boolean): Promise<number> {
  const sending = new SendBody(body, { size, disposable }, { onInvalid: error => request.destroy(error), onSent() {} })
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<number>((resolve, reject) => {
      const begin = once(() => sending.pipe(request))
      request.on('response', answer => {
        const status = statusOf(answer)
        if (!isSuccess(status) || request.writableFinished) return void resolve(status)
        begin()
        request.once('finish', () => resolve(status))
      })
      request.on('error', reject).once('close', () => reject(new Error('the file gateway closed the connection')))
      if (!expect) return void begin()
      request.once('continue', begin).flushHeaders()
      timer = setTimeout(begin, GATEWAY_EXPECT_TIMEOUT_MS)
    })
  } finally {
    clearTimeout(timer)
    sending.release()
    request.on('error', () => {}).destroy()
  }
}

/** The status is all that counts; its body, which may never end, goes with the connection. */
function statusOf(answer: IncomingMessage): number {
  answer.on('error', () => {})
  return answer.statusCode ?? 0
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300
}

function once(work: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    work()
  }
}

/** What of a PUT was the store's fault, and what the gateway's. */
async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof BucketNotFound) throw error
    throw error instanceof ObjectStoreFailed ? new PenstockError('S3_GET_FAILED', { cause: error }) : unavailable(error)
  }
}

function unavailable(cause: unknown): PenstockError {
  return new PenstockError('FILE_GATEWAY_UNAVAILABLE', { cause })
}
