/** What a caller asks for, checked against what there is: the model, its task's params, who the job is for, its webhook. */
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { Principal } from '../identity/principal.ts'
import type { Task } from '../inference/task.ts'
import { imageToImage } from '../inference/tasks/image-to-image.ts'
import { checkParams, taskNamed } from '../inference/tasks/index.ts'
import { videoToVideo } from '../inference/tasks/video-to-video.ts'
import { IDEMPOTENCY_KEY_MAX_CHARACTERS, JOB_PARAMS_DEPTH_MAX, JOB_PARAMS_MAX_BYTES, JOB_PRIORITY_MAX, USER_ID_MAX_CHARACTERS } from '../limits.ts'
import type { JobEventName, JobWebhook, ModelRecord, ModelRecords } from '../records/jobs-port.ts'
import { canonicalJson, isDeeperThan } from './canonical-json.ts'
import type { CreateOptions, JobRequest } from './port.ts'
import { webhookUrlFault } from './webhook-address.ts'

/** A request that can become a job, but for its inputs. */
export interface CheckedRequest {
  model: ModelRecord
  task: Task
  params: Record<string, unknown>
  userId: string | null
  priority: number
  cache: boolean
  webhook: JobWebhook | null
}

export interface Fault { field: string, message: string }

export function invalid(...fields: Fault[]): PenstockError {
  const [first] = fields
  return new PenstockError('BAD_REQUEST', { message: `${first!.field} ${first!.message}`, details: { fields } })
}

/** @throws MODEL_NOT_FOUND, BAD_REQUEST, RBAC_FORBIDDEN */
export async function checkRequest(models: ModelRecords, config: Config, principal: Principal, request: JobRequest): Promise<CheckedRequest> {
  const userId = userIdOf(principal, request.user_id)
  const { priority = 0, cache = true, params = {}, webhook } = request
  if (!Number.isInteger(priority) || Math.abs(priority) > JOB_PRIORITY_MAX) throw invalid({ field: 'priority', message: `must be a whole number from -${JOB_PRIORITY_MAX} to ${JOB_PRIORITY_MAX}` })
  if (webhook !== undefined) checkWebhook(config, webhook)
  const model = await findModel(models, request)
  const task = taskNamed(taskNameOf(model, request))
  if (task === undefined) throw new PenstockError('MODEL_NOT_FOUND', { message: 'the task of this model is not known here' })
  // whoever has the role of a worker is taken to be like the others, and this one would leave the job waiting
  if (task.name === 'exec' && config.EXEC_TASKS_FILE === undefined && config.ROLES.includes('worker') && config.AI_TRANSFER_MODE === 'path') throw invalid({ field: 'model', message: 'is a command, and none can be run here' })
  checkParamsOf(task, params)
  return { model, task, params, userId, priority, cache, webhook: webhook ?? null }
}

async function findModel(models: ModelRecords, { model: name, version }: JobRequest): Promise<ModelRecord> {
  // no name of a model has it, and Postgres takes no text that does
  const found = name.includes('\0') || version?.includes('\0') === true ? undefined : await models.find(name, version)
  if (found === undefined) throw new PenstockError('MODEL_NOT_FOUND')
  if (!found.loaded) throw new PenstockError('MODEL_NOT_FOUND', { message: 'this version of the model is not loaded' })
  return found
}

/** @throws BAD_REQUEST */
function taskNameOf({ task: own }: ModelRecord, { task: asked, video = false }: JobRequest): string {
  const forVideos = own === imageToImage.name
  if (asked === undefined || asked === own) return asked === undefined && video && forVideos ? videoToVideo.name : own
  if (asked === videoToVideo.name && forVideos) return asked
  throw invalid({ field: 'task', message: `must be ${forVideos ? `${own} or ${videoToVideo.name}` : own}, which this model is for` })
}

function checkParamsOf(task: Task, params: unknown): void {
  const isPlain = typeof params === 'object' && params !== null && !Array.isArray(params)
  if (!isPlain) throw invalid({ field: 'params', message: 'must be an object' })
  if (isDeeperThan(params, JOB_PARAMS_DEPTH_MAX)) throw invalid({ field: 'params', message: `must not be nested more than ${JOB_PARAMS_DEPTH_MAX} deep` })
  const faults = checkParams(task, params)
  if (faults.length > 0) throw invalid(...faults)
  if (Buffer.byteLength(canonicalJson(params)) > JOB_PARAMS_MAX_BYTES) throw invalid({ field: 'params', message: `must not have more than ${JOB_PARAMS_MAX_BYTES} bytes as JSON` })
}

const USER_ID = new RegExp(`^[A-Za-z0-9._-]{1,${USER_ID_MAX_CHARACTERS}}$`)

/** Users are themselves, and must not say otherwise; all others name whom they want. @throws BAD_REQUEST, RBAC_FORBIDDEN */
export function userIdOf(principal: Principal, given: string | undefined): string | null {
  if (given !== undefined && !USER_ID.test(given)) throw invalid({ field: 'user_id', message: `must be 1 to ${USER_ID_MAX_CHARACTERS} of the characters A-Z a-z 0-9 . _ -` })
  if (principal.kind === 'user' && given !== undefined && given !== principal.subject) throw new PenstockError('RBAC_FORBIDDEN', { message: 'user_id must be your own' })
  return given ?? principal.subject
}

const EVENT_NAMES: ReadonlySet<string> = new Set(['generation_started', 'generation_progress', 'generation_complete', 'generation_failed', 'generation_cancelled'] satisfies JobEventName[])

function checkWebhook(config: Config, { url, events }: JobWebhook): void {
  if (config.WEBHOOK_SECRET === undefined) throw invalid({ field: 'webhook', message: 'cannot be used: the service has no secret to sign it with' })
  const fault = webhookUrlFault(url, { allowPrivate: config.WEBHOOK_ALLOW_PRIVATE })
  if (fault !== undefined) throw invalid({ field: 'webhook.url', message: fault })
  if (events !== undefined && !(Array.isArray(events) && events.every(event => EVENT_NAMES.has(event)))) throw invalid({ field: 'webhook.events', message: `must list some of ${[...EVENT_NAMES].join(', ')}` })
}

/** @throws BAD_REQUEST */
export function checkIdempotencyKey({ idempotencyKey: key }: CreateOptions): string | undefined {
  if (key === undefined) return undefined
  if (key.length > IDEMPOTENCY_KEY_MAX_CHARACTERS || !/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(key)) {
    throw invalid({ field: 'Idempotency-Key', message: `must be 1 to ${IDEMPOTENCY_KEY_MAX_CHARACTERS} printable characters` })
  }
  return key
}
