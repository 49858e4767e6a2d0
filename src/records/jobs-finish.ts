/** How an attempt ends, by whoever runs it. A token that is not the job's any more changes nothing. */
import { randomUUID } from 'node:crypto'
import { cancelJob, completeJob, failJob, requeueOrCancel } from './jobs-changes.ts'
import { withoutNul } from './jobs-schema.ts'
import type { JobRow } from './jobs-schema.ts'
import type { JobExecution, JobFailure, JobStatus, NewResult } from './jobs-port.ts'
import { lockJob } from './jobs-rows.ts'
import { resultName } from './media-tables.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { takeReferences } from './take-references.ts'
import { transact, Undo } from './transact.ts'

type CompleteOutcome = 'completed' | 'late' | 'reclaim'

export async function complete(records: Records, id: string, token: string, done: { results: readonly NewResult[], execution: JobExecution }): Promise<CompleteOutcome> {
  return transact<CompleteOutcome>(records, async work => {
    const row = await lockJob(records, work, id, token)
    if (row === undefined) return 'late'
    if (!await takeReferences(records, work.trx, done.results)) throw new Undo<CompleteOutcome>('reclaim')
    for (const [position, result] of done.results.entries()) await insertResult(records, work.trx, row, position, result)
    await completeJob(records, work, row, done.execution)
    return 'completed'
  })
}

async function insertResult({ now }: Records, trx: RecordsTransaction, job: JobRow, position: number, result: NewResult): Promise<void> {
  const id = randomUUID()
  const contentType = withoutNul(result.contentType)
  const media = resultName(job.id, position, contentType)
  await trx.insertInto('files').values({
    id,
    filename: withoutNul(result.filename),
    content_type: contentType,
    size: result.size,
    sha256: result.sha256,
    key: result.key,
    access: 'restricted',
    subject: job.subject,
    account: job.account,
    client_id: job.client_id,
    owner: job.owner,
    media_folder: media?.folder ?? null,
    media_name: media?.name ?? null,
    created_at: now()
  }).execute()
  await trx.insertInto('job_results').values({ job_id: job.id, position, name: withoutNul(result.name), file_id: id }).execute()
}

export async function fail(records: Records, id: string, token: string, failure: JobFailure, retry?: { at: number, maxAttempts: number }): Promise<JobStatus | undefined> {
  return transact<JobStatus | undefined>(records, async work => {
    const row = await lockJob(records, work, id, token)
    if (row === undefined) return undefined
    if (retry === undefined || row.attempt >= retry.maxAttempts) {
      await failJob(records, work, row, failure)
      return 'failed'
    }
    return requeueOrCancel(records, work, row, { at: retry.at })
  })
}

/** processing → queued; the attempt that was begun does not count. */
export async function release(records: Records, id: string, token: string): Promise<boolean> {
  return transact(records, async work => {
    const row = await lockJob(records, work, id, token)
    if (row === undefined) return false
    await requeueOrCancel(records, work, row, { attempt: row.attempt - 1 })
    return true
  })
}

export async function confirmCancel(records: Records, id: string, token: string): Promise<boolean> {
  return transact(records, async work => {
    const row = await lockJob(records, work, id, token)
    if (row !== undefined) await cancelJob(records, work, row)
    return row !== undefined
  })
}
