/**
 * Staged bytes become a file: published under their hash, and pointed at by a row, which takes the place of the upload that
 * held them. Where that fails nothing points at the bytes, and the sweeper and the collector come for what is left of them.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { IngestContext, Log } from '../ingest/context.ts'
import { ask, collected, publishStaged, type PublishedObject, type Staged } from '../ingest/publish.ts'
import { CHECK_TIMEOUT_MS, RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS } from '../limits.ts'
import type { FileRecord } from '../records/jobs-port.ts'

type Stores = Pick<IngestContext, 'store' | 'records' | 'readiness'>
export type StagedFile = Staged & { uploadId: string }
export type FileRow = Pick<FileRecord, 'id' | 'filename' | 'contentType' | 'access' | 'owner'>

/** @throws what publishAs throws; RecordStoreFailed */
export async function keepStaged(stores: Stores, { uploadId, ...staged }: StagedFile, row: FileRow): Promise<FileRecord> {
  const { size, sha256 } = staged
  return await publishAs(stores, staged, ({ key, claim }) => stores.records.files.add({ ...row, size, sha256, key, claim, stagedUploadId: uploadId }))
}

/**
 * Publishes the bytes and has a row point at them, again where a collector came between.
 * @throws PenstockError COPY_FAILED, CANONICAL_MISSING, OBJECT_EXISTS, STAGING_NOT_FOUND, STAGING_CHANGED, SERVICE_BUSY; RecordStoreFailed
 */
export async function publishAs<T>({ store, records, readiness }: Stores, { key, etag, size, sha256 }: Staged, point: (published: PublishedObject) => Promise<T | 'reclaim'>): Promise<T> {
  const abilities = await ask('COPY_FAILED', () => readiness.ensure())
  for (let attempt = 1; attempt <= RECLAIM_ATTEMPTS_MAX; attempt++) {
    if (attempt > 1) await delay(RECLAIM_PAUSE_MS)
    const published = await publishStaged({ store, records }, abilities, { key, etag, size, sha256 }, { name: 'object', contentType: 'application/octet-stream' })
    if (published === undefined) continue
    const pointed = await point(published)
    if (pointed !== 'reclaim') return pointed as T
  }
  throw collected('the hash of a file is being collected')
}

/** What stays in staging is only rubbish, and the sweeper comes by. Never rejects. */
export async function deleteStaged({ store }: Pick<Stores, 'store'>, { key }: Pick<Staged, 'key'>, log: Log): Promise<void> {
  await store.delete(key, AbortSignal.timeout(CHECK_TIMEOUT_MS)).catch((error: unknown) => log.warn({ action: 'files.staging.left', key, err: error }))
}

/** Bytes that are to be no file after all. Never rejects. */
export async function dropStaged(stores: Pick<Stores, 'store' | 'records'>, staged: StagedFile, log: Log): Promise<void> {
  await deleteStaged(stores, staged, log)
  await stores.records.uploads.end(staged.uploadId, 'aborted').catch((error: unknown) => log.warn({ action: 'files.upload.left', upload_id: staged.uploadId, err: error }))
}
