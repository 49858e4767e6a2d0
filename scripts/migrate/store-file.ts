/**
 * One file in, by the same parts as an upload of the service: streamed into staging, counted and hashed on the way, copied to
 * the path of its hash under a claim, and recorded in one transaction that completes the claim. Until then the collector
 * leaves the hash alone, and whatever ends it early leaves nothing but what the sweeper comes for.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isPenstockError } from '../../src/errors.ts'
import { contentTypeOf } from '../../src/files/content-type.ts'
import { fileNameOf } from '../../src/files/filename.ts'
import type { IngestContext, Log } from '../../src/ingest/context.ts'
import { digestObject } from '../../src/ingest/digest-object.ts'
import { collected, publishStaged, type PublishedObject, type Staged } from '../../src/ingest/publish.ts'
import { receivePart, type StagedPart } from '../../src/ingest/receive-part.ts'
import { RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS, SNIFF_BYTES } from '../../src/limits.ts'
import type { NewFile } from '../../src/records/access-port.ts'
import type { FileAccess, FileRecord } from '../../src/records/jobs-port.ts'
import type { Owner } from '../../src/records/port.ts'
import { claimedType } from './claimed-type.ts'
import { SourceFault, type Opened } from './source.ts'

/** `name` as it stands in the source. */
export interface FileToStore { id: string, name: string, access: FileAccess, owner: Owner }

export interface StoreOptions {
  maxBytes: number
  /** read the stored bytes back before they are recorded */
  verify: boolean
  log: Log
  signal: AbortSignal
}

/** Destroys the body. @throws PenstockError, RecordStoreFailed, SourceFault */
export async function storeFile(context: IngestContext, opened: Opened, file: FileToStore, options: StoreOptions): Promise<FileRecord> {
  const { log, signal } = options
  const filename = fileNameOf(file.name)
  try {
    const maxBytes = Math.min(options.maxBytes, opened.size ?? options.maxBytes)
    const staged = await receivePart(context, { field: 'it', filename, body: opened.body, maxBytes, headBytes: SNIFF_BYTES }, { owner: file.owner, log, signal }).catch((error: unknown) => {
      if (maxBytes === opened.size && isPenstockError(error, 'PAYLOAD_TOO_LARGE')) throw new SourceFault(`gave more than the ${maxBytes} bytes it had announced`, { cause: error })
      throw error
    })
    try {
      await checkWhole(opened, staged)
      const contentType = await contentTypeOf(claimedType(opened.contentType, filename), staged.head)
      return await record(context, staged, { id: file.id, access: file.access, owner: file.owner, filename, contentType }, options)
    } catch (error) {
      await attempt(log, context.records.uploads.end(staged.uploadId, 'aborted'))
      throw error
    } finally {
      await attempt(log, context.store.delete(staged.key))
    }
  } finally {
    opened.body.destroy()
  }
}

async function checkWhole(opened: Opened, staged: StagedPart): Promise<void> {
  if (opened.size !== undefined && opened.size !== staged.size) throw new SourceFault(`gave ${staged.size} bytes, and had announced ${opened.size}`)
  await opened.confirm?.()
}

type Described = Pick<NewFile, 'id' | 'access' | 'owner' | 'filename' | 'contentType'>

async function record(context: IngestContext, { uploadId, ...staged }: StagedPart, file: Described, { verify, signal }: StoreOptions): Promise<FileRecord> {
  const abilities = await context.readiness.ensure()
  for (let tries = 1; tries <= RECLAIM_ATTEMPTS_MAX; tries++) {
    signal.throwIfAborted()
    const published = await publishStaged(context, abilities, staged, { name: 'object', contentType: 'application/octet-stream' }, signal)
    if (published !== undefined) {
      if (verify) await verifyStored(context, published.key, staged)
      const added = await add(context, published, staged, file, uploadId)
      if (added !== 'reclaim') return added
    }
    await delay(RECLAIM_PAUSE_MS, undefined, { signal })
  }
  throw collected('the hash of the file is being collected')
}

async function add({ records }: IngestContext, { key, claim }: PublishedObject, { sha256, size }: Staged, file: Described, stagedUploadId: string): Promise<FileRecord | 'reclaim'> {
  return await records.files.add({ ...file, sha256, size, key, claim, stagedUploadId })
}

/** @throws Error where the stored bytes are others, or are not there */
export async function verifyStored({ store }: Pick<IngestContext, 'store'>, key: string, { sha256, size }: { sha256: string, size: number }): Promise<void> {
  const info = await store.head(key)
  if (info === undefined) throw new Error('the stored bytes are not there')
  if (info.size !== size) throw new Error(`the stored bytes are ${info.size}, not ${size}`)
  const digest = await digestObject(store, info, size)
  if (digest !== sha256) throw new Error(`the stored bytes have the sha256 ${digest}, not ${sha256}`)
}

/** The sweeper comes by. */
async function attempt(log: Log, work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => log.warn({ action: 'migrate.cleanup.failed', err: error }))
}
