/**
 * What nobody comes back for: media uploads that were begun and not completed as long as their staged bytes would stay, and
 * activity of long ago. In small batches; any number of nodes may do it at once.
 */
import type { Config } from '../config.ts'
import type { Log } from '../ingest/context.ts'
import { ACTIVITY_RETENTION_MS, MEDIA_PRUNE_BATCH, MEDIA_PRUNE_INTERVAL_MS, MEDIA_UPLOAD_TTL_MS } from '../limits.ts'
import type { RecordStore } from '../records/port.ts'

interface Context { config: Pick<Config, 'STAGING_TTL_HOURS'>, records: Pick<RecordStore, 'media' | 'activity'>, log: Log }

const HOUR_MS = 3_600_000

/** Looks at once and then every interval, never twice at a time. */
export function startMediaPruning(context: Context, intervalMs = MEDIA_PRUNE_INTERVAL_MS): { stop(): Promise<void> } {
  let stopped = false
  let running: Promise<void> | undefined

  async function run(): Promise<void> {
    try {
      await pruneMedia(context, () => stopped)
    } catch (error) {
      context.log.warn({ action: 'media.prune.failed', err: error })
    }
  }

  const tick = (): void => { running ??= run().finally(() => { running = undefined }) }
  const timer = setInterval(tick, intervalMs)
  timer.unref()
  tick()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await running
    }
  }
}

export async function pruneMedia({ config, records, log }: Context, stopped: () => boolean = () => false, now = Date.now()): Promise<void> {
  const untilShort = async (prune: () => Promise<number>): Promise<number> => {
    let pruned = 0
    for (let batch = MEDIA_PRUNE_BATCH; batch === MEDIA_PRUNE_BATCH && !stopped(); pruned += batch) batch = await prune()
    return pruned
  }
  const begunBefore = now - Math.max(config.STAGING_TTL_HOURS * HOUR_MS, MEDIA_UPLOAD_TTL_MS)
  const uploads = await untilShort(() => records.media.prune(begunBefore, MEDIA_PRUNE_BATCH))
  const activity = await untilShort(() => records.activity.prune(now - ACTIVITY_RETENTION_MS, MEDIA_PRUNE_BATCH))
  if (uploads + activity > 0) log.info({ action: 'media.prune.done', uploads, activity })
}
