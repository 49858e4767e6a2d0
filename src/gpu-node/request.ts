/** What is to be run, of the models of this node: checked before anything is, as far as it can be known. */
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { Task } from '../inference/task.ts'
import { checkParams, taskNamed } from '../inference/tasks/index.ts'
import { versionExists } from '../ingest/model/check.ts'
import type { ModelRecord } from '../records/jobs-port.ts'
import type { RecordStore } from '../records/port.ts'

export interface NodeRequest {
  /** by name; without it the default one */
  model?: string | undefined
  params?: unknown
  /** Is the input a video? */
  video: boolean
  /** Without it what the model is for. */
  task?: string | undefined
  /** Without it the highest. */
  version?: string | undefined
  /** Bytes that the model must have, where whoever asks knows them. */
  sha256?: string | undefined
}

export interface CheckedRequest { task: Task, model: ModelRecord, params: Record<string, unknown> }

/** @throws MODEL_NOT_FOUND, MODEL_NOT_LOADED, MODEL_VERSION_EXISTS, BAD_REQUEST */
export async function checkNodeRequest({ models }: Pick<RecordStore, 'models'>, config: Config, request: NodeRequest): Promise<CheckedRequest> {
  const model = await findModel(models, config, request)
  const task = taskOf(model, request)
  if (task.name === 'exec' && config.EXEC_TASKS_FILE === undefined) throw invalid('model', 'is a command, and none can be run here')
  const { params = {} } = request
  const faults = checkParams(task, params)
  if (faults.length > 0) throw new PenstockError('BAD_REQUEST', { message: `${faults[0]!.field} ${faults[0]!.message}`, details: { fields: faults } })
  return { task, model, params: params as Record<string, unknown> }
}

async function findModel(models: RecordStore['models'], config: Config, { model: name, video, version, sha256 }: NodeRequest): Promise<ModelRecord> {
  const wanted = name ?? (video ? config.DEFAULT_VIDEO_MODEL : config.DEFAULT_IMAGE_MODEL)
  // no name of a model has it, and Postgres takes no text that does
  const found = `${wanted}${version ?? ''}`.includes('\0') ? undefined : await models.find(wanted, version)
  if (found === undefined) throw new PenstockError('MODEL_NOT_FOUND')
  if (!found.loaded) throw new PenstockError('MODEL_NOT_LOADED')
  if (sha256 !== undefined && sha256 !== found.sha256) throw versionExists(found.sha256)
  return found
}

/** Frames go through a model of images as images do. */
function taskOf(model: ModelRecord, { task: wanted, video }: NodeRequest): Task {
  const through = model.task === 'image-to-image' ? ['image-to-image', 'video-to-video'] : [model.task]
  const name = wanted ?? (video && through.includes('video-to-video') ? 'video-to-video' : model.task)
  const task = through.includes(name) ? taskNamed(name) : undefined
  if (task === undefined) throw invalid('model', `is not for the task ${name.slice(0, 64)}`)
  return task
}

export function invalid(field: string, message: string): PenstockError {
  return new PenstockError('BAD_REQUEST', { message: `${field} ${message}`, details: { fields: [{ field, message }] } })
}
