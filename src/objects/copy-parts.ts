/** A copy made of ranges, where one request would be too much: server-side, no byte passes through this process. */
import { PARTS_MAX, SINGLE_PUT_MAX_BYTES } from '../limits.ts'
import type { CopyOptions, ETag, MultipartPart, MultipartRef, ObjectStore } from './port.ts'

export interface CopyByParts extends CopyOptions {
  source: string
  target: string
  /** bytes of the source */
  size: number
  /** bytes of a range; as few ranges as possible where it is not given */
  partBytes?: number
}

/** Creates an upload, copies, completes. A failure aborts the upload. Errors as those of copy(). */
export async function copyByParts(store: ObjectStore, copy: CopyByParts): Promise<{ etag: ETag }> {
  const { uploadId } = await store.createMultipart(copy.target, pick(copy, 'contentType', 'signal'))
  const upload = { key: copy.target, uploadId }
  try {
    const parts = await copyRanges(store, upload, copy)
    return await store.completeMultipart(upload, parts, pick(copy, 'createOnly', 'signal'))
  } catch (error) {
    await store.abortMultipart(upload).catch(() => {}) // the first failure is the one to tell of
    throw error
  }
}

/** Copies the whole source into the upload, range by range; of more than one, give the ETag that binds them. A source within the limit of one request is one part. */
export async function copyRanges(store: ObjectStore, upload: MultipartRef, copy: CopyByParts): Promise<MultipartPart[]> {
  const { source, size } = copy
  const options = pick(copy, 'sourceETag', 'signal')
  const bytes = Math.max(copy.partBytes ?? SINGLE_PUT_MAX_BYTES, Math.ceil(size / PARTS_MAX))
  // an empty object has no range, and one part of everything needs none
  if (size <= bytes) return [await store.copyPart(upload, 1, source, options)]
  const parts: MultipartPart[] = []
  for (let start = 0; start < size; start += bytes) {
    const range = { start, end: Math.min(start + bytes, size) - 1 }
    parts.push(await store.copyPart(upload, parts.length + 1, source, { ...options, range }))
  }
  return parts
}

/** The named properties that are given. */
export function pick<T extends object, K extends keyof T>(from: T, ...names: K[]): Pick<T, K> {
  return Object.fromEntries(names.filter(name => from[name] !== undefined).map(name => [name, from[name]])) as Pick<T, K>
}
