/**
 * Redis, for what all nodes share and may lose: counters of requests, and sessions that another service keeps there. One
 * connection, and nothing waits for it: a command goes out at once or is refused at once, its answer is waited for a bounded
 * time, and nothing is sent twice. A server that stands still is left, and tried again with growing pauses, for ever.
 *
 * Losing it is no fault of this process: it is logged when it goes and when it is back, and whoever asks meanwhile gets
 * RedisUnavailable.
 */
import { Redis } from 'ioredis'
import type { Logger } from 'pino'
import { REDIS_ANSWER_TIMEOUT_MS, REDIS_CONNECT_TIMEOUT_MS, REDIS_RECONNECT_MAX_MS, REDIS_RECONNECT_MIN_MS } from './limits.ts'

/** Redis was not reached, did not answer in time, or refused. */
export class RedisUnavailable extends Error {
  constructor(options?: ErrorOptions) {
    super('Redis is not available', options)
    this.name = 'RedisUnavailable'
  }
}

export interface Counted {
  /** this one included */
  readonly count: number
  /** until the count begins anew */
  readonly leftMs: number
}

/** Everything rejects with RedisUnavailable, within REDIS_ANSWER_TIMEOUT_MS. */
export interface RedisClient {
  /** Begins to connect. Returns when it is there, or when the first try has failed: it goes on trying. Never rejects. */
  open(): Promise<void>
  /** The value of a key as bytes, and no more of it than this. Null: no such key, or one that holds no text. */
  read(key: string, maxBytes: number): Promise<Buffer | null>
  /** Counts one more under this key. The first sets when the count ends. */
  count(key: string, windowMs: number): Promise<Counted>
  check(): Promise<void>
  /** Idempotent. What is under way rejects. */
  close(): void
}

function addressOf(address: string) {
  const url = new URL(address)
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? 6379 : Number(url.port),
    db: Number(url.pathname.slice(1)),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(url.protocol === 'rediss:' ? { tls: {} } : {})
  }
}

function pauseMs(tries: number): number {
  const pause = Math.min(REDIS_RECONNECT_MAX_MS, REDIS_RECONNECT_MIN_MS * 2 ** Math.min(tries - 1, 20))
  return Math.round(pause * (0.75 + Math.random() / 2))
}

/** The address may hold a password: it is never logged. */
export function redisClient({ url, log }: { url: string, log: Logger }): RedisClient {
  const redis = new Redis({
    ...addressOf(url),
    lazyConnect: true,
    // understood by every version
    protocol: 2,
    disableClientInfo: true,
    connectTimeout: REDIS_CONNECT_TIMEOUT_MS,
    commandTimeout: REDIS_ANSWER_TIMEOUT_MS,
    socketTimeout: REDIS_ANSWER_TIMEOUT_MS,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: pauseMs
  })
  logState(redis, log)
  const database = watchDatabase(redis)

  /** @throws RedisUnavailable */
  async function ask<T>(command: () => Promise<T>): Promise<T> {
    try {
      database.assertRight()
      return await command()
    } catch (error) {
      throw new RedisUnavailable({ cause: error })
    }
  }

  return {
    async open() {
      await redis.connect().catch(() => {}) // an `error` event has said why
    },
    read: (key, maxBytes) => ask(async () => {
      const value = await redis.getrangeBuffer(key, 0, maxBytes - 1).catch((error: unknown) => {
        if (error instanceof Error && error.message.startsWith('WRONGTYPE')) return Buffer.alloc(0)
        throw error
      })
      return value.byteLength === 0 ? null : value
    }),
    count: (key, windowMs) => ask(async () => {
      const answers = await redis.multi().set(key, 0, 'PX', windowMs, 'NX').incr(key).pttl(key).exec()
      const [count, leftMs] = answers!.slice(1).map(([error, value]) => {
        if (error !== null) throw error
        return Number(value)
      })
      if (leftMs! >= 0) return { count: count!, leftMs: leftMs! }
      // it has no end: the caller would be counted, and refused, for ever
      await redis.pexpire(key, windowMs)
      return { count: count!, leftMs: windowMs }
    }),
    check: () => ask(async () => { await redis.ping() }),
    close: () => redis.disconnect()
  }
}

/** Says once that it is gone, once why it does not come back, and once that it is there. */
function logState(redis: Redis, log: Logger): void {
  let well = false
  let said = false
  redis.on('ready', () => {
    well = true
    said = false
    log.info({ action: 'redis.connection.ready' })
  })
  redis.on('close', () => {
    if (well) log.warn({ action: 'redis.connection.lost' }, 'Redis is gone; trying again')
    well = false
  })
  // without a listener ioredis would write errors to the console
  redis.on('error', (error: Error) => {
    if (!said) log.warn({ action: 'redis.connection.failed', err: error }, 'Redis is not usable; trying again')
    said = true
  })
}

/** The client goes on in database 0 where the server has none of the number that was asked for: those are the keys of others. */
function watchDatabase(redis: Redis): { assertRight(): void } {
  let refusal: Error | undefined
  redis.on('connecting', () => { refusal = undefined })
  redis.on('error', (error: Error & { command?: { name?: string } }) => {
    if (error.command?.name === 'select') refusal = error
  })
  return {
    assertRight() {
      if (refusal !== undefined) throw refusal
    }
  }
}
