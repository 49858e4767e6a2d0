/** Bodies and answers of the Open Inference Protocol v2. What a request holds beyond these schemas is passed over, as the protocol asks. */
import { Type, type Static } from 'typebox'
import { TENSORS_MAX } from '../../limits.ts'
import { DATATYPES } from '../../inference/tensor-json.ts'

const Name = Type.String({ minLength: 1, maxLength: 255 })
const Parameters = Type.Object({}, { additionalProperties: true })
const Shape = Type.Array(Type.Integer(), { description: 'row-major' })
const Datatype = Type.Enum(DATATYPES)

export const ModelParams = Type.Object({ name: Type.String({ maxLength: 255 }) })
export const VersionParams = Type.Object({ name: Type.String({ maxLength: 255 }), version: Type.String({ maxLength: 255 }) })
export interface ModelParams { name: string, version?: string }

export const ServerMetadata = Type.Object({
  name: Type.String(), version: Type.String(), extensions: Type.Array(Type.String())
}, { description: 'this server', examples: [{ name: 'penstock', version: '0.1.0', extensions: ['binary_tensor_data', 'model_repository'] }] })

export const Live = Type.Object({ live: Type.Boolean() })
export const Ready = Type.Object({ ready: Type.Boolean() })
export const ModelReady = Type.Object({ name: Type.String(), ready: Type.Boolean() })

const TensorMetadata = Type.Object({ name: Type.String(), datatype: Type.String(), shape: Type.Array(Type.Integer(), { description: '-1: any' }) })
const tensor = (name: string) => ({ name, datatype: 'FP32', shape: [-1, 2] })

export const ModelMetadata = Type.Object({
  name: Type.String(), versions: Type.Array(Type.String()), platform: Type.String(),
  inputs: Type.Array(TensorMetadata), outputs: Type.Array(TensorMetadata),
  properties: Type.Object({
    task: Type.String({ description: 'what jobs of it do' }),
    params: Type.Object({}, { additionalProperties: true, description: 'JSON schema of the params of its jobs' })
  })
}, {
  description: 'the model',
  examples: [{
    name: 'identity', versions: ['1'], platform: 'onnx_onnxv1', inputs: [tensor('x')], outputs: [tensor('y')],
    properties: { task: 'tensor', params: { type: 'object', properties: {}, additionalProperties: false } }
  }]
})

/** `data` is looked at by whoever makes the tensor: as a schema it would be walked twice. */
const InferInput = Type.Object({
  name: Name,
  shape: Shape,
  datatype: Datatype,
  parameters: Type.Optional(Type.Object({
    binary_data_size: Type.Optional(Type.Integer({ minimum: 0, description: 'its data stand behind the JSON, this many bytes' }))
  }, { additionalProperties: true })),
  data: Type.Optional(Type.Unknown({ description: 'flat in row-major order, or nested' }))
})

const InferRequestedOutput = Type.Object({
  name: Name,
  parameters: Type.Optional(Type.Object({ binary_data: Type.Optional(Type.Boolean()) }, { additionalProperties: true }))
})

export const InferRequest = Type.Object({
  id: Type.Optional(Type.String({ maxLength: 255 })),
  parameters: Type.Optional(Type.Object({ binary_data_output: Type.Optional(Type.Boolean()) }, { additionalProperties: true })),
  inputs: Type.Array(InferInput, { minItems: 1, maxItems: TENSORS_MAX }),
  outputs: Type.Optional(Type.Array(InferRequestedOutput, { maxItems: TENSORS_MAX }))
}, {
  description: 'JSON; with `Inference-Header-Content-Length` that many bytes of JSON, and behind it the data of the tensors that have a `binary_data_size`, in their order',
  examples: [{ id: '1', inputs: [{ name: 'x', shape: [1, 2], datatype: 'FP32', data: [1, 2.5] }] }]
})
export type InferRequest = Static<typeof InferRequest>

const JsonAnswer = Type.Object({
  model_name: Type.String(), model_version: Type.String(), id: Type.Optional(Type.String()),
  outputs: Type.Array(Type.Object({ name: Type.String(), shape: Shape, datatype: Datatype, parameters: Type.Optional(Parameters), data: Type.Optional(Type.Array(Type.Unknown())) }))
}, {
  examples: [{ model_name: 'identity', model_version: '1', id: '1', outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 2], data: [1, 2.5] }] }]
})

/** It is written by hand: see oip-tensors.ts. */
export const InferAnswer = {
  description: 'JSON, or JSON and behind it the data of the outputs that were asked for as binary',
  headers: { 'Inference-Header-Content-Length': { type: 'integer', description: 'bytes of JSON, where binary data stand behind it' } },
  content: { 'application/json': { schema: JsonAnswer }, 'application/octet-stream': { schema: {} } }
}

export const IndexRequest = Type.Union([
  Type.Object({ ready: Type.Optional(Type.Boolean({ description: 'only those that are loaded' })) }, { additionalProperties: true }),
  Type.Null()
], { examples: [{ ready: true }] })
export type IndexRequest = Static<typeof IndexRequest>

export const IndexAnswer = Type.Array(Type.Object({
  name: Type.String(), version: Type.String(), state: Type.Enum(['READY', 'UNAVAILABLE']), reason: Type.String()
}), { description: 'every version', examples: [[{ name: 'identity', version: '1', state: 'READY', reason: '' }]] })

export const LoadRequest = Type.Union([
  Type.Object({
    parameters: Type.Optional(Type.Object({ version: Type.Optional(Type.String({ maxLength: 255, description: 'only this one' })) }, { additionalProperties: true }))
  }, { additionalProperties: true }),
  Type.Null()
], { examples: [{ parameters: { version: '1' } }] })
export type LoadRequest = Static<typeof LoadRequest>

export const Nothing = Type.Object({}, { description: 'done' })
