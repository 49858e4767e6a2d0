/**
 * The folders of the fs store: how a key becomes a path that is really inside the root, how a finished file gets its
 * name so that it is still there after a power cut, and how folders that became empty go away.
 *
 * - Every folder on the way is made and looked at one level after another, so that nothing is ever made or named beyond
 *   a symbolic link. (Whoever can write to the root while we run can do everything anyway; this is for links that are
 *   lying there.)
 * - A new folder counts only when the folder that names it was synced. Makers of the same folder share one promise:
 *   the second must not acknowledge a file in a folder that the first has made but not yet synced. One that is there
 *   already may be of a process that was killed in between: it is synced once more before it is relied on.
 * - Removing an empty folder can come between another writer's mkdir and link; that writer sees ENOENT and begins again.
 */
import { link, lstat, mkdir, open, readdir, realpath, rename, rmdir } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { DURABLE_FOLDERS_MAX, FOLDER_ATTEMPTS_MAX } from '../limits.ts'
import { checkKey, compareBytes } from './checks.ts'
import { BucketNotFound, ObjectAlreadyExists, ObjectKeyInvalid } from './port.ts'

export class FsTree {
  readonly #given: string
  #root: string | undefined
  readonly #making = new Map<string, Promise<void>>()
  /** Folders that were there, and whose names are known to be durable; chiefly those above all keys. */
  readonly #durable = new Set<string>()

  constructor(root: string) {
    this.#given = resolve(root)
  }

  /** Real path of the root. @throws BucketNotFound */
  async root(): Promise<string> {
    return this.#root ??= await realpath(this.#given).catch(cause => {
      throw hasCode(cause, 'ENOENT', 'ENOTDIR') ? new BucketNotFound('the root folder is not there', { cause }) : cause
    })
  }

  /** @throws BucketNotFound */
  async check(): Promise<void> {
    const found = await lstat(await this.root()).catch(() => undefined)
    if (!found?.isDirectory()) throw new BucketNotFound('the root folder is not there')
  }

  async createRoot(): Promise<void> {
    const first = await mkdir(this.#given, { recursive: true })
    if (first === undefined) return
    for (let made = this.#given; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made))
  }

  /** Where the key's file is to be. Its folder need not be there. */
  async pathOf(key: string): Promise<string> {
    checkKey(key)
    return join(await this.root(), ...key.split('/'))
  }

  /** Where the key's file may be; undefined where its folder is not. @throws ObjectKeyInvalid where a link leads elsewhere */
  async find(key: string): Promise<string | undefined> {
    const path = await this.pathOf(key)
    const folder = dirname(path)
    try {
      if (await realpath(folder) !== folder) throw linked()
      return path
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
  }

  /** Makes the folder and those above it durable. Idempotent. */
  async makeFolder(folder: string): Promise<void> {
    const making = this.#making.get(folder) ?? this.#make(folder).finally(() => this.#making.delete(folder))
    this.#making.set(folder, making)
    await making
  }

  async #make(folder: string): Promise<void> {
    if (folder === await this.root()) return
    await this.makeFolder(dirname(folder))
    try {
      await mkdir(folder)
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
      if (!(await lstat(folder)).isDirectory()) throw linked()
      if (this.#durable.has(folder)) return
      if (this.#durable.size >= DURABLE_FOLDERS_MAX) this.#durable.clear()
      await syncFolder(dirname(folder))
      this.#durable.add(folder)
      return
    }
    await syncFolder(dirname(folder))
  }

  /**
   * Gives a finished, synced file its name. With `createOnly` by link(), which is atomic and refuses a name that is taken;
   * else by rename(), which replaces it atomically. The temporary name may be left over.
   */
  async place(temporary: string, path: string, createOnly: boolean): Promise<void> {
    const folder = dirname(path)
    for (let attempt = 1; ; attempt++) {
      try {
        await this.makeFolder(folder)
        await (createOnly ? link(temporary, path) : rename(temporary, path))
        break
      } catch (error) {
        if (hasCode(error, 'EEXIST')) throw new ObjectAlreadyExists('the key is taken', { cause: error })
        if (hasCode(error, 'ENOTDIR', 'EISDIR')) throw linked(error)
        if (hasCode(error, 'ENOENT') && attempt < FOLDER_ATTEMPTS_MAX) continue
        await this.prune(folder)
        throw error
      }
    }
    await syncFolder(folder)
  }

  /** Removes the folder and those above it, as far as they are empty. */
  async prune(folder: string): Promise<void> {
    const root = await this.root()
    for (let empty = folder; empty !== root; empty = dirname(empty)) {
      try {
        this.#durable.delete(empty)
        await rmdir(empty)
      } catch (error) {
        if (hasCode(error, 'ENOENT')) continue
        return // not empty, or not ours to remove: both end it
      }
    }
  }

  /**
   * Keys under the prefix with their paths, in byte order, one folder's names in memory at a time. A folder sorts as its
   * name with a slash, which is how the keys below it sort among its siblings. What vanishes meanwhile is left out.
   */
  async* walk(prefix: string): AsyncGenerator<{ key: string, path: string }> {
    const parent = prefix.slice(0, prefix.lastIndexOf('/') + 1)
    const folder = parent === '' ? await this.root() : await this.find(`${parent}-`)
    if (folder !== undefined) yield* this.#walk(parent === '' ? folder : dirname(folder), parent, prefix)
  }

  async* #walk(folder: string, above: string, prefix: string): AsyncGenerator<{ key: string, path: string }> {
    for (const name of await namesIn(folder)) {
      const key = above + name
      if (!key.startsWith(prefix)) continue
      const path = join(folder, basename(name))
      if (name.endsWith('/')) yield* this.#walk(path, key, prefix)
      else yield { key, path }
    }
  }
}

/** Names of the objects and, with a slash at the end, of the folders in a folder, in byte order. */
async function namesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.filter(entry => (entry.isFile() || entry.isDirectory()) && !entry.name.startsWith('.'))
      .map(entry => Buffer.from(entry.isDirectory() ? `${entry.name}/` : entry.name)).toSorted(compareBytes).map(String)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

/** Makes what a folder names durable. A folder that is gone names nothing. */
export async function syncFolder(folder: string): Promise<void> {
  try {
    await using handle = await open(folder, 'r')
    await handle.sync()
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(error.code as string)
}

/** For catch(): turns errors of these codes into undefined. */
export function unless(...codes: string[]): (error: unknown) => undefined {
  return error => {
    if (!hasCode(error, ...codes)) throw error
    return undefined
  }
}

function linked(cause?: unknown): ObjectKeyInvalid {
  return new ObjectKeyInvalid('a folder of this key is no folder of this store', { cause })
}
