/**
 * Models on this machine's disk by their digest, shared by all workers of it:
 *
 *   <dir>/<sha256>.onnx            whole and verified, or not there
 *   <dir>/.<sha256>.<uuid>.part    arriving
 *
 * A file is hashed while it arrives and gets its name only when the hash is right (rename: of several workers at once each
 * makes a whole one, the last stays). One that was there before is hashed once by each worker, before its first use: what a
 * disk or a person has changed since is fetched again. When all are more than MODEL_CACHE_MAX_BYTES the least recently used
 * go; who was about to load one fetches it again.
 */
import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { MODEL_CACHE_MAX_BYTES, WORKER_LEFTOVERS_MAX_AGE_MS } from '../../limits.ts'
import type { ObjectStore } from '../../objects/port.ts'
import { InferenceFailed } from '../port.ts'

export interface CachedObject { key: string, sha256: string, size: number }

export interface ModelCache {
  /** Path of the file with this digest, fetched where it is not there. @throws InferenceFailed storage_failed, ObjectStoreFailed */
  fetch(model: CachedObject, signal?: AbortSignal): Promise<string>
  /** Takes a copy of a file of this machine, and says what it is. */
  adopt(file: string, signal?: AbortSignal): Promise<{ path: string, sha256: string, size: number }>
  /** Idempotent. */
  drop(sha256: string): Promise<void>
}

export interface ModelCacheOptions {
  dir: string
  store: Pick<ObjectStore, 'open'>
  maxBytes?: number
}

const NAME = /^[0-9a-f]{64}\.onnx$/
const PARTIAL = /^\.[0-9a-z.-]+\.part$/

export function modelCache({ dir, store, maxBytes = MODEL_CACHE_MAX_BYTES }: ModelCacheOptions): ModelCache {
  /** What files looked like when they were verified. */
  const verified = new Map<string, string>()
  const pathOf = (sha256: string): string => join(dir, `${sha256}.onnx`)

  async function isThere({ sha256, size }: CachedObject): Promise<boolean> {
    const path = pathOf(sha256)
    const looks = await looksOf(path)
    if (looks === undefined) return false
    if (verified.get(sha256) === looks.text) return true
    if (looks.size !== size || await hashFile(path) !== sha256) return false
    verified.set(sha256, looks.text)
    return true
  }

  /** Streams into the cache. @returns what arrived, still under a temporary name */
  async function receive(name: string, body: Readable, signal: AbortSignal | undefined): Promise<{ part: string, sha256: string, size: number }> {
    const part = join(dir, `.${name}.${randomUUID()}.part`)
    const meter = hashing()
    try {
      await pipeline(body, meter.transform, createWriteStream(part, { flags: 'wx', flush: true }), { signal })
    } catch (error) {
      await rm(part, { force: true })
      throw error
    }
    return { part, ...meter.result() }
  }

  async function keep(part: string, sha256: string): Promise<string> {
    const path = pathOf(sha256)
    // whole seconds stay what they are when the access time is set
    await utimes(part, new Date(), Math.floor(Date.now() / 1000))
    const looks = await looksOf(part)
    await rename(part, path)
    if (looks !== undefined) verified.set(sha256, looks.text)
    await makeRoom(dir, path, maxBytes)
    return path
  }

  return {
    async fetch(model, signal) {
      const { key, sha256, size } = model
      const path = pathOf(sha256)
      if (await isThere(model)) {
        // the access time says when it was last used; the other tells whether it was changed, and stays
        await utimes(path, new Date(), (await stat(path)).mtime)
        return path
      }
      await mkdir(dir, { recursive: true })
      const { body } = await store.open(key, signal === undefined ? {} : { signal })
      const got = await receive(sha256, body, signal)
      if (got.sha256 === sha256 && got.size === size) return await keep(got.part, sha256)
      await rm(got.part, { force: true })
      throw new InferenceFailed('storage_failed', 'the stored model has other bytes than its digest says', { retryable: false })
    },
    async adopt(file, signal) {
      await mkdir(dir, { recursive: true })
      const known = { key: '', sha256: await hashFile(file), size: (await stat(file)).size }
      if (await isThere(known)) return { path: pathOf(known.sha256), sha256: known.sha256, size: known.size }
      const { part, sha256, size } = await receive('import', createReadStream(file), signal)
      return { path: await keep(part, sha256), sha256, size }
    },
    async drop(sha256) {
      verified.delete(sha256)
      await rm(pathOf(sha256), { force: true })
    }
  }
}

async function looksOf(path: string): Promise<{ size: number, text: string } | undefined> {
  const info = await stat(path, { bigint: true }).catch(() => undefined)
  return info === undefined ? undefined : { size: Number(info.size), text: `${info.ino} ${info.size} ${info.mtimeNs}` }
}

/** Passes bytes on, hashing and counting them. */
export function hashing(): { transform: Transform, result(): { sha256: string, size: number } } {
  const hash = createHash('sha256')
  let size = 0
  return {
    transform: new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk)
        size += chunk.length
        done(null, chunk)
      }
    }),
    result: () => ({ sha256: hash.digest('hex'), size })
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash)
  return hash.digest('hex')
}

/** Removes what was used longest ago, but for `kept`, and what was left unfinished. */
async function makeRoom(dir: string, kept: string, maxBytes: number): Promise<void> {
  const files = (await Promise.all((await readdir(dir)).map(name => describe(dir, name)))).filter(each => each !== undefined)
  const models = files.filter(({ name }) => NAME.test(name)).toSorted((a, b) => Number(b.path === kept) - Number(a.path === kept) || b.usedAt - a.usedAt)
  let total = 0
  const surplus = models.filter(({ path, size }) => {
    total += size
    return total > maxBytes && path !== kept
  })
  const stale = files.filter(({ name, writtenAt }) => PARTIAL.test(name) && writtenAt < Date.now() - WORKER_LEFTOVERS_MAX_AGE_MS)
  await Promise.all([...surplus, ...stale].map(({ path }) => rm(path, { force: true })))
}

async function describe(dir: string, name: string): Promise<{ name: string, path: string, size: number, usedAt: number, writtenAt: number } | undefined> {
  const path = join(dir, name)
  const info = await stat(path).catch(() => undefined)
  return info?.isFile() === true ? { name, path, size: info.size, usedAt: Math.max(info.atimeMs, info.mtimeMs), writtenAt: info.mtimeMs } : undefined
}
