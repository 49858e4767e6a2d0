/**
 * Bodies of an inference: JSON alone, or, with the binary tensor data extension, so many bytes of JSON as
 * `Inference-Header-Content-Length` says, and behind them the data of each tensor that has a `binary_data_size`, in order.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { deflate, gunzip, gzip, inflate } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { PenstockError } from '../../errors.ts'
import { jsonPartsOfTensor, parseTensorJson, tensorOfBytes, tensorOfJson } from '../../inference/tensor-json.ts'
import type { WireTensor } from '../../inference/port.ts'
import { COMPRESS_MIN_BYTES } from '../../limits.ts'
import { bodyTooLarge, invalidFields } from '../error-translation.ts'
import type { InferRequest } from './oip-schemas.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What stands behind the JSON of a body. */
    binaryData: Buffer | null
  }
}

const LENGTH_HEADER = 'inference-header-content-length'

const decoders = { gzip: promisify(gunzip), 'x-gzip': promisify(gunzip), deflate: promisify(inflate) }
const encoders = { gzip: promisify(gzip), deflate: promisify(deflate) }
/** Tensors do not shrink much; what shrinks, shrinks at the first level. */
const COMPRESSION = { level: 1 }
/** What is shorter is written without a turn for others. */
const TURN_CHARACTERS = 10_000

/** Reads every body of the routes of `app` as the protocol has them, whatever their Content-Type says. */
export function readTensorBodies(app: FastifyInstance): void {
  app.decorateRequest('binaryData', null)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) => {
    const whole = await decompress(request, body)
    const jsonBytes = jsonLength(request, whole)
    request.binaryData = whole.subarray(jsonBytes)
    return whole.length === 0 ? null : parseJson(whole.subarray(0, jsonBytes))
  })
}

async function decompress(request: FastifyRequest, body: Buffer): Promise<Buffer> {
  const coding = request.headers['content-encoding']?.trim().toLowerCase() ?? 'identity'
  if (coding === 'identity' || coding === '') return body
  if (!Object.hasOwn(decoders, coding)) throw new PenstockError('UNSUPPORTED_MEDIA_TYPE', { message: 'this content coding is not supported here: gzip and deflate are' })
  const { bodyLimit } = request.routeOptions
  try {
    return await decoders[coding as keyof typeof decoders](body, { maxOutputLength: bodyLimit })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw bodyTooLarge(bodyLimit, cause)
    throw invalidFields([{ field: 'body', message: `is not valid ${coding}` }], cause)
  }
}

function jsonLength({ headers }: FastifyRequest, body: Buffer): number {
  const text = headers[LENGTH_HEADER]
  if (text === undefined) return body.length
  if (typeof text !== 'string' || !/^\d{1,10}$/.test(text)) throw invalidFields([{ field: LENGTH_HEADER, message: 'must be a whole number' }])
  if (Number(text) > body.length) throw invalidFields([{ field: LENGTH_HEADER, message: 'is larger than the body' }])
  return Number(text)
}

function parseJson(bytes: Buffer): unknown {
  try {
    return parseTensorJson(bytes.toString())
  } catch (cause) {
    // Python writes NaN and Infinity, which are none
    throw invalidFields([{ field: 'body', message: `is not valid JSON${/\b(NaN|Infinity)\b/.test(bytes.toString()) ? ': it has no NaN and no infinity; send such tensors as binary data' : ''}` }], cause)
  }
}

/** The inputs of a request with their data. @throws PenstockError BAD_REQUEST, InferenceFailed invalid_input */
export function inputsOf({ inputs }: InferRequest, binary: Buffer): WireTensor[] {
  let offset = 0
  const tensors = inputs.map(({ name, shape, datatype, data, parameters = {} }) => {
    if ('shared_memory_region' in parameters) throw new PenstockError('BAD_REQUEST', { message: `input "${name}" lies in shared memory, which is not supported here` })
    const size = parameters.binary_data_size
    if (size === undefined) return tensorOfJson({ name, shape, datatype, data })
    if (data !== undefined) throw new PenstockError('BAD_REQUEST', { message: `input "${name}" has data and a binary_data_size` })
    const bytes = binary.subarray(offset, offset += size)
    if (bytes.length < size) throw new PenstockError('BAD_REQUEST', { message: `the body ends before the ${size} bytes of input "${name}"` })
    return tensorOfBytes({ name, shape, datatype, data: bytes })
  })
  if (offset < binary.length) throw new PenstockError('BAD_REQUEST', { message: `${binary.length - offset} bytes of the body belong to no input` })
  return tensors
}

