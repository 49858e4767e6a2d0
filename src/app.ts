/**
 * Composition root: the only place that knows every part. It builds the stores, then the services, then the routes, in
 * the order you read here, and takes them down in reverse.
 */
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import pLimit from 'p-limit'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import { PenstockError } from './errors.ts'
import { activityWatchers } from './files/activity.ts'
import { startMediaPruning } from './files/media-prune.ts'
import { createMediaService, type MediaService } from './files/media.ts'
import { permissionCallback } from './files/permission-callback.ts'
import { createFileService, type FileService } from './files/service.ts'
import { openGpuNode } from './gpu-node/service.ts'
import { deviceOf, gpuNodeProbe, inferServerProbe, workersProbe } from './http/health/probes.ts'
import { startProbing, type Probes } from './http/health/probing.ts'
import { activityRoutes } from './http/routes/activity.ts'
import { extensionRoutes } from './http/routes/extensions.ts'
import { fileRoutes } from './http/routes/files.ts'
import { gpuNodeRoutes } from './http/routes/gpu-node.ts'
import { healthReportRoute } from './http/routes/health-report.ts'
import { healthRoutes, type Health } from './http/routes/health.ts'
import { ingestRoutes } from './http/routes/ingest.ts'
import { jobRoutes } from './http/routes/jobs.ts'
import { legacyRoutes } from './http/routes/legacy.ts'
import { mediaRoutes } from './http/routes/media.ts'
import { metricsRoute } from './http/routes/metrics.ts'
import { oipRoutes } from './http/routes/oip.ts'
import { promoteRoutes } from './http/routes/promote.ts'
import { tokenRoutes } from './http/routes/tokens.ts'
import { uploadRoutes } from './http/routes/uploads.ts'
import { videoRoutes } from './http/routes/video.ts'
import { createServer } from './http/server.ts'
import { sharedCheck } from './http/shared-check.ts'
import { requireAdmin, requireAnyCaller, requireCaller, requireIngest, requireJobReader, requireJobWriter, requireNobody } from './identity/guards.ts'
import type { FindSession } from './identity/credential-sources.ts'
import { requireScraper } from './identity/metrics-guard.ts'
import { mintedToken } from './identity/minted-tokens.ts'
import { requireNode } from './identity/node-guard.ts'
import { checkKeys } from './identity/remote-keys.ts'
import { sessions } from './identity/sessions.ts'
import { InferenceFailed, type InferencePool } from './inference/port.ts'
import { loadTrustBundle, type TrustBundle } from './ingest/bundle/signature.ts'
import type { IngestContext } from './ingest/context.ts'
import { profilesOf } from './ingest/profiles.ts'
import { runningUploads } from './ingest/running.ts'
import { createSlots } from './ingest/slots.ts'
import { startSweeper } from './ingest/sweep.ts'
import type { JobsContext } from './jobs/context.ts'
import { inferAsJob } from './jobs/infer-as-job.ts'
import type { JobService } from './jobs/port.ts'
import { fileGateway, type FileGateway } from './jobs/promote-gateway.ts'
import { serviceTokens } from './jobs/promote-token.ts'
import { createPromoteService, type PromoteService } from './jobs/promote.ts'
import { startReaper } from './jobs/reaper.ts'
import { startRetention } from './jobs/retention.ts'
import { startRunner } from './jobs/runner.ts'
import { createJobService } from './jobs/service.ts'
import { createWebhooks } from './jobs/webhooks.ts'
import { MANIFEST_READERS_MAX, INFER_RESULT_MAX_BYTES, MODELS_START_WAIT_MS, SHUTDOWN_FLUSH_MS, STORE_RETRY_INTERVAL_MS, STORE_START_TIMEOUT_MS } from './limits.ts'
import { addGauges } from './metrics/gauges.ts'
import { createMetrics } from './metrics/metrics.ts'
import { inferOnPool } from './models/infer.ts'
import { startLoading } from './models/load-at-start.ts'
import { meteredStore } from './objects/metered.ts'
import type { ObjectStore } from './objects/port.ts'
import { probeStore } from './objects/probe.ts'
import { storeReadiness, type StoreReadiness } from './objects/readiness.ts'
import { gpuNodeOf, hasWorkers, inferServerOf, openPool, runsJobs, viaGpuNode, whileModelsRun } from './pools.ts'
import type { RecordStore } from './records/port.ts'
import { redisClient, type RedisClient } from './redis.ts'
import { openObjectStore, openRecordStore } from './stores.ts'

