/**
 * What nobody comes for any more on a GPU node, older than WORK_TTL_MINUTES: files of the two work folders, and inputs in staging
 * of jobs that a process which is gone had under way. What belongs to a job that runs here stays.
 */
import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { NODE_EXPIRE_INTERVAL_MS, SWEEP_BATCH } from '../limits.ts'
import type { Log } from '../ingest/context.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { Owner, RecordStore, UploadRecord } from '../records/port.ts'

/** Whose the inputs are while a job needs them. */
export const NODE_OWNER: Owner = { subject: null, account: null, clientId: 'gpu-node' }

export interface ExpireContext {
  folders: readonly string[]
  store: ObjectStore
  records: Pick<RecordStore, 'uploads'>
  log: Log
  /** Is this file, or this upload, of a job that runs here? */
  inUse(what: { file: string } | { uploadId: string }): boolean
}

/** Returns how many went. Never rejects: what cannot be removed is tried again next time. */
export async function removeExpired(context: ExpireContext, before: Date): Promise<number> {
  let removed = 0
  for (const folder of context.folders) removed += await removeFiles(context, folder, before)
  return removed + await removeInputs(context, before)
}

async function removeFiles(context: ExpireContext, folder: string, before: Date): Promise<number> {
  let removed = 0
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name)
    // a link is removed, and what it leads to is not looked at
    if (entry.isDirectory()) removed += await removeFiles(context, path, before)
    else if (await removeFile(context, path, before)) removed += 1
  }
  return removed
}

async function removeFile({ log, inUse }: ExpireContext, path: string, before: Date): Promise<boolean> {
  try {
    if ((await lstat(path)).mtime >= before || inUse({ file: path })) return false
    await rm(path, { force: true })
    return true
  } catch (error) {
    log.warn({ action: 'node.expire.failed', path, err: error })
    return false
  }
}

async function removeInputs(context: ExpireContext, before: Date): Promise<number> {
  let removed = 0
  try {
    for (let last: UploadRecord | undefined, rows: UploadRecord[] = []; ; last = rows.at(-1)) {
      rows = await context.records.uploads.listStale(before.getTime(), SWEEP_BATCH, last)
      for (const row of rows) if (isOurs(row) && !context.inUse({ uploadId: row.id })) removed += await removeInput(context, row)
      if (rows.length < SWEEP_BATCH) return removed
    }
  } catch (error) {
    context.log.warn({ action: 'node.expire.failed', err: error })
    return removed
  }
}

function isOurs({ owner }: UploadRecord): boolean {
  return owner.clientId === NODE_OWNER.clientId && owner.subject === null && owner.account === null
}

async function removeInput({ store, records, log }: ExpireContext, { id, stagingKey }: UploadRecord): Promise<number> {
  try {
    await records.uploads.end(id, 'expired')
    await store.delete(stagingKey)
    return 1
  } catch (error) {
    log.warn({ action: 'node.expire.failed', upload_id: id, err: error })
    return 0
  }
}

/** Looks every NODE_EXPIRE_INTERVAL_MS, one look at a time. */
export function startExpiring(context: ExpireContext, ttlMs: number): { stop(): Promise<void> } {
  let looking: Promise<void> | undefined
  async function lookOnce(): Promise<void> {
    const removed = await removeExpired(context, new Date(Date.now() - ttlMs))
    if (removed > 0) context.log.info({ action: 'node.expired', removed })
    looking = undefined
  }
  const look = (): void => { looking ??= lookOnce() }
  const timer = setInterval(look, NODE_EXPIRE_INTERVAL_MS)
  timer.unref()
  look()
  return {
    async stop() {
      clearInterval(timer)
      await looking
    }
  }
}
