/**
 * What `inputPath` and `outputPath` name: an object under one of OBJECT_PATH_PREFIXES, or a file below a folder of this node.
 * Nothing else can be named, however it is written: a path is taken as it stands, what could lead out of the folder is refused
 * before anything is looked up, and no link on the way is followed.
 */
import { constants } from 'node:fs'
import { copyFile, lstat, open, realpath, rename, rm } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import type { Readable } from 'node:stream'
import { PenstockError } from '../errors.ts'
import { NODE_PATH_MAX_BYTES, STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { checkKey } from '../objects/checks.ts'
import { ObjectKeyInvalid, ObjectNotFound, type ObjectStore } from '../objects/port.ts'

export type Place = { readonly key: string } | { readonly file: string, readonly root: string }

export interface Roots {
  prefixes: readonly string[]
  /** folder of this node that files of this kind lie in */
  root: string
}

/** @throws BAD_REQUEST */
export function placeOf(field: string, given: string, { prefixes, root }: Roots): Place {
  if (Buffer.byteLength(given) > NODE_PATH_MAX_BYTES) throw refused(field, `must not have more than ${NODE_PATH_MAX_BYTES} bytes`)
  if (!given.isWellFormed() || /[\p{Cc}\\]/u.test(given)) throw refused(field, 'must not contain control characters or a backslash')
  // nothing here decodes it, but whoever looks at the same path may
  if (/%[0-9a-f]{2}/i.test(given)) throw refused(field, 'must not be percent-encoded')
  if (prefixes.some(prefix => given.startsWith(prefix))) return { key: checkedKey(field, given) }
  if (given.split('/').includes('..')) throw refused(field, 'must not contain ".."')
  const top = resolve(root)
  const file = isAbsolute(given) ? resolve(given) : join(top, given)
  if (!file.startsWith(top + sep)) throw refused(field, `must be an object key that begins with ${prefixes.join(' or ')}, or a file in the folder of this node`)
  return { file, root: top }
}

function checkedKey(field: string, key: string): string {
  try {
    checkKey(key)
    return key
  } catch (error) {
    if (error instanceof ObjectKeyInvalid) throw refused(field, 'is no object key')
    throw error
  }
}

function refused(field: string, message: string): PenstockError {
  return new PenstockError('BAD_REQUEST', { message: `${field} ${message}`, details: { fields: [{ field, message }] } })
}

/** The bytes that are to be read. The caller destroys them. @throws FILE_NOT_FOUND, BAD_REQUEST where a link leads on; what the store throws */
export async function openInput(place: Place, store: ObjectStore, signal: AbortSignal): Promise<{ body: Readable, size: number }> {
  return 'key' in place ? await openObject(store, place.key, signal) : await openFile('inputPath', await realFile('inputPath', place))
}

async function openObject(store: ObjectStore, key: string, signal: AbortSignal): Promise<{ body: Readable, size: number }> {
  try {
    return await store.open(key, { signal })
  } catch (error) {
    if (error instanceof ObjectNotFound) throw notFound(error)
    if (error instanceof ObjectKeyInvalid) throw refused('inputPath', 'is no object key')
    throw error
  }
}

function notFound(cause?: unknown): PenstockError {
  return new PenstockError('FILE_NOT_FOUND', { cause })
}

/** The same path, where every folder on it is really there. @throws FILE_NOT_FOUND, BAD_REQUEST */
async function realFile(field: string, { file, root }: Extract<Place, { file: string }>): Promise<string> {
  try {
    const top = await realpath(root)
    const wanted = join(top, relative(root, file))
    if (await realpath(dirname(wanted)) !== dirname(wanted)) throw refused(field, 'must not lead over a link')
    return wanted
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG')) throw notFound(error)
    throw error
  }
}

async function openFile(field: string, path: string): Promise<{ body: Readable, size: number }> {
  // NONBLOCK: a pipe that lies there must not hold us
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error: unknown) => {
    if (hasCode(error, 'ELOOP')) throw refused(field, 'must not be a link')
    throw hasCode(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ENXIO') ? notFound(error) : error
  })
  const info = await file.stat()
  if (info.isFile()) return { body: file.createReadStream({ highWaterMark: STREAM_HIGH_WATER_MARK_BYTES }), size: info.size }
  await file.close()
  throw refused(field, 'must be a file')
}

/** Before a job begins that could not be delivered. @throws BAD_REQUEST */
export async function assertDeliverable(place: Place): Promise<void> {
  if ('key' in place) return
  const path = await realFile('outputPath', place).catch((error: unknown) => { throw isMissing(error) ? refused('outputPath', 'must be in a folder that is there') : error })
  const there = await lstat(path).catch(() => undefined)
  if (there !== undefined && !there.isFile()) throw refused('outputPath', 'is taken by what is no file')
}

function isMissing(error: unknown): boolean {
  return error instanceof PenstockError && error.code === 'FILE_NOT_FOUND'
}

export interface Delivery { staged: { key: string, etag: string, contentType: string }, file: string }

/** Puts a result where it was asked for, whole or not at all; what was there before is replaced. */
export async function deliver(place: Place, { staged, file }: Delivery, store: ObjectStore, signal: AbortSignal): Promise<void> {
  if ('key' in place) {
    await store.copy(staged.key, place.key, { sourceETag: staged.etag, contentType: staged.contentType, signal })
    return
  }
  const path = await realFile('outputPath', place)
  const temporary = join(dirname(path), `.${randomUUID()}`)
  try {
    await copyFile(file, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
    signal.throwIfAborted()
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(error.code as string)
}
