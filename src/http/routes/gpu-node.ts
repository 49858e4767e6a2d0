/**
 * A GPU node, for nodes on other machines: a job comes with its input, and the answer to it is the course of the job, line by
 * line. The connection is the job: where it ends early, the job does.
 */
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import type { Config } from '../../config.ts'
import { PenstockError } from '../../errors.ts'
import { attachment } from '../../files/content-disposition.ts'
import type { Place } from '../../gpu-node/paths.ts'
import type { GpuNode } from '../../gpu-node/service.ts'
import { NODE_LINES } from '../../inference/remote/lines.ts'
import { BUSY_RETRY_AFTER_SECONDS } from '../../limits.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { takeMultipart } from '../multipart.ts'
import { giveBackWhenSent } from '../send-file.ts'
import { whileWaiting } from '../while-waiting.ts'
import {
  askedBy, CancelBody, cancelErrors, Cancelled, NodeBody, NodeForm, NodeLines, NodeRequestHeaders, NodeResultBytes, NodeResultParams, processErrors, processUploadErrors, resultErrors
} from './gpu-node-schemas.ts'
import { receiveNodeJob, type ReceivedJob } from './gpu-node-upload.ts'

export interface GpuNodeRoutesOptions {
  node: GpuNode
  config: Config
  guard: onRequestAsyncHookHandler
  /** Can any model be run? */
  modelLoaded(): boolean
}

const nodeTag = { tags: ['gpu-node'], security: [{ bearer: [] }] }

export async function gpuNodeRoutes(app: FastifyInstance, options: GpuNodeRoutesOptions): Promise<void> {
  await app.register(uploadRoute, options)
  await app.register(otherRoutes, options)
  refuseOtherMethods(app)
}

/** Before the body is read. */
function requireModel({ modelLoaded }: GpuNodeRoutesOptions): onRequestAsyncHookHandler {
  return async function requireLoadedModel() {
    if (!modelLoaded()) throw new PenstockError('MODEL_NOT_LOADED', { retryAfterSeconds: BUSY_RETRY_AFTER_SECONDS })
  }
}

/** In a scope of its own: the other routes take no multipart bodies. */
async function uploadRoute(app: FastifyInstance, options: GpuNodeRoutesOptions): Promise<void> {
  await takeMultipart(app)
  app.post('/process-upload', {
    onRequest: [options.guard, requireModel(options)],
    config: { streamsMultipart: true, errors: processUploadErrors },
    // a multipart body has not been read when bodies are checked
    preValidation: async request => {
      if (request.isMultipart()) request.body = {}
    },
    schema: {
      ...nodeTag, summary: 'Run a model on a file that comes along', headers: NodeRequestHeaders,
      description: 'The answer is the course of the job. It ends with the connection, and otherwise by `/cancel`.',
      body: { content: { 'multipart/form-data': { schema: NodeForm } } },
      produces: [NODE_LINES],
      response: { 200: NodeLines }
    }
  }, async (request, reply) => {
    const received = await receiveNodeJob(options, request, reply)
    return received === undefined ? reply : sendLines(reply, received)
  })
}

async function otherRoutes(app: FastifyInstance, options: GpuNodeRoutesOptions): Promise<void> {
  const { node, config, guard } = options
  app.post<{ Body: NodeBody }>('/process', {
    onRequest: [guard, requireModel(options)],
    config: { errors: processErrors },
    schema: {
      ...nodeTag, summary: 'Run a model on a file that is here', headers: NodeRequestHeaders, body: NodeBody,
      description: 'Of an object of this node, or a file in its folders. As the answer to `/process-upload` else.',
      produces: [NODE_LINES],
      response: { 200: NodeLines }
    }
  }, async (request, reply) => {
    const { jobId, inputPath, outputPath, ...wanted } = request.body
    const begun = await whileWaiting(request, reply, 'node.process.client_aborted', async signal => {
      const places = await node.places({ inputPath, outputPath })
      const checked = await node.check({ ...wanted, ...askedBy(request.headers as NodeRequestHeaders), video: isVideo(inputPath) })
      const job = node.begin(jobId)
      const gone = (): void => job.stop('client_gone')
      signal.addEventListener('abort', gone)
      try {
        await job.read(places.input, isVideo(inputPath) ? 'video/mp4' : 'application/octet-stream', config.MAX_FILE_SIZE_MB * 1024 * 1024)
        return { job, checked, gone: signal, output: places.output }
      } catch (error) {
        await job.end()
        throw error
      } finally {
        signal.removeEventListener('abort', gone)
      }
    })
    return begun === undefined ? reply : sendLines(reply, begun)
  })

  app.get<{ Params: NodeResultParams }>('/result/:jobId', {
    onRequest: guard,
    exposeHeadRoute: false,
    config: { errors: resultErrors },
    schema: { ...nodeTag, summary: 'The result of a job', params: NodeResultParams, produces: ['application/octet-stream'], response: { 200: NodeResultBytes } }
  }, async (request, reply) => {
    const { body, size, sha256, filename, contentType } = await node.result(request.params.jobId)
    giveBackWhenSent(reply)
    return reply.headers({
      'content-type': contentType, 'content-length': String(size), 'content-disposition': attachment(filename), 'cache-control': 'no-store',
      'repr-digest': `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`
    }).send(body)
  })

  app.post<{ Body: CancelBody }>('/cancel', {
    onRequest: guard,
    config: { errors: cancelErrors },
    schema: { ...nodeTag, summary: 'End a job that is under way', body: CancelBody, response: { 200: Cancelled } }
  }, async request => {
    const { jobId } = request.body
    if (!node.cancel(jobId)) throw new PenstockError('JOB_NOT_FOUND')
    return { status: 'cancelled' as const, jobId }
  })
}

function isVideo(path: string): boolean {
  return /\.(?:mp4|avi|mkv|mov|wmv|webm)$/i.test(path)
}

/** The job begins when its first line is read. */
function sendLines(reply: FastifyReply, { job, checked, gone, output }: ReceivedJob & { output?: Place }): FastifyReply {
  let begun = false
  async function* text(): AsyncGenerator<string, void, undefined> {
    begun = true
    try {
      for await (const line of job.lines(checked, output)) yield `${JSON.stringify(line)}\n`
    } finally {
      await job.end()
    }
  }
  const onGone = (): void => {
    job.stop('client_gone')
    if (!begun) void job.end()
  }
  gone.addEventListener('abort', onGone)
  if (gone.aborted) onGone()
  return reply.headers({ 'content-type': `${NODE_LINES}; charset=utf-8`, 'cache-control': 'no-store', 'x-accel-buffering': 'no' }).send(Readable.from(text()))
}
