/**
 * The media library: what a caller sent in two steps, and what its jobs made.
 *
 *   init ▶ PUT to the upload address ▶ complete
 *
 * proxy    the address is one of this service, with a token of its own (media-token.ts). The bytes are hashed as they pass, and
 *          the first body that arrives whole is the one: the row takes no other.
 * direct   the address is one of the object store, into a staging key that nobody else is told of. The bytes are read and
 *          hashed when they are completed; the copy is bound to the ETag that was read.
 *
 * What is complete is a copy under its hash. Whatever is sent to the address afterwards lands in staging, and is swept.
 * Every method decides on rows of the caller: another's is not there.
 */
import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import type { IngestContext, Log } from '../ingest/context.ts'
import { digestObject } from '../ingest/digest-object.ts'
import { ownerOf } from '../ingest/ownership.ts'
import { ask, type Staged } from '../ingest/publish.ts'
import { receiveUpload, type ReceiveOptions, type ReceivedUpload } from '../ingest/upload.ts'
import { MEDIA_UPLOAD_TTL_MS, SNIFF_BYTES } from '../limits.ts'
import { stagingKey } from '../objects/keys.ts'
import { presigns, type PresignedPut } from '../objects/presign.ts'
import type { MediaFile, MediaQuery, MediaUpload } from '../records/access-port.ts'
import { holderOf } from './access.ts'
import { contentTypeOf } from './content-type.ts'
import { fileNameOf } from './filename.ts'
import { deleteStaged, dropStaged, publishAs } from './keep-staged.ts'
import { mediaNameOf, mediaPath } from './media-path.ts'
import { mediaToken, verifyMediaToken } from './media-token.ts'
import { urlSecret } from './url-secret.ts'

export interface MediaContext {
  ingest: IngestContext
  log: Log
  /** epoch milliseconds; for tests */
  now?: () => number
}

export interface MediaWish { filename: string, contentType: string, size?: number }

/** Where the bytes are to go. `address`: a path of this service, or a URL of the store. */
export interface MediaTarget { address: string, headers: Record<string, string>, path: string, expiresAt: number, maxBytes: number }

/** What a client says of the body that it sends. `size`: bytes. */
export interface MediaBody { stream: Readable, contentType: string | undefined, size: number | undefined }

export interface MediaService {
  /** @throws PAYLOAD_TOO_LARGE */
  init(principal: Principal, wish: MediaWish): Promise<MediaTarget>
  /** Takes a body that was sent to an address of ours. @throws UNAUTHORIZED, TOKEN_EXPIRED, GONE, BAD_REQUEST, PAYLOAD_TOO_LARGE; what receiveUpload throws */
  receive(token: string, body: MediaBody, options: Omit<ReceiveOptions, 'owner'>): Promise<ReceivedUpload>
  /** Can be repeated, and done twice at once. @throws FILE_NOT_FOUND, PAYLOAD_TOO_LARGE; what publishing throws */
  complete(principal: Principal, path: string): Promise<MediaFile>
  list(principal: Principal, query: Omit<MediaQuery, 'holder'>): Promise<MediaFile[]>
  /** @throws FILE_NOT_FOUND */
  find(principal: Principal, path: string): Promise<MediaFile>
  /** Also of what is not complete yet. @throws FILE_NOT_FOUND */
  remove(principal: Principal, path: string): Promise<void>
}

export function createMediaService(context: MediaContext): MediaService {
  const { ingest: { records }, log } = context
  const secret = urlSecret(records.settings, context.ingest.config)
  const find = async (principal: Principal, path: string): Promise<MediaFile | undefined> => {
    const holder = holderOf(principal)
    return await records.media.find(holder, mediaNameOf(holder, path))
  }
  const found = async (principal: Principal, path: string): Promise<MediaFile> => {
    const file = await find(principal, path)
    if (file === undefined) throw new PenstockError('FILE_NOT_FOUND')
    return file
  }
  return {
    init: (principal, wish) => init(context, principal, wish, secret),
    async receive(token, body, options) {
      const id = verifyMediaToken(token, await secret(), (context.now ?? Date.now)())
      return await receive(context, id, body, options)
    },
    async complete(principal, path) {
      const done = await find(principal, path)
      if (done !== undefined) return done
      try {
        return await complete(context, principal, await pendingOf(context, principal, path))
      } catch (error) {
        // somebody else was faster, and took the staged bytes away
        const other = await find(principal, path).catch(() => undefined)
        if (other !== undefined) return other
        throw error
      }
    },
    list: (principal, query) => records.media.list({ ...query, holder: holderOf(principal) }),
    find: found,
    async remove(principal, path) {
      const file = await find(principal, path)
      const removed = file === undefined ? await records.media.discard((await pendingOf(context, principal, path)).id) : await records.files.remove(file.id)
      if (!removed) throw new PenstockError('FILE_NOT_FOUND')
      log.info({ action: 'media.removed', path })
    }
  }
}

