/**
 * Multipart uploads of the fs store.
 *
 *   <root>/.multipart/<uploadId>/key      the key, written before the folder gets its name
 *   <root>/.multipart/<uploadId>/<n>      part n, synced before it gets its name
 *   <root>/.multipart/<uploadId>/.<uuid>  part being written; here, so that one slow part keeps its upload from the sweeper
 *
 * A part that is a whole object is a hard link to it, and an upload of one part is completed by linking that part: such
 * a copy moves no bytes. Several parts are written one after another into one temporary file.
 */
import { createReadStream } from 'node:fs'
import { lstat, mkdir, readdir, readFile, rename, rm, writeFile as writeText, link } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { checkKey, checkParts, checkRange, partMissing } from './checks.ts'
import { exactly, throwIfCancelled } from './exact-body.ts'
import { describeFile, writeFile } from './fs-file.ts'
import { syncFolder, unless, type FsTree } from './fs-tree.ts'
import type { FsContext } from './fs.ts'
import { MultipartNotFound, type ByteRange, type MultipartPart, type MultipartRef, type ObjectStore } from './port.ts'

const UPLOAD_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

type Methods = Pick<ObjectStore, 'createMultipart' | 'putPart' | 'copyPart' | 'completeMultipart' | 'abortMultipart' | 'listMultiparts'>

export function fsMultipart(context: FsContext): Methods {
  const { tree, withTemporary } = context
  return {
    async createMultipart(key, { signal } = {}) {
      throwIfCancelled(signal)
      checkKey(key)
      const uploadId = randomUUID()
      const uploads = await uploadsFolder(tree)
      await tree.makeFolder(uploads)
      await withTemporary(async temporary => {
        await mkdir(temporary)
        await writeText(join(temporary, 'key'), key, { flush: true })
        await rename(temporary, join(uploads, uploadId))
      })
      await syncFolder(uploads)
      return { uploadId }
    },

    async putPart(upload, partNumber, body, { size, signal }) {
      const folder = await findUpload(tree, upload)
      return await withPartFile(folder, async path => {
        await writeFile(path, exactly(body, size, signal))
        return await placePart(folder, path, partNumber)
      })
    },

    async copyPart(upload, partNumber, source, options = {}) {
      throwIfCancelled(options.signal)
      const folder = await findUpload(tree, upload)
      return await withTemporary(async temporary => {
        const { size } = await context.linkObject(source, temporary, options.sourceETag)
        checkRange(options.range, size)
        if (isWhole(options.range, size)) return await placePart(folder, temporary, partNumber)
        return await withPartFile(folder, async slice => {
          await writeFile(slice, read(temporary, options.range, options.signal))
          return await placePart(folder, slice, partNumber)
        })
      })
    },

    async completeMultipart(upload, parts, { createOnly = false, signal } = {}) {
      throwIfCancelled(signal)
      const target = await tree.pathOf(upload.key)
      const folder = await findUpload(tree, upload)
      checkParts(parts)
      const etag = await withTemporary(async temporary => {
        const made = await assemble(folder, parts, temporary, signal)
        await tree.place(temporary, target, createOnly)
        return made
      })
      await rm(folder, { recursive: true, force: true })
      return { etag }
    },

    async abortMultipart(upload, signal) {
      throwIfCancelled(signal)
      const folder = await findUpload(tree, upload).catch(unlessUnknown)
      if (folder !== undefined) await rm(folder, { recursive: true, force: true })
    },

    async listMultiparts(key, signal) {
      checkKey(key)
      const uploads = await uploadsFolder(tree)
      const found: { uploadId: string, initiated: Date }[] = []
      for (const uploadId of await readdir(uploads).catch(unless('ENOENT')) ?? []) {
        throwIfCancelled(signal)
        const folder = await findUpload(tree, { key, uploadId }).catch(unlessUnknown)
        const stats = folder === undefined ? undefined : await lstat(join(folder, 'key')).catch(unless('ENOENT'))
        if (stats) found.push({ uploadId, initiated: stats.mtime })
      }
      return found
    }
  }
}

