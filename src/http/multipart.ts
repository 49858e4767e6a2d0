/**
 * A multipart body, part by part as it arrives. What can go wrong with it meanwhile is found out here, whatever whoever takes a
 * part makes of it: a body that breaks off, stops arriving, is too long, or is not framed as it should be. Then the part under
 * way is destroyed, which ends the write into the store, and the error says why.
 *
 * The rest of a body that is refused is not read: the connection ends with the answer (unread-bodies.ts).
 */
import multipart, { type Multipart, type MultipartFile } from '@fastify/multipart'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isPenstockError, PenstockError } from '../errors.ts'
import { JOB_PARAMS_MAX_BYTES, MULTIPART_FIELDS_MAX, MULTIPART_FILE_HIGH_WATER_MARK_BYTES, MULTIPART_PART_HEADERS_MAX_BYTES, REF_IMAGES_MAX } from '../limits.ts'
import { claimMemory } from '../objects/give-back.ts'
import { onBroken } from './broken-bodies.ts'
import { bodyTooLarge } from './error-translation.ts'

export const MULTIPART_FILES_MAX = 1 + REF_IMAGES_MAX

/** A file has none: whoever takes it counts. A file that was cut off at a limit looks like one that is whole. */
const limits = {
  fileSize: Number.POSITIVE_INFINITY,
  fieldSize: JOB_PARAMS_MAX_BYTES,
  fields: MULTIPART_FIELDS_MAX,
  files: MULTIPART_FILES_MAX,
  parts: MULTIPART_FIELDS_MAX + MULTIPART_FILES_MAX,
  headerSize: MULTIPART_PART_HEADERS_MAX_BYTES
}

/** Lets the routes of `app` take multipart bodies. Their `config` has to say streamsMultipart. */
export async function takeMultipart(app: FastifyInstance): Promise<void> {
  await app.register(multipart, { limits, throwFileSizeLimit: false, fileHwm: MULTIPART_FILE_HIGH_WATER_MARK_BYTES })
}

export interface MultipartBody {
  /** @throws INVALID_MULTIPART, REQUEST_TIMEOUT, PAYLOAD_TOO_LARGE, BAD_REQUEST */
  parts(): AsyncIterable<Multipart>
  /** Lets `work` take the bytes of a file. What went wrong with the body is thrown instead of what `work` made of it. */
  take(part: MultipartFile, work: () => Promise<void>): Promise<void>
  /** Lets go of the body: what is left of it is read and dropped, or (false) stays where it is. */
  release(drain: boolean): void
}

export function multipartBody(request: FastifyRequest, { idleMs, maxBytes }: { idleMs: number, maxBytes: number }): MultipartBody {
  const { raw } = request
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => {})
  let failure: PenstockError | undefined
  let current: MultipartFile['file'] | undefined
  let waiting = false
  let received = 0

  function fail(error: PenstockError): void {
    failure ??= error
    current?.destroy(failure)
    failed.reject(failure)
  }

  /** Is it the client that everything waits for? Not one that has sent all. Whoever takes a part has a time limit of its own. */
  function starved(): boolean {
    if (raw.complete) return false
    return current === undefined ? waiting : !current.readableEnded && current.readableLength === 0
  }

  const watchdog = setTimeout(() => {
    if (starved()) fail(new PenstockError('REQUEST_TIMEOUT', { details: { received } }))
    else watchdog.refresh()
  }, idleMs)

  function count(chunk: Buffer): void {
    received += chunk.length
    claimMemory(chunk)
    watchdog.refresh()
    if (received > maxBytes) fail(bodyTooLarge(maxBytes))
  }

  async function* parts(): AsyncGenerator<Multipart> {
    onBroken(raw, fail)
    const iterator = request.parts()
    let listening = false
    for (;;) {
      waiting = true
      const next = iterator.next()
      // not before: the parser is connected now, and misses nothing
      if (!listening) raw.on('data', count)
      listening = true
      const { done, value } = await Promise.race([next, failed.promise]).catch((error: unknown) => { throw failure ?? unreadable(error) })
      waiting = false
      if (done === true) return
      yield value
    }
  }

  async function take(part: MultipartFile, work: () => Promise<void>): Promise<void> {
    current = part.file
    try {
      if (current.destroyed) throw current.errored ?? new Error('the part broke off')
      await work()
    } catch (error) {
      throw failure ?? (isOfParser(current.errored) ? unreadable(current.errored) : error)
    } finally {
      current = undefined
    }
  }

  return {
    parts,
    take,
    release(drain) {
      clearTimeout(watchdog)
      raw.off('data', count)
      if (drain) raw.resume()
      else raw.unpipe()
    }
  }
}

/** Did the parser destroy the part, because of how its body is? Whoever takes it destroys it for reasons of its own. */
function isOfParser(error: Error | null): error is Error {
  return error !== null && (/multipart data/i.test(error.message) || String((error as NodeJS.ErrnoException).code).startsWith('FST_'))
}

const words: Record<string, string> = {
  FST_FIELDS_LIMIT: `there are more than ${MULTIPART_FIELDS_MAX} fields`,
  FST_FILES_LIMIT: `there are more than ${MULTIPART_FILES_MAX} files`,
  FST_PARTS_LIMIT: 'there are too many parts',
  FST_PROTO_VIOLATION: 'a part has a name that is not known here',
  FST_INVALID_JSON_FIELD_ERROR: 'a field that says it is JSON is none'
}

/** What the parser says of a body that it cannot read. */
function unreadable(cause: unknown): PenstockError {
  if (isPenstockError(cause)) return cause
  const { code = '', message = '' } = cause as NodeJS.ErrnoException
  const text = words[code] ?? (message.includes('Boundary') ? 'the Content-Type names no boundary' : 'the multipart body is cut off, or not framed as its Content-Type says')
  return new PenstockError('INVALID_MULTIPART', { message: text, cause })
}
