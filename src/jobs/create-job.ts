/**
 * From a checked request and its inputs to a job. The inputs are objects by then, or become some here:
 *
 *   file, sha256, key   a row of the caller points there already
 *   tensors             one JSON object `{ "inputs": [...] }`, or one of their bytes, claimed and stored at its hash's own path
 *   parts of a body     staged (draft.ts), claimed and copied
 *
 * Where a collector has taken a hash in between, the inputs are made again. An idempotency key is looked up first, so that a
 * repeat stores nothing; the records look again, in the transaction that writes the job.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { PenstockError } from '../errors.ts'
import { mayReadUngranted } from '../files/access.ts'
import type { Principal } from '../identity/principal.ts'
import { collected, confirmStored, ask } from '../ingest/publish.ts'
import { mayReach, ownerOf } from '../ingest/ownership.ts'
import { ClientGone } from '../ingest/upload.ts'
import type { WireTensor } from '../inference/port.ts'
import { encodeTensors, TENSOR_FRAMES } from '../inference/tensor-frames.ts'
import { QUEUE_FULL_RETRY_AFTER_SECONDS, RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS, TENSOR_JSON_MAX_BYTES, TENSOR_RANK_MAX } from '../limits.ts'
import { putOnce } from '../objects/create-only.ts'
import { canonicalKey } from '../objects/keys.ts'
import type { FileRecord, JobRecord, NewJobInput } from '../records/jobs-port.ts'
import type { ActivePlace } from './active-place.ts'
import { canonicalJson, isDeeperThan, memoKeyOf, sha256Of } from './canonical-json.ts'
import type { JobsContext } from './context.ts'
import type { CreateOptions, JobInputRequest, JobRequest } from './port.ts'
import { checkIdempotencyKey, invalid, type CheckedRequest } from './request.ts'

export interface Created { job: JobRecord, repeated: boolean }

/** Where a job's inputs come from. */
export interface InputSource {
  /** Says which inputs these are, for the hash of an idempotent request: equal for equal ones. */
  readonly identity: unknown
  /** The inputs, ready to be pointed at; called again where a hash was collected. @throws FILE_NOT_FOUND … */
  make(): Promise<NewJobInput[]>
}

export interface Creation {
  principal: Principal
  request: JobRequest
  checked: CheckedRequest
  inputs: InputSource
  place: ActivePlace
  startedAt: number
  options: CreateOptions
}

/** @throws IDEMPOTENCY_CONFLICT */
export async function findRepeated({ records }: JobsContext, { principal, request, inputs, options }: Pick<Creation, 'principal' | 'request' | 'inputs' | 'options'>): Promise<Created | undefined> {
  const key = checkIdempotencyKey(options)
  const known = key === undefined ? undefined : await records.jobs.findIdempotent(ownerOf(principal), key)
  if (known === undefined) return undefined
  if (known.bodyHash !== bodyHash(request, inputs)) throw new PenstockError('IDEMPOTENCY_CONFLICT')
  return { job: known.job, repeated: true }
}

function bodyHash(request: JobRequest, { identity }: InputSource): string {
  const { model, version, task, params, user_id: userId, priority, cache, webhook } = request
  return sha256Of(canonicalJson({ model, version, task, params, user_id: userId, priority, cache, webhook, input: identity }))
}

/** @throws QUEUE_FULL, IDEMPOTENCY_CONFLICT, SERVICE_BUSY where hashes are being collected, ClientGone, and what the inputs throw */
export async function createJob(context: JobsContext, creation: Creation): Promise<Created> {
  const key = checkIdempotencyKey(creation.options)
  for (let attempt = 1; attempt <= RECLAIM_ATTEMPTS_MAX; attempt++) {
    const inputs = await creation.inputs.make()
    if (creation.options.signal?.aborted === true) throw new ClientGone(0)
    const outcome = await context.records.jobs.create(newJob(context, creation, inputs, key))
    switch (outcome.outcome) {
      case 'created': return { job: outcome.job, repeated: false }
      case 'repeated': return { job: outcome.job, repeated: true }
      case 'idempotency_conflict': throw new PenstockError('IDEMPOTENCY_CONFLICT')
      case 'queue_full': throw new PenstockError('QUEUE_FULL', { retryAfterSeconds: QUEUE_FULL_RETRY_AFTER_SECONDS, details: { waiting: outcome.waiting } })
      case 'reclaim': await delay(RECLAIM_PAUSE_MS)
    }
  }
  throw collected('an input of the job is being collected')
}

function newJob({ config }: JobsContext, { principal, request, checked, inputs: source, place, startedAt }: Creation, inputs: NewJobInput[], key: string | undefined) {
  const { model: { name, version, sha256 }, task, params, userId, priority, cache, webhook } = checked
  const model = { name, version, sha256 }
  return {
    id: randomUUID(), owner: ownerOf(principal), userId, model, task: task.name, params, priority, inputs, cache, webhook,
    memoKey: memoKeyOf({ model, task: task.name, params, inputs }),
    idempotency: key === undefined ? null : { key, bodyHash: bodyHash(request, source) },
    reservation: place.reservation,
    queueMax: config.QUEUE_MAX,
    stageTimings: { ingest: { startedAt, finishedAt: Math.max(startedAt, Date.now()) } }
  }
}

