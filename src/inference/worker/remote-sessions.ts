/**
 * Models that run at an inference server (oip/server.ts) in place of this worker: what goes in is prepared here, and what comes
 * out is made a result of here. A model is the one of the same name and version there; its file is not fetched. To see whether
 * a file loads, it is loaded here all the same.
 */
import { MODEL_TENSOR_MAX_BYTES, WORKER_KEPT_MEMORY_MAX_BYTES } from '../../limits.ts'
import { checkInputs, checkOutputs } from '../check-tensors.ts'
import { serverFailed } from '../oip/failures.ts'
import type { InferServer } from '../oip/server.ts'
import { InferenceFailed, type Execution, type ModelRef } from '../port.ts'
import type { Session } from '../task.ts'
import { exec } from '../tasks/exec.ts'
import { keptMemory } from './memory.ts'
import { manifestOf, type Sessions } from './sessions.ts'

const PROVIDER = 'remote'

/** Where the models of a worker run. */
export interface ModelHost {
  sessions: Sessions
  /** What the worker says of it when it is ready. */
  execution: Execution
  note: string | null
  /** Of one run. @throws InferenceFailed node_failed where models run elsewhere, and nobody is there */
  executionOf(task: string, signal: AbortSignal): Promise<Execution>
}

export function hostHere(sessions: Sessions, execution: Execution, note: string | null): ModelHost {
  return { sessions, execution, note, executionOf: () => Promise.resolve(execution) }
}

/** Also while the server is not there: it may come. `local` is for load checks, and for tasks without a model. */
export async function hostAtServer(server: InferServer, local: ModelHost): Promise<ModelHost> {
  const there = async (signal: AbortSignal): Promise<Execution> => ({ ...local.execution, provider: PROVIDER, device: (await server.facts(signal)).name })
  const found = await there(new AbortController().signal).catch((error: unknown) => (error instanceof InferenceFailed ? error : serverFailed('cannot be used', { cause: error })))
  const isThere = !(found instanceof InferenceFailed)
  return {
    sessions: remoteSessions(server, local.sessions),
    execution: isThere ? found : { ...local.execution, provider: PROVIDER, device: 'inference server' },
    note: isThere ? null : found.message,
    executionOf: (task, signal) => (task === exec.name ? local.executionOf(task, signal) : there(signal))
  }
}

export function remoteSessions(server: InferServer, local: Sessions): Sessions {
  const memory = keptMemory(WORKER_KEPT_MEMORY_MAX_BYTES)
  return {
    async get(model: ModelRef, signal = new AbortController().signal): Promise<Session> {
      const signature = await server.signature(model, signal)
      const { maxTensorBytes = MODEL_TENSOR_MAX_BYTES } = manifestOf(model.manifest).limits ?? {}
      return {
        signature,
        provider: PROVIDER,
        async run(inputs, outputs = signature.outputs.map(({ name }) => name), { reuse = false } = {}) {
          checkInputs(signature, inputs, maxTensorBytes)
          checkOutputs(signature, outputs)
          return await server.infer({ model, inputs, outputs, signature, signal, ...(reuse && { memory: bytes => memory('answer', bytes) }) })
        }
      }
    },
    inspect: (path, manifest) => local.inspect(path, manifest),
    async close() {
      server.close()
      await local.close()
    }
  }
}
