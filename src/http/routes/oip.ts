/**
 * The Open Inference Protocol v2 (KServe, Triton) under /v2, with the extensions binary_tensor_data and model_repository.
 * A model is known by its row; what its inputs and outputs are stands there from when it was accepted, so that a request
 * which does not fit never reaches a worker.
 */
import type { FastifyInstance, FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import type { TSchema } from 'typebox'
import { PenstockError } from '../../errors.ts'
import { checkInputs, checkOutputs } from '../../inference/check-tensors.ts'
import type { ModelManifest } from '../../inference/manifest.ts'
import type { ModelSignature, TensorMetadata, WireTensor } from '../../inference/port.ts'
import { REPOSITORY_BODY_MAX_BYTES } from '../../limits.ts'
import { inferenceError, type Infer } from '../../models/infer.ts'
import type { ModelRecord, ModelRecords } from '../../records/jobs-port.ts'
import { callerOf } from '../../identity/guards.ts'
import { oipErrors } from '../errors.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { adminSecurity } from '../openapi.ts'
import { limited } from '../rate-limits.ts'
import type { Health } from './health.ts'
import {
  IndexAnswer, IndexRequest, InferAnswer, InferRequest, Live, LoadRequest, ModelMetadata, ModelParams, ModelReady, Nothing, Ready, ServerMetadata, VersionParams
} from './oip-schemas.ts'
import { inputsOf, outputsOf, readTensorBodies, sendTensors } from './oip-tensors.ts'
import { paramsOf } from './task-params.ts'

const PLATFORM = 'onnx_onnxv1'
const EXTENSIONS = ['binary_tensor_data', 'model_repository']

export interface OipOptions {
  models: ModelRecords
  infer: Infer
  health: Health
  /** of the service */
  version: string
  /** Largest body of an inference, and largest sum of its outputs. */
  inferMaxBytes: number
  guards: {
    /** looks at models */
    read: onRequestAsyncHookHandler
    /** runs them */
    infer: onRequestAsyncHookHandler
    /** loads and unloads them */
    admin: onRequestAsyncHookHandler
  }
}

export async function oipRoutes(app: FastifyInstance, options: OipOptions): Promise<void> {
  await app.register(async scope => {
    oipErrors(scope)
    // of the paths of other extensions, in the protocol's dialect
    scope.setNotFoundHandler(() => {
      throw new PenstockError('NOT_FOUND')
    })
    await scope.register(serverRoutes, options)
    await scope.register(modelRoutes, options)
    await scope.register(inferRoutes, options)
    await scope.register(repositoryRoutes, options)
    refuseOtherMethods(scope)
  }, { prefix: '/v2' })
}

const errors = ['RECORDS_UNAVAILABLE'] as const

async function serverRoutes(app: FastifyInstance, { health, version }: OipOptions): Promise<void> {
  app.get('', {
    schema: { tags: ['inference'], security: [], summary: 'What this server is', response: { 200: ServerMetadata } }
  }, async () => ({ name: 'penstock', version, extensions: EXTENSIONS }))

  app.get('/health/live', {
    config: { whileStopping: true },
    schema: { tags: ['inference'], security: [], summary: 'Is the process alive?', response: { 200: Live } }
  }, async () => ({ live: true }))

  app.get('/health/ready', {
    config: { whileStopping: true },
    schema: { tags: ['inference'], security: [], summary: 'Can models be run here?', response: { 200: Ready, 503: Ready } }
  }, async (_request, reply) => {
    const ready = !health.stopping && await health.ready().then(answer => answer.ready, () => false)
    return reply.code(ready ? 200 : 503).send({ ready })
  })
}

/** Each path of a model, with and without a version. */
function pathsOf(tail: string): [path: string, params: TSchema][] {
  return [[`/models/:name${tail}`, ModelParams], [`/models/:name/versions/:version${tail}`, VersionParams]]
}

async function modelRoutes(app: FastifyInstance, { models, guards }: OipOptions): Promise<void> {
  for (const [path, params] of pathsOf('')) {
    app.get<{ Params: ModelParams }>(path, {
      onRequest: guards.read,
      config: { ...limited('infer', 'models'), errors: [...errors, 'MODEL_NOT_FOUND'] },
      schema: { tags: ['inference'], security: adminSecurity, summary: 'Inputs and outputs of a model', params, response: { 200: ModelMetadata } }
    }, async request => {
      const model = await loadedModel(models, request.params)
      const versions = (await models.list()).filter(each => each.name === model.name && each.loaded).map(each => each.version)
      const { inputs, outputs } = signatureOf(model)
      return { name: model.name, versions: versions.toReversed(), platform: PLATFORM, inputs: inputs.map(showTensor), outputs: outputs.map(showTensor), properties: { task: model.task, params: paramsOf(model.task) } }
    })
  }
  for (const [path, params] of pathsOf('/ready')) {
    app.get<{ Params: ModelParams }>(path, {
      onRequest: guards.read,
      config: { ...limited('infer', 'models'), errors: [...errors, 'MODEL_NOT_FOUND'] },
      schema: { tags: ['inference'], security: adminSecurity, summary: 'Can this model be run?', params, response: { 200: ModelReady } }
    }, async request => ({ name: (await loadedModel(models, request.params)).name, ready: true }))
  }
}

/** @throws MODEL_NOT_FOUND */
async function loadedModel(models: ModelRecords, { name, version }: ModelParams): Promise<ModelRecord> {
  const model = await models.find(name, version)
  const called = `model "${name}"${version === undefined ? '' : ` version "${version}"`}`
  if (model === undefined) throw new PenstockError('MODEL_NOT_FOUND', { message: `${called} is not here, or not loaded` })
  if (!model.loaded) throw new PenstockError('MODEL_NOT_FOUND', { message: `${called} is not loaded` })
  return model
}

/** Rows are written with what the load check found. */
function signatureOf({ signature }: ModelRecord): ModelSignature {
  return signature as ModelSignature
}

function showTensor({ name, datatype, shape }: TensorMetadata): TensorMetadata {
  return { name, datatype, shape }
}

async function inferRoutes(app: FastifyInstance, { models, infer, inferMaxBytes, guards }: OipOptions): Promise<void> {
  readTensorBodies(app)
  for (const [path, params] of pathsOf('/infer')) {
    app.post<{ Params: ModelParams, Body: InferRequest }>(path, {
      onRequest: guards.infer,
      bodyLimit: inferMaxBytes,
      config: {
        ...limited('infer', 'infer'),
        errors: [...errors, 'RBAC_FORBIDDEN', 'INSUFFICIENT_SCOPE', 'MODEL_NOT_FOUND', 'INVALID_MODEL', 'QUEUE_FULL', 'STORAGE_FAILED', 'INFERENCE_TIMEOUT']
      },
      schema: {
        tags: ['inference'], security: adminSecurity, summary: 'Run a model over small tensors', params,
        consumes: ['application/json', 'application/octet-stream'], body: InferRequest, response: { 200: InferAnswer }
      }
    }, async (request, reply) => {
      try {
        const model = await loadedModel(models, request.params)
        const tensors = inputsOf(request.body, request.binaryData!)
        const outputs = outputsOf(request.body)
        check(model, tensors, outputs)
        const found = await infer({ principal: callerOf(request), model, tensors, ...(outputs && { outputs }), signal: clientGone(reply) })
        assertSmall(found, inferMaxBytes)
        return await sendTensors(reply, request.body, model, found)
      } catch (error) {
        throw inferenceError(error)
      }
    })
  }
}

function check(model: ModelRecord, tensors: readonly WireTensor[], outputs: readonly string[] | undefined): void {
  const signature = signatureOf(model)
  const manifest = model.manifest as ModelManifest
  checkInputs(signature, tensors, manifest.limits?.maxTensorBytes)
  if (outputs !== undefined) checkOutputs(signature, outputs)
}

function assertSmall(tensors: readonly WireTensor[], maxBytes: number): void {
  const bytes = tensors.reduce((sum, { data }) => sum + data.length, 0)
  if (bytes > maxBytes) throw new PenstockError('PAYLOAD_TOO_LARGE', { message: `the outputs have ${bytes} bytes, and at most ${maxBytes} are answered here: run it as a job` })
}

/** The request's own 'close' comes as soon as its body was read, and says nothing about the client. */
function clientGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  reply.raw.once('close', () => { if (!reply.raw.writableFinished) gone.abort() })
  if (reply.raw.destroyed) gone.abort()
  return gone.signal
}