/** The input of a JSON body. @throws BAD_REQUEST where the task takes something else */
export function inputOf(context: JobsContext, principal: Principal, { task }: CheckedRequest, input: JobInputRequest): InputSource {
  if (!('tensors' in input)) {
    return {
      identity: input,
      async make() {
        const owned = await ownedInput(context, principal, input)
        assertNotEmpty(task, [owned])
        return [owned]
      }
    }
  }
  if (task.input !== 'tensors' && task.input !== 'any') throw invalid({ field: 'input', message: `must be ${task.input === 'image' ? 'an image' : 'a video'}: the task ${task.name} takes no tensors` })
  return tensorSource(context, tensorBytes(input.tensors), 'application/json')
}

/** Tensors byte for byte: what a binary tensor may hold that JSON cannot say stays. @throws PAYLOAD_TOO_LARGE */
export function tensorsAsTheyAre(context: JobsContext, tensors: readonly WireTensor[]): InputSource {
  return tensorSource(context, assertSmall(encodeTensors(tensors)), TENSOR_FRAMES)
}

function tensorSource(context: JobsContext, bytes: Buffer, contentType: string): InputSource {
  const sha256 = sha256Of(bytes)
  return { identity: { tensors: sha256 }, make: async () => [await tensorInput(context, bytes, { sha256, contentType })] }
}

/** No image has 0 bytes: who waits for a worker to say so waits in vain. @throws BAD_REQUEST */
export function assertNotEmpty(task: CheckedRequest['task'], inputs: readonly { name: string, size: number }[]): void {
  const empty = task.input === 'any' ? undefined : inputs.find(({ size }) => size === 0)
  if (empty !== undefined) throw invalid({ field: empty.name, message: `is empty: the task ${task.name} takes no file of 0 bytes` })
}

type ByRow = Exclude<JobInputRequest, { tensors: unknown[] }>

async function ownedInput({ records: { files } }: JobsContext, principal: Principal, input: ByRow): Promise<NewJobInput> {
  const [reference] = Object.values(input) as [string]
  // no row has it, and Postgres takes no text that does
  const found = reference.includes('\0') ? undefined : await findOwned(files, principal, input)
  if (found === undefined) throw new PenstockError('FILE_NOT_FOUND')
  return { name: 'input', position: 0, fileId: null, ...found, claim: null, stagedUploadId: null }
}

async function findOwned(files: JobsContext['records']['files'], principal: Principal, input: ByRow) {
  if (!('file_id' in input)) return await files.findOwned(input, principal.kind === 'admin' ? undefined : ownerOf(principal))
  const file = await files.get(input.file_id)
  if (!await mayRead(files, principal, input.file_id, file) || file === undefined) return undefined
  const { id: fileId, sha256, key, size, contentType } = file
  return { fileId, sha256, key, size, contentType }
}

/** As GET /files/:id has it: what one may read one may give to a model. What is not there causes the work of what may not be read. */
async function mayRead(files: JobsContext['records']['files'], principal: Principal, id: string, file: FileRecord | undefined): Promise<boolean> {
  if (file !== undefined && (mayReach(principal, file) || mayReadUngranted(principal, file))) return true
  const { subject, account } = principal
  return subject !== null && await files.isGranted(id, { subject, account }) && file?.access === 'restricted'
}

/** The list, a tensor in it, its data, nested once for each dimension. */
const TENSORS_DEPTH_MAX = TENSOR_RANK_MAX + 2
const { rawJSON } = JSON as typeof JSON & { rawJSON(text: string): unknown }

/** Whole numbers beyond 2^53 come as bigint, and stay exact. @throws BAD_REQUEST, PAYLOAD_TOO_LARGE */
function tensorBytes(tensors: readonly unknown[]): Buffer {
  if (isDeeperThan(tensors, TENSORS_DEPTH_MAX)) throw invalid({ field: 'input.tensors', message: `must not be nested more than ${TENSORS_DEPTH_MAX} deep` })
  return assertSmall(Buffer.from(JSON.stringify({ inputs: tensors }, hasBigInt(tensors) ? (_key, value: unknown) => typeof value === 'bigint' ? rawJSON(String(value)) : value : undefined)))
}

function assertSmall(bytes: Buffer): Buffer {
  if (bytes.length > TENSOR_JSON_MAX_BYTES) throw new PenstockError('PAYLOAD_TOO_LARGE', { message: `the tensors have more than ${TENSOR_JSON_MAX_BYTES} bytes`, details: { field: 'input.tensors', limit_bytes: TENSOR_JSON_MAX_BYTES } })
  return bytes
}

/** Asked first, since a function for each number makes writing them many times slower. */
function hasBigInt(value: unknown): boolean {
  if (typeof value === 'bigint') return true
  if (typeof value !== 'object' || value === null) return false
  return (Array.isArray(value) ? value : Object.values(value)).some(hasBigInt)
}

async function tensorInput({ store, records, readiness }: JobsContext, bytes: Buffer, { sha256, contentType }: { sha256: string, contentType: string }): Promise<NewJobInput> {
  const object = { sha256, key: canonicalKey(sha256, 'object'), size: bytes.length, contentType }
  const abilities = await ask('S3_PUT_FAILED', () => readiness.ensure())
  const claim = await records.objects.claim(object)
  if (claim === undefined) throw collected('the hash of the tensors is being collected')
  await ask('S3_PUT_FAILED', () => putOnce(store, abilities, object.key, bytes, { contentType: object.contentType, sha256 }))
  await confirmStored(store, object.key, object.size)
  return { name: 'input', position: 0, fileId: null, ...object, claim, stagedUploadId: null }
}
