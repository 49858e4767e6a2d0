/**
 * A job whose body is still arriving:
 *
 *   slot → place among the user's active jobs → parts, one after another, into staging → commit: checked, copied, written
 *
 * However it ends, slot and place are given back and nothing is left in staging. The places of others count while this one
 * is held, so it is touched as long as the body takes.
 */
import { setTimeout as delay } from 'node:timers/promises'
import pLimit from 'p-limit'
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import { cleanFilename } from '../ingest/filename.ts'
import { ownerOf } from '../ingest/ownership.ts'
import { ask, collected, publishStaged } from '../ingest/publish.ts'
import { receivePart, type StagedPart } from '../ingest/receive-part.ts'
import { ClientGone } from '../ingest/upload.ts'
import { JOB_COPIES_MAX, RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS, REF_IMAGES_MAX } from '../limits.ts'
import type { NewJobInput } from '../records/jobs-port.ts'
import { noPlace, takePlace } from './active-place.ts'
import type { JobsContext } from './context.ts'
import { assertNotEmpty, createJob, findRepeated, type Created, type InputSource } from './create-job.ts'
import type { CreateOptions, JobDraft, JobRequest } from './port.ts'
import { checkIdempotencyKey, checkRequest, invalid, userIdOf } from './request.ts'
import { deleteStaged } from './results.ts'

type PartName = 'input' | 'ref_images'
interface ReceivedPart extends StagedPart { name: PartName, position: number, filename: string, contentType: string }

/** @throws BAD_REQUEST, RBAC_FORBIDDEN, SERVICE_BUSY, USER_HAS_ACTIVE_JOB */
export async function beginDraft(context: JobsContext, principal: Principal, userId: string | undefined, options: CreateOptions = {}): Promise<JobDraft> {
  const { config, ingest, log, records } = context
  const owner = ownerOf(principal)
  const forWhom = userIdOf(principal, userId)
  const key = checkIdempotencyKey(options)
  const startedAt = Date.now()
  const giveBack = ingest.slots.take()
  const place = await placeFor().catch((error: unknown) => {
    giveBack()
    throw error
  })
  const over = new AbortController()
  const parts: ReceivedPart[] = []
  let receiving: Promise<unknown> = Promise.resolve()
  let ended: Promise<void> | undefined

  /** A repeat makes no job, and needs no place: also while the first of its kind still holds the last. */
  async function placeFor() {
    const repeats = key !== undefined && await records.jobs.findIdempotent(owner, key) !== undefined
    return repeats ? noPlace : await takePlace(records.jobs, config, owner, forWhom, log)
  }

  async function receive({ name, filename, contentType, body, maxBytes }: Parameters<JobDraft['receive']>[0]): Promise<void> {
    const position = parts.filter(part => part.name === name).length
    if (position >= (name === 'input' ? 1 : REF_IMAGES_MAX)) {
      body.destroy()
      throw new PenstockError('INVALID_MULTIPART', { message: name === 'input' ? 'there is more than one input' : `there are more than ${REF_IMAGES_MAX} ref_images` })
    }
    const cleaned = cleanFilename(filename)
    const part = receivePart(context.ingest, { field: name, filename: cleaned, body, maxBytes }, { owner, log, signal: over.signal })
    receiving = part.catch(() => {})
    parts.push({ ...await part, name, position, filename: cleaned, contentType: mediaType(contentType) })
  }

  async function commit(request: JobRequest, commitOptions: CreateOptions = options): Promise<Created> {
    try {
      over.signal.throwIfAborted()
      const created = await make(request, commitOptions)
      await end(created.repeated)
      return created
    } catch (error) {
      await end(true)
      throw error
    }
  }

  async function make(request: JobRequest, commitOptions: CreateOptions): Promise<Created> {
    const { user_id: named = userId } = request
    if (userIdOf(principal, named) !== forWhom) throw invalid({ field: 'user_id', message: 'must stand before the files' })
    const asked: JobRequest = { ...request, ...(named !== undefined && { user_id: named }) }
    const checked = await checkRequest(records.models, config, principal, asked)
    if (checked.task.input !== 'any' && !parts.some(({ name }) => name === 'input')) throw invalid({ field: 'input', message: `is required: the task ${checked.task.name} needs one` })
    assertNotEmpty(checked.task, parts)
    const inputs = sourceOf(context, parts)
    const creation = { principal, request: asked, checked, inputs, place, startedAt, options: commitOptions }
    return await findRepeated(context, creation) ?? await createInPlace(creation)
  }

  /** What began as a repeat is none any more when that job was removed meanwhile: it needs a place after all. */
  async function createInPlace(creation: Parameters<typeof createJob>[1]): Promise<Created> {
    if (place !== noPlace) return await createJob(context, creation)
    const late = await takePlace(records.jobs, config, owner, forWhom, log)
    try {
      return await createJob(context, { ...creation, place: late })
    } finally {
      await late.release()
    }
  }

  /** Idempotent. Bytes that the job has got are only rubbish in staging; those that it has not, belong to a row that ends with them. */
  function end(unused: boolean): Promise<void> {
    ended ??= (async () => {
      over.abort(new ClientGone(0))
      await receiving
      await deleteStaged(context, parts)
      if (unused) await endUploads(context, parts)
      await place.release()
      giveBack()
    })()
    return ended
  }

  return { receive, commit, discard: () => end(true) }
}

/** The sweeper comes by. */
async function endUploads({ records, log }: JobsContext, parts: readonly ReceivedPart[]): Promise<void> {
  for (const { uploadId } of parts) {
    await records.uploads.end(uploadId, 'aborted').catch((error: unknown) => log.warn({ action: 'jobs.staging.left', upload_id: uploadId, err: error }))
  }
}

function sourceOf(context: JobsContext, parts: readonly ReceivedPart[]): InputSource {
  return {
    identity: parts.map(({ name, position, sha256, contentType }) => [name, position, sha256, contentType]),
    async make() {
      const abilities = await ask('COPY_FAILED', () => context.readiness.ensure())
      return await pLimit(JOB_COPIES_MAX).map(parts, async ({ uploadId, name, position, filename, contentType, ...staged }): Promise<NewJobInput> => {
        for (let attempt = 1; attempt <= RECLAIM_ATTEMPTS_MAX; attempt++) {
          const published = await publishStaged(context, abilities, staged, { name: 'object', contentType: 'application/octet-stream' })
          const { sha256, size } = staged
          if (published) return { name, position, fileId: null, sha256, key: published.key, size, contentType, filename, claim: published.claim, stagedUploadId: uploadId }
          await delay(RECLAIM_PAUSE_MS)
        }
        throw collected('the hash of an input is being collected')
      })
    }
  }
}

/** As it was sent, where it is one. */
function mediaType(text: string): string {
  return /^[\w!#$&^.+-]{1,127}\/[\w!#$&^.+-]{1,127}(; ?[\w=.+-]{1,100})?$/.test(text) ? text : 'application/octet-stream'
}
