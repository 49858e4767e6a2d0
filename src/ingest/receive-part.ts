/**
 * One part of a body, of a length that nobody knows yet: counted and hashed as it passes, into a staged upload with a row of
 * its own.
 *
 *   store reachable → row (receiving) → stream → row (staged)
 *
 * Whatever ends it early, nothing is left: the store's write is aborted, what may have become an object is deleted, the row
 * says why. The clock of an idle body runs only while a chunk of it is waited for; the store has time limits of its own.
 */
import { createHash, randomUUID, type Hash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { setImmediate as othersTurn } from 'node:timers/promises'
import { PenstockError } from '../errors.ts'
import { CHECK_TIMEOUT_MS, STREAM_TURN_BYTES } from '../limits.ts'
import { readAll } from '../objects/exact-body.ts'
import { stagingKey } from '../objects/keys.ts'
import { BucketNotFound, ObjectBodyInvalid, ObjectStoreFailed } from '../objects/port.ts'
import { putUnknownLength } from '../objects/put-unknown-length.ts'
import type { Owner } from '../records/port.ts'
import type { IngestContext, Log } from './context.ts'
import { observeUpload } from './observer.ts'
import type { Staged } from './publish.ts'
import { slugOf } from './upload.ts'

export interface Part {
  /** what it is called in an error */
  field: string
  /** cleaned */
  filename: string
  body: Readable
  maxBytes: number
  /** How many of its first bytes are wanted back, to see what it is; 0 without it. */
  headBytes?: number
}

export interface StagedPart extends Staged {
  uploadId: string
  head: Buffer
}

/**
 * The body is read to its end, or let go of and then destroyed. The signal's reason is what an abort rejects with.
 * @throws PAYLOAD_TOO_LARGE, REQUEST_TIMEOUT, INVALID_MULTIPART where the body fails, S3_PUT_FAILED …; RecordStoreFailed
 */
export async function receivePart(context: IngestContext, part: Part, { owner, log, signal }: { owner: Owner, log: Log, signal: AbortSignal }): Promise<StagedPart> {
  try {
    signal.throwIfAborted()
    const { createOnlyPut } = await context.readiness.ensure()
    const uploadId = randomUUID()
    const key = stagingKey(uploadId, 'object')
    await context.records.uploads.create({ id: uploadId, kind: 'object', stagingKey: key, filename: part.filename, size: 0, declaredSha256: null, owner })
    return await stream(context, part, { uploadId, key, log, signal, createOnly: createOnlyPut })
  } catch (error) {
    part.body.destroy()
    throw signal.aborted ? signal.reason : partError(error)
  }
}

interface Target { uploadId: string, key: string, log: Log, signal: AbortSignal, createOnly: boolean }

async function stream(context: IngestContext, part: Part, { uploadId, key, log, signal, createOnly }: Target): Promise<StagedPart> {
  const stop = new AbortController()
  const abort = (reason: unknown): void => stop.abort(reason)
  const onAbort = (): void => abort(signal.reason)
  signal.addEventListener('abort', onAbort)
  // it may have come while the row was written
  if (signal.aborted) onAbort()
  const meter: Meter = { taken: 0, hash: createHash('sha256'), ended: false, head: Buffer.alloc(0) }
  const observed = observeUpload(context.observer, 'object')
  observed.received = () => meter.taken
  const done = Promise.withResolvers<void>()
  const forget = context.running.add(uploadId, { get taken() { return meter.taken }, abort, done: done.promise })
  try {
    const { etag, size } = await putUnknownLength(context.store, context.records.multiparts, key, metered(part, meter, stop, context.config.UPLOAD_IDLE_TIMEOUT_MS), {
      maxBytes: part.maxBytes, contentType: 'application/octet-stream', createOnly, signal: stop.signal, spareParts: context.spareParts
    })
    const sha256 = meter.hash.digest('hex')
    if (!await context.records.uploads.stage(uploadId, { sha256, etag, size })) throw new PenstockError('UPLOAD_ABORTED')
    observed.ended('succeeded')
    return { uploadId, key, etag, size, sha256, head: meter.head }
  } catch (error) {
    const reason: unknown = stop.signal.aborted ? stop.signal.reason : partError(error)
    observed.ended(slugOf(reason))
    const attempt = (work: Promise<unknown>): Promise<unknown> => work.catch((failure: unknown) => log.warn({ action: 'ingest.part.cleanup_failed', key, err: failure }))
    if (meter.ended) await attempt(context.store.delete(key, AbortSignal.timeout(CHECK_TIMEOUT_MS)))
    await attempt(context.records.uploads.fail(uploadId, slugOf(reason), meter.taken))
    throw reason
  } finally {
    signal.removeEventListener('abort', onAbort)
    forget()
    done.resolve()
  }
}

interface Meter { taken: number, hash: Hash, ended: boolean, head: Buffer }

async function* metered({ body, field, maxBytes, headBytes = 0 }: Part, meter: Meter, stop: AbortController, idleMs: number): AsyncGenerator<Uint8Array, void, undefined> {
  let [waiting, turn] = [true, 0]
  const idle = setTimeout(() => {
    if (waiting) stop.abort(new PenstockError('REQUEST_TIMEOUT', { details: { received: meter.taken } }))
    else idle.refresh()
  }, idleMs)
  try {
    for await (const chunk of readAll(body, stop.signal)) {
      waiting = false
      meter.taken += chunk.length
      if (meter.taken > maxBytes) throw tooLarge(field, maxBytes)
      meter.hash.update(chunk)
      if (meter.head.length < headBytes) meter.head = Buffer.concat([meter.head, chunk.subarray(0, headBytes - meter.head.length)])
      yield chunk
      turn += chunk.length
      if (turn >= STREAM_TURN_BYTES) {
        turn = 0
        await othersTurn()
      }
      waiting = true
      idle.refresh()
    }
    // what parses the body may have a limit too, and cuts off what is over it
    if ((body as { truncated?: boolean }).truncated === true) throw tooLarge(field, maxBytes)
    meter.ended = true
  } finally {
    clearTimeout(idle)
  }
}

function tooLarge(field: string, limit: number): PenstockError {
  return new PenstockError('PAYLOAD_TOO_LARGE', { message: `${field} has more than ${limit} bytes`, details: { field, limit_bytes: limit } })
}

function partError(error: unknown): unknown {
  if (error instanceof ObjectBodyInvalid) return new PenstockError('INVALID_MULTIPART', { message: 'the multipart body ended before its end', cause: error })
  if (error instanceof BucketNotFound) return new PenstockError('BUCKET_NOT_FOUND', { cause: error })
  if (error instanceof ObjectStoreFailed) return new PenstockError('S3_PUT_FAILED', { cause: error })
  return error
}