/** Names of the outputs that a request asks for; undefined: all. @throws PenstockError BAD_REQUEST */
export function outputsOf({ outputs = [] }: InferRequest): string[] | undefined {
  for (const { name, parameters = {} } of outputs) {
    const unsupported = ['shared_memory_region', 'classification'].find(each => each in parameters)
    if (unsupported !== undefined) throw new PenstockError('BAD_REQUEST', { message: `${unsupported} of output "${name}" is not supported here` })
  }
  return outputs.length === 0 ? undefined : outputs.map(({ name }) => name)
}

/** Answers with `tensors`, each as JSON or as binary data, as the request asks for it. */
export async function sendTensors(reply: FastifyReply, request: InferRequest, model: { name: string, version: string }, tensors: readonly WireTensor[]): Promise<FastifyReply> {
  const isBinary = (name: string): boolean =>
    request.outputs?.find(output => output.name === name)?.parameters?.binary_data ?? request.parameters?.binary_data_output ?? false
  const binary = tensors.filter(({ name }) => isBinary(name))
  const head = JSON.stringify({ model_name: model.name, model_version: model.version, ...(request.id !== undefined && { id: request.id }) }).slice(0, -1)
  const outputs = tensors.map(tensor => (isBinary(tensor.name) ? [describe(tensor)] : jsonPartsOfTensor(tensor)))
  const json = await writeOutputs(head, outputs)
  if (binary.length === 0) void reply.type('application/json; charset=utf-8')
  else void reply.type('application/octet-stream').header(LENGTH_HEADER, json.length)
  return await sendCompressed(reply, binary.length === 0 ? json : Buffer.concat([json, ...binary.map(({ data }) => data)]))
}

/** Large tensors take long to write: others have their turn in between. */
async function writeOutputs(head: string, outputs: readonly Iterable<string>[]): Promise<Buffer> {
  const chunks = [Buffer.from(`${head},"outputs":[`)]
  for (const [index, parts] of outputs.entries()) {
    if (index > 0) chunks.push(Buffer.from(','))
    for (const part of parts) {
      chunks.push(Buffer.from(part))
      if (part.length > TURN_CHARACTERS) await turn()
    }
  }
  chunks.push(Buffer.from(']}'))
  return Buffer.concat(chunks)
}

function describe({ name, datatype, shape, data }: WireTensor): string {
  return JSON.stringify({ name, datatype, shape, parameters: { binary_data_size: data.length } })
}

/** The length in the header stays that of the JSON, before the coding. */
async function sendCompressed(reply: FastifyReply, body: Buffer): Promise<FastifyReply> {
  void reply.header('vary', 'accept-encoding')
  const coding = acceptedCoding(reply.request.headers['accept-encoding'])
  if (coding === undefined || body.length < COMPRESS_MIN_BYTES) return reply.send(body)
  const compressed = await encoders[coding](body, COMPRESSION)
  return reply.header('content-encoding', coding).send(compressed)
}

/** RFC 9110, section 12.5.3, without weighing: the first that we have and that is not refused. */
function acceptedCoding(header: string | string[] | undefined): keyof typeof encoders | undefined {
  const accepted = String(header ?? '').toLowerCase().split(',').map(each => each.trim()).filter(each => !/;\s*q=0(\.0*)?$/.test(each)).map(each => each.split(';', 1)[0]!.trim())
  return (Object.keys(encoders) as (keyof typeof encoders)[]).find(each => accepted.includes(each))
}
