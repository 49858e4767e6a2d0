/**
 * A task says what a model is used for: prepare → run → render, in one file under tasks/. It runs in a worker; the service
 * itself uses only `name`, `input` and `params`.
 */
import type { Readable } from 'node:stream'
import type { TSchema } from 'typebox'
import type { Ffmpeg } from './ffmpeg.ts'
import type { ModelManifest } from './manifest.ts'
import type { ModelRef, ModelSignature, RunInput, StagedResult, WireTensor } from './port.ts'

/** A loaded ONNX model. Inputs and outputs by name. */
export interface Session {
  readonly signature: ModelSignature
  readonly provider: string
  /** `reuse`: the outputs lie in memory that the next such run overwrites; for those who go through many of one size. */
  run(inputs: readonly WireTensor[], outputs?: readonly string[], options?: { reuse?: boolean }): Promise<WireTensor[]>
}

export interface TaskContext {
  readonly id: string
  readonly model: ModelRef
  readonly params: Record<string, unknown>
  /** threads that belong to this worker */
  readonly threads: number
  readonly inputs: readonly RunInput[]
  /** aborts on cancel: look at it between pieces of work */
  readonly signal: AbortSignal
  /** The model's manifest, checked. @throws InferenceFailed invalid_model */
  manifest(): ModelManifest
  /** Loads the model (cached); not for tasks without one. */
  session(): Promise<Session>
  /** The bytes of an input as a stream of the bucket, verified against its sha256 at the end. */
  open(input: RunInput): Promise<Readable>
  /** A whole input of at most `maxBytes`. @throws InferenceFailed invalid_input */
  read(input: RunInput, maxBytes: number): Promise<Buffer>
  /** Puts a result into staging. */
  write(result: { name: string, filename: string, contentType: string }, bytes: Uint8Array): Promise<StagedResult>
  /** The same from a file of this run's folder. */
  writeFile(result: { name: string, filename: string, contentType: string }, path: string): Promise<StagedResult>
  /** At least so many bytes of this worker's memory, whatever is in them; asked for again by the same name, the same ones. */
  memory(name: string, bytes: number): ArrayBuffer
  /** A folder of this run alone, removed after it. */
  folder(): Promise<string>
  /** Work that was done. Coalesced on the way. */
  progress(done: { stage?: string, progress: number | null, message?: string }): void
  /** What exec may run, null where it is off. */
  readonly execTasks: unknown
  /** null where it is not there */
  readonly ffmpeg: Ffmpeg | null
}

export interface Task {
  readonly name: string
  /** What it takes; `tensors` are kept as one JSON object `{ inputs: [...] }` of OIP v2. */
  readonly input: 'tensors' | 'image' | 'video' | 'any'
  /** Schema of `params`, additionalProperties false. Checked before a job is created. */
  readonly params: TSchema
  /** Does what the manifest says go together with the file? At the load check. @throws InferenceFailed invalid_model */
  checkModel?(signature: ModelSignature, manifest: ModelManifest): void
  run(context: TaskContext): Promise<StagedResult[]>
}
