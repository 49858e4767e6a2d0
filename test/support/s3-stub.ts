/**
 * A scriptable S3 server: a minimal S3 in memory (s3-operations.ts) on a real socket, which can be told to misbehave.
 *
 *   const stub = await startS3Stub()
 *   const undo = stub.fault({ operation: 'PutObject', nth: 2 }, { kind: 'cut', afterBytes: 1000 })
 *
 * The first fault that matches a request applies to it. Every request is kept in `requests`, with the bytes that came in
 * and went out, so that a test can say that no object bytes passed.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { errorXml, operationOf, perform, StubError, type Operation, type StubAnswer, type StubObject, type StubState, type StubUpload } from './s3-operations.ts'

export interface SeenRequest {
  operation: Operation
  method: string
  key: string
  query: URLSearchParams
  headers: IncomingHttpHeaders
  /** bytes of the request's body that were read */
  received: number
  /** bytes of the answer's body that were written */
  sent: number
}

export interface FaultMatch {
  operation?: Operation | readonly Operation[]
  key?: string | RegExp
  /** only requests that have this header (lower case) */
  header?: string
  /** only the n-th request, from 1, that matches the rest; default: every one */
  nth?: number
  /** sees all requests before this one */
  when?: (request: SeenRequest, before: readonly SeenRequest[]) => boolean
}

export type Fault =
  /** Waits before it does anything. */
  | { kind: 'delay', ms: number }
  /** Runs something before the operation is done, after the body was read. */
  | { kind: 'before', run: () => void | Promise<void> }
  /** Stops reading the body. */
  | { kind: 'stall-body', afterBytes: number }
  /** Reads everything, does what was asked unless `act` is false, and never answers. */
  | { kind: 'stall-answer', act?: boolean }
  /** Answers with an error; with `afterBytes` in the middle of the body, `afterMs` later. */
  | { kind: 'answer', status: number, code: string, afterBytes?: number, afterMs?: number }
  /** Destroys the socket in the middle of the request's body. */
  | { kind: 'cut', afterBytes: number }
  /** Does what was asked and destroys the socket in place of answering. */
  | { kind: 'cut-answer' }
  /** Destroys the socket in the middle of the answer's body. */
  | { kind: 'cut-download', afterBytes: number }
  /** Stops in the middle of the answer's body. */
  | { kind: 'stall-download', afterBytes: number }
  /** Takes these headers and ignores them. */
  | { kind: 'ignore-headers', names: readonly string[] }
  /** Answers 200 with an error in the body, and does nothing. */
  | { kind: 'error-in-200', code: string }
  /** Leaves the ETag out of the answer. */
  | { kind: 'no-etag' }
  /** Leaves out when the object was last written. */
  | { kind: 'no-last-modified' }

export interface S3Stub {
  readonly endpoint: string
  readonly bucket: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly objects: Map<string, StubObject>
  readonly uploads: Map<string, StubUpload>
  readonly requests: SeenRequest[]
  /** Misbehaves from now on. Returns what ends it. */
  fault(match: FaultMatch, behaviour: Fault): () => void
  /** Resolves when a request that matches has arrived (its body may still be coming). */
  seen(match: FaultMatch): Promise<SeenRequest>
  /** Open connections. Reads on where it had stopped, because only who reads sees that the other side has gone. */
  connections(): Promise<number>
  close(): Promise<void>
}

export interface S3StubOptions {
  /** default 5 MiB, as everywhere */
  partMinBytes?: number
  /** default: it is there */
  bucketExists?: boolean
  /** default: a free one */
  port?: number
}

interface Rule { match: FaultMatch, fault: Fault, count: number }

export async function startS3Stub({ partMinBytes = 5 * 1024 * 1024, bucketExists = true, port = 0 }: S3StubOptions = {}): Promise<S3Stub> {
  const state: StubState = { bucket: 'bucket', bucketExists, partMinBytes, objects: new Map(), uploads: new Map() }
  const requests: SeenRequest[] = []
  const rules = new Set<Rule>()
  const watchers = new Set<() => void>()
  const stopped = new Set<IncomingMessage>()
  const server = createServer((message, response) => {
    const request = describe(message)
    const fault = faultFor(rules, request, requests)
    requests.push(request)
    for (const watch of watchers) watch()
    message.once('close', () => stopped.delete(message))
    if (fault !== undefined && 'afterBytes' in fault) stopped.add(message)
    serve(state, request, message, response, fault).catch(() => message.destroy())
  })
  server.requestTimeout = 0
  await new Promise<void>(done => server.listen(port, '127.0.0.1', done))
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bucket: state.bucket, accessKeyId: 'stub-access-key', secretAccessKey: 'stub-secret-key',
    objects: state.objects, uploads: state.uploads, requests,
    fault(match, behaviour) {
      const rule = { match, fault: behaviour, count: 0 }
      rules.add(rule)
      return () => { rules.delete(rule) }
    },
    seen: match => new Promise(done => {
      const watch = (): void => {
        const found = requests.find((request, index) => matches(match, request, requests.slice(0, index)))
        if (found === undefined) return
        watchers.delete(watch)
        done(found)
      }
      watchers.add(watch)
      watch()
    }),
    connections() {
      for (const message of stopped) message.resume()
      return new Promise((done, fail) => server.getConnections((error, count) => error ? fail(error) : done(count)))
    },
    close: () => new Promise(done => {
      server.close(() => done())
      server.closeAllConnections()
    })
  }
}

