/**
 * One upload: request body ─▶ Meter ─▶ store.put(staging key), with nothing kept on the way.
 *
 *   slot → store reachable → row (receiving) → stream → row (staged) → answer
 *
 * Whatever ends it early, the same thing happens: the store's write is aborted, what may have become an object is deleted,
 * the row says why, the slot is given back. The request stream itself is only let go of, never destroyed, because the
 * answer still has to travel on its socket; that is why it is piped by hand and not with pipeline().
 */
import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { isPenstockError, PenstockError, whyOf } from '../errors.ts'
import { CHECK_TIMEOUT_MS } from '../limits.ts'
import { stagingKey } from '../objects/keys.ts'
import { putLarge } from '../objects/multipart-put.ts'
import { BucketNotFound, ObjectAlreadyExists, ObjectStoreFailed } from '../objects/port.ts'
import type { StoreAbilities } from '../objects/probe.ts'
import type { Owner } from '../records/port.ts'
import type { IngestContext, Log } from './context.ts'
import { Meter } from './meter.ts'
import { observeUpload } from './observer.ts'
import type { UploadRequest } from './upload-request.ts'

export interface ReceivedUpload {
  id: string
  key: string
  filename: string
  size: number
  sha256: string
  etag: string
}

export interface ReceiveOptions {
  owner: Owner
  log: Log
  /**
   * Aborts when the client's connection is lost before it was answered: also once its whole body is here. With an error of
   * the catalogue as its reason it is the body that is lost, and the client waits for that answer.
   */
  lost: AbortSignal
  /** Called when the body is about to be read (the place for `100 Continue`), with where it goes and how much has come. */
  onReady: (key: string, received: () => number) => void
}

/** The client went away before it was answered: nobody is left to tell. */
export class ClientGone extends Error {
  /** bytes that had arrived */
  readonly received: number
  constructor(received: number, options?: { cause?: unknown }) {
    super('the client went away before its upload was answered', options)
    this.name = 'ClientGone'
    this.received = received
  }
}

/** @throws PenstockError of the flat codes of `/upload-proxy`; ClientGone */
export async function receiveUpload(context: IngestContext, request: UploadRequest, body: Readable, options: ReceiveOptions): Promise<ReceivedUpload> {
  const observed = observeUpload(context.observer, request.profile.kind)
  try {
    const received = await receive(context, request, body, {
      ...options,
      onReady(key, bytes) {
        observed.received = bytes
        options.onReady(key, bytes)
      }
    })
    observed.ended('succeeded')
    return received
  } catch (error) {
    observed.ended(slugOf(error))
    throw error
  }
}

async function receive(context: IngestContext, request: UploadRequest, body: Readable, options: ReceiveOptions): Promise<ReceivedUpload> {
  const giveBack = context.slots.take()
  try {
    const abilities = await ensureStore(context)
    const id = request.uploadId ?? randomUUID()
    const key = stagingKey(id, request.profile.canonicalName)
    if (request.uploadId !== undefined && !abilities.createOnlyPut) await refuseTaken(context, key)
    const created = await context.records.uploads.create({
      id, kind: request.profile.kind, stagingKey: key, filename: request.filename,
      size: request.size, declaredSha256: request.declaredSha256 ?? null, owner: options.owner
    })
    if (!created) throw new PenstockError('UPLOAD_ID_IN_USE', { why: 'upload_id_in_use' })
    return await stream(context, request, body, { ...options, id, key, createOnly: abilities.createOnlyPut })
  } finally {
    giveBack()
  }
}

/** Bytes may lie there that came into the bucket past this service; where the store enforces it, the put itself finds them. */
async function refuseTaken(context: IngestContext, key: string): Promise<void> {
  const taken = await context.store.head(key).catch((error: unknown) => { throw storeError(error) })
  if (taken) throw new PenstockError('UPLOAD_ID_IN_USE', { why: 'upload_id_in_use' })
}

async function ensureStore(context: IngestContext): Promise<StoreAbilities> {
  try {
    return await context.readiness.ensure()
  } catch (error) {
    throw storeError(error)
  }
}

/** `createOnly` where the store enforces it: some answer 501 to a condition they do not know. The key is fresh in any case. */
interface Target { id: string, key: string, createOnly: boolean }

