/**
 * Objects as files under one folder, for one machine.
 *
 *   <root>/<key>                       the bytes, nothing else
 *   <root>/.tmp/<uuid>                 being written
 *   <root>/.multipart/<uploadId>/      key, and one file a part (fs-multipart.ts)
 *
 * put   write .tmp/<uuid> → fsync → link (create-only) or rename (replace) → fsync of the folder and of those made for it.
 *       Killed before the link: a temporary file, which the sweeper removes. Killed after it: a whole object.
 * copy  hard link to a temporary name → look at what was linked → link or rename. Nothing can change between the look
 *       and the link, because both name the same inode and no file is written to once it has a key.
 * open  one descriptor for stat and read, so that ETag, size and bytes belong together even while the key is replaced.
 *
 * There are no sidecar files: `contentType` and `cacheControl` are accepted and not kept. The records hold the content type.
 * A key below another key (`a` and `a/b`) cannot be stored: one would be a file and a folder. The layout has no such keys.
 * The root must be one file system that has hard links.
 */
import { constants } from 'node:fs'
import { link, lstat, open, readdir, rm, unlink } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { dirname, join } from 'node:path'
import { addAbortSignal, type Readable } from 'node:stream'
import { STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { checkPrefix, checkRange } from './checks.ts'
import { exactly, ignore, throwIfCancelled } from './exact-body.ts'
import { describeFile, writeFile, type FileInfo } from './fs-file.ts'
import { fsMultipart, sweepMultiparts } from './fs-multipart.ts'
import { FsTree, hasCode, unless } from './fs-tree.ts'
import {
  ObjectKeyInvalid, ObjectNotFound, ObjectPreconditionFailed, ObjectStoreFailed,
  type CopyOptions, type ETag, type ObjectInfo, type ObjectStore, type OpenObject, type PutOptions, type SweepsTemporaries, type UnsizedPutOptions
} from './port.ts'

/** What the parts of the store share. */
export interface FsContext {
  tree: FsTree
  /** Runs with a path in `.tmp` that is free, and leaves none behind. */
  withTemporary<T>(use: (path: string) => Promise<T>): Promise<T>
  /** Links the object under a temporary name and says what it is. @throws ObjectNotFound, ObjectPreconditionFailed */
  linkObject(key: string, temporary: string, etag: ETag | undefined): Promise<FileInfo>
}

/** @param root the folder; made by createBucket() */
export function fsObjectStore({ root }: { root: string }): ObjectStore & SweepsTemporaries {
  const tree = new FsTree(root)
  const context: FsContext = { tree, withTemporary: use => useTemporary(tree, use), linkObject: (...args) => linkTo(tree, ...args) }
  const methods = translated({
    async check(signal) {
      throwIfCancelled(signal)
      await tree.check()
    },
    createBucket: () => tree.createRoot(),
    put: (key, body, options) => put(context, key, body, options),
    putUnsized: (key, body, options = {}) => putUnsized(context, key, body, options),
    copy: (source, target, options = {}) => copy(context, source, target, options),
    open: (key, options = {}) => openObject(tree, key, options),
    head: (key, signal) => head(tree, key, signal),
    async delete(key, signal) {
      throwIfCancelled(signal)
      const path = await tree.find(key)
      if (path === undefined) return
      await unlink(path).catch(async error => {
        const folder = hasCode(error, 'EISDIR', 'EPERM') && (await lstat(path)).isDirectory()
        if (!folder && !hasCode(error, 'ENOENT')) throw error
      })
      await tree.prune(dirname(path))
    },
    ...fsMultipart(context),
    async sweepTemporaries(before) {
      return await sweepFiles(tree, before) + await sweepMultiparts(tree, before)
    }
  } satisfies Omit<ObjectStore, 'name' | 'putMaxBytes' | 'list' | 'close'> & SweepsTemporaries)
  return { name: 'fs', putMaxBytes: Infinity, ...methods, list: (prefix, options) => list(tree, prefix, options?.signal), async close() {} }
}

/** The same methods; whatever the file system says leaves them as an error of the port. */
function translated<T extends Record<string, (...args: never[]) => Promise<unknown>>>(methods: T): T {
  return Object.fromEntries(Object.entries(methods).map(([action, run]) => [action, async (...args: never[]) => {
    try {
      return await run(...args)
    } catch (error) {
      throw failed(action, error)
    }
  }])) as T
}

function failed(action: string, cause: unknown): ObjectStoreFailed {
  if (cause instanceof ObjectStoreFailed) return cause
  if (hasCode(cause, 'ENAMETOOLONG')) return new ObjectKeyInvalid('an object key is too long for this file system', { cause })
  const code = cause instanceof Error && 'code' in cause ? ` (${cause.code})` : ''
  return new ObjectStoreFailed(`fs: ${action} failed${code}`, { cause })
}

async function useTemporary<T>(tree: FsTree, use: (path: string) => Promise<T>): Promise<T> {
  const folder = join(await tree.root(), '.tmp')
  await tree.makeFolder(folder)
  const path = join(folder, randomUUID())
  try {
    return await use(path)
  } finally {
    await rm(path, { force: true, recursive: true })
  }
}

async function linkTo(tree: FsTree, key: string, temporary: string, etag: ETag | undefined): Promise<FileInfo> {
  const path = await tree.find(key)
  if (path === undefined || !(await lstat(path).catch(unless('ENOENT')))?.isFile()) throw missing()
  await link(path, temporary).catch(error => { throw hasCode(error, 'ENOENT') ? missing(error) : error })
  const info = describeFile(await lstat(temporary, { bigint: true }))
  if (etag !== undefined && etag !== info.etag) throw changed()
  return info
}

async function put({ tree, withTemporary }: FsContext, key: string, body: Readable | Uint8Array, options: PutOptions): Promise<{ etag: ETag }> {
  const path = await tree.pathOf(key)
  return await withTemporary(async temporary => {
    const { etag } = await writeFile(temporary, exactly(body, options.size, options.signal), options)
    throwIfCancelled(options.signal)
    await tree.place(temporary, path, options.createOnly ?? false)
    return { etag }
  })
}

async function putUnsized({ tree, withTemporary }: FsContext, key: string, body: AsyncIterable<Uint8Array>, { createOnly = false, signal }: UnsizedPutOptions): Promise<{ etag: ETag, size: number }> {
  throwIfCancelled(signal)
  const path = await tree.pathOf(key)
  return await withTemporary(async temporary => {
    const { etag, size } = await writeFile(temporary, body)
    throwIfCancelled(signal)
    await tree.place(temporary, path, createOnly)
    return { etag, size }
  })
}

async function copy({ tree, withTemporary, linkObject }: FsContext, source: string, target: string, options: CopyOptions): Promise<{ etag: ETag }> {
  throwIfCancelled(options.signal)
  const path = await tree.pathOf(target)
  return await withTemporary(async temporary => {
    const { etag } = await linkObject(source, temporary, options.sourceETag)
    await tree.place(temporary, path, options.createOnly ?? false)
    return { etag }
  })
}

async function openObject(tree: FsTree, key: string, { range, ifMatch, signal }: Parameters<ObjectStore['open']>[1] & {}): Promise<OpenObject> {
  throwIfCancelled(signal)
  const path = await tree.find(key)
  if (path === undefined) throw missing()
  // NONBLOCK: a pipe that lies there must not hold us
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(error => {
    throw hasCode(error, 'ENOENT', 'ELOOP') ? missing(error) : error
  })
  try {
    const stats = await handle.stat({ bigint: true })
    if (!stats.isFile()) throw missing()
    const info = describeFile(stats)
    if (ifMatch !== undefined && ifMatch !== info.etag) throw changed()
    checkRange(range, info.size)
    const body = handle.createReadStream({ ...range, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES })
    if (signal) addAbortSignal(signal, body).on('error', ignore)
    return { key, ...info, body, disposable: true }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function head(tree: FsTree, key: string, signal?: AbortSignal): Promise<ObjectInfo | undefined> {
  throwIfCancelled(signal)
  const path = await tree.find(key)
  return path === undefined ? undefined : await describeObject(key, path)
}

async function describeObject(key: string, path: string): Promise<ObjectInfo | undefined> {
  const stats = await lstat(path, { bigint: true }).catch(unless('ENOENT', 'ENOTDIR'))
  return stats?.isFile() ? { key, ...describeFile(stats) } : undefined
}

async function* list(tree: FsTree, prefix: string, signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo> {
  checkPrefix(prefix)
  try {
    for await (const { key, path } of tree.walk(prefix)) {
      throwIfCancelled(signal)
      const info = await describeObject(key, path)
      if (info) yield info
    }
  } catch (error) {
    throw failed('list', error)
  }
}

/** By change time: a link that a killed copy left behind has the time of last write of its source. */
async function sweepFiles(tree: FsTree, before: Date): Promise<number> {
  const folder = join(await tree.root(), '.tmp')
  let swept = 0
  for (const name of await readdir(folder).catch(unless('ENOENT')) ?? []) {
    const stats = await lstat(join(folder, name)).catch(unless('ENOENT'))
    if (stats === undefined || stats.ctime >= before) continue
    await rm(join(folder, name), { force: true, recursive: true })
    swept++
  }
  return swept
}

function missing(cause?: unknown): ObjectNotFound {
  return new ObjectNotFound('there is no such object', { cause })
}

function changed(): ObjectPreconditionFailed {
  return new ObjectPreconditionFailed('the object has another ETag')
}
