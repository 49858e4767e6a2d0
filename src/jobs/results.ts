/** Results on their way from staging, where a worker put them, to their hashes' own paths. */
import { setTimeout as delay } from 'node:timers/promises'
import pLimit from 'p-limit'
import { InferenceFailed, type StagedResult } from '../inference/port.ts'
import { publishStaged, type PublishedObject, type Staged } from '../ingest/publish.ts'
import { JOB_COPIES_MAX, RECLAIM_ATTEMPTS_MAX, RECLAIM_PAUSE_MS } from '../limits.ts'
import type { StoreAbilities } from '../objects/probe.ts'
import type { NewResult } from '../records/jobs-port.ts'
import type { JobsContext } from './context.ts'

type Stores = Pick<JobsContext, 'store' | 'records' | 'readiness' | 'log'>

/** Copies all of them. Can be repeated. @throws what the stores throw; InferenceFailed `storage_failed` where a hash is being collected for too long */
export async function publishResults(context: Stores, staged: readonly StagedResult[], signal: AbortSignal): Promise<NewResult[]> {
  const abilities = await context.readiness.ensure()
  return await pLimit(JOB_COPIES_MAX).map(staged, async result => {
    const { key, claim } = await publishPatiently(context, abilities, result, signal)
    const { name, filename, sha256, size, contentType } = result
    return { name, filename, sha256, key, size, contentType, claim }
  })
}

/** A collection of the hash is waited for. */
export async function publishPatiently({ store, records }: Stores, abilities: StoreAbilities, staged: Staged, signal: AbortSignal): Promise<PublishedObject> {
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted()
    const published = await publishStaged({ store, records }, abilities, staged, { name: 'object', contentType: 'application/octet-stream' }, signal)
    if (published !== undefined) return published
    if (attempt === RECLAIM_ATTEMPTS_MAX) throw new InferenceFailed('storage_failed', 'an object is being collected')
    await delay(RECLAIM_PAUSE_MS, undefined, { signal })
  }
}

/** What is left in staging is only rubbish, and the sweeper comes by. Never rejects. */
export async function deleteStaged({ store, log }: Pick<Stores, 'store' | 'log'>, staged: readonly { key: string }[]): Promise<void> {
  await pLimit(JOB_COPIES_MAX).map(staged, async ({ key }) => {
    try {
      await store.delete(key)
    } catch (error) {
      log.warn({ action: 'jobs.staging.left', key, err: error })
    }
  })
}