function describe(message: IncomingMessage): SeenRequest {
  const url = new URL(message.url ?? '/', 'http://stub')
  const [, , ...segments] = url.pathname.split('/')
  const key = segments.map(decodeURIComponent).join('/')
  const method = message.method ?? ''
  return { operation: operationOf(method, key, url.searchParams, message.headers), method, key, query: url.searchParams, headers: message.headers, received: 0, sent: 0 }
}

function faultFor(rules: ReadonlySet<Rule>, request: SeenRequest, before: readonly SeenRequest[]): Fault | undefined {
  for (const rule of rules) {
    if (!matches(rule.match, request, before)) continue
    rule.count++
    if (rule.match.nth === undefined || rule.match.nth === rule.count) return rule.fault
  }
  return undefined
}

function matches({ operation, key, header, when }: FaultMatch, request: SeenRequest, before: readonly SeenRequest[]): boolean {
  if (operation !== undefined && ![operation].flat().includes(request.operation)) return false
  if (typeof key === 'string' ? key !== request.key : key !== undefined && !key.test(request.key)) return false
  if (header !== undefined && !(header in request.headers)) return false
  return when === undefined || when(request, before)
}

async function serve(state: StubState, request: SeenRequest, message: IncomingMessage, response: ServerResponse, fault: Fault | undefined): Promise<void> {
  if (fault?.kind === 'delay') await delay(fault.ms)
  const body = await readBody(request, message, fault)
  if (body === 'cut') return void message.destroy()
  if (body === 'stalled') return
  if (fault?.kind === 'answer' && fault.afterMs !== undefined) await delay(fault.afterMs)
  if (fault?.kind === 'answer') return answer(request, response, { status: fault.status, body: errorXml(fault.code) }, fault)
  if (fault?.kind === 'error-in-200') return answer(request, response, { status: 200, body: errorXml(fault.code) }, fault)
  if (fault?.kind === 'before') await fault.run()
  if (fault?.kind === 'stall-answer' && fault.act === false) return
  answer(request, response, act(state, request, body, fault), fault)
}

function act(state: StubState, request: SeenRequest, body: Buffer, fault: Fault | undefined): StubAnswer {
  const headers = { ...request.headers }
  if (fault?.kind === 'ignore-headers') for (const name of fault.names) delete headers[name]
  try {
    return perform(state, { ...request, headers, body })
  } catch (error) {
    if (!(error instanceof StubError)) throw error
    return { status: error.status, headers: { 'content-type': 'application/xml' }, body: errorXml(error.code) }
  }
}

/** Reads as far as the fault lets it. An early answer leaves the rest of the body unread. */
async function readBody(request: SeenRequest, message: IncomingMessage, fault: Fault | undefined): Promise<Buffer | 'cut' | 'stalled'> {
  const stopAt = fault !== undefined && 'afterBytes' in fault && !fault.kind.endsWith('download') ? fault.afterBytes ?? Infinity : Infinity
  const chunks: Buffer[] = []
  if (stopAt > 0) {
    for await (const chunk of message.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk as Buffer)
      request.received += (chunk as Buffer).length
      if (request.received >= stopAt) break
    }
  }
  if (fault?.kind === 'cut') return 'cut'
  if (fault?.kind === 'stall-body') return 'stalled'
  return Buffer.concat(chunks)
}

function answer(request: SeenRequest, response: ServerResponse, { status, headers = {}, body = '' }: StubAnswer, fault: Fault | undefined): void {
  if (fault?.kind === 'stall-answer') return
  if (fault?.kind === 'cut-answer') return void response.destroy()
  const bytes = Buffer.from(body)
  const left = leftOut(fault)
  const kept = left === undefined ? bytes : without(bytes, left.element)
  if (left !== undefined) delete headers[left.header]
  response.writeHead(status, { 'content-length': String(kept.length), ...headers, 'x-amz-request-id': 'stub' })
  if (request.method === 'HEAD') return void response.end()
  if (fault?.kind !== 'cut-download' && fault?.kind !== 'stall-download') {
    request.sent = kept.length
    return void response.end(kept)
  }
  request.sent = Math.min(fault.afterBytes, kept.length)
  response.write(kept.subarray(0, fault.afterBytes), () => { if (fault.kind === 'cut-download') response.destroy() })
}

function leftOut(fault: Fault | undefined): { header: string, element: RegExp } | undefined {
  if (fault?.kind === 'no-etag') return { header: 'etag', element: /<ETag>.*?<\/ETag>/ }
  return fault?.kind === 'no-last-modified' ? { header: 'last-modified', element: /<LastModified>.*?<\/LastModified>/ } : undefined
}

function without(body: Buffer, element: RegExp): Buffer {
  return Buffer.from(body.toString('latin1').replace(element, ''), 'latin1')
}
