/**
 * Counts of requests that all nodes share, in Redis: `penstock:rate:<bucket>:<group>:<hash of the caller>`. A caller's name
 * may be long, and is nobody's business there. While Redis cannot be asked, each node counts for itself: requests are served,
 * and limited, as if there were no Redis.
 */
import { createHash } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { REDIS_COUNT_LOG_INTERVAL_MS } from '../limits.ts'
import { RedisUnavailable, type Counted, type RedisClient } from '../redis.ts'

/** Counts one request. Undefined: this node has to count by itself. */
export type SharedCounters = (name: string, caller: string, windowMs: number) => Promise<Counted | undefined>

export function sharedCounters(redis: Pick<RedisClient, 'count'>, log: FastifyBaseLogger): SharedCounters {
  let quietUntil = 0
  return async (name, caller, windowMs) => {
    try {
      return await redis.count(`penstock:rate:${name}:${createHash('sha256').update(caller).digest('base64url')}`, windowMs)
    } catch (error) {
      if (!(error instanceof RedisUnavailable)) throw error
      if (performance.now() >= quietUntil) {
        quietUntil = performance.now() + REDIS_COUNT_LOG_INTERVAL_MS
        log.warn({ action: 'http.rate_limit.alone', err: error }, 'requests are counted by this process alone: Redis cannot be asked')
      }
      return undefined
    }
  }
}
