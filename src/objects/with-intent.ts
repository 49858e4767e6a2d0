/** A multipart upload that leaves nothing behind: recorded before it is created, aborted unless it was completed. */
import { PROGRESS_INTERVAL_MS } from '../limits.ts'
import type { MultipartRef, ObjectStore } from './port.ts'

/** Where multipart uploads are noted before they are created, so that a process that dies leaves none unseen. The records are such a place. */
export interface MultipartIntents {
  record(key: string): Promise<{ id: string }>
  setUploadId(id: string, uploadId: string): Promise<void>
  touch(id: string): Promise<void>
  remove(id: string): Promise<void>
}

/**
 * Runs `use` with a fresh upload, which it is to complete. On failure the upload is aborted. The record goes only when
 * the upload is surely gone; else it stays for the sweeper. It is touched every PROGRESS_INTERVAL_MS as long as `use` takes:
 * the sweeper goes by the age of the last touch, and one part alone may take longer than uploads are kept.
 */
export async function withIntent<T>(store: ObjectStore, intents: MultipartIntents, key: string, options: { contentType?: string, signal?: AbortSignal }, use: (upload: MultipartRef) => Promise<T>): Promise<T> {
  const { id } = await intents.record(key)
  const upload = await create(store, intents, id, key, options)
  const stopTouching = touchWhile(intents, id)
  try {
    await intents.setUploadId(id, upload.uploadId)
    const result = await use(upload)
    await forget(intents, id)
    return result
  } catch (error) {
    await drop(store, intents, id, upload)
    throw error
  } finally {
    stopTouching()
  }
}

/**
 * The request goes on when the signal aborts: cut off, it would leave open whether there is an upload, and its record would
 * have to stay. The caller does not wait for that.
 */
async function create(store: ObjectStore, intents: MultipartIntents, id: string, key: string, { contentType, signal }: { contentType?: string, signal?: AbortSignal }): Promise<MultipartRef> {
  const creating = store.createMultipart(key, contentType === undefined ? {} : { contentType }).then(({ uploadId }) => ({ key, uploadId }))
  try {
    return await untilAborted(creating, signal)
  } catch (error) {
    void creating.then(upload => drop(store, intents, id, upload), () => {})
    throw error
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(signal.reason)
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** Not bound to the caller's signal, which may be what ended it. */
async function drop(store: ObjectStore, intents: MultipartIntents, id: string, upload: MultipartRef): Promise<void> {
  if (await store.abortMultipart(upload).then(() => true, () => false)) await forget(intents, id)
}

/** One touch at a time; one that fails is made good by the next. */
function touchWhile(intents: MultipartIntents, id: string): () => void {
  let touching = false
  const timer = setInterval(() => {
    if (touching) return
    touching = true
    intents.touch(id).catch(() => {}).finally(() => { touching = false })
  }, PROGRESS_INTERVAL_MS)
  timer.unref()
  return () => clearInterval(timer)
}

/** A record that stays is found by the sweeper, which finds no upload: no reason to fail what succeeded. */
async function forget(intents: MultipartIntents, id: string): Promise<void> {
  await intents.remove(id).catch(() => {})
}
