/**
 * The jobs of other machines on this node. An id is taken as long as its job is under way: a second job with it is refused, and
 * only then can it be cancelled.
 */
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { InferencePool } from '../inference/port.ts'
import { NODE_JOB_ID } from '../inference/remote/lines.ts'
import type { IngestContext, Log } from '../ingest/context.ts'
import type { NodeContext } from './context.ts'
import { startExpiring } from './expire.ts'
import { nodeJob, type NodeJob } from './job.ts'
import { assertDeliverable, placeOf, type Place } from './paths.ts'
import { checkNodeRequest, invalid, type CheckedRequest, type NodeRequest } from './request.ts'
import { nodeResults, type OpenResult } from './results.ts'

export interface GpuNode {
  /** A slot for a body that arrives; returns the way to give it back. @throws SERVICE_BUSY */
  takeSlot(): () => void
  /** Takes the id. Whoever has the job ends it. @throws BAD_REQUEST, JOB_ID_IN_USE */
  begin(jobId: unknown): NodeJob
  /** @throws MODEL_NOT_FOUND, MODEL_NOT_LOADED, MODEL_VERSION_EXISTS, BAD_REQUEST */
  check(request: NodeRequest): Promise<CheckedRequest>
  /** Where an input is, and where its result goes. @throws BAD_REQUEST */
  places(paths: { inputPath: string, outputPath: string }): Promise<{ input: Place, output: Place }>
  /** False: there is no such job under way. @throws BAD_REQUEST */
  cancel(jobId: unknown): boolean
  /** @throws BAD_REQUEST, RESULT_NOT_FOUND */
  result(jobId: unknown): Promise<OpenResult>
  /** Ends what is under way; each job still says how it ended. */
  cutOff(): void
  /** When no job is under way any more. */
  stop(): Promise<void>
}

const ID = new RegExp(NODE_JOB_ID)

function checkedId(jobId: unknown): string {
  if (typeof jobId !== 'string' || !ID.test(jobId)) throw invalid('jobId', 'must be 1 to 128 of the characters A-Z a-z 0-9 _ -')
  return jobId
}

/** Makes the two folders. @throws where they cannot be made */
export async function openGpuNode({ config, pool, ingest, log }: { config: Config, pool: Pick<InferencePool, 'run'>, ingest: IngestContext, log: Log }): Promise<GpuNode> {
  const uploadFolder = resolve(config.WORK_UPLOAD_DIR ?? join(config.DATA_DIR, 'node-inputs'))
  const resultFolder = resolve(config.WORK_RESULT_DIR ?? join(config.DATA_DIR, 'node-results'))
  for (const folder of [uploadFolder, resultFolder]) await mkdir(folder, { recursive: true })
  const context: NodeContext = { config, pool, ingest, log, results: nodeResults(resultFolder) }
  const active = new Map<string, NodeJob>()
  const prefixes = config.OBJECT_PATH_PREFIXES

  const expiring = startExpiring({
    folders: [uploadFolder, resultFolder], store: ingest.store, records: ingest.records, log,
    inUse: what => [...active.values()].some(({ uploads, place }) => 'uploadId' in what ? uploads.includes(what.uploadId) : place !== undefined && 'file' in place && place.file === what.file)
  }, config.WORK_TTL_MINUTES * 60_000)

  if (config.AI_INTERNAL_TOKEN === undefined) log.warn({ action: 'node.open', host: config.HOST }, 'AI_INTERNAL_TOKEN is not set: whoever can connect can run models here')

  return {
    takeSlot: () => ingest.slots.take(),
    begin(given) {
      const id = checkedId(given)
      if (active.has(id)) throw new PenstockError('JOB_ID_IN_USE')
      const job = nodeJob(context, id, () => active.delete(id))
      active.set(id, job)
      log.info({ action: 'node.job.begin', node_job_id: id })
      return job
    },
    check: request => checkNodeRequest(ingest.records, config, request),
    async places({ inputPath, outputPath }) {
      const input = placeOf('inputPath', inputPath, { prefixes, root: uploadFolder })
      const output = placeOf('outputPath', outputPath, { prefixes, root: resultFolder })
      await assertDeliverable(output)
      return { input, output }
    },
    cancel(given) {
      const job = active.get(checkedId(given))
      job?.stop('cancelled')
      return job !== undefined
    },
    result: async given => await context.results.open(checkedId(given)),
    cutOff() {
      for (const job of active.values()) job.stop('shutdown')
    },
    async stop() {
      await expiring.stop()
      await Promise.all([...active.values()].map(job => job.end()))
    }
  }
}
