/**
 * A minimal S3 in memory: the operations that the s3 store uses, with conditions, ranges, multipart and XML errors.
 * Signatures are not checked. What a server may refuse, this one does: bodies without length or in aws-chunked, wrong
 * checksums, parts that are too small.
 */
import { createHash, randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

export interface StubObject { bytes: Buffer, etag: string, lastModified: Date, contentType: string | undefined, cacheControl: string | undefined }
export interface StubUpload { key: string, initiated: Date, contentType: string | undefined, parts: Map<number, { bytes: Buffer, etag: string }> }

export interface StubState {
  bucket: string
  bucketExists: boolean
  partMinBytes: number
  objects: Map<string, StubObject>
  uploads: Map<string, StubUpload>
}

export interface StubRequest {
  operation: Operation
  method: string
  key: string
  query: URLSearchParams
  headers: IncomingHttpHeaders
  body: Buffer
}

export interface StubAnswer { status: number, headers?: Record<string, string>, body?: Buffer | string }

export class StubError extends Error {
  readonly code: string
  readonly status: number
  constructor(status: number, code: string) {
    super(code)
    this.status = status
    this.code = code
  }
}

export type Operation = keyof typeof operations
type Handler = (state: StubState, request: StubRequest) => StubAnswer

export const operations = {
  HeadBucket: () => ({ status: 200 }),
  CreateBucket(state) {
    if (state.bucketExists) throw new StubError(409, 'BucketAlreadyOwnedByYou')
    state.bucketExists = true
    return { status: 200 }
  },
  PutObject(state, { key, headers, body }) {
    checkBody(headers, body)
    checkFree(state, key, headers)
    const object = store(state, key, body, md5(body), headers)
    return { status: 200, headers: { etag: quoted(object.etag) } }
  },
  CopyObject(state, { key, headers }) {
    const source = copySource(state, headers)
    checkFree(state, key, headers)
    const kept = headers['x-amz-metadata-directive'] === 'REPLACE' ? headers : { 'content-type': source.contentType, 'cache-control': source.cacheControl }
    const object = store(state, key, source.bytes, source.etag, kept)
    return xml('CopyObjectResult', `<ETag>${quoted(object.etag)}</ETag><LastModified>${object.lastModified.toISOString()}</LastModified>`)
  },
  HeadObject: (state, { key, headers }) => ({ ...read(state, key, headers) }),
  GetObject: (state, { key, headers }) => read(state, key, headers),
  DeleteObject(state, { key }) {
    state.objects.delete(key)
    return { status: 204 }
  },
  ListObjectsV2(state, { query }) {
    const after = query.get('continuation-token') ?? ''
    const max = Number(query.get('max-keys') ?? 1000)
    const keys = sorted([...state.objects.keys()].filter(key => key.startsWith(query.get('prefix') ?? '')))
    const rest = keys.filter(key => after === '' || Buffer.compare(Buffer.from(key), Buffer.from(after, 'base64url')) > 0)
    const page = rest.slice(0, max)
    const more = rest.length > page.length
    const next = more ? `<NextContinuationToken>${Buffer.from(page.at(-1)!).toString('base64url')}</NextContinuationToken>` : ''
    return xml('ListBucketResult', `<IsTruncated>${more}</IsTruncated>${next}${page.map(key => contents(key, state.objects.get(key)!)).join('')}`)
  },
  CreateMultipartUpload(state, { key, headers }) {
    const uploadId = randomUUID()
    state.uploads.set(uploadId, { key, initiated: new Date(), contentType: headers['content-type'], parts: new Map() })
    return xml('InitiateMultipartUploadResult', `<Key>${escape(key)}</Key><UploadId>${uploadId}</UploadId>`)
  },
  UploadPart(state, { key, query, headers, body }) {
    checkBody(headers, body)
    const etag = md5(body)
    upload(state, key, query).parts.set(Number(query.get('partNumber')), { bytes: body, etag })
    return { status: 200, headers: { etag: quoted(etag) } }
  },
  UploadPartCopy(state, { key, query, headers }) {
    const { parts } = upload(state, key, query)
    const source = copySource(state, headers)
    const range = rangeOf(headers['x-amz-copy-source-range'] as string | undefined, source.bytes.length)
    if (range && range.last > range.end) throw new StubError(416, 'InvalidRange')
    const bytes = range ? source.bytes.subarray(range.start, range.end + 1) : source.bytes
    const etag = md5(bytes)
    parts.set(Number(query.get('partNumber')), { bytes, etag })
    return xml('CopyPartResult', `<ETag>${quoted(etag)}</ETag><LastModified>${new Date().toISOString()}</LastModified>`)
  },
  CompleteMultipartUpload(state, { key, query, headers, body }) {
    const pending = upload(state, key, query)
    const parts = [...body.toString().matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => {
      const stored = pending.parts.get(Number(/<PartNumber>(\d+)/.exec(part)?.[1]))
      const etag = /<ETag>(?:&quot;|")?([^<&"]+)/.exec(part)?.[1]
      if (stored === undefined || stored.etag !== etag) throw new StubError(400, 'InvalidPart')
      return stored
    })
    if (parts.slice(0, -1).some(part => part.bytes.length < state.partMinBytes)) throw new StubError(400, 'EntityTooSmall')
    checkFree(state, key, headers)
    const etag = `${md5(Buffer.concat(parts.map(part => Buffer.from(part.etag, 'hex'))))}-${parts.length}`
    store(state, key, Buffer.concat(parts.map(part => part.bytes)), etag, { 'content-type': pending.contentType })
    state.uploads.delete(query.get('uploadId')!)
    return xml('CompleteMultipartUploadResult', `<Key>${escape(key)}</Key><ETag>${quoted(etag)}</ETag>`)
  },
  AbortMultipartUpload(state, { key, query }) {
    upload(state, key, query)
    state.uploads.delete(query.get('uploadId')!)
    return { status: 204 }
  },
  ListMultipartUploads(state, { query }) {
    const found = [...state.uploads].filter(([, { key }]) => key.startsWith(query.get('prefix') ?? ''))
    return xml('ListMultipartUploadsResult', `<IsTruncated>false</IsTruncated>${found.map(([uploadId, { key, initiated }]) =>
      `<Upload><Key>${escape(key)}</Key><UploadId>${uploadId}</UploadId><Initiated>${initiated.toISOString()}</Initiated></Upload>`).join('')}`)
  }
} as const satisfies Record<string, Handler>

