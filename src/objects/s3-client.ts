/**
 * The client, and the one way in which requests are made with it.
 *
 * Checksums only where the protocol requires them: the default would turn a streamed body into aws-chunked without a
 * Content-Length, which several servers refuse or store as it is. No `Expect: 100-continue`, which costs a connection
 * each time and six seconds where a server never answers it. A streamed body is never sent twice; everything else is
 * tried STORE_ATTEMPTS_MAX times within one time limit. No body is hashed for the signature: the SDK leaves that out of
 * streams by itself, and those in memory have been hashed on their way in, which cost as much as sending them.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { S3Client } from '@aws-sdk/client-s3'
import { NodeHttpHandler } from '@smithy/node-http-handler'
import { Readable } from 'node:stream'
import {
  SINGLE_PUT_MAX_BYTES, STORE_ANSWER_TIMEOUT_MS, STORE_ATTEMPTS_MAX, STORE_CONFLICT_ATTEMPTS_MAX, STORE_COPY_TIMEOUT_MS,
  STORE_REQUEST_TIMEOUT_MS, STORE_STALL_TIMEOUT_MS
} from '../limits.ts'
import { Deadline } from './deadline.ts'
import { cancelled } from './exact-body.ts'
import { ObjectBodyInvalid, type ObjectStoreFailed } from './port.ts'
import { s3Agents, type S3Agents } from './s3-agents.ts'
import { SendBody } from './s3-body.ts'
import { answered, translateS3 } from './s3-errors.ts'

export interface S3Options {
  /** Unset: AWS. */
  endpoint?: string | undefined
  region: string
  bucket: string
  accessKeyId: string
  secretAccessKey: string
  /** Bucket in the path, not in the host name. */
  forcePathStyle: boolean
  /** Connections at most. Each running put or open needs one: more than the uploads and downloads at once. */
  maxSockets: number
  /** As clients reach the server by themselves; unset: they do not. */
  publicEndpoint?: string | undefined
  /** Bytes that the server copies in one request; default SINGLE_PUT_MAX_BYTES. */
  copyMaxBytes?: number
  /** Default: those of limits.ts. */
  timeouts?: Partial<S3Timeouts>
}

export interface S3Timeouts {
  /** a request without a body */
  requestMs: number
  /** the answer to a body that was sent whole */
  answerMs: number
  /** a server-side copy */
  copyMs: number
  /** a download that brings nothing */
  stallMs: number
}

const TIMEOUTS: S3Timeouts = {
  requestMs: STORE_REQUEST_TIMEOUT_MS, answerMs: STORE_ANSWER_TIMEOUT_MS, copyMs: STORE_COPY_TIMEOUT_MS, stallMs: STORE_STALL_TIMEOUT_MS
}
const CONFLICT_DELAY_MS = 25
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

export interface S3Calls {
  readonly client: S3Client
  readonly bucket: string
  readonly copyMaxBytes: number
  readonly timeouts: S3Timeouts
  /** One request without a streamed body. */
  call<T>(action: string, timeoutMs: number, signal: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** One request that carries the body. The time limit counts from when the body was sent whole. */
  send<T>(action: string, body: Readable | Uint8Array, options: { size: number, disposable?: boolean, signal?: AbortSignal }, run: (body: Readable | Uint8Array, signal: AbortSignal) => Promise<T>): Promise<T>
  translate(action: string, error: unknown, limit: Deadline, caller: AbortSignal | undefined): ObjectStoreFailed
  close(): void
}

export function s3Calls(options: S3Options): S3Calls {
  const agents = s3Agents(options.maxSockets)
  const client = s3Client(options, agents)
  const timeouts = { ...TIMEOUTS, ...options.timeouts }
  const secrets = [options.secretAccessKey, options.accessKeyId]

  function translate(action: string, error: unknown, limit: Deadline, caller: AbortSignal | undefined): ObjectStoreFailed {
    if (caller?.aborted) return cancelled(caller)
    return translateS3(action, limit.signal.aborted ? limit.signal.reason : error, secrets)
  }

  async function call<T>(action: string, timeoutMs: number, signal: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const limit = new Deadline(signal, timeoutMs)
    try {
      return await run(limit.signal)
    } catch (error) {
      throw translate(action, error, limit, signal)
    } finally {
      limit.release()
    }
  }

  async function send<T>(action: string, body: Readable | Uint8Array, sendOptions: { size: number, disposable?: boolean, signal?: AbortSignal }, run: (body: Readable | Uint8Array, signal: AbortSignal) => Promise<T>): Promise<T> {
    const { size, signal } = sendOptions
    if (!(body instanceof Readable)) {
      if (body.length !== size) throw new ObjectBodyInvalid(`the body has ${body.length} bytes, not ${size}`)
      return await call(action, timeouts.answerMs, signal, limited => run(body, limited))
    }
    const limit = new Deadline(signal)
    const sending = new SendBody(body, sendOptions, {
      onInvalid: error => limit.abort(error),
      onSent: () => limit.restart(timeouts.answerMs)
    })
    try {
      return await run(sending, limit.signal)
    } catch (error) {
      const failure = translate(action, error, limit, signal)
      limit.abort(failure) // an early answer leaves a request that still waits for its body
      throw failure
    } finally {
      sending.release()
      limit.release()
    }
  }

  return {
    client, bucket: options.bucket, copyMaxBytes: options.copyMaxBytes ?? SINGLE_PUT_MAX_BYTES, timeouts, call, send, translate,
    close() {
      client.destroy()
      agents.httpAgent.destroy()
      agents.httpsAgent.destroy()
    }
  }
}

/** Tries again while another conditional write of the same key is under way. */
export async function retryConflicts<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run()
    } catch (error) {
      if (attempt === STORE_CONFLICT_ATTEMPTS_MAX || !answered(error, 'ConditionalRequestConflict')) throw error
      await delay(CONFLICT_DELAY_MS * attempt * (0.5 + Math.random()))
    }
  }
}

/** @param agents undefined: nothing will be sent */
export function s3Client(options: S3Options, agents?: S3Agents): S3Client {
  const client = new S3Client({
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    region: options.region,
    forcePathStyle: options.forcePathStyle,
    credentials: { accessKeyId: options.accessKeyId, secretAccessKey: options.secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    maxAttempts: STORE_ATTEMPTS_MAX,
    // without a logger of its own the handler writes to the console
    requestHandler: new NodeHttpHandler({ ...agents, logger: SILENT }),
    logger: SILENT
  })
  client.middlewareStack.add(next => async args => {
    const request = args.request as { body?: unknown, headers: Record<string, string> }
    if (request.body instanceof Uint8Array) request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD'
    return await next(args)
  }, { step: 'build', name: 'leavePayloadUnsigned' })
  return client
}