async function repositoryRoutes(app: FastifyInstance, { models, guards }: OipOptions): Promise<void> {
  readTensorBodies(app)
  app.post<{ Body: IndexRequest }>('/repository/index', {
    onRequest: guards.read,
    bodyLimit: REPOSITORY_BODY_MAX_BYTES,
    config: { ...limited('infer', 'models'), errors: [...errors] },
    schema: { tags: ['inference'], security: adminSecurity, summary: 'Every version of every model', body: IndexRequest, response: { 200: IndexAnswer } }
  }, async ({ body }) => {
    const all = await models.list()
    return all.filter(({ loaded }) => loaded || body?.ready !== true).map(showInIndex)
  })

  for (const [verb, loaded] of [['load', true], ['unload', false]] as const) {
    app.post<{ Params: ModelParams, Body: LoadRequest }>(`/repository/models/:name/${verb}`, {
      onRequest: guards.admin,
      bodyLimit: REPOSITORY_BODY_MAX_BYTES,
      config: { ...limited('infer', 'models'), errors: [...errors, 'INSUFFICIENT_SCOPE', 'MODEL_NOT_FOUND'] },
      schema: {
        tags: ['inference'], security: adminSecurity, summary: loaded ? 'Serve a model again' : 'Serve a model no more',
        params: ModelParams, body: LoadRequest, response: { 200: Nothing }
      }
    }, async request => {
      const { name } = request.params
      const { version } = loadParameters(request.body)
      if (await models.setLoaded(name, version, loaded) === 0) throw new PenstockError('MODEL_NOT_FOUND', { message: `there is no model "${name}"${version === undefined ? '' : ` version "${version}"`}` })
      request.log.info({ action: `models.${verb}.success`, model: name, version: version ?? 'all' })
      return {}
    })
  }
}

function showInIndex({ name, version, loaded }: ModelRecord): object {
  return { name, version, state: loaded ? 'READY' : 'UNAVAILABLE', reason: loaded ? '' : 'unloaded' }
}

/** What would change a model comes in by upload and finalize, never here. */
function loadParameters(body: LoadRequest): { version?: string } {
  const { parameters = {} } = body ?? {}
  const other = Object.keys(parameters).find(name => name === 'config' || name.startsWith('file:'))
  if (other !== undefined) throw new PenstockError('BAD_REQUEST', { message: `the parameter ${other.slice(0, 100)} is not supported here: a model is uploaded and finalized` })
  return parameters.version === undefined ? {} : { version: parameters.version }
}