function tooLarge(limit: number): PenstockError {
  return new PenstockError('PAYLOAD_TOO_LARGE', { message: `the file has more than ${limit} bytes`, details: { field: 'file', limit_bytes: limit } })
}

async function init(context: MediaContext, principal: Principal, { filename, contentType, size }: MediaWish, secret: () => Promise<string>): Promise<MediaTarget> {
  const { ingest: { config, records }, now = Date.now } = context
  const maxBytes = config.MAX_MEDIA_SIZE_BYTES
  if (size !== undefined && size > maxBytes) throw tooLarge(maxBytes)
  const id = randomUUID()
  const name = fileNameOf(filename)
  // a whole second, as the token has it
  const expiresAt = Math.floor((now() + MEDIA_UPLOAD_TTL_MS) / 1000) * 1000
  const uploadId = config.MEDIA_UPLOAD_MODE === 'direct' ? randomUUID() : null
  const { url, headers } = uploadId === null
    ? { url: `/media/upload/${mediaToken({ id, expires: expiresAt / 1000 }, await secret())}`, headers: { 'content-type': contentType } }
    : await presigned(context, uploadId, { contentType, ...size !== undefined && { size } })
  await records.media.begin({ id, owner: ownerOf(principal), filename: name, contentType, size: size ?? null, uploadId, expiresAt })
  return { address: url, headers, path: mediaPath(holderOf(principal), `${id}/${name}`), expiresAt, maxBytes }
}

async function presigned({ ingest: { store } }: MediaContext, uploadId: string, options: { contentType: string, size?: number }): Promise<PresignedPut> {
  if (!presigns(store)) throw new PenstockError('STORAGE_FAILED', { cause: new Error('the store has no address that clients can reach') })
  return await store.presignPut(stagingKey(uploadId, 'object'), { ...options, expiresSeconds: MEDIA_UPLOAD_TTL_MS / 1000 })
}

/** Of bodies that arrive at once the first that is whole counts. One that breaks off leaves the address as good as it was. */
async function receive({ ingest, log }: MediaContext, id: string, { stream, contentType, size }: MediaBody, options: Omit<ReceiveOptions, 'owner'>): Promise<ReceivedUpload> {
  const upload = await ingest.records.media.pending(id)
  if (upload?.status !== 'awaiting' || upload.uploadId !== null) throw used()
  const bytes = checkBody(upload, { contentType, size }, ingest.config.MAX_MEDIA_SIZE_BYTES)
  const wanted = { profile: ingest.profiles.object, uploadId: undefined, filename: upload.filename, size: bytes, declaredSha256: undefined }
  const received = await receiveUpload(ingest, wanted, stream, { ...options, owner: upload.owner })
  const stored = await ingest.records.media.store(id, received.id).catch(async (error: unknown) => {
    await dropStaged(ingest, { ...received, uploadId: received.id }, log)
    throw error
  })
  if (stored) return received
  await dropStaged(ingest, { ...received, uploadId: received.id }, log)
  throw used()
}

function used(): PenstockError {
  return new PenstockError('GONE', { message: 'this upload address was used, or what it was for is no more' })
}

function wrong(field: string, message: string): PenstockError {
  return new PenstockError('BAD_REQUEST', { message: `${field} ${message}`, details: { fields: [{ field, message }] } })
}

