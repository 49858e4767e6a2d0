/** A process that holds a pool, to be killed: it starts the pool that it is told to, begins a run, and says which processes there are. */
import { createLogger } from '../../src/logging.ts'
import type { RunRequest } from '../../src/inference/port.ts'
import { createPool, type PoolOptions } from '../../src/inference/pool/pool.ts'

export interface HostOrder { options: Omit<PoolOptions, 'log' | 'onRestart'>, request: RunRequest }

process.on('message', ({ options, request }: HostOrder) => {
  const pool = createPool({ ...options, log: createLogger({ level: 'silent' }) })
  const say = (): void => void process.send?.(pool.status().flatMap(status => status.pid ?? []))
  pool.start().then(() => pool.run(request, { timeoutMs: 600_000, onStarted: say })).catch((error: unknown) => {
    process.send?.({ error: String(error) })
  })
})
