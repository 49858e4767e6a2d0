/**
 * Files of the fs store. A file is written under a temporary name, synced, and never written to again once it has a key;
 * that is what makes a hard link a copy.
 *
 * The ETag is made of inode, size and time of last write: a new write is a new inode. An inode number can come back after
 * a delete, and clocks of file systems tick in milliseconds, so the time is set to a random fraction of its millisecond.
 * The device number is left out, because it may change with the next mount. The time an object came to be is the
 * inode's change time: a link made later has its source's time of last write.
 */
import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { open } from 'node:fs/promises'
import { wrongHash } from './exact-body.ts'
import { giveBack } from './give-back.ts'
import type { ETag } from './port.ts'

export interface FileInfo { size: number, etag: ETag, lastModified: Date }

export function describeFile(stats: BigIntStats): FileInfo {
  return {
    size: Number(stats.size),
    etag: [stats.ino, stats.size, stats.mtimeNs].map(number => number.toString(36)).join('-'),
    lastModified: new Date(Number(stats.ctimeMs))
  }
}

export interface WriteOptions {
  /** What the bytes must hash to, in hex. */
  sha256?: string | undefined
  /** Nobody else uses the chunks. */
  disposable?: boolean
}

/** Writes and syncs a file that must not be there. What is left of it on failure is the caller's to remove. */
export async function writeFile(path: string, chunks: AsyncIterable<Uint8Array>, { sha256, disposable = false }: WriteOptions = {}): Promise<FileInfo> {
  await using handle = await open(path, 'wx', 0o640)
  const hash = sha256 === undefined ? undefined : createHash('sha256')
  for await (const chunk of chunks) {
    hash?.update(chunk)
    await handle.writeFile(chunk) // at the current position, until all of it is written; write() may stop short
    if (disposable) giveBack(chunk)
  }
  if (hash && hash.digest('hex') !== sha256) throw wrongHash()
  const written = (Date.now() + Math.random()) / 1000
  await handle.utimes(written, written)
  await handle.sync()
  return describeFile(await handle.stat({ bigint: true }))
}
