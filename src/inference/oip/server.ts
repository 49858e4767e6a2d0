/**
 * An inference server that speaks the Open Inference Protocol v2 (Triton, KServe, OpenVINO, another Penstock): what it is,
 * what its models take and give, and what they make of tensors.
 *
 *   GET  /v2                                         its name; does it take binary tensors?
 *   GET  /v2/models/<name>/versions/<version>        inputs and outputs
 *   GET  /v2/models/<name>/versions/<version>/ready
 *   POST /v2/models/<name>/versions/<version>/infer
 *
 * What it says of itself and of a model is believed for OIP_METADATA_MAX_AGE_MS, and not after something has failed there: it
 * may have been replaced by another.
 */
import type { IncomingMessage } from 'node:http'
import { Type, type Static } from 'typebox'
import { Check } from 'typebox/value'
import {
  OIP_ANSWER_MAX_BYTES, OIP_METADATA_MAX_AGE_MS, OIP_METADATA_MAX_BYTES, OIP_METADATA_TIMEOUT_MS, OIP_MODELS_KNOWN_MAX, TENSORS_MAX
} from '../../limits.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type Datatype, type ModelSignature, type TensorMetadata, type WireTensor } from '../port.ts'
import { DATATYPES } from '../tensor-json.ts'
import { openConnection, readBody, type Connection, type ReadOptions, type ServerAddress } from './ask.ts'
import { binaryRequest, jsonLength, jsonRequest, offsetFor, readAnswer } from './body.ts'
import { refused, serverFailed } from './failures.ts'

export interface ModelName { readonly name: string, readonly version: string }

export interface ServerFacts { name: string, binary: boolean }

export interface InferOrder {
  model: ModelName
  /** Checked against the signature. */
  inputs: readonly WireTensor[]
  outputs: readonly string[]
  signature: ModelSignature
  signal: AbortSignal
  memory?: NonNullable<ReadOptions['memory']>
}

export interface InferServer {
  /** @throws InferenceFailed node_failed */
  facts(signal: AbortSignal): Promise<ServerFacts>
  /** Of a model that is ready. @throws InferenceFailed invalid_model where it is not there, node_failed */
  signature(model: ModelName, signal: AbortSignal): Promise<ModelSignature>
  /** The outputs in the order in which they were asked for. @throws InferenceFailed invalid_input, invalid_model, node_failed */
  infer(order: InferOrder): Promise<WireTensor[]>
  close(): void
}

const Facts = Type.Object({ name: Type.String({ minLength: 1 }), extensions: Type.Optional(Type.Array(Type.String())) })
const Metadata = Type.Object({ name: Type.String(), datatype: Type.String(), shape: Type.Array(Type.Integer()) })
const Model = Type.Object({ inputs: Type.Array(Metadata, { maxItems: TENSORS_MAX }), outputs: Type.Array(Metadata, { minItems: 1, maxItems: TENSORS_MAX }) })

export function inferServer(address: ServerAddress): InferServer {
  const connection = openConnection(address)
  const known = rememberer()

  async function look(path: string, signal: AbortSignal, model?: string): Promise<unknown> {
    const text = await askBriefly(connection, path, signal, (status, body) => refused('look', { status, text: body, model, token: address.token }))
    try {
      return JSON.parse(text)
    } catch (cause) {
      throw serverFailed('gave an answer that is no JSON', { cause })
    }
  }

  function facts(signal: AbortSignal): Promise<ServerFacts> {
    return known.get('', async () => {
      const answer = await look('/v2', signal)
      if (!Check(Facts, answer)) throw serverFailed('does not say what it is')
      return { name: plainReason(answer.name), binary: answer.extensions?.includes('binary_tensor_data') === true }
    })
  }

  function signature(model: ModelName, signal: AbortSignal): Promise<ModelSignature> {
    return known.get(pathOf(model), async () => {
      const answer = await look(pathOf(model), signal, wordsFor(model)).catch(async (error: unknown) => {
        // one that starts does not know its models yet
        if (error instanceof InferenceFailed && error.code === 'invalid_model') await assertReady(connection, address, signal)
        throw error
      })
      if (!Check(Model, answer)) throw serverFailed(`does not say what ${wordsFor(model)} takes and gives`)
      await askBriefly(connection, `${pathOf(model)}/ready`, signal, status => notReady(model, status, address.token))
      return { inputs: answer.inputs.map(tensor => servable('input', tensor)), outputs: answer.outputs.map(tensor => servable('output', tensor)) }
    })
  }

  async function infer({ model, inputs, outputs, signature: expected, signal, memory }: InferOrder): Promise<WireTensor[]> {
    try {
      const { binary } = await facts(signal)
      const { headers, pieces } = binary ? binaryRequest(inputs, outputs) : jsonRequest(inputs, outputs)
      const response = await connection.ask({ method: 'POST', path: `${pathOf(model)}/infer`, headers, body: pieces, signal })
      if (response.statusCode !== 200) throw await refusalOf(response, (status, text) => refused('run', { status, text, model: wordsFor(model), token: address.token }))
      return readAnswer(...await bodyOf(response, memory), expected, outputs)
    } catch (error) {
      known.forget()
      throw error
    }
  }

  return { facts, signature, infer, close: connection.close }
}

