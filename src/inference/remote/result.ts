/**
 * The result of a job from a GPU node into staging: counted and hashed as it passes, and written so that it is an object only
 * where it is what the node has announced.
 *
 * Where the node names several files, their bytes lie one behind the other. What it says of lengths and hashes is held against
 * what comes; what it leaves out is found out here.
 */
import { createHash, randomUUID, type Hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { NODE_RESULT_MAX_BYTES, STREAM_HIGH_WATER_MARK_BYTES } from '../../limits.ts'
import { stagingKey } from '../../objects/keys.ts'
import type { ObjectStore } from '../../objects/port.ts'
import { putUnknownLength } from '../../objects/put-unknown-length.ts'
import type { MultipartIntents } from '../../objects/with-intent.ts'
import { InferenceFailed, type RunHooks, type StagedResult } from '../port.ts'
import { ask, refusal, type NodeAddress } from './ask.ts'
import { nodeFailed, resultPath, type NodeCompleted, type NodeFile } from './lines.ts'

export interface ResultTarget {
  store: ObjectStore
  intents: MultipartIntents
  signal: AbortSignal
  onStaging: RunHooks['onStaging']
}

export interface ResultSource {
  node: NodeAddress
  jobId: string
  task: string
  line: NodeCompleted
}

/** What a task calls its result, where the node does not say. */
const NAMES: Readonly<Record<string, string>> = {
  tensor: 'output.json', 'image-classification': 'classes.json', embedding: 'embedding.json', 'image-to-image': 'image.png', 'video-to-video': 'video.mp4'
}

/**
 * What the node says of where the result is, is not believed: it may be there where we would look, or the job has failed.
 * @throws InferenceFailed node_failed, before anything is asked
 */
export function assertResultUrl({ node: { url }, jobId, line: { resultDownloadUrl: given } }: ResultSource): void {
  const path = resultPath(jobId)
  const isThere = given === path || (URL.canParse(given) && new URL(given).href === `${url}${path}`)
  if (!isThere) throw nodeFailed('names another place for the result than its own')
}

/** @throws InferenceFailed node_failed, and what the store throws */
export async function fetchResults(source: ResultSource, target: ResultTarget): Promise<StagedResult[]> {
  assertResultUrl(source)
  const response = await ask(source.node, { method: 'GET', path: resultPath(source.jobId), headers: { 'accept-encoding': 'identity' }, signal: target.signal })
  try {
    if (response.statusCode !== 200) throw response.statusCode === 404 ? nodeFailed('does not have the result') : await refusal(response)
    return await takeAll(response, source, target)
  } finally {
    response.destroy()
  }
}

async function takeAll(response: IncomingMessage, source: ResultSource, target: ResultTarget): Promise<StagedResult[]> {
  const { sha256, results: named } = source.line
  const size = sizeOf(response, source, target.store.putMaxBytes)
  // the hash of one file is looked at as that of the file
  const body = new ResultBody(response, named !== undefined && named.length > 1 ? sha256 : undefined)
  try {
    if (named === undefined) return [await take(body, { ...nameless(response, source), fileSize: size, sha256 }, true, target)]
    if (named.reduce((sum, { fileSize }) => sum + fileSize, 0) !== size) throw nodeFailed('names files that are not as long as its result')
    if (named.length === 1 && sha256 !== undefined && named[0]!.sha256 !== sha256) throw nodeFailed('names two hashes of one file')
    const results: StagedResult[] = []
    for (const [at, file] of named.entries()) results.push(await take(body, file, at === named.length - 1, target))
    return results
  } catch (error) {
    throw body.fault ?? error
  } finally {
    await body.close()
  }
}

/** Bytes of the whole, as far as that is known. @throws where it is too long, or the node says two things of it */
function sizeOf({ headers }: IncomingMessage, { line: { fileSize } }: ResultSource, putMaxBytes: number): number | undefined {
  const { 'content-length': length, 'content-encoding': encoding } = headers
  if (encoding !== undefined && encoding !== 'identity') throw nodeFailed('sends its result compressed')
  const announced = length === undefined ? undefined : Number(length)
  if (fileSize !== undefined && announced !== undefined && fileSize !== announced) throw nodeFailed('sends a result of another length than it said')
  const size = fileSize ?? announced
  if (size !== undefined && size > Math.min(putMaxBytes, NODE_RESULT_MAX_BYTES)) throw new InferenceFailed('invalid_input', `the result has ${size} bytes, more than the store takes`)
  return size
}

function nameless({ headers }: IncomingMessage, { task }: ResultSource): Pick<NodeFile, 'name' | 'filename' | 'contentType'> {
  const name = NAMES[task] ?? 'result'
  const [type = ''] = (headers['content-type'] ?? '').split(';', 1)
  return { name, filename: name, contentType: /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}$/.test(type) ? type.toLowerCase() : 'application/octet-stream' }
}

