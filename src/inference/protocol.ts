/**
 * What pool and worker say to each other: plain messages, the same over the IPC channel of a child process (advanced
 * serialisation) and the port of a thread. One run at a time. Only keys, progress, control and small tensors cross it.
 *
 *   pool                       worker
 *   init           ─────────▶
 *                  ◀─────────  ready | unusable
 *   run | check | import ───▶
 *                  ◀─────────  started (run), staging …, progress …, then done | failed
 *   cancel         ─────────▶  (the run answers failed `cancelled`, or done where it was too late)
 *   stop           ─────────▶  ends when idle
 */
import type { Ffmpeg } from './ffmpeg.ts'
import type { ServerAddress } from './oip/ask.ts'
import type { Execution, InferenceFailureCode, ModelRef, ModelSignature, RunInput, StagedResult, WireTensor } from './port.ts'

/** How the worker opens the bucket: the settings of stores.ts, passed by message so that no secret is in argv or environ. */
export interface WorkerSettings {
  store: Record<string, unknown>
  modelCacheDir: string
  workDir: string
  device: 'auto' | 'cuda' | 'webgpu' | 'cpu'
  intraOpNumThreads: number
  /** JSON of EXEC_TASKS_FILE, checked; null: exec is off */
  execTasks: unknown
  /** null: no videos here */
  ffmpeg: Ffmpeg | null
  sessionsMax: number
  /** Where models run in place of this worker; null: here */
  infer: ServerAddress | null
}

export interface WorkerRun {
  type: 'run'
  id: string
  task: string
  model: ModelRef
  params: Record<string, unknown>
  inputs: readonly RunInput[]
  tensors?: readonly WireTensor[]
  outputs?: readonly string[]
}

export type ToWorker =
  | { type: 'init', worker: string, settings: WorkerSettings }
  | WorkerRun
  | { type: 'check', id: string, key: string, sha256: string, size: number, manifest: unknown }
  | { type: 'import', id: string, file: string, known: readonly string[] }
  | { type: 'cancel', id: string }
  | { type: 'stop' }

export type FromWorker =
  | { type: 'ready', execution: Execution, note: string | null }
  | { type: 'unusable', message: string }
  | { type: 'started', id: string, execution: Execution }
  /** Before anything is written there: what a worker that is killed leaves is somebody else's to remove. */
  | { type: 'staging', id: string, key: string }
  | { type: 'progress', id: string, stage: string, progress: number | null, message: string | null }
  | { type: 'done', id: string, results: StagedResult[], tensors: WireTensor[], signature: ModelSignature | null, sha256: string | null, size: number | null, rss: number }
  /** `reason` is what was behind it, for the log alone. */
  | { type: 'failed', id: string, code: InferenceFailureCode, message: string, retryable: boolean, reason: string | null, rss: number }
