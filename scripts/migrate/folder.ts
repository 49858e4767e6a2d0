/**
 * Files of a folder and of those below it. Links are not followed, and what is no file is passed over: a pipe must not hold
 * the import, and a link must not lead out of the folder. Names are bytes, as the system has them: one that is no UTF-8 is
 * opened all the same.
 */
import { constants, type Dirent } from 'node:fs'
import { lstat, open, readdir, realpath } from 'node:fs/promises'
import { STREAM_HIGH_WATER_MARK_BYTES } from '../../src/limits.ts'
import { FOLDER_DEPTH_MAX } from './limits.ts'
import { SourceFault, type Entry, type Opened, type Source } from './source.ts'

const SLASH = Buffer.from('/')

/** @param label what stands for the folder in the ids of its files; its real path where it is not given. @throws SourceFault */
export async function folderSource(folder: string, label?: string): Promise<Source> {
  const root = await realpath(folder).catch(error => { throw new SourceFault(`the folder ${folder} cannot be read: ${codeOf(error)}`, { cause: error }) })
  return {
    entries: signal => walk({ root: label ?? root, signal }, Buffer.from(root), Buffer.alloc(0), 0),
    async close() {}
  }
}

interface Walk { root: string, signal: AbortSignal }

async function* walk(context: Walk, folder: Buffer, below: Buffer, depth: number): AsyncGenerator<Entry> {
  const entries = await readdir(folder, { withFileTypes: true, encoding: 'buffer' }).catch((error: unknown) => {
    if (depth === 0) throw new SourceFault(`the folder cannot be read: ${codeOf(error)}`, { cause: error })
    return codeOf(error)
  })
  if (typeof entries === 'string') return yield failed(below, `the folder cannot be read: ${entries}`)
  for (const entry of entries.toSorted((a, b) => Buffer.compare(a.name, b.name))) {
    if (context.signal.aborted) return
    const path = Buffer.concat([folder, SLASH, entry.name])
    const relative = below.length === 0 ? entry.name : Buffer.concat([below, SLASH, entry.name])
    if (!entry.isDirectory()) yield await describe(context, entry, path, relative)
    else if (depth === FOLDER_DEPTH_MAX) yield failed(relative, `lies in more than ${FOLDER_DEPTH_MAX} folders`)
    else yield* walk(context, path, relative, depth + 1)
  }
}

function failed(name: Buffer, reason: string): Entry {
  return { name: name.toString(), outcome: 'failed', reason }
}

async function describe({ root }: Walk, entry: Dirent<Buffer>, path: Buffer, relative: Buffer): Promise<Entry> {
  const name = relative.toString()
  if (!entry.isFile()) return { name, outcome: 'skipped', reason: entry.isSymbolicLink() ? 'is a link' : 'is no file' }
  const stats = await lstat(path).catch(codeOf)
  if (typeof stats === 'string') return failed(relative, `cannot be read: ${stats}`)
  return { name, path: name, size: stats.size, identity: JSON.stringify(['folder', root, relative.toString('latin1')]), open: () => read(path) }
}

async function read(path: Buffer): Promise<Opened> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    .catch(error => { throw new SourceFault(`cannot be read: ${codeOf(error)}`, { cause: error }) })
  try {
    const before = await handle.stat({ bigint: true })
    if (!before.isFile()) throw new SourceFault('is no file any more')
    const body = handle.createReadStream({ highWaterMark: STREAM_HIGH_WATER_MARK_BYTES, autoClose: false })
    body.once('close', () => void handle.close().catch(() => {}))
    return {
      body, size: Number(before.size),
      async confirm() {
        const after = await handle.stat({ bigint: true })
        if (after.size !== before.size || after.mtimeNs !== before.mtimeNs) throw new SourceFault('was written to while it was read')
      }
    }
  } catch (error) {
    await handle.close()
    throw error
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error)
}
