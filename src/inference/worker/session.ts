/**
 * One model in ONNX Runtime. Loading and running are synchronous there: nothing else happens in this thread meanwhile, and
 * nothing can end them but the end of the process. Threads are as many as the pool gives this worker, nodes run one after
 * the other, and of what the runtime has to say only errors are heard.
 */
import { InferenceSession, type Tensor } from 'onnxruntime-node'
import { MODEL_TENSOR_MAX_BYTES, WORKER_KEPT_MEMORY_MAX_BYTES } from '../../limits.ts'
import { checkInputs, checkOutputs } from '../check-tensors.ts'
import { forbidTelemetry } from '../no-telemetry.ts'
import { InferenceFailed, type ModelSignature, type TensorMetadata } from '../port.ts'
import type { Session } from '../task.ts'
import { elementBytes } from '../tensor-json.ts'
import { checkModelFile } from './onnx-file.ts'
import { datatypeOf, fromOrt, toOrt } from './ort-tensors.ts'
import { runtimeError } from './runtime-errors.ts'

export type Provider = 'cuda' | 'webgpu' | 'cpu'

export interface SessionOptions {
  provider: Provider
  intraOpNumThreads: number
  /** bytes of one tensor, in or out */
  maxTensorBytes?: number
}

export interface LoadedSession extends Session {
  /** Gives its memory back. Idempotent; not in the middle of a run. */
  release(): Promise<void>
}

/** Nodes that a GPU does not know run on the CPU. */
export function runtimeOptions({ provider, intraOpNumThreads }: Pick<SessionOptions, 'provider' | 'intraOpNumThreads'>): InferenceSession.SessionOptions {
  return {
    executionProviders: provider === 'cpu' ? ['cpu'] : [provider, 'cpu'],
    intraOpNumThreads, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all', logSeverityLevel: 3
  }
}

/** @throws InferenceFailed invalid_model with the runtime's reason, resource_exhausted */
export async function loadSession(path: string, options: SessionOptions): Promise<LoadedSession> {
  forbidTelemetry()
  checkModelFile(path)
  const session = await InferenceSession.create(path, runtimeOptions(options)).catch((error: unknown) => { throw runtimeError(error, 'invalid_model') })
  try {
    return wrap(session, signatureOf(session, options.maxTensorBytes), options)
  } catch (error) {
    await session.release()
    throw error
  }
}

function wrap(session: InferenceSession, signature: ModelSignature, { provider, maxTensorBytes = MODEL_TENSOR_MAX_BYTES }: SessionOptions): LoadedSession {
  let released = false
  const outputsOf = keptOutputs(session)
  return {
    signature,
    provider,
    async run(inputs, outputs, { reuse = false } = {}) {
      checkInputs(signature, inputs, maxTensorBytes)
      const asked = outputs ?? signature.outputs.map(({ name }) => name)
      checkOutputs(signature, asked)
      const feeds = Object.fromEntries(inputs.map(input => [input.name, toOrt(input)]))
      const run = reuse ? outputsOf : (names: readonly string[]) => session.run(feeds, [...names])
      const results = await run(asked, feeds).catch((error: unknown) => { throw runtimeError(error, 'invalid_input') })
      return asked.map(name => fromOrt(name, resultOf(results, name)))
    },
    async release() {
      if (released) return
      released = true
      await session.release()
    }
  }
}

/**
 * Runs with outputs in the memory of the run before, where the inputs have the same shapes. A graph may make outputs of other
 * shapes of them all the same, and is then run without.
 */
function keptOutputs(session: InferenceSession): (names: readonly string[], feeds: Record<string, Tensor>) => Promise<Record<string, Tensor>> {
  let kept: { of: string, tensors: Record<string, Tensor> } | undefined
  return async (names, feeds) => {
    const of = JSON.stringify([names, Object.entries(feeds).map(([name, { dims }]) => [name, dims])])
    if (kept?.of === of) {
      try {
        await session.run(feeds, kept.tensors)
        return kept.tensors
      } catch {
        kept = undefined
      }
    }
    const tensors = await session.run(feeds, [...names]) as Record<string, Tensor>
    kept = Object.values(tensors).every(isSmall) ? { of, tensors } : undefined
    return tensors
  }
}

/** Texts have no memory of their own to write to. */
function isSmall({ type, data }: Tensor): boolean {
  return type !== 'string' && (data as Float32Array).byteLength <= WORKER_KEPT_MEMORY_MAX_BYTES
}

function resultOf(results: Readonly<Record<string, unknown>>, name: string): Tensor {
  const result = results[name]
  if (result === undefined) throw new InferenceFailed('invalid_model', `the model gave no output "${name}"`)
  return result as Tensor
}

/** What the file says of its inputs and outputs. @throws InferenceFailed invalid_model where that cannot be served */
function signatureOf({ inputMetadata, outputMetadata }: InferenceSession, maxTensorBytes = MODEL_TENSOR_MAX_BYTES): ModelSignature {
  const describe = (what: string) => (value: InferenceSession.ValueMetadata): TensorMetadata => {
    const datatype = value.isTensor ? datatypeOf(value.type) : undefined
    if (!value.isTensor || datatype === undefined) throw new InferenceFailed('invalid_model', `${what} "${value.name}" is ${value.isTensor ? value.type : 'no tensor'}, which is not served`)
    const metadata = { name: value.name, datatype, shape: value.shape.map(dimension => (typeof dimension === 'number' ? dimension : -1)) }
    checkSize(what, metadata, maxTensorBytes)
    return metadata
  }
  return { inputs: inputMetadata.map(describe('input')), outputs: outputMetadata.map(describe('output')) }
}

/** Free dimensions count as one: the least that there can be. */
function checkSize(what: string, { name, datatype, shape }: TensorMetadata, maxTensorBytes: number): void {
  const bytes = shape.reduce((product, dimension) => product * Math.abs(dimension), elementBytes(datatype) ?? 1)
  if (bytes > maxTensorBytes) throw new InferenceFailed('invalid_model', `${what} "${name}" is declared with the shape [${shape.join(', ')}], which is ${bytes} bytes and more than ${maxTensorBytes}`)
}
