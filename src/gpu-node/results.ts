/**
 * Results of jobs on the disk of this node, until they are fetched and their time is over:
 *
 *   <id>.data   the bytes of all files of the result, one behind the other
 *   <id>.json   which files these are; written last, so that a result that can be found is whole
 *
 * An id has no dot and no slash, so that no other file can be named by one.
 */
import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { Type, type Static } from 'typebox'
import { Check } from 'typebox/value'
import { PenstockError } from '../errors.ts'
import { InferenceFailed, type StagedResult } from '../inference/port.ts'
import { NodeFile, NODE_JOB_ID } from '../inference/remote/lines.ts'
import { NODE_LINE_MAX_BYTES, STREAM_HIGH_WATER_MARK_BYTES } from '../limits.ts'
import { giveBack } from '../objects/give-back.ts'
import { ObjectStoreFailed, type ObjectStore } from '../objects/port.ts'
import { hasCode } from './paths.ts'

const KeptResult = Type.Object({ fileSize: Type.Integer(), sha256: Type.String(), results: Type.Array(NodeFile) })
export type KeptResult = Static<typeof KeptResult>

export interface OpenResult { body: Readable, size: number, sha256: string, filename: string, contentType: string }

export interface NodeResults {
  /** Copies what was staged. Returns the path of the bytes, with what is known of them. */
  keep(jobId: string, staged: readonly StagedResult[], store: ObjectStore, signal: AbortSignal): Promise<KeptResult & { file: string }>
  /** @throws RESULT_NOT_FOUND */
  open(jobId: string): Promise<OpenResult>
  /** Idempotent. */
  remove(jobId: string): Promise<void>
}

const ID = new RegExp(NODE_JOB_ID)

export function nodeResults(folder: string): NodeResults {
  const dataOf = (jobId: string): string => join(folder, `${checked(jobId)}.data`)
  const factsOf = (jobId: string): string => join(folder, `${checked(jobId)}.json`)

  async function remove(jobId: string): Promise<void> {
    await rm(factsOf(jobId), { force: true })
    await rm(dataOf(jobId), { force: true })
  }

  return {
    remove,
    async keep(jobId, staged, store, signal) {
      await mkdir(folder, { recursive: true })
      await remove(jobId)
      const temporary = join(folder, `.${randomUUID()}`)
      try {
        const sha256 = await writeAll(temporary, staged, store, signal)
        const kept = { fileSize: staged.reduce((sum, { size }) => sum + size, 0), sha256, results: staged.map(shown) }
        await rename(temporary, dataOf(jobId))
        await writeFile(temporary, JSON.stringify(kept), { flag: 'wx' })
        await rename(temporary, factsOf(jobId))
        return { ...kept, file: dataOf(jobId) }
      } catch (error) {
        throw signal.aborted || error instanceof ObjectStoreFailed ? error : new InferenceFailed('storage_failed', 'the result could not be kept', { cause: error })
      } finally {
        await rm(temporary, { force: true })
      }
    },
    async open(jobId) {
      const { fileSize, sha256, results } = await readFacts(factsOf(jobId))
      const file = await open(dataOf(jobId), constants.O_RDONLY | constants.O_NOFOLLOW).catch((error: unknown) => { throw hasCode(error, 'ENOENT') ? missing(error) : error })
      const { size } = await file.stat()
      if (size !== fileSize) {
        await file.close()
        throw missing()
      }
      const [first] = results
      const alone = results.length === 1
      return {
        body: file.createReadStream({ highWaterMark: STREAM_HIGH_WATER_MARK_BYTES }), size, sha256,
        filename: alone ? `${jobId}${extname(first!.filename)}` : jobId,
        contentType: alone ? first!.contentType : 'application/octet-stream'
      }
    }
  }
}

/** It becomes part of a path. @throws where it was not looked at before */
function checked(jobId: string): string {
  if (!ID.test(jobId)) throw new Error('this is no id of a job')
  return jobId
}

function shown({ name, filename, contentType, size, sha256 }: StagedResult): NodeFile {
  return { name, filename, contentType, fileSize: size, sha256 }
}

function missing(cause?: unknown): PenstockError {
  return new PenstockError('RESULT_NOT_FOUND', { cause })
}

async function readFacts(path: string): Promise<KeptResult> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((error: unknown) => { throw hasCode(error, 'ENOENT', 'ELOOP') ? missing(error) : error })
  try {
    if ((await file.stat()).size > NODE_LINE_MAX_BYTES) throw missing()
    const facts: unknown = JSON.parse(await readFile(file, 'utf8'))
    if (!Check(KeptResult, facts)) throw missing()
    return facts
  } finally {
    await file.close()
  }
}

/** Returns the hash of all of it. */
async function writeAll(path: string, staged: readonly StagedResult[], store: ObjectStore, signal: AbortSignal): Promise<string> {
  const whole = staged.length === 1 ? undefined : createHash('sha256')
  const file = await open(path, 'wx')
  try {
    for (const { key, etag } of staged) {
      const { body, disposable = false } = await store.open(key, { ifMatch: etag, signal })
      for await (const chunk of body as AsyncIterable<Buffer>) {
        whole?.update(chunk)
        await file.writeFile(chunk)
        if (disposable) giveBack(chunk)
      }
    }
  } finally {
    await file.close()
  }
  return whole?.digest('hex') ?? staged[0]!.sha256
}
