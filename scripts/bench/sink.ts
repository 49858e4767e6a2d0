/**
 * A null S3 server: takes objects, throws the bytes away, and remembers key, size and ETag. It answers as much as the
 * service asks of a store on the way of an upload (bucket, put with `If-None-Match: *`, head, copy, delete, list), so
 * that what is measured is the service and not a disk. Bodies up to KEPT_BYTES are kept: the start-up probe reads its own.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ready } from './processes.ts'

const KEPT_BYTES = 4096
const HIGH_WATER_MARK_BYTES = 256 * 1024
/** Longer than a round: a connection that closes just when it is used again is another test. */
const KEEP_ALIVE_MS = 120_000

interface Stored { readonly size: number, readonly etag: string, readonly body: Buffer | undefined }

const objects = new Map<string, Stored>()
let versions = 0

function answer(response: ServerResponse, status: number, headers: Record<string, string | number> = {}, body = ''): void {
  response.writeHead(status, { 'content-length': Buffer.byteLength(body), ...headers }).end(body)
}

function refuse(response: ServerResponse, status: number, code: string): void {
  answer(response, status, { 'content-type': 'application/xml' }, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`)
}

const nextETag = () => `"${(versions += 1).toString(16).padStart(32, '0')}"`

/** Reads the body to its end. Resolves with its size, and the bytes where they are few. */
function drain(request: IncomingMessage): Promise<{ size: number, body: Buffer | undefined }> {
  return new Promise((resolve, reject) => {
    let size = 0
    const kept: Buffer[] = []
    request.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= KEPT_BYTES) kept.push(chunk)
    })
    request.once('end', () => resolve({ size, body: size <= KEPT_BYTES ? Buffer.concat(kept) : undefined }))
    request.once('error', reject)
    request.once('close', () => reject(new Error('the client went away')))
  })
}

async function put(key: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const source = request.headers['x-amz-copy-source']
  if (typeof source === 'string') return copy(key, decodeURIComponent(source).replace(/^\/?/, '/'), request, response)
  if (request.headers['content-length'] === undefined) return refuse(response, 411, 'MissingContentLength')
  const { size, body } = await drain(request)
  if (request.headers['if-none-match'] === '*' && objects.has(key)) return refuse(response, 412, 'PreconditionFailed')
  const etag = nextETag()
  objects.set(key, { size, etag, body })
  answer(response, 200, { etag })
}

function copy(key: string, sourceKey: string, request: IncomingMessage, response: ServerResponse): void {
  const source = objects.get(sourceKey)
  if (source === undefined) return refuse(response, 404, 'NoSuchKey')
  const expected = request.headers['x-amz-copy-source-if-match']
  const wrong = typeof expected === 'string' && expected.replaceAll('"', '') !== source.etag.replaceAll('"', '')
  if (wrong || (request.headers['if-none-match'] === '*' && objects.has(key))) return refuse(response, 412, 'PreconditionFailed')
  const stored = { ...source, etag: nextETag() }
  objects.set(key, stored)
  answer(response, 200, { 'content-type': 'application/xml' }, `<?xml version="1.0" encoding="UTF-8"?><CopyObjectResult><LastModified>${new Date().toISOString()}</LastModified><ETag>${stored.etag}</ETag></CopyObjectResult>`)
}

function get(key: string, request: IncomingMessage, response: ServerResponse): void {
  const stored = objects.get(key)
  if (stored === undefined) return request.method === 'HEAD' ? answer(response, 404) : refuse(response, 404, 'NoSuchKey')
  const headers = { etag: stored.etag, 'last-modified': new Date().toUTCString(), 'content-length': stored.size }
  if (request.method === 'HEAD') return void response.writeHead(200, headers).end()
  if (stored.body === undefined) return refuse(response, 501, 'NotImplemented')
  response.writeHead(200, headers).end(stored.body)
}

/** The first thousand is enough for a store that is thrown away. */
function list(bucket: string, prefix: string, response: ServerResponse): void {
  const found = [...objects].filter(([key]) => key.startsWith(`${bucket}/${prefix}`)).slice(0, 1000)
  const contents = found.map(([key, { size, etag }]) => `<Contents><Key>${key.slice(bucket.length + 1)}</Key><LastModified>${new Date().toISOString()}</LastModified><ETag>${etag}</ETag><Size>${size}</Size></Contents>`)
  answer(response, 200, { 'content-type': 'application/xml' }, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><IsTruncated>false</IsTruncated>${contents.join('')}</ListBucketResult>`)
}

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://sink')
  const path = decodeURIComponent(url.pathname)
  const isBucket = /^\/[^/]*\/?$/.test(path)
  if (url.searchParams.has('uploads') || url.searchParams.has('uploadId')) return refuse(response, 501, 'NotImplemented')
  if (isBucket) return request.method === 'GET' ? list(path.replace(/\/$/, ''), url.searchParams.get('prefix') ?? '', response) : answer(response, 200)
  if (request.method === 'PUT') return put(path, request, response)
  if (request.method === 'DELETE') {
    objects.delete(path)
    return answer(response, 204)
  }
  get(path, request, response)
}

const server = createServer({ highWaterMark: HIGH_WATER_MARK_BYTES, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
  handle(request, response).catch(() => response.destroy())
})
server.listen(0, '127.0.0.1', () => ready({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }))