async function bodyOf(response: IncomingMessage, memory: ReadOptions['memory']): Promise<[body: Buffer, jsonBytes: number | undefined]> {
  try {
    const jsonBytes = jsonLength(response.headers)
    return [await readBody(response, { maxBytes: OIP_ANSWER_MAX_BYTES, offset: offsetFor(jsonBytes), ...(memory && { memory }) }), jsonBytes]
  } catch (error) {
    response.destroy()
    throw error
  }
}

type Refuse = (status: number, text: string) => InferenceFailed

/** The text of an answer that is short, and comes soon. */
async function askBriefly(connection: Pick<Connection, 'ask'>, path: string, signal: AbortSignal, refuse: Refuse): Promise<string> {
  const late = AbortSignal.timeout(OIP_METADATA_TIMEOUT_MS)
  try {
    const response = await connection.ask({ method: 'GET', path, headers: { accept: 'application/json' }, signal: AbortSignal.any([signal, late]) })
    if (response.statusCode !== 200) throw await refusalOf(response, refuse)
    return (await readBody(response, { maxBytes: OIP_METADATA_MAX_BYTES })).toString()
  } catch (error) {
    throw late.aborted ? serverFailed('does not answer', { cause: error }) : error
  }
}

async function refusalOf(response: IncomingMessage, refuse: Refuse): Promise<InferenceFailed> {
  const text = await readBody(response, { maxBytes: OIP_METADATA_MAX_BYTES }).then(String, () => '')
  return refuse(response.statusCode ?? 0, text)
}

/** It is there, and may be loading. */
function notReady(model: ModelName, status: number, token: string | null): InferenceFailed {
  if (status >= 400 && status !== 401 && status !== 403) return serverFailed(`is not ready for ${wordsFor(model)}`)
  return refused('look', { status, text: '', model: wordsFor(model), token })
}

function pathOf({ name, version }: ModelName): string {
  return `/v2/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}`
}

function wordsFor({ name, version }: ModelName): string {
  return `model "${name}" version "${version}"`
}

/** @throws InferenceFailed invalid_model */
function servable(what: string, { name, datatype, shape }: Static<typeof Metadata>): TensorMetadata {
  if (!DATATYPES.includes(datatype as Datatype)) throw new InferenceFailed('invalid_model', `${what} "${plainReason(name)}" is ${plainReason(datatype)} at the inference server, which is not served`)
  return { name, datatype: datatype as Datatype, shape }
}

/** What was found out, for a while. */
function rememberer(): { get<T>(name: string, find: () => Promise<T>): Promise<T>, forget(): void } {
  const known = new Map<string, { value: unknown, until: number }>()
  return {
    async get<T>(name: string, find: () => Promise<T>): Promise<T> {
      const found = known.get(name)
      if (found !== undefined && performance.now() < found.until) return found.value as T
      const value = await find()
      if (known.size >= OIP_MODELS_KNOWN_MAX) known.clear()
      known.set(name, { value, until: performance.now() + OIP_METADATA_MAX_AGE_MS })
      return value
    },
    forget: () => known.clear()
  }
}

/** Asks once whether it is ready, over a connection of its own. @throws InferenceFailed node_failed */
export async function askReady(address: ServerAddress): Promise<void> {
  const connection = openConnection(address)
  try {
    await assertReady(connection, address, new AbortController().signal)
  } finally {
    connection.close()
  }
}

/** @throws InferenceFailed node_failed */
async function assertReady(connection: Connection, { token }: ServerAddress, signal: AbortSignal): Promise<void> {
  const text = await askBriefly(connection, '/v2/health/ready', signal, (status, body) => notReadyAtAll(status, body, token))
  if (saysNo(text)) throw serverFailed('is not ready')
}

/** Triton says it with 400, others with 503. */
function notReadyAtAll(status: number, text: string, token: string | null): InferenceFailed {
  return status === 400 || status === 503 ? serverFailed('is not ready') : refused('look', { status, text, model: undefined, token })
}

/** Some say it in the body, with status 200. */
function saysNo(text: string): boolean {
  try {
    return (Object(JSON.parse(text)) as { ready?: unknown }).ready === false
  } catch {
    return false
  }
}