async function stream(context: IngestContext, request: UploadRequest, body: Readable, options: ReceiveOptions & Target): Promise<ReceivedUpload> {
  const { id, key, log } = options
  const stop = new AbortController()
  const fail = (reason: Error): void => stop.abort(reason)
  const watchdog = setTimeout(() => fail(stalled(meter)), context.config.UPLOAD_IDLE_TIMEOUT_MS)
  const meter = new Meter({
    size: request.size,
    declaredSha256: request.declaredSha256,
    onChunk: () => {
      watchdog.refresh()
      context.running.hints.emit(id)
    }
  })
  const done = Promise.withResolvers<void>()
  const forget = context.running.add(id, {
    get taken() { return meter.taken },
    abort: fail,
    done: done.promise
  })
  meter.once('end', () => clearTimeout(watchdog)) // the store has taken everything: from here its own time limit counts
  const release = connect(body, meter, options.lost, fail)
  const startedAt = performance.now()
  try {
    options.onReady(key, () => meter.received)
    log.debug({ action: 'ingest.upload.put_start', key, size: request.size })
    const { etag } = await put(context, request, meter, options, stop.signal)
    log.debug({ action: 'ingest.upload.put_end', key, bytes: meter.received, duration_ms: Math.round(performance.now() - startedAt) })
    const staged = await context.records.uploads.stage(id, { sha256: meter.sha256, etag, size: request.size })
    if (!staged) throw new PenstockError('UPLOAD_ABORTED', { why: 'upload_aborted' })
    return { id, key, filename: request.filename, size: request.size, sha256: meter.sha256, etag }
  } catch (error) {
    const reason = stop.signal.aborted ? stop.signal.reason as Error : storeError(error)
    release()
    await cleanUp(context, { id, key, log, meter, reason })
    throw reason
  } finally {
    clearTimeout(watchdog)
    release()
    forget()
    done.resolve()
  }
}

/** Rejects with the reason of the signal's abort or with what the store said. */
async function put(context: IngestContext, request: UploadRequest, meter: Meter, { key, createOnly }: Target, signal: AbortSignal): Promise<{ etag: string }> {
  const { size, profile } = request
  const options = { size, contentType: profile.contentType, createOnly, disposable: true, signal }
  try {
    if (size > context.store.putMaxBytes) return await putLarge(context.store, context.records.multiparts, key, meter, options)
    return await context.store.put(key, meter, request.declaredSha256 === undefined ? options : { ...options, sha256: request.declaredSha256 })
  } finally {
    meter.destroy()
  }
}

/** Lets bytes flow until something ends it. Returns what lets go of the body again without destroying it. */
function connect(body: Readable, meter: Meter, lost: AbortSignal, fail: (reason: Error) => void): () => void {
  const onLost = (): void => fail(isPenstockError(lost.reason) ? lost.reason : new ClientGone(meter.received))
  const onClose = (): void => { if (!body.readableEnded) onLost() }
  const onError = (cause: Error): void => fail(new ClientGone(meter.received, { cause }))
  const release = (): void => {
    body.unpipe(meter)
    body.off('close', onClose)
    body.off('error', onError)
    lost.removeEventListener('abort', onLost)
    body.on('error', ignore) // a socket that dies later must not become an uncaught error
  }
  body.on('close', onClose).on('error', onError)
  lost.addEventListener('abort', onLost)
  meter.on('error', fail)
  body.pipe(meter)
  if (lost.aborted) onLost()
  else if (body.destroyed) onClose()
  return release
}

function ignore(): void {}

/** Nothing moved for too long: whom does everything wait for? */
function stalled(meter: Meter): PenstockError {
  if (meter.backedUp) {
    return new PenstockError('S3_PUT_FAILED', { why: 's3_put_failed', cause: new Error('the store stopped taking bytes') })
  }
  return new PenstockError('REQUEST_TIMEOUT', { why: 'idle_timeout', details: { received: meter.received } })
}

/** Nothing may be left. Its own failures are logged: the sweeper comes by. */
async function cleanUp(context: IngestContext, { id, key, log, meter, reason }: { id: string, key: string, log: Log, meter: Meter, reason: Error }): Promise<void> {
  const attempt = (work: Promise<unknown>): Promise<unknown> =>
    work.catch((error: unknown) => log.warn({ action: 'ingest.upload.cleanup_failed', key, err: error }))
  // the Meter lets a body end only when all of it was right: otherwise no object can have come to be.
  // With the id in use it is another's object that lies there.
  const mayExist = meter.complete && !isPenstockError(reason, 'UPLOAD_ID_IN_USE')
  if (mayExist) await attempt(context.store.delete(key, AbortSignal.timeout(CHECK_TIMEOUT_MS)))
  await attempt(context.records.uploads.fail(id, slugOf(reason), meter.taken))
}

/** What ended an upload, for the record and the metrics. */
export function slugOf(reason: unknown): string {
  if (reason instanceof ClientGone) return 'client_aborted'
  return isPenstockError(reason) ? whyOf(reason) : 'unhandled_exception'
}

function storeError(error: unknown): Error {
  if (error instanceof ObjectAlreadyExists) return new PenstockError('UPLOAD_ID_IN_USE', { why: 'upload_id_in_use', cause: error })
  if (error instanceof BucketNotFound) return new PenstockError('BUCKET_NOT_FOUND', { why: 'bucket_missing', cause: error })
  if (error instanceof ObjectStoreFailed) return new PenstockError('S3_PUT_FAILED', { why: 's3_put_failed', cause: error })
  return error instanceof Error ? error : new Error(String(error))
}
