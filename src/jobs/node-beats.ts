/** A node that runs jobs says every few seconds that it is there, and what its workers do: for whoever asks any node about the queue. */
import { NODE_BEAT_INTERVAL_MS, NODE_SEEN_MS, NODES_SHOWN_MAX } from '../limits.ts'
import type { NodeWorker } from '../records/nodes-port.ts'
import type { JobsContext } from './context.ts'

export interface NodeBeats { stop(): Promise<void> }

type Context = Pick<JobsContext, 'node' | 'pool' | 'records' | 'log'>

/** Says so at once and then every interval, one at a time; when it ends it is gone. */
export function startBeats(context: Context, intervalMs = NODE_BEAT_INTERVAL_MS): NodeBeats {
  const { node, records: { nodes }, log } = context
  const failed = (error: unknown): void => log.warn({ action: 'jobs.node.failed', err: error })
  let beating: Promise<void> | undefined
  const beat = (): void => { beating ??= nodes.beat(node, workersOf(context)).catch(failed).finally(() => { beating = undefined }) }
  const timer = setInterval(beat, intervalMs).unref()
  beat()
  return {
    async stop() {
      clearInterval(timer)
      await beating
      await nodes.leave(node).catch(failed)
    }
  }
}

export interface ShownWorker extends NodeWorker { node: string }

/** Those of this process as they are, those of others as they were when these were last heard of. */
export async function allWorkers(context: Context): Promise<ShownWorker[]> {
  const { node, records: { nodes } } = context
  const others = (await nodes.list(Date.now() - NODE_SEEN_MS, NODES_SHOWN_MAX)).filter(({ id }) => id !== node)
  return [{ id: node, workers: workersOf(context) }, ...others].flatMap(({ id, workers }) => workers.map(worker => ({ node: id, ...worker })))
}

/** Nothing that names a job, a process or memory. */
function workersOf({ pool }: Pick<Context, 'pool'>): NodeWorker[] {
  return pool.status().map(({ id, state, provider, device, runs }) => ({ id, state, provider, device, runs }))
}
