/**
 * What the rest of the service knows of inference: a pool that runs one task on one model over objects.
 *
 * The pool's workers read inputs from the bucket and write results into staging themselves. Whoever asked for a run copies
 * the staged results to their canonical keys, or deletes them. Nothing here knows of jobs' records, principals or HTTP.
 */

/** Element types of the Open Inference Protocol v2 that we take. */
export type Datatype = 'BOOL' | 'UINT8' | 'UINT16' | 'UINT32' | 'UINT64' | 'INT8' | 'INT16' | 'INT32' | 'INT64' | 'FP16' | 'FP32' | 'FP64' | 'BYTES'

/** One input or output as the ONNX graph declares it. A dimension of −1 is free. */
export interface TensorMetadata { name: string, datatype: Datatype, shape: number[] }
/** What the file itself says, from the load check. */
export interface ModelSignature { inputs: TensorMetadata[], outputs: TensorMetadata[] }

/** A tensor in memory: `data` are the raw little-endian elements, row-major (OIP v2 binary tensor extension; BYTES: each element behind its uint32 length). */
export interface WireTensor { name: string, datatype: Datatype, shape: number[], data: Uint8Array }

/** The model of a run. `key` is its object; `path` is used instead where it is a file of this machine. */
export interface ModelRef { name: string, version: string, sha256: string, key: string, size: number, task: string, manifest: unknown }

export interface RunInput { name: string, key: string, sha256: string, size: number, contentType: string }

export interface RunRequest {
  /** for logs and for the worker's own folder: unique among what runs */
  id: string
  task: string
  model: ModelRef
  params: Record<string, unknown>
  inputs: readonly RunInput[]
  /** instead of inputs: small tensors, answered with tensors instead of results */
  tensors?: readonly WireTensor[]
  /** with tensors: outputs asked for; all without */
  outputs?: readonly string[]
}

/** What a worker has put into staging: an object that is whole and durable. */
export interface StagedResult { name: string, filename: string, key: string, etag: string, size: number, sha256: string, contentType: string }

export interface Execution { provider: string, device: string, worker: string }
export interface RunResult { results: StagedResult[], tensors: WireTensor[], execution: Execution }

export interface RunHooks {
  /** The worker has begun. */
  onStarted?(execution: Execution): void
  /** The worker is about to write this key of staging. Where the run fails, what is there by then is nobody's: whoever asked removes it. */
  onStaging?(key: string): void
  /** Work that was done: `progress` 0–100, null while the total is unknown. */
  onProgress?(progress: { stage: string, progress: number | null, message: string | null }): void
  /** Cancel: the worker is told, and killed after `cancelGraceMs`. The run then rejects with InferenceFailed `cancelled`, or resolves where it was done by then. */
  signal?: AbortSignal
  /** ms until the worker is killed: InferenceFailed `timeout` */
  timeoutMs: number
}

export interface WorkerStatus {
  id: string
  pid: number | null
  state: 'starting' | 'idle' | 'busy' | 'stopping'
  provider: string | null
  device: string | null
  /** id of the run */
  running: string | null
  /** bytes */
  rss: number | null
  runs: number
}

export interface InferencePool {
  /** Starts the workers and probes providers. @throws where DEVICE names a provider that is not there */
  start(): Promise<void>
  /** Workers that could begin at once. */
  readonly free: number
  /** Called whenever a worker becomes free. Returns the way to stop that. */
  onFree(listener: () => void): () => void
  /** Runs on a free worker; waits in line (bounded, else InferenceFailed `busy`) where there is none. @throws InferenceFailed */
  run(request: RunRequest, hooks: RunHooks): Promise<RunResult>
  /** Loads the staged or canonical object `key` in a worker. @throws InferenceFailed `invalid_model` with the runtime's reason */
  checkModel(model: { key: string, sha256: string, size: number, manifest: unknown }, signal?: AbortSignal): Promise<ModelSignature>
  /** Hashes a model file of this machine, loads it, and puts it into staging where `known` does not list its hash. @throws InferenceFailed `invalid_model` */
  importModel(file: string, known: readonly string[], hooks?: Pick<RunHooks, 'onStaging'>): Promise<{ sha256: string, size: number, signature: ModelSignature, staged: StagedResult | null }>
  /** For health and /api/v1/queue. */
  status(): WorkerStatus[]
  /** Ends idle workers, and kills what still runs (which rejects with `shutdown`). Idempotent. */
  close(): Promise<void>
}

/**
 * Why a run failed:
 * invalid_input (image, tensor, params), invalid_model: the caller's, not retryable · worker_lost (crash, kill),
 * storage_failed, resource_exhausted, node_failed (a GPU node or an inference server that is not there, or does not do as
 * agreed): retryable ·
 * timeout, cancelled, busy, shutdown, internal_error
 */
export type InferenceFailureCode = 'invalid_input' | 'invalid_model' | 'worker_lost' | 'storage_failed' | 'resource_exhausted' | 'node_failed'
  | 'timeout' | 'cancelled' | 'busy' | 'shutdown' | 'internal_error'

export class InferenceFailed extends Error {
  readonly code: InferenceFailureCode
  readonly retryable: boolean
  constructor(code: InferenceFailureCode, message: string, options: { retryable?: boolean, cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'InferenceFailed'
    this.code = code
    this.retryable = options.retryable ?? (code === 'worker_lost' || code === 'storage_failed' || code === 'resource_exhausted' || code === 'node_failed')
  }
}
