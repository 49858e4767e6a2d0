/**
 * A pool that is there only while it is needed: for nodes without workers, which load a model once in a while to see
 * whether it loads. It starts at first use and is closed when it was idle for `idleMs`. It never has a free worker, so that
 * nobody gives it jobs unasked.
 */
import { InferenceFailed, type InferencePool } from '../port.ts'

export interface OnDemandOptions {
  /** A pool that was not started: of one worker on the CPU. */
  create(): InferencePool
  idleMs: number
}

async function after(...all: Promise<void>[]): Promise<void> {
  await Promise.all(all)
}

export function createOnDemandPool({ create, idleMs }: OnDemandOptions): InferencePool {
  let pool: InferencePool | null = null
  let ending: Promise<void> = Promise.resolve()
  let users = 0
  let timer: NodeJS.Timeout | undefined
  let closed = false

  function end(): Promise<void> {
    clearTimeout(timer)
    const old = pool
    pool = null
    if (old !== null) ending = after(ending, old.close())
    return ending
  }

  /** One that does not start is closed by itself, and the next use tries another. */
  async function started(mine: InferencePool): Promise<void> {
    try {
      await mine.start()
    } catch (error) {
      if (pool === mine) pool = null
      throw error
    }
  }

  async function use<T>(work: (pool: InferencePool) => Promise<T>): Promise<T> {
    if (closed) throw new InferenceFailed('shutdown', 'the pool was closed')
    clearTimeout(timer)
    users += 1
    const mine = pool ??= create()
    try {
      await started(mine)
      return await work(mine)
    } finally {
      users -= 1
      if (users === 0 && !closed) timer = setTimeout(() => void end(), idleMs).unref()
    }
  }

  return {
    start: () => Promise.resolve(),
    free: 0,
    onFree: () => () => {},
    run: (request, hooks) => use(inner => inner.run(request, hooks)),
    checkModel: (model, signal) => use(inner => inner.checkModel(model, signal)),
    importModel: (file, known, hooks) => use(inner => inner.importModel(file, known, hooks)),
    status: () => pool?.status() ?? [],
    close() {
      closed = true
      return end()
    }
  }
}
