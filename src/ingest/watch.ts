/**
 * Watches one upload. What it tells comes from the record (and, on the node that receives, from the running upload):
 * hints only say when to look. So a watcher on any node, and one that comes late, gets the same story.
 */
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import { WATCH_POLL_INTERVAL_MS, WATCH_PROGRESS_INTERVAL_MS } from '../limits.ts'
import type { UploadRecord } from '../records/port.ts'
import type { IngestContext } from './context.ts'
import { mayReach } from './ownership.ts'

export interface UploadEvent {
  event: 'upload_started' | 'upload_progress' | 'upload_complete' | 'upload_failed'
  data: Record<string, unknown>
}

/** @throws UPLOAD_NOT_FOUND, also for an upload of another */
export async function findUpload(context: IngestContext, id: string, principal: Principal): Promise<UploadRecord> {
  const upload = await context.records.uploads.get(id)
  if (upload === undefined || !mayReach(principal, upload)) throw new PenstockError('UPLOAD_NOT_FOUND')
  return upload
}

/** Ends behind the last event of the upload, or when the signal aborts. */
export async function* watchUpload(context: IngestContext, found: UploadRecord, signal: AbortSignal): AsyncGenerator<UploadEvent> {
  const { id, size, kind, filename } = found
  yield { event: 'upload_started', data: { id, kind, filename, size } }
  let upload: UploadRecord | undefined = found
  let told = 0
  while (upload?.status === 'receiving') {
    const received = context.running.get(id)?.taken ?? upload.received
    if (received > told) {
      told = received
      yield { event: 'upload_progress', data: { id, received, size } }
    }
    await nextLook(context, id, signal)
    if (signal.aborted) return
    upload = await context.records.uploads.get(id)
  }
  if (upload && (upload.status === 'staged' || upload.status === 'finalized')) {
    if (told < size) yield { event: 'upload_progress', data: { id, received: size, size } }
    yield { event: 'upload_complete', data: { id, key: upload.stagingKey, size, sha256: upload.sha256 } }
  } else {
    yield { event: 'upload_failed', data: { id, reason: upload?.failure ?? upload?.status ?? 'expired' } }
  }
}

/** At least the time between two progress events, then until a hint comes (one that came meanwhile counts) or the poll is due. */
async function nextLook(context: IngestContext, id: string, signal: AbortSignal): Promise<void> {
  const poll = AbortSignal.any([signal, AbortSignal.timeout(WATCH_POLL_INTERVAL_MS)])
  await Promise.all([
    orAborted(once(context.running.hints, id, { signal: poll })),
    orAborted(delay(WATCH_PROGRESS_INTERVAL_MS, undefined, { signal }))
  ])
}

async function orAborted(wait: Promise<unknown>): Promise<void> {
  try {
    await wait
  } catch (error) {
    if (!(error instanceof Error && error.name === 'AbortError')) throw error
  }
}
