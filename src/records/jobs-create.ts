/**
 * A new job, or nothing. One transaction:
 *
 *   1. insert the job; where its idempotency key is taken, the job that has it is the answer, also while the queue is full
 *   2. is there room in the queue?
 *   3. uploads that held inputs go, and the job's references take their place, under the locks of their hashes
 *   4. the inputs, the first event (which its webhook is to hear of), and the reservation is given back
 *
 * Counting the waiting jobs reads each of them, and an exact limit lets one creation in at a time. Far from the limit
 * neither is needed: a count is believed for QUEUE_COUNT_TTL_MS as long as it leaves room for what others may add.
 */
import { sql } from 'kysely'
import type { Insertable } from 'kysely'
import { QUEUE_COUNT_MARGIN, QUEUE_COUNT_TTL_MS } from '../limits.ts'
import { userOf } from './holders.ts'
import { DELAYED, HAS_IDEMPOTENCY_KEY, holderText, jobOf, READY } from './jobs-schema.ts'
import type { JobsTable } from './jobs-schema.ts'
import type { CreateOutcome, JobRecord, NewJob, NewJobInput } from './jobs-port.ts'
import { readJob, selectJobs } from './jobs-rows.ts'
import { lockQueue } from './locks.ts'
import { jsonText, ownerColumns, ownerText } from './schema.ts'
import type { Records, RecordsTransaction } from './schema.ts'
import { takeReferences } from './take-references.ts'
import { transact, Undo } from './transact.ts'
import type { Work } from './transact.ts'
import { beginTelling } from './webhooks.ts'

/** The last count of this store, and what it added since. */
export interface QueueGauge { waiting: number, atMs: number }

export function queueGauge(): QueueGauge {
  return { waiting: 0, atMs: -Infinity }
}

export async function createJob(records: Records, gauge: QueueGauge, job: NewJob): Promise<CreateOutcome> {
  for (;;) {
    const outcome = await transact<CreateOutcome | 'vanished'>(records, work => createWithin(records, work, gauge, job))
    if (outcome === 'vanished') continue
    // undone with the rest
    if (outcome.outcome === 'queue_full') await giveBack(records.db, job)
    return outcome
  }
}

async function createWithin(records: Records, work: Work, gauge: QueueGauge, job: NewJob): Promise<CreateOutcome | 'vanished'> {
  const { trx } = work
  if (!await insertJob(records, trx, job)) return outcomeOfOther(records, trx, job)
  const waiting = await waitingWithThis(records, trx, gauge, job.queueMax)
  if (waiting > job.queueMax) throw new Undo<CreateOutcome>({ outcome: 'queue_full', waiting: waiting - 1 })
  await removeUploads(trx, job.inputs)
  if (!await takeReferences(records, trx, job.inputs)) throw new Undo<CreateOutcome>({ outcome: 'reclaim' })
  await insertInputs(trx, job)
  await trx.insertInto('job_events').values({ job_id: job.id, seq: 1, event: 'generation_started', data: jsonText({ jobId: job.id }), created_at: records.now() }).execute()
  if (job.webhook !== null) await beginTelling(trx, job.id, 1)
  await giveBack(trx, job)
  work.tell({ kind: 'queued' })
  work.tell({ kind: 'activity', user: userOf(job.owner) })
  return { outcome: 'created', job: (await readJob(records, trx, job.id))! }
}

async function insertJob(records: Records, trx: RecordsTransaction, job: NewJob): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await trx.insertInto('jobs').values(newRow(job, records.now()))
    .onConflict(conflict => conflict.columns(['owner', 'idempotency_key']).where(HAS_IDEMPOTENCY_KEY).doNothing()).executeTakeFirstOrThrow()
  return numInsertedOrUpdatedRows === 1n
}