/** Which operation a request is. */
export function operationOf(method: string, key: string, query: URLSearchParams, headers: IncomingHttpHeaders): Operation {
  const copies = 'x-amz-copy-source' in headers
  if (key === '') {
    if (method === 'GET') return query.has('uploads') ? 'ListMultipartUploads' : 'ListObjectsV2'
    return method === 'PUT' ? 'CreateBucket' : 'HeadBucket'
  }
  if (query.has('uploadId')) {
    if (method === 'PUT') return copies ? 'UploadPartCopy' : 'UploadPart'
    return method === 'POST' ? 'CompleteMultipartUpload' : 'AbortMultipartUpload'
  }
  if (method === 'PUT') return copies ? 'CopyObject' : 'PutObject'
  if (method === 'POST') return 'CreateMultipartUpload'
  if (method === 'DELETE') return 'DeleteObject'
  return method === 'HEAD' ? 'HeadObject' : 'GetObject'
}

export function perform(state: StubState, request: StubRequest): StubAnswer {
  if (!state.bucketExists && request.operation !== 'CreateBucket') throw new StubError(404, 'NoSuchBucket')
  const handler: Handler = operations[request.operation]
  return handler(state, request)
}

export function errorXml(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>the stub says ${code}</Message><RequestId>stub</RequestId></Error>`
}

function xml(name: string, content: string): StubAnswer {
  return { status: 200, headers: { 'content-type': 'application/xml' }, body: `<?xml version="1.0" encoding="UTF-8"?>\n<${name}>${content}</${name}>` }
}

function contents(key: string, { bytes, etag, lastModified }: StubObject): string {
  return `<Contents><Key>${escape(key)}</Key><Size>${bytes.length}</Size><ETag>${escape(quoted(etag))}</ETag><LastModified>${lastModified.toISOString()}</LastModified></Contents>`
}

function store(state: StubState, key: string, bytes: Buffer, etag: string, headers: IncomingHttpHeaders): StubObject {
  const object = { bytes, etag, lastModified: new Date(), contentType: headers['content-type'], cacheControl: headers['cache-control'] }
  state.objects.set(key, object)
  return object
}

function read(state: StubState, key: string, headers: IncomingHttpHeaders): StubAnswer {
  const object = state.objects.get(key)
  if (object === undefined) throw new StubError(404, 'NoSuchKey')
  const { bytes, etag, lastModified, contentType = 'binary/octet-stream' } = object
  if (headers['if-match'] !== undefined && unquoted(headers['if-match']) !== etag) throw new StubError(412, 'PreconditionFailed')
  const range = rangeOf(headers.range, bytes.length)
  const body = range ? bytes.subarray(range.start, range.end + 1) : bytes
  return {
    status: range ? 206 : 200,
    body,
    headers: {
      etag: quoted(etag), 'last-modified': lastModified.toUTCString(), 'content-type': contentType, 'content-length': String(body.length), 'accept-ranges': 'bytes',
      ...(range && { 'content-range': `bytes ${range.start}-${range.end}/${bytes.length}` })
    }
  }
}

/** `end` is cut to the size, as servers do for reading; `last` is what was asked for. */
function rangeOf(header: string | undefined, size: number): { start: number, end: number, last: number } | undefined {
  const match = /^bytes=(\d+)-(\d+)$/.exec(header ?? '')
  if (match === null) return undefined
  const [start, last] = [Number(match[1]), Number(match[2])]
  if (start >= size) throw new StubError(416, 'InvalidRange')
  return { start, end: Math.min(last, size - 1), last }
}

function copySource(state: StubState, headers: IncomingHttpHeaders): StubObject {
  // a plus sign is a space here, as in a query: who means a plus has to encode it
  const [bucket, ...segments] = decodeURIComponent(String(headers['x-amz-copy-source']).replaceAll('+', ' ')).split('/')
  const source = bucket === state.bucket ? state.objects.get(segments.join('/')) : undefined
  if (source === undefined) throw new StubError(404, 'NoSuchKey')
  const expected = headers['x-amz-copy-source-if-match']
  if (expected !== undefined && unquoted(String(expected)) !== source.etag) throw new StubError(412, 'PreconditionFailed')
  return source
}

function upload(state: StubState, key: string, query: URLSearchParams): StubUpload {
  const found = state.uploads.get(query.get('uploadId') ?? '')
  if (found === undefined || found.key !== key) throw new StubError(404, 'NoSuchUpload')
  return found
}

function checkFree(state: StubState, key: string, headers: IncomingHttpHeaders): void {
  if (headers['if-none-match'] === '*' && state.objects.has(key)) throw new StubError(412, 'PreconditionFailed')
}

function checkBody(headers: IncomingHttpHeaders, body: Buffer): void {
  if (headers['content-length'] === undefined) throw new StubError(411, 'MissingContentLength')
  if (headers['content-encoding']?.includes('aws-chunked')) throw new StubError(501, 'NotImplemented')
  const expected = headers['x-amz-checksum-sha256']
  if (expected !== undefined && createHash('sha256').update(body).digest('base64') !== expected) throw new StubError(400, 'BadDigest')
}

function sorted(keys: string[]): string[] {
  return keys.map(key => Buffer.from(key)).toSorted(Buffer.compare).map(String)
}

function md5(bytes: Buffer): string {
  return createHash('md5').update(bytes).digest('hex')
}

function quoted(etag: string): string {
  return `"${etag}"`
}

function unquoted(etag: string): string {
  return etag.replaceAll('"', '')
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
