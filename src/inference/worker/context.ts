/** What a task gets of its surroundings: inputs out of the bucket, results into staging, a folder, a model. */
import { createHash, randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { pipeline, type Readable, Transform } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { stagingKey } from '../../objects/keys.ts'
import type { ObjectStore } from '../../objects/port.ts'
import type { Ffmpeg } from '../ffmpeg.ts'
import { InferenceFailed, type RunInput, type StagedResult } from '../port.ts'
import type { WorkerRun } from '../protocol.ts'
import type { TaskContext } from '../task.ts'
import { makeFolder, removeFolder } from './folders.ts'
import type { Memory } from './memory.ts'
import { hashing } from './model-cache.ts'
import { manifestOf, type Sessions } from './sessions.ts'

export interface Surroundings {
  store: ObjectStore
  sessions: Sessions
  workDir: string
  threads: number
  execTasks: unknown
  ffmpeg: Ffmpeg | null
  memory: Memory
}

export interface RunContext {
  context: TaskContext
  /** Removes the folder; without `keepResults` also what was staged. Best effort: sweepers come by. */
  end(options: { keepResults: boolean }): Promise<void>
}

/** What is said of a run while it goes on. */
export interface Tell {
  progress(progress: { stage: string, progress: number | null, message: string | null }): void
  /** Before a result is written there. */
  staging(key: string): void
}

/** Until the results can be read, nothing is done whole. */
const PROGRESS_MAX = 99

export function runContext(run: WorkerRun, { store, sessions, workDir, threads, execTasks, ffmpeg, memory }: Surroundings, signal: AbortSignal, tell: Tell): RunContext {
  const staged: string[] = []
  let folder: Promise<string> | undefined

  async function stage(result: { name: string, filename: string, contentType: string }, size: number, put: (key: string) => Promise<{ etag: string, sha256: string }>): Promise<StagedResult> {
    if (size > store.putMaxBytes) throw new InferenceFailed('invalid_input', `the result "${result.name}" has ${size} bytes, more than the store takes`)
    const key = stagingKey(randomUUID(), 'object')
    staged.push(key)
    tell.staging(key)
    return { ...result, key, size, ...await put(key) }
  }

  const context: TaskContext = {
    id: run.id, model: run.model, params: run.params, inputs: run.inputs, threads, signal, execTasks, ffmpeg, memory,
    manifest: () => manifestOf(run.model.manifest),
    session: () => sessions.get(run.model, signal),
    open: async input => verified((await store.open(input.key, { signal })).body, input),
    async read(input, maxBytes) {
      if (input.size > maxBytes) throw new InferenceFailed('invalid_input', `the input has ${input.size} bytes, more than the ${maxBytes} that are taken`)
      return await buffer(await context.open(input))
    },
    write: (result, bytes) => stage(result, bytes.length, async key => {
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      return { ...await store.put(key, bytes, { size: bytes.length, contentType: result.contentType, sha256, signal }), sha256 }
    }),
    async writeFile(result, path) {
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
      try {
        const info = await file.stat()
        if (!info.isFile()) throw new InferenceFailed('invalid_input', `the result "${result.name}" is no file`)
        return await stage(result, info.size, key => putFile(store, key, file.createReadStream({ autoClose: false }), info.size, result.contentType, signal))
      } finally {
        await file.close()
      }
    },
    folder: () => folder ??= makeFolder(workDir),
    progress({ stage: name = 'inference', progress, message = null }) {
      tell.progress({ stage: name, progress: progress === null ? null : Math.min(PROGRESS_MAX, Math.max(0, progress)), message })
    }
  }

  return {
    context,
    async end({ keepResults }) {
      const folders = folder === undefined ? [] : [folder.then(removeFolder)]
      await Promise.allSettled([...folders, ...keepResults ? [] : staged.map(key => store.delete(key))])
    }
  }
}

/** Ends with an error in place of its end where these are not the bytes that were meant. */
function verified(body: Readable, { sha256, size }: RunInput): Readable {
  const hash = createHash('sha256')
  let seen = 0
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      seen += chunk.length
      done(null, chunk)
    },
    flush(done) {
      const whole = seen === size && hash.digest('hex') === sha256
      done(whole ? null : new InferenceFailed('storage_failed', 'the stored input has other bytes than its digest says'))
    }
  })
  // its error is the error of `check`, which whoever reads sees
  pipeline(body, check, () => {})
  return check
}

export async function putFile(store: Pick<ObjectStore, 'put'>, key: string, source: Readable, size: number, contentType: string, signal?: AbortSignal): Promise<{ etag: string, sha256: string }> {
  const meter = hashing()
  const body = pipeline(source, meter.transform, () => {})
  try {
    const { etag } = await store.put(key, body, { size, contentType, disposable: true, ...(signal !== undefined && { signal }) })
    return { etag, sha256: meter.result().sha256 }
  } finally {
    source.destroy()
    body.destroy()
  }
}