/** Removes uploads of which no part was touched or written to since `before`. Returns how many. */
export async function sweepMultiparts(tree: FsTree, before: Date): Promise<number> {
  const uploads = await uploadsFolder(tree)
  let swept = 0
  for (const uploadId of await readdir(uploads).catch(unless('ENOENT')) ?? []) {
    const folder = join(uploads, uploadId)
    if (await isTouchedSince(folder, before)) continue
    await rm(folder, { recursive: true, force: true })
    swept++
  }
  return swept
}

/** A part that gets its name, also in place of another, touches the folder; one being written touches only itself. */
async function isTouchedSince(folder: string, since: Date): Promise<boolean> {
  for (const name of ['', ...await readdir(folder).catch(unless('ENOENT')) ?? []]) {
    const stats = await lstat(join(folder, name)).catch(unless('ENOENT'))
    if (stats !== undefined && stats.ctime >= since) return true
  }
  return false
}

async function uploadsFolder(tree: FsTree): Promise<string> {
  return join(await tree.root(), '.multipart')
}

/** @throws MultipartNotFound */
async function findUpload(tree: FsTree, { key, uploadId }: MultipartRef): Promise<string> {
  checkKey(key)
  if (!UPLOAD_ID.test(uploadId)) throw new MultipartNotFound('there is no such upload')
  const folder = join(await uploadsFolder(tree), uploadId)
  const stored = await readFile(join(folder, 'key'), 'utf8').catch(unless('ENOENT'))
  if (stored !== key) throw new MultipartNotFound('there is no such upload')
  return folder
}

function unlessUnknown(error: unknown): undefined {
  if (!(error instanceof MultipartNotFound)) throw error
  return undefined
}

/** Runs with a path in the upload's folder that is free, and leaves none behind. */
async function withPartFile<T>(folder: string, use: (path: string) => Promise<T>): Promise<T> {
  const path = join(folder, `.${randomUUID()}`)
  try {
    return await use(path)
  } finally {
    await rm(path, { force: true })
  }
}

async function placePart(folder: string, temporary: string, partNumber: number): Promise<MultipartPart> {
  checkParts([{ partNumber, etag: '' }])
  const { etag } = describeFile(await lstat(temporary, { bigint: true }))
  await rename(temporary, join(folder, String(partNumber))).catch(error => {
    unless('ENOENT')(error)
    throw new MultipartNotFound('the upload was aborted', { cause: error })
  })
  await syncFolder(folder)
  return { partNumber, etag }
}

/** Makes one file of the parts. Returns its ETag. */
async function assemble(folder: string, parts: readonly MultipartPart[], temporary: string, signal: AbortSignal | undefined): Promise<string> {
  for (const { partNumber, etag } of parts) {
    const stats = await lstat(join(folder, String(partNumber)), { bigint: true }).catch(unless('ENOENT'))
    if (stats === undefined || describeFile(stats).etag !== etag) throw partMissing(partNumber)
  }
  const [only] = parts
  if (only && parts.length === 1) {
    await link(join(folder, String(only.partNumber)), temporary)
    return only.etag
  }
  const { etag } = await writeFile(temporary, readAll(folder, parts, signal))
  return etag
}

async function* readAll(folder: string, parts: readonly MultipartPart[], signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for (const { partNumber } of parts) yield* read(join(folder, String(partNumber)), undefined, signal)
}

async function* read(path: string, range: ByteRange | undefined, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const chunk of createReadStream(path, { ...range, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES })) {
    throwIfCancelled(signal)
    yield chunk as Buffer
  }
}

function isWhole(range: ByteRange | undefined, size: number): boolean {
  return range === undefined || (range.start === 0 && range.end === size - 1)
}
