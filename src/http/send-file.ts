/**
 * Answers with the bytes of a file. What to answer is decided from its row (files/conditions.ts); only then is its object
 * opened, and only as much of it as is asked for. The bytes go as they come from the store, with its pace; a client that
 * goes lets go of the store.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { PenstockError } from '../errors.ts'
import { decide, type Decision, type Representation } from '../files/conditions.ts'
import { dispositionOf, isShown } from '../files/content-disposition.ts'
import { giveBack } from '../objects/give-back.ts'
import { BucketNotFound, ObjectStoreFailed, type ByteRange, type ObjectStore, type OpenObject } from '../objects/port.ts'
import type { FileRecord } from '../records/jobs-port.ts'

export interface SendFileOptions {
  /** It can be read once: whole, and on no condition. */
  once?: boolean
  /** Shown in place, where its type can be shown without running anything. */
  inline?: boolean
}

/** A browser makes a page of what it shows, and that page plays it and has styles of its own. Beside that there is nothing to be let in. */
const POLICY_OF_SHOWN = "default-src 'none';media-src 'self';style-src 'unsafe-inline';frame-ancestors 'none'"

/** What is no type is one of bytes. */
export function sentType({ contentType }: Pick<FileRecord, 'contentType'>): string {
  return /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(;[\x20-\x7e]{1,127})?$/.test(contentType) ? contentType : 'application/octet-stream'
}

/**
 * Call it last in a handler of GET or HEAD, and return what it returns.
 * @throws PRECONDITION_FAILED, RANGE_NOT_SATISFIABLE; S3_GET_FAILED where the object is not there, or not the one of the row
 */
export async function sendFile(request: FastifyRequest, reply: FastifyReply, store: ObjectStore, file: FileRecord, { once = false, inline = false }: SendFileOptions = {}): Promise<FastifyReply> {
  // 304 too: a cache takes over its headers
  if (inline && isShown(file)) void reply.header('content-security-policy', POLICY_OF_SHOWN)
  const shown = { etag: `"${file.sha256}"`, lastModified: file.createdAt, size: file.size }
  const decision: Decision = once ? { status: 200 } : decide(request.method, request.headers, shown)
  if (decision.status === 412) throw new PenstockError('PRECONDITION_FAILED')
  if (decision.status === 416) throw new PenstockError('RANGE_NOT_SATISFIABLE', { headers: { 'content-range': `bytes */${file.size}`, 'accept-ranges': 'bytes' } })
  const validators = validatorsOf(shown, once)
  if (decision.status === 304) return reply.code(304).headers(validators).send()
  const range = decision.status === 206 ? decision.range : undefined
  const headers = { ...validators, ...contentHeaders(file, range, { once, inline }) }
  if (request.method === 'HEAD') return reply.code(200).headers(headers).send()
  return await sendBytes(reply.code(decision.status).headers(headers), store, file, range)
}

function validatorsOf({ etag, lastModified }: Required<Representation>, once: boolean): Record<string, string> {
  if (once) return { 'cache-control': 'no-store' }
  return { etag, 'last-modified': new Date(lastModified).toUTCString(), 'cache-control': 'private, no-cache' }
}

function contentHeaders(file: FileRecord, range: ByteRange | undefined, { once, inline }: Required<SendFileOptions>): Record<string, string> {
  return {
    'content-type': sentType(file),
    'content-length': String(range === undefined ? file.size : range.end - range.start + 1),
    ...(range && { 'content-range': `bytes ${range.start}-${range.end}/${file.size}` }),
    'accept-ranges': once ? 'none' : 'bytes',
    'repr-digest': `sha-256=:${Buffer.from(file.sha256, 'hex').toString('base64')}:`,
    'content-disposition': dispositionOf(file, inline),
    'x-content-type-options': 'nosniff'
  }
}

/** Headers that are not to stand on the error that is answered instead. */
const OF_THE_FILE = ['etag', 'last-modified', 'cache-control', 'content-type', 'content-length', 'content-range', 'accept-ranges', 'repr-digest', 'content-disposition']

async function sendBytes(reply: FastifyReply, store: ObjectStore, file: FileRecord, range: ByteRange | undefined): Promise<FastifyReply> {
  try {
    const { body, disposable = false } = await open(reply, store, file, range)
    if (disposable) giveBackWhenSent(reply)
    // the store may yet fail before the first byte: then there is an answer to give; later the connection breaks
    body.once('error', () => forget(reply))
    return reply.send(body)
  } catch (error) {
    if (reply.raw.destroyed) return leave(reply)
    forget(reply)
    throw error
  }
}

/** The memory of each chunk goes as soon as the socket has taken it: for a body whose chunks nobody else uses. */
export function giveBackWhenSent({ raw }: FastifyReply): void {
  const write = raw.write.bind(raw) as (chunk: Uint8Array, done: () => void) => boolean
  raw.write = ((chunk: Uint8Array) => write(chunk, () => giveBack(chunk))) as typeof raw.write
}

/** A client that goes ends the opening; once the answer is on its way, the framework destroys the body for that. */
async function open(reply: FastifyReply, store: ObjectStore, file: FileRecord, range: ByteRange | undefined): Promise<OpenObject> {
  const opening = new AbortController()
  const onClose = (): void => opening.abort()
  reply.raw.once('close', onClose)
  if (reply.raw.destroyed) onClose()
  try {
    const object = await store.open(file.key, { ...(range && { range }), signal: opening.signal })
    if (object.size === file.size) return object
    object.body.destroy()
    throw new PenstockError('S3_GET_FAILED', { cause: new Error(`${file.key} has ${object.size} bytes, and ${file.size} in the records`) })
  } catch (error) {
    throw readError(error)
  } finally {
    reply.raw.off('close', onClose)
  }
}

function readError(error: unknown): unknown {
  const known = error instanceof ObjectStoreFailed && !(error instanceof BucketNotFound)
  return known ? new PenstockError('S3_GET_FAILED', { cause: error }) : error
}

function forget(reply: FastifyReply): void {
  if (reply.raw.headersSent) return
  for (const name of OF_THE_FILE) {
    reply.removeHeader(name)
    reply.raw.removeHeader(name)
  }
}

function leave(reply: FastifyReply): FastifyReply {
  reply.hijack().raw.destroy()
  return reply
}
