/**
 * How many workers, and how many threads each: together no more than there are cores, since ONNX Runtime's own default (all
 * cores for every session) makes several workers slower than one. On a GPU one worker, which it feeds alone.
 */
import { availableParallelism } from 'node:os'
import type { WorkerSettings } from '../protocol.ts'

export interface SizingWishes {
  /** WORKERS */
  workers: number | undefined
  /** WORKER_THREADS */
  threads: number | undefined
  device: WorkerSettings['device']
  cores?: number
}

export interface Sizing { workers: number, workersOnGpu: number, intraOpNumThreads: number }

/** One core is left to the service. */
export function defaultWorkers(device: WorkerSettings['device'], cores = availableParallelism()): number {
  return device === 'cuda' || device === 'webgpu' ? 1 : Math.max(1, cores - 1)
}

/** WORKERS is taken as it is; WORKER_THREADS as far as there are cores for it. */
export function sizePool({ workers, threads, device, cores = availableParallelism() }: SizingWishes): Sizing {
  const count = workers ?? defaultWorkers(device, cores)
  const share = Math.max(1, Math.floor(cores / count))
  return { workers: count, workersOnGpu: workers ?? 1, intraOpNumThreads: Math.min(threads ?? share, share) }
}
