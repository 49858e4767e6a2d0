/**
 * What callers do with jobs. Each method asks for the scope first, then finds the row: a job of another is not there.
 * Administrators reach every job, others their own.
 */
import { randomBytes } from 'node:crypto'
import { PenstockError } from '../errors.ts'
import { assertMayReadJobs, assertMayWriteJobs } from '../identity/permissions.ts'
import type { Principal } from '../identity/principal.ts'
import type { WireTensor } from '../inference/port.ts'
import { tensor } from '../inference/tasks/tensor.ts'
import { ownerOf } from '../ingest/ownership.ts'
import { DOWNLOAD_TOKEN_MAX_SECONDS, JOB_PRIORITY_MAX } from '../limits.ts'
import type { FileRecord, JobRecord, ModelRecord } from '../records/jobs-port.ts'
import { noPlace, takePlace } from './active-place.ts'
import { cancelJob } from './cancel-job.ts'
import { sha256Of } from './canonical-json.ts'
import type { JobsContext } from './context.ts'
import { createJob, findRepeated, inputOf, tensorsAsTheyAre, type Created } from './create-job.ts'
import { beginDraft } from './draft.ts'
import { findJob } from './find-job.ts'
import type { CreateOptions, JobInputRequest, JobRequest, JobService } from './port.ts'
import { allWorkers } from './node-beats.ts'
import { noteEnd } from './observer.ts'
import { removeJob } from './remove-job.ts'
import { checkRequest, invalid } from './request.ts'
import { isTerminal, jobWatchers } from './watch.ts'

const DOWNLOAD_TOKEN_BYTES = 32

export function createJobService(context: JobsContext): JobService {
  const { config, records: { jobs, files } } = context
  const watchers = jobWatchers(jobs)

  const find = (principal: Principal, id: string): Promise<JobRecord> => findJob(jobs, principal, id)

  async function read(principal: Principal, id: string): Promise<JobRecord> {
    assertMayReadJobs(principal, config)
    return await find(principal, id)
  }

  async function change(principal: Principal, id: string): Promise<JobRecord> {
    assertMayWriteJobs(principal, config)
    return await find(principal, id)
  }

  async function result(principal: Principal, id: string, name: string): Promise<FileRecord> {
    return await fileOf(await read(principal, id), name)
  }

  async function fileOf({ results }: JobRecord, name: string): Promise<FileRecord> {
    const found = results.find(each => each.name === name)
    const file = found && await files.get(found.fileId)
    if (file === undefined) throw new PenstockError('RESULT_NOT_FOUND')
    return file
  }

  return {
    create: (principal, request, options = {}) => create(context, principal, request, options),
    async createInference(principal, request, options = {}) {
      const job = await createInference(context, principal, request, options)
      const { id } = job
      return {
        id,
        watch: signal => watchers.watch(id, 0, signal),
        result: async name => await fileOf(await find(principal, id), name),
        remove: async () => await removeJob(context, watchers, id)
      }
    },
    async begin(principal, userId, options) {
      assertMayWriteJobs(principal, config)
      return await beginDraft(context, principal, userId, options)
    },
    get: read,
    async list(principal, { userId, ...query }) {
      assertMayReadJobs(principal, config)
      if (principal.kind === 'client' && userId === undefined) throw invalid({ field: 'user_id', message: 'must be given by a service token' })
      const named = { ...query, ...(userId !== undefined && { userId }) }
      if ([userId, query.model].some(text => text?.includes('\0'))) return []
      return await jobs.list(principal.kind === 'admin' ? named : { ...named, owner: ownerOf(principal) })
    },
    async watch(principal, id, after, signal) {
      await read(principal, id)
      return watchers.watch(id, after, signal)
    },
    async cancel(principal, id) {
      const before = await change(principal, id)
      const job = await cancelJob(context, id)
      if (job === undefined) throw new PenstockError('JOB_NOT_FOUND')
      // one that runs is counted by whoever runs it
      if (before.status === 'queued') noteEnd(context.observer, job, job.status)
      return job
    },
    async retry(principal, id) {
      const job = await change(principal, id)
      if (!isTerminal(job) || job.status === 'completed') throw new PenstockError('JOB_NOT_RETRYABLE')
      // the place is the job's own again as soon as it waits
      const place = await takePlace(jobs, config, job.owner, job.userId, context.log)
      try {
        if (!await jobs.retry(id)) throw new PenstockError('JOB_NOT_RETRYABLE')
      } finally {
        await place.release()
      }
      return await find(principal, id)
    },
    async remove(principal, id) {
      await change(principal, id)
      await removeJob(context, watchers, id)
    },
    result,
    async downloadToken(principal, id, { name, expires_in: seconds }) {
      if (!Number.isInteger(seconds) || seconds < 1 || seconds > DOWNLOAD_TOKEN_MAX_SECONDS) throw invalid({ field: 'expires_in', message: `must be a whole number from 1 to ${DOWNLOAD_TOKEN_MAX_SECONDS}` })
      const { id: fileId } = await result(principal, id, name)
      const token = randomBytes(DOWNLOAD_TOKEN_BYTES).toString('base64url')
      const expiresAt = Date.now() + seconds * 1000
      await jobs.createDownload({ tokenHash: sha256Of(token), fileId, expiresAt })
      return { token, expiresAt }
    },
    async takeDownload(token) {
      const file = await jobs.takeDownload(sha256Of(token))
      if (file === undefined) throw new PenstockError('FILE_NOT_FOUND')
      return file
    },
    async queue() {
      const [stats, workers] = await Promise.all([jobs.stats(), allWorkers(context)])
      return { ...stats, workers }
    }
  }
}

async function create(context: JobsContext, principal: Principal, request: JobRequest & { input: JobInputRequest }, options: CreateOptions): Promise<Created> {
  const { config, records, log } = context
  assertMayWriteJobs(principal, config)
  const startedAt = Date.now()
  const checked = await checkRequest(records.models, config, principal, request)
  const inputs = inputOf(context, principal, checked, request.input)
  const repeated = await findRepeated(context, { principal, request, inputs, options })
  if (repeated !== undefined) return repeated
  const place = await takePlace(records.jobs, config, ownerOf(principal), checked.userId, log)
  try {
    return await createJob(context, { principal, request, checked, inputs, place, startedAt, options })
  } finally {
    await place.release()
  }
}

async function createInference(context: JobsContext, principal: Principal, { model, tensors }: { model: ModelRecord, tensors: readonly WireTensor[] }, options: CreateOptions): Promise<JobRecord> {
  assertMayWriteJobs(principal, context.config)
  const startedAt = Date.now()
  const request = { model: model.name, version: model.version, priority: JOB_PRIORITY_MAX, cache: false }
  // for no user, so that it is not counted among the active jobs of the caller
  const checked = { model, task: tensor, params: {}, userId: null, priority: JOB_PRIORITY_MAX, cache: false, webhook: null }
  const inputs = tensorsAsTheyAre(context, tensors)
  const { job } = await createJob(context, { principal, request, checked, inputs, place: noPlace, startedAt, options })
  return job
}
