/**
 * The uploads that this process is receiving. Their progress goes to the records once a PROGRESS_INTERVAL_MS, all in one
 * transaction; that is also the sign of life of an upload, and how an abort on another node is learned of: the row is no
 * longer `receiving`. Watchers on this node get a hint with every chunk and look themselves.
 */
import { EventEmitter } from 'node:events'
import { PenstockError } from '../errors.ts'
import { PROGRESS_INTERVAL_MS } from '../limits.ts'
import type { UploadRecords } from '../records/port.ts'

export interface RunningUpload {
  /** bytes the store took */
  readonly taken: number
  /** Ends it with this as its answer; `done` settles when all of it is cleaned up. */
  abort(reason: PenstockError): void
  readonly done: Promise<void>
}

export interface RunningUploads {
  /** The returned function removes it again. */
  add(id: string, upload: RunningUpload): () => void
  get(id: string): RunningUpload | undefined
  /** Hints to look again at one upload: `hints.on(id, …)`. */
  readonly hints: EventEmitter
  /** Ends every upload with this as its answer, and settles when they are cleaned up. */
  abortAll(reason: PenstockError): Promise<void>
  close(): void
}

export function runningUploads(records: UploadRecords, onError: (error: unknown) => void): RunningUploads {
  const uploads = new Map<string, RunningUpload>()
  /** seen by an earlier look */
  const noted = new Set<string>()
  const hints = new EventEmitter().setMaxListeners(0)
  let noting = false

  async function note(): Promise<void> {
    // an upload shows up here on its second look, so that short ones cost the records nothing
    const updates = [...uploads].filter(([id]) => noted.has(id)).map(([id, upload]) => ({ id, received: upload.taken }))
    for (const id of uploads.keys()) noted.add(id)
    if (updates.length === 0) return
    for (const id of await records.progress(updates)) uploads.get(id)?.abort(new PenstockError('UPLOAD_ABORTED', { why: 'upload_aborted' }))
  }

  const timer = setInterval(() => {
    if (noting || uploads.size === 0) return
    noting = true
    note().catch(onError).finally(() => { noting = false })
  }, PROGRESS_INTERVAL_MS)
  timer.unref()

  return {
    hints,
    get: id => uploads.get(id),
    add(id, upload) {
      uploads.set(id, upload)
      return () => {
        uploads.delete(id)
        noted.delete(id)
        hints.emit(id)
      }
    },
    async abortAll(reason) {
      const ending = [...uploads.values()]
      for (const upload of ending) upload.abort(reason)
      await Promise.allSettled(ending.map(upload => upload.done))
    },
    close() { clearInterval(timer) }
  }
}
