/** Probes of what is not asked by a method of its own. Another dependency gets its probe in app.ts, as these do. */
import type { ServerAddress } from '../../inference/oip/ask.ts'
import { askReady } from '../../inference/oip/server.ts'
import { InferenceFailed, type InferencePool } from '../../inference/port.ts'
import { askHealth, type NodeAddress } from '../../inference/remote/ask.ts'
import { Down, type Probe } from './probing.ts'

/** Of the pool: at least one worker that runs or could. */
export function workersProbe(pool: Pick<InferencePool, 'status'>): Probe {
  return async () => {
    if (!pool.status().some(({ state }) => state === 'idle' || state === 'busy')) throw new Down('no worker is ready')
  }
}

/** Of a GPU node that jobs go to: it is there, and has a model. */
export async function gpuNodeProbe(node: NodeAddress): Promise<void> {
  await askHealth(node).catch(down)
}

/** Of an inference server that models run at: it is there, and ready. */
export async function inferServerProbe(server: ServerAddress): Promise<void> {
  await askReady(server).catch(down)
}

function down(error: unknown): never {
  throw error instanceof InferenceFailed ? new Down(error.message, { cause: error }) : error
}

/** Where models run here, as `/health` says it: the device of a worker that has found one. */
export function deviceOf(pool: Pick<InferencePool, 'status'>): string | null {
  return pool.status().find(({ device }) => device !== null)?.device ?? null
}