type Wanted = Pick<NodeFile, 'name' | 'filename' | 'contentType'> & { fileSize: number | undefined, sha256: string | undefined }

async function take(body: ResultBody, { name, filename, contentType, fileSize: size, sha256: wanted }: Wanted, last: boolean, { store, intents, signal, onStaging }: ResultTarget): Promise<StagedResult> {
  const key = stagingKey(randomUUID(), 'object')
  const hash = createHash('sha256')
  onStaging?.(key)
  const named = { name, filename, contentType, key }
  if (size === undefined) {
    const put = await putUnknownLength(store, intents, key, body.rest(hash, wanted), { maxBytes: NODE_RESULT_MAX_BYTES, contentType, signal })
    return { ...named, ...put, sha256: hash.digest('hex') }
  }
  const chunks = Readable.from(body.next(size, { hash, wanted, last }), { objectMode: false, highWaterMark: STREAM_HIGH_WATER_MARK_BYTES })
  try {
    const { etag } = await store.put(key, chunks, { size, contentType, disposable: true, ...(wanted !== undefined && { sha256: wanted }), signal })
    return { ...named, etag, size, sha256: hash.digest('hex') }
  } finally {
    chunks.destroy()
  }
}

const LENGTH = 'sends a result of another length than it said'
const BYTES = 'sends a result of other bytes than it said'

/** The body of the answer, in pieces; each piece lets go of its last bytes only when they are found right. */
class ResultBody {
  /** Why the node is at fault, where it is: what the store makes of that says less. */
  fault: Error | undefined
  readonly #chunks: AsyncIterator<Buffer>
  readonly #whole: { hash: Hash, wanted: string } | undefined
  #rest: Buffer | undefined

  /** @param wanted hash of all of it together */
  constructor(response: IncomingMessage, wanted: string | undefined) {
    this.#chunks = (response as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
    this.#whole = wanted === undefined ? undefined : { hash: createHash('sha256'), wanted }
  }

  /** The next `size` bytes, of this hash where it is known. `last`: and then nothing more. */
  async* next(size: number, { hash, wanted, last }: { hash: Hash, wanted: string | undefined, last: boolean }): AsyncGenerator<Buffer, void, undefined> {
    for (let left = size; left > 0;) {
      const chunk = this.#rest ?? await this.#read()
      if (chunk === undefined) throw this.#blame(LENGTH)
      const piece = chunk.subarray(0, left)
      this.#rest = chunk.length > left ? chunk.subarray(left) : undefined
      left -= piece.length
      hash.update(piece)
      this.#whole?.hash.update(piece)
      if (left === 0 && wanted !== undefined && hash.copy().digest('hex') !== wanted) throw this.#blame(BYTES)
      if (left === 0 && last) await this.#end()
      yield piece
    }
    if (size === 0 && last) await this.#end()
  }

  /** All that is left, of a length that nobody has said. */
  async* rest(hash: Hash, wanted: string | undefined): AsyncGenerator<Buffer, void, undefined> {
    let taken = 0
    for (let chunk = await this.#read(); chunk !== undefined; chunk = await this.#read()) {
      taken += chunk.length
      if (taken > NODE_RESULT_MAX_BYTES) throw this.#blame('sends a result without an end')
      hash.update(chunk)
      yield chunk
    }
    if (wanted !== undefined && hash.copy().digest('hex') !== wanted) throw this.#blame(BYTES)
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  async #end(): Promise<void> {
    if (this.#rest !== undefined || await this.#read() !== undefined) throw this.#blame(LENGTH)
    if (this.#whole !== undefined && this.#whole.hash.digest('hex') !== this.#whole.wanted) throw this.#blame(BYTES)
  }

  async #read(): Promise<Buffer | undefined> {
    try {
      const { done, value } = await this.#chunks.next()
      return done === true ? undefined : value
    } catch (cause) {
      throw this.#blame('broke off in the middle of its result', cause)
    }
  }

  #blame(what: string, cause?: unknown): Error {
    return this.fault ??= nodeFailed(what, { cause })
  }
}