/** Read at start, beside package.json. */
const VERSION = (JSON.parse(await readFile(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string }).version
const BUILT_IN_MODELS = join(import.meta.dirname, 'inference/models')

export interface App {
  readonly server: FastifyInstance
  /** Listens. Returns the address as a URL. */
  start(): Promise<string>
  /** Graceful: uploads in flight may go on for SHUTDOWN_GRACE_MS. Idempotent. */
  stop(): Promise<void>
}

/** @throws where the configuration names something that is not there, or the records cannot be opened */
export async function buildApp(config: Config, log: Logger): Promise<App> {
  const trust = await readTrustBundle(config)
  const records = openRecordStore(config)
  await records.migrate()
  const metrics = createMetrics()
  const bareStore = openObjectStore(config)
  const store = meteredStore(bareStore, metrics.store)
  const readiness = storeReadiness({
    store, createBucket: config.OBJECT_STORE !== 's3' || config.S3_CREATE_BUCKET, probe: () => probeStore(bareStore, records.multiparts),
    onProbed: abilities => log.info({ action: 'objects.probe.done', store: store.name, ...abilities })
  })
  const { isThere, stopAsking } = await firstProbe(readiness, log)
  const redis = await openRedis(config, log)
  const pool = whileModelsRun(config, viaGpuNode(config, await openPool(config, log, metrics.workerRestarted), { store, intents: records.multiparts }), log)
  if (config.production && gpuNodeOf(config)?.url.startsWith('http:') === true) log.warn({ action: 'node.plaintext' }, 'AI_SERVICE_URL is http: whoever is in between sees what is sent, and the token')
  await pool.start()

  const running = runningUploads(records.uploads, error => log.warn({ action: 'ingest.progress.failed', err: error }))
  const context: IngestContext = {
    config, store, readiness, records, running, trust,
    spareParts: [],
    profiles: profilesOf(config),
    checkModel: config.OBJECT_STORE === 'memory' ? refuseModels : (model, signal) => pool.checkModel(model, signal),
    manifestReaders: pLimit(MANIFEST_READERS_MAX),
    slots: createSlots(config.MAX_CONCURRENT_UPLOADS, config.UPLOAD_RETRY_AFTER_SECONDS),
    observer: metrics.ingest
  }
  if (config.ROLES.includes('worker') && !runsJobs(config)) {
    log.warn({ action: 'jobs.runner.off', objects: config.OBJECT_STORE }, 'no jobs are run: workers cannot read what is in the memory of this process')
  }
  const webhooks = createWebhooks({ config, records, log })
  const jobsContext: JobsContext = { node: randomUUID().slice(0, 8), config, store, readiness, records, pool, ingest: context, webhooks, log, observer: metrics.jobs }
  const callback = config.PERMISSION_CALLBACK_URL === undefined ? undefined : permissionCallback(config.PERMISSION_CALLBACK_URL)
  const files = createFileService({ ingest: context, log, callback })
  const media = createMediaService({ ingest: context, log })
  const jobs = createJobService(jobsContext)
  const gateway = gatewayOf(config, store, log)
  const promotions = createPromoteService({ config, records, gateway, log })
  const health = healthOf(readiness, records, redis)
  const probing = startProbing({
    probes: probesOf({ config, readiness, records, redis, pool, gateway }), log,
    anyModelLoaded: async () => (await records.models.list()).some(({ loaded }) => loaded)
  })
  addGauges(metrics.registry, { slotsInUse: () => context.slots.inUse, slotsMax: config.MAX_CONCURRENT_UPLOADS, queue: () => records.jobs.stats(), health: probing.report, version: VERSION })
  const server = await createServer({ config, logger: log, health, observer: metrics.http, credentials: { tokens: mintedToken(records.tokens), ...sessionsIn(redis, config, log) }, ...(redis && { redis }) })
  await server.register(healthRoutes, { health })
  await server.register(healthReportRoute, { version: VERSION, device: () => deviceOf(pool), report: probing.report })
  await server.register(metricsRoute, { exposition: metrics.registry, guard: requireScraper(config) })
  if (config.ROLES.includes('api')) await server.register(apiRoutes, { config, context, health, jobs, promotions, files, media, pool, store, log })
  const gpuNode = config.ROLES.includes('gpu-node') ? await openGpuNode({ config, pool, ingest: context, log }) : undefined
  if (gpuNode !== undefined) await server.register(gpuNodeRoutes, { node: gpuNode, config, guard: requireNode(config), modelLoaded: () => probing.report().modelLoaded })
  await server.ready()

  const loading = runsJobs(config) || hasWorkers(config) ? startLoading({ store, records, readiness, pool, log }, config.MODELS_DIR ?? BUILT_IN_MODELS) : undefined
  // those that are small are there for the first caller; others come while the service runs
  if (loading !== undefined && isThere) await Promise.race([loading.done, delay(MODELS_START_WAIT_MS, undefined, { ref: false })])
  await probing.refresh()
  void loading?.done.then(probing.refresh)
  const sweeper = startSweeper({
    store, records, log, ttlMs: config.STAGING_TTL_HOURS * 3_600_000, intervalMs: config.SWEEP_INTERVAL_SECONDS * 1000
  })
  const retention = startRetention(jobsContext)
  const mediaPruning = startMediaPruning({ config, records, log })
  const runner = runsJobs(config) ? startRunner(jobsContext) : undefined
  // a runner has its own
  const reaper = runner === undefined ? startReaper(jobsContext) : undefined
  let stopped: Promise<void> | undefined

  /** Uploads that outlast the grace get an answer; what is still open when it had time to leave is closed. */
  async function cutOff(): Promise<void> {
    gpuNode?.cutOff()
    void promotions.close()
    await running.abortAll(new PenstockError('SERVICE_BUSY', { why: 'service_busy', retryAfterSeconds: config.UPLOAD_RETRY_AFTER_SECONDS }))
    setTimeout(() => server.server.closeAllConnections(), SHUTDOWN_FLUSH_MS).unref()
  }

  async function stop(): Promise<void> {
    health.stopping = true
    probing.stop()
    stopAsking()
    const grace = setTimeout(() => void cutOff(), config.SHUTDOWN_GRACE_MS)
    const loaded = loading?.stop() // in the middle of a large model: ended with the pool
    // all at once: none of them has to wait for another, and the grace is for all of them
    await Promise.all([runner?.stop(), sweeper.stop(), retention.stop(), mediaPruning.stop(), reaper?.stop(), server.close()])
    clearTimeout(grace)
    await gpuNode?.stop()
    await promotions.close()
    await webhooks.close()
    callback?.close()
    redis?.close()
    running.close()
    await pool.close()
    await loaded
    await records.close()
    await store.close()
  }

  return {
    server,
    start: () => server.listen({ host: config.HOST, port: config.PORT, listenTextResolver: listeningLine }),
    stop: () => stopped ??= stop()
  }
}

async function refuseModels(): Promise<never> {
  throw new InferenceFailed('invalid_model', 'models need OBJECT_STORE=fs or s3: no worker can read the memory of this process')
}

interface ApiContext { config: Config, context: IngestContext, health: Health, jobs: JobService, promotions: PromoteService, files: FileService, media: MediaService, pool: InferencePool, store: ObjectStore, log: Logger }

/** Everything but health: a node that only works has no callers. */
async function apiRoutes(server: FastifyInstance, { config, context, health, jobs, promotions, files, media, pool, store, log }: ApiContext): Promise<void> {
  const { records } = context
  await server.register(ingestRoutes, { context, guard: requireIngest(config) })
  await server.register(uploadRoutes, { context, guard: requireCaller() })
  await server.register(tokenRoutes, { tokens: records.tokens, config, guard: requireAdmin(config) })
  await server.register(extensionRoutes, { extensions: records.extensions, guard: requireCaller() })
  await server.register(fileRoutes, { files, store, config, guard: requireAnyCaller() })
  await server.register(mediaRoutes, { media, jobs, store, config, guard: requireCaller() })
  await server.register(activityRoutes, { activity: records.activity, watchers: activityWatchers(records), config, guard: requireCaller() })
  await server.register(jobRoutes, { jobs, store, config, guards: { read: requireJobReader(config), write: requireJobWriter(config) } })
  await server.register(videoRoutes, { jobs, store, config, guards: { read: requireJobReader(config), write: requireJobWriter(config) } })
  await server.register(promoteRoutes, { promotions, guard: requireJobWriter(config) })
  if (config.LEGACY_ROUTES !== 'false') await server.register(legacyRoutes, { jobs, store, config, guard: requireNobody(config) })
  await server.register(oipRoutes, {
    models: records.models, health, version: VERSION, inferMaxBytes: config.INFER_MAX_BYTES,
    infer: runsJobs(config)
      ? inferOnPool(pool, { timeoutMs: config.INFER_TIMEOUT_MS })
      : inferAsJob({ jobs, store, timeoutMs: config.INFER_TIMEOUT_MS, maxBytes: INFER_RESULT_MAX_BYTES, log }),
    guards: { read: requireJobReader(config), infer: requireJobWriter(config), admin: requireAdmin(config) }
  })
}

/** The framework logs what this makes of each address, and takes an object as well as a text. */
function listeningLine(address: string): string {
  return { action: 'http.listening', address } as unknown as string
}

async function readTrustBundle(config: Config): Promise<TrustBundle | undefined> {
  if (config.SIGNING_TRUST_BUNDLE === undefined) return undefined
  try {
    return loadTrustBundle(await readFile(config.SIGNING_TRUST_BUNDLE, 'utf8'))
  } catch (error) {
    throw new Error(`SIGNING_TRUST_BUNDLE cannot be used: ${(error as Error).message}`, { cause: error })
  }
}

/** A store that is not there does not keep the service from starting: it says so, is not ready, and asks again. */
async function firstProbe(readiness: StoreReadiness, log: Logger): Promise<{ isThere: boolean, stopAsking: () => void }> {
  const ask = async (): Promise<boolean> => {
    try {
      await readiness.ensure()
      return true
    } catch (error) {
      log.error({ action: 'objects.probe.failed', err: error }, 'object storage is not usable; asking again')
      return false
    }
  }
  const slow = delay(STORE_START_TIMEOUT_MS, false, { ref: false })
  if (await Promise.race([ask(), slow])) return { isThere: true, stopAsking() {} }
  const timer = setInterval(async () => { if (await ask()) clearInterval(timer) }, STORE_RETRY_INTERVAL_MS)
  timer.unref()
  return { isThere: false, stopAsking: () => clearInterval(timer) }
}

/** The group is set as a whole, or not at all. */
function gatewayOf(config: Config, store: ObjectStore, log: Logger): FileGateway | undefined {
  const { FILE_GATEWAY_BASE_URL: baseUrl, FILE_GATEWAY_AUDIENCE: audience, OIDC_TOKEN_URL: url, OIDC_CLIENT_ID: clientId, OIDC_CLIENT_SECRET: clientSecret } = config
  if (baseUrl === undefined || audience === undefined || url === undefined || clientId === undefined || clientSecret === undefined || !config.ROLES.includes('api')) return undefined
  if (config.production && url.startsWith('http:')) log.warn({ action: 'jobs.promote.plaintext' }, 'OIDC_CLIENT_SECRET goes over http: whoever is in between can read it')
  return fileGateway({ baseUrl, store, tokens: serviceTokens({ url, clientId, clientSecret, audience }) })
}

/** What Redis is for can wait, or be done without: the service starts whether it is there or not. */
async function openRedis({ REDIS_URL: url, ROLES: roles }: Config, log: Logger): Promise<RedisClient | undefined> {
  if (url === undefined || !roles.includes('api')) return undefined
  const redis = redisClient({ url, log })
  await redis.open()
  return redis
}

function sessionsIn(redis: RedisClient | undefined, config: Config, log: Logger): { sessions?: FindSession } {
  const { REDIS_SESSION_SECRET } = config
  return redis === undefined || REDIS_SESSION_SECRET === undefined ? {} : { sessions: sessions({ redis, config: { ...config, REDIS_SESSION_SECRET }, log }) }
}

function healthOf(readiness: StoreReadiness, records: RecordStore, redis: RedisClient | undefined): Health & { stopping: boolean } {
  const asks = { 'object storage': sharedCheck(() => readiness.ensure(), 0), records: sharedCheck(() => records.check()) }
  // requests are served without it
  const soft = redis === undefined ? {} : { redis: sharedCheck(() => redis.check()) }
  return {
    stopping: false,
    async ready() {
      const [reasons, degraded] = await Promise.all([failing(asks), failing(soft)])
      return { ready: reasons.length === 0, reasons, degraded }
    }
  }
}

interface Dependencies { config: Config, readiness: StoreReadiness, records: RecordStore, redis: RedisClient | undefined, pool: InferencePool, gateway: FileGateway | undefined }

/** What /health looks at. What has no probe is disabled. */
function probesOf({ config, readiness, records, redis, pool, gateway }: Dependencies): Probes {
  const { OIDC_ISSUER: issuer, OIDC_JWKS_URL: jwksUrl } = config
  const node = gpuNodeOf(config)
  const infer = inferServerOf(config)
  return {
    objects: () => readiness.ensure(),
    records: () => records.check(),
    redis: redis && (() => redis.check()),
    oidc: issuer === undefined ? undefined : () => checkKeys({ issuer, jwksUrl }),
    file_gateway: gateway && (() => gateway.check()),
    gpu_node: node && (() => gpuNodeProbe(node)),
    infer: infer && (() => inferServerProbe(infer)),
    workers: hasWorkers(config) ? workersProbe(pool) : undefined
  }
}

async function failing(asks: Record<string, () => Promise<void>>): Promise<string[]> {
  const reasons = await Promise.all(Object.entries(asks).map(([name, ask]) => ask().then(() => [], () => [`${name} not reachable`])))
  return reasons.flat()
}
