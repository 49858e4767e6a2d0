/**
 * A file whose body is still arriving: slot → bytes into staging → commit: its type told, copied to its hash, written. However it
 * ends, the slot is given back and nothing is left in staging.
 */
import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import { ownerOf } from '../ingest/ownership.ts'
import { receivePart, type StagedPart } from '../ingest/receive-part.ts'
import { SNIFF_BYTES } from '../limits.ts'
import type { FileAccess, FileRecord } from '../records/jobs-port.ts'
import { contentTypeOf } from './content-type.ts'
import type { FilesContext } from './context.ts'
import { fileNameOf } from './filename.ts'
import { deleteStaged, dropStaged, keepStaged } from './keep-staged.ts'

export interface FileDraft {
  /** Once. The body is read to its end, or destroyed. @throws PAYLOAD_TOO_LARGE, REQUEST_TIMEOUT, INVALID_MULTIPART, S3_PUT_FAILED …; the signal's reason */
  receive(part: { filename: string, body: Readable }, signal: AbortSignal): Promise<void>
  /** @throws what keepStaged throws; then nothing is left */
  commit(said: { filename: string, contentType?: string | undefined, access: FileAccess }): Promise<FileRecord>
  /** Idempotent, and nothing after commit. */
  discard(): Promise<void>
}

/** @throws SERVICE_BUSY */
export function beginFile({ ingest, log }: FilesContext, principal: Principal): FileDraft {
  const owner = ownerOf(principal)
  const giveBack = ingest.slots.take()
  let staged: StagedPart | undefined

  async function discard(): Promise<void> {
    const left = staged
    staged = undefined
    if (left !== undefined) await dropStaged(ingest, left, log)
    giveBack()
  }

  return {
    async receive({ filename, body }, signal) {
      const part = { field: 'file', filename: fileNameOf(filename), body, maxBytes: ingest.config.MAX_FILE_SIZE_BYTES, headBytes: SNIFF_BYTES }
      staged = await receivePart(ingest, part, { owner, log, signal })
    },
    async commit({ filename, contentType, access }) {
      try {
        if (staged === undefined) throw new PenstockError('INVALID_MULTIPART', { message: 'the file "file" is missing' })
        const row = { id: randomUUID(), filename: fileNameOf(filename), contentType: await contentTypeOf(contentType, staged.head), access, owner }
        const file = await keepStaged(ingest, staged, row)
        await deleteStaged(ingest, staged, log)
        staged = undefined
        log.info({ action: 'files.file.added', file_id: file.id, size: file.size, content_type: file.contentType })
        return file
      } finally {
        await discard()
      }
    },
    discard
  }
}