function newRow(job: NewJob, now: number): Insertable<JobsTable> {
  return {
    ...ownerColumns(job.owner),
    id: job.id,
    run: 1,
    user_id: job.userId,
    holder: holderText(job.owner.clientId, job.userId),
    model_name: job.model.name,
    model_version: job.model.version,
    model_sha256: job.model.sha256,
    task: job.task,
    params: jsonText(job.params),
    status: 'queued',
    priority: job.priority,
    attempt: 0,
    cancel_requested: 0,
    first_timings: jsonText(job.stageTimings),
    stage_timings: jsonText(job.stageTimings),
    cache: job.cache ? 1 : 0,
    memo_key: job.memoKey,
    webhook: job.webhook === null ? null : jsonText(job.webhook),
    idempotency_key: job.idempotency?.key ?? null,
    idempotency_hash: job.idempotency?.bodyHash ?? null,
    last_seq: 1,
    available_at: 0,
    created_at: now,
    updated_at: now
  }
}

/** `vanished`: it was removed in between, and the key is free again. */
async function outcomeOfOther(records: Records, trx: RecordsTransaction, job: NewJob): Promise<CreateOutcome | 'vanished'> {
  const other = await idempotent(records, trx, ownerText(job.owner), job.idempotency!.key)
  if (other === undefined) return 'vanished'
  await giveBack(trx, job)
  return other.bodyHash === job.idempotency!.bodyHash ? { outcome: 'repeated', job: other.job } : { outcome: 'idempotency_conflict' }
}

export async function idempotent(records: Records, db: Records['db'] | RecordsTransaction, owner: string, key: string): Promise<{ job: JobRecord, bodyHash: string } | undefined> {
  const row = await selectJobs(records, db).where('owner', '=', owner).where('idempotency_key', '=', key).where(HAS_IDEMPOTENCY_KEY).executeTakeFirst()
  return row && { job: jobOf(row), bodyHash: row.idempotency_hash ?? '' }
}

/** How many wait, the one just inserted among them. Exact near the limit. */
async function waitingWithThis(records: Records, trx: RecordsTransaction, gauge: QueueGauge, max: number): Promise<number> {
  gauge.waiting += 1
  const far = () => gauge.waiting + QUEUE_COUNT_MARGIN < max
  if (far() && performance.now() - gauge.atMs < QUEUE_COUNT_TTL_MS) return gauge.waiting
  await count(trx, gauge, max)
  if (far() || records.name === 'sqlite') return gauge.waiting
  await lockQueue(records, trx)
  // a new statement sees what the holder before committed
  return count(trx, gauge, max)
}

async function count(trx: RecordsTransaction, gauge: QueueGauge, max: number): Promise<number> {
  // no further than tells that it is full
  const { rows } = await sql<{ waiting: number }>`select
    (select count(*) from (select 1 from jobs where ${READY} limit ${max + 1}) as ready)
    + (select count(*) from (select 1 from jobs where ${DELAYED} limit ${max + 1}) as delayed) as waiting`.execute(trx)
  gauge.waiting = rows[0]!.waiting
  gauge.atMs = performance.now()
  return gauge.waiting
}

/** Not those that were finalized: others may have been told that they are there. */
async function removeUploads(trx: RecordsTransaction, inputs: readonly NewJobInput[]): Promise<void> {
  const ids = inputs.map(({ stagedUploadId }) => stagedUploadId).filter(id => id !== null).toSorted()
  for (const id of ids) await trx.deleteFrom('uploads').where('id', '=', id).where('status', '<>', 'finalized').execute()
}

async function insertInputs(trx: RecordsTransaction, { id, inputs }: NewJob): Promise<void> {
  if (inputs.length === 0) return
  await trx.insertInto('job_inputs').values(inputs.map(input => ({
    job_id: id,
    name: input.name,
    position: input.position,
    file_id: input.fileId,
    sha256: input.sha256,
    key: input.key,
    size: input.size,
    content_type: input.contentType,
    filename: input.filename ?? null
  }))).execute()
}

async function giveBack(db: Records['db'] | RecordsTransaction, { reservation }: NewJob): Promise<void> {
  if (reservation !== null) await db.deleteFrom('job_reservations').where('id', '=', reservation).execute()
}
