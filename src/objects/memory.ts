/** Objects in memory, gone with the process: for trying out and for tests. */
import { createHash, randomUUID } from 'node:crypto'
import { addAbortSignal, Readable } from 'node:stream'
import { STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { checkKey, checkParts, checkPrefix, checkRange, compareBytes, partMissing } from './checks.ts'
import { exactly, ignore, throwIfCancelled, wrongHash } from './exact-body.ts'
import {
  MultipartNotFound, ObjectAlreadyExists, ObjectNotFound, ObjectPreconditionFailed,
  type ByteRange, type ETag, type MultipartRef, type ObjectInfo, type ObjectStore, type PutOptions
} from './port.ts'

interface Stored { bytes: Buffer, etag: ETag, lastModified: Date }
interface Part { bytes: Buffer, etag: ETag }
interface Upload { key: string, initiated: Date, parts: Map<number, Part> }

/** An empty store. Nothing is shared between two of them. */
export function memoryObjectStore(): ObjectStore {
  const objects = new Map<string, Stored>()
  const uploads = new Map<string, Upload>()

  function store(key: string, bytes: Buffer, createOnly: boolean | undefined): { etag: ETag } {
    if (createOnly && objects.has(key)) throw new ObjectAlreadyExists('the key is taken')
    const etag = randomUUID()
    objects.set(key, { bytes, etag, lastModified: new Date() })
    return { etag }
  }

  function find(key: string, etag: ETag | undefined): Stored {
    checkKey(key)
    const stored = objects.get(key)
    if (stored === undefined) throw new ObjectNotFound('there is no such object')
    if (etag !== undefined && etag !== stored.etag) throw new ObjectPreconditionFailed('the object has another ETag')
    return stored
  }

  function findUpload({ key, uploadId }: MultipartRef): Upload {
    checkKey(key)
    const upload = uploads.get(uploadId)
    if (upload === undefined || upload.key !== key) throw new MultipartNotFound('there is no such upload')
    return upload
  }

  function addPart(ref: MultipartRef, partNumber: number, bytes: Buffer): { partNumber: number, etag: ETag } {
    const etag = randomUUID()
    findUpload(ref).parts.set(partNumber, { bytes, etag })
    return { partNumber, etag }
  }

  return {
    name: 'memory',
    putMaxBytes: Infinity,
    async check(signal) { throwIfCancelled(signal) },
    async createBucket() {},

    async put(key, body, options) {
      checkKey(key)
      return store(key, await collect(body, options), options.createOnly)
    },

    async copy(source, target, { sourceETag, createOnly, signal } = {}) {
      throwIfCancelled(signal)
      checkKey(target)
      return store(target, find(source, sourceETag).bytes, createOnly)
    },

    async open(key, { range, ifMatch, signal } = {}) {
      throwIfCancelled(signal)
      const stored = find(key, ifMatch)
      checkRange(range, stored.bytes.length)
      const body = Readable.from(chunksOf(slice(stored.bytes, range)), { objectMode: false, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES })
      return { ...describe(key, stored), body: signal ? addAbortSignal(signal, body).on('error', ignore) : body }
    },

    async head(key, signal) {
      throwIfCancelled(signal)
      checkKey(key)
      const stored = objects.get(key)
      return stored && describe(key, stored)
    },

    async delete(key, signal) {
      throwIfCancelled(signal)
      checkKey(key)
      objects.delete(key)
    },

    async* list(prefix, { signal } = {}) {
      checkPrefix(prefix)
      const keys = [...objects.keys()].filter(key => key.startsWith(prefix)).map(key => Buffer.from(key)).toSorted(compareBytes)
      for (const key of keys.map(String)) {
        throwIfCancelled(signal)
        const stored = objects.get(key)
        if (stored) yield describe(key, stored)
      }
    },

    async createMultipart(key, { signal } = {}) {
      throwIfCancelled(signal)
      checkKey(key)
      const uploadId = randomUUID()
      uploads.set(uploadId, { key, initiated: new Date(), parts: new Map() })
      return { uploadId }
    },

    async putPart(upload, partNumber, body, options) {
      findUpload(upload)
      return addPart(upload, partNumber, await collect(body, options))
    },

    async copyPart(upload, partNumber, source, { sourceETag, range, signal } = {}) {
      throwIfCancelled(signal)
      findUpload(upload)
      const { bytes } = find(source, sourceETag)
      checkRange(range, bytes.length)
      return addPart(upload, partNumber, slice(bytes, range))
    },

    async completeMultipart(ref, parts, { createOnly, signal } = {}) {
      throwIfCancelled(signal)
      const upload = findUpload(ref)
      checkParts(parts)
      const bytes = parts.map(({ partNumber, etag }) => {
        const part = upload.parts.get(partNumber)
        if (part?.etag !== etag) throw partMissing(partNumber)
        return part.bytes
      })
      const stored = store(ref.key, Buffer.concat(bytes), createOnly)
      uploads.delete(ref.uploadId)
      return stored
    },

    async abortMultipart({ key, uploadId }, signal) {
      throwIfCancelled(signal)
      checkKey(key)
      if (uploads.get(uploadId)?.key === key) uploads.delete(uploadId)
    },

    async listMultiparts(key, signal) {
      throwIfCancelled(signal)
      checkKey(key)
      return [...uploads].filter(([, upload]) => upload.key === key).map(([uploadId, { initiated }]) => ({ uploadId, initiated }))
    },

    async close() {}
  }
}

async function collect(body: Readable | Uint8Array, { size, sha256, signal }: Pick<PutOptions, 'size' | 'sha256' | 'signal'>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of exactly(body, size, signal)) chunks.push(chunk)
  const bytes = Buffer.concat(chunks) // a copy: the caller may write into its buffer again
  if (sha256 !== undefined && createHash('sha256').update(bytes).digest('hex') !== sha256) throw wrongHash()
  return bytes
}

function describe(key: string, { bytes, etag, lastModified }: Stored): ObjectInfo {
  return { key, size: bytes.length, etag, lastModified }
}

function slice(bytes: Buffer, range: ByteRange | undefined): Buffer {
  return range ? bytes.subarray(range.start, range.end + 1) : bytes
}

function* chunksOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += STREAM_HIGH_WATER_MARK_BYTES) yield bytes.subarray(at, at + STREAM_HIGH_WATER_MARK_BYTES)
}
