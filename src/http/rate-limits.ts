/**
 * Buckets of requests per caller. A route says `config: limited('ingest', 'finalize')`; it is counted after its guards,
 * which say who is calling, and before its body is read. Routes with the same bucket and group count together, so an alias
 * takes from the budget of its route.
 *
 * Callers that are refused (401, 403) never reach a route's bucket; the error handler counts them in one of their own. That
 * bucket tells the noisy to come back later and shows in the log; it does not stop a right credential from being taken,
 * although it therefore does not stop guessing either. Guessing is hopeless by the length of the token (see config.ts).
 * Refusing right credentials of an address would let anyone lock out all who share it, and behind a proxy that is not named
 * in TRUST_PROXY, or the network of a container, that is everybody.
 *
 * With REDIS_URL all nodes count together; without it, or while Redis cannot be asked, each in its own memory.
 */
import rateLimit, { type RateLimitOptions } from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { isIP } from 'node:net'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import { RATE_LIMIT_KEYS_MAX } from '../limits.ts'
import type { RedisClient } from '../redis.ts'
import { sharedCounters, type SharedCounters } from './shared-counters.ts'

interface Budget { max: number, windowMs: number }

const budgets = {
  ingest: (config: Config): Budget => ({ max: config.EXT_BUNDLES_RATELIMIT_MAX, windowMs: config.EXT_BUNDLES_RATELIMIT_WINDOW_MS }),
  api: (config: Config): Budget => ({ max: config.API_V1_RATE_LIMIT_MAX, windowMs: config.API_V1_RATE_LIMIT_WINDOW_MS }),
  infer: (config: Config): Budget => ({ max: config.INFER_RATE_LIMIT_MAX, windowMs: config.INFER_RATE_LIMIT_WINDOW_MS }),
  'file-upload': (config: Config): Budget => ({ max: config.FILES_UPLOAD_RATE_LIMIT_MAX, windowMs: config.FILES_UPLOAD_RATE_LIMIT_WINDOW_MS }),
  'file-read': (config: Config): Budget => ({ max: config.FILES_DOWNLOAD_RATE_LIMIT_MAX, windowMs: config.FILES_DOWNLOAD_RATE_LIMIT_WINDOW_MS }),
  refused: (config: Config): Budget => ({ max: config.REFUSED_RATE_LIMIT_MAX, windowMs: config.REFUSED_RATE_LIMIT_WINDOW_MS })
}

export type Bucket = keyof typeof budgets

export interface LimitedConfig {
  limited: { bucket: Exclude<Bucket, 'refused'>, group: string }
}

type Limiter = (request: FastifyRequest, reply: FastifyReply) => Promise<PenstockError | undefined>

declare module 'fastify' {
  interface FastifyInstance {
    /** Counts a refused caller. Answers with the error that takes the place of the refusal where there were too many. */
    countRefusal: Limiter
  }
  interface FastifyContextConfig extends Partial<LimitedConfig> {}
}

/** Where a request comes from, as it is counted: IPv6 by /64, which is what one customer has. */
export function addressKey(request: FastifyRequest): string {
  // what a proxy wrote may be no address at all
  const address = isIP(request.ip) === 0 ? request.socket.remoteAddress ?? '' : request.ip
  return `address:${rateLimit.normalizeIP(address, 64)}`
}

function callerKey(request: FastifyRequest): string {
  const { principal } = request
  if (principal === null) return addressKey(request)
  const { kind, clientId, account, subject } = principal
  if (clientId !== null) return `client:${clientId}`
  if (subject === null) return addressKey(request)
  // names may have any character in them, and whoever lets guests in may call them what they like
  return `${kind === 'guest' ? 'guest' : 'user'}:${JSON.stringify([account, subject])}`
}

function setHeaders(reply: FastifyReply, limit: number, remaining: number, resetSeconds: number): void {
  for (const prefix of ['x-ratelimit', 'ratelimit']) {
    void reply.headers({ [`${prefix}-limit`]: limit, [`${prefix}-remaining`]: remaining, [`${prefix}-reset`]: resetSeconds })
  }
}

interface Taken { max: number, remaining: number, ttlInSeconds: number, isExceeded: boolean }

interface LimiterOptions {
  name: string
  budget: Budget
  keyGenerator(request: FastifyRequest): string
  shared: SharedCounters | undefined
}

function makeLimiter(app: FastifyInstance, { name, budget: { max, windowMs }, keyGenerator, shared }: LimiterOptions): Limiter {
  const options: RateLimitOptions = { max, timeWindow: windowMs, cache: RATE_LIMIT_KEYS_MAX, keyGenerator }
  const takeHere = oneAtATime(app.createRateLimit(options))
  // the plugin's own store in Redis would count all buckets made like this under one key, and fail with Redis
  const take = async (request: FastifyRequest): Promise<Taken | undefined> => {
    const counted = await shared?.(name, keyGenerator(request), windowMs)
    if (counted !== undefined) return { max, remaining: Math.max(0, max - counted.count), ttlInSeconds: Math.ceil(counted.leftMs / 1000), isExceeded: counted.count > max }
    const taken = await takeHere(request)
    return taken.isAllowed ? undefined : taken
  }
  return async (request, reply) => {
    const taken = await take(request)
    if (taken === undefined) return undefined
    setHeaders(reply, taken.max, taken.remaining, taken.ttlInSeconds)
    if (!taken.isExceeded) return undefined
    return new PenstockError('RATE_LIMIT', { retryAfterSeconds: Math.max(1, taken.ttlInSeconds) })
  }
}

/** The plugin hands out the count itself, which goes on while its caller waits: of several at the same moment, all would see the last. */
function oneAtATime<T>(take: (request: FastifyRequest) => Promise<T>): (request: FastifyRequest) => Promise<T> {
  let before: Promise<unknown> = Promise.resolve()
  return async request => {
    const taken = before.then(() => take(request))
    before = taken.catch(() => {})
    return await taken
  }
}

/** The part of a limited route's `config`; `group` is the name that a route and its aliases share. */
export function limited(bucket: LimitedConfig['limited']['bucket'], group: string): LimitedConfig {
  return { limited: { bucket, group } }
}

/** Gives `app` its buckets. Call before any route is registered. */
export function rateLimits(app: FastifyInstance, config: Config, redis?: Pick<RedisClient, 'count'>): void {
  void app.register(rateLimit, { global: false })
  const shared = redis && sharedCounters(redis, app.log)
  const limiters = new Map<string, Limiter>()
  const count = async (bucket: Bucket, group: string, request: FastifyRequest, reply: FastifyReply) => {
    const budget = budgets[bucket](config)
    if (budget.max === 0) return undefined
    const name = `${bucket}:${group}`
    const keyGenerator = bucket === 'refused' ? addressKey : callerKey
    const limiter = limiters.get(name) ?? makeLimiter(app, { name, budget, keyGenerator, shared })
    limiters.set(name, limiter)
    return await limiter(request, reply)
  }
  app.decorate('countRefusal', (request, reply) => count('refused', '', request, reply))
  app.addHook('onRoute', route => {
    const limit = route.config?.limited
    if (limit === undefined) return
    const countRequest: onRequestAsyncHookHandler = async (request, reply) => {
      const error = await count(limit.bucket, limit.group, request, reply)
      if (error !== undefined) throw error
    }
    // last: the guards of the route have said who is calling
    route.onRequest = [route.onRequest ?? [], countRequest].flat()
  })
}