/** Returns the size. */
function checkBody(upload: MediaUpload, { contentType, size }: Pick<MediaBody, 'contentType' | 'size'>, maxBytes: number): number {
  if (contentType?.toLowerCase() !== upload.contentType.toLowerCase()) throw wrong('Content-Type', `must be ${upload.contentType}, as it was declared`)
  if (size === undefined) throw wrong('Content-Length', 'is required')
  if (size > maxBytes) throw tooLarge(maxBytes)
  if (size === 0 || (upload.size !== null && size !== upload.size)) throw wrong('Content-Length', upload.size === null ? 'must be above 0' : `must be ${upload.size}, as it was declared`)
  return size
}

/** What the caller began under this path. @throws FILE_NOT_FOUND */
async function pendingOf({ ingest: { records } }: MediaContext, principal: Principal, path: string): Promise<MediaUpload> {
  const holder = holderOf(principal)
  const [id = '', ...filename] = mediaNameOf(holder, path).split('/')
  const upload = await records.media.pending(id)
  const own = upload !== undefined && upload.owner.subject === holder.subject && upload.owner.account === holder.account
  if (!own || upload.filename !== filename.join('/')) throw new PenstockError('FILE_NOT_FOUND')
  return upload
}

/** `stagedUploadId` null: no row of an upload holds the bytes. */
interface Arrived extends Staged { stagedUploadId: string | null }

async function complete(context: MediaContext, principal: Principal, upload: MediaUpload): Promise<MediaFile> {
  const { ingest, log } = context
  const staged = upload.status === 'stored' ? await receivedOf(context, upload) : await sentOf(context, upload)
  const { stagedUploadId, size, sha256 } = staged
  const contentType = await contentTypeOf(upload.contentType, await headOf(context, staged))
  const owner = { ...upload.owner, clientId: principal.clientId }
  const file = await publishAs(ingest, staged, ({ key, claim }) =>
    ingest.records.media.complete(upload.id, { filename: upload.filename, contentType, size, sha256, key, access: 'restricted', owner, claim, stagedUploadId }))
  if (file === 'gone') throw new PenstockError('FILE_NOT_FOUND')
  await deleteStaged(ingest, staged, log)
  log.info({ action: 'media.complete', file_id: file.id, size, content_type: contentType })
  return file
}

/** What passed through here. One that was swept is as if it never came. */
async function receivedOf(context: MediaContext, upload: MediaUpload): Promise<Arrived> {
  const { ingest: { records, config } } = context
  const received = await records.uploads.get(upload.uploadId!)
  if (received?.status !== 'staged' || received.sha256 === null || received.etag === null) throw new PenstockError('FILE_NOT_FOUND')
  const { id, stagingKey: key, etag, size, sha256 } = received
  if (size > config.MAX_MEDIA_SIZE_BYTES) throw await refuse(context, upload, key)
  return { key, etag, size, sha256, stagedUploadId: id }
}

/** What was sent to the store: read whole, and bound to what was read. */
async function sentOf(context: MediaContext, upload: MediaUpload): Promise<Arrived> {
  const { ingest: { store, config } } = context
  if (upload.uploadId === null) throw new PenstockError('FILE_NOT_FOUND')
  const key = stagingKey(upload.uploadId, 'object')
  const info = await ask('S3_HEAD_FAILED', () => store.head(key))
  if (info === undefined || info.size === 0) throw new PenstockError('FILE_NOT_FOUND')
  if (info.size > config.MAX_MEDIA_SIZE_BYTES) throw await refuse(context, upload, key)
  const sha256 = await ask('S3_GET_FAILED', () => digestObject(store, info, config.MAX_MEDIA_SIZE_BYTES))
  return { key, etag: info.etag, size: info.size, sha256, stagedUploadId: null }
}

async function refuse({ ingest, log }: MediaContext, { id }: MediaUpload, key: string): Promise<PenstockError> {
  await ingest.records.media.discard(id)
  await deleteStaged(ingest, { key }, log)
  return tooLarge(ingest.config.MAX_MEDIA_SIZE_BYTES)
}

/** Its first bytes, to see what it is. */
async function headOf({ ingest: { store } }: MediaContext, { key, etag, size }: Staged): Promise<Buffer> {
  return await ask('S3_GET_FAILED', async () => {
    const { body } = await store.open(key, { range: { start: 0, end: Math.min(SNIFF_BYTES, size) - 1 }, ifMatch: etag })
    return await buffer(body)
  })
}
