/**
 * Composition root: the only place that knows every part. It builds the stores, then the services, then the routes, in
 * the order you read here, and takes them down in reverse.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import pLimit from 'p-limit'
import type { Logger } from 'pino'
import type { Config } from './config.ts'
import { PenstockError } from './errors.ts'
import { createServer } from './http/server.ts'
import { extensionRoutes } from './http/routes/extensions.ts'
import { healthRoutes, type Health } from './http/routes/health.ts'
import { ingestRoutes } from './http/routes/ingest.ts'
import { sharedCheck } from './http/shared-check.ts'
import { uploadRoutes } from './http/routes/uploads.ts'
import { requireCaller, requireIngest } from './identity/guards.ts'
import { loadTrustBundle, type TrustBundle } from './ingest/bundle/signature.ts'
import type { IngestContext } from './ingest/context.ts'
import { profilesOf } from './ingest/profiles.ts'
import { runningUploads } from './ingest/running.ts'
import { createSlots } from './ingest/slots.ts'
import { startSweeper } from './ingest/sweep.ts'
import { MANIFEST_READERS_MAX, SHUTDOWN_FLUSH_MS, STORE_RETRY_INTERVAL_MS, STORE_START_TIMEOUT_MS } from './limits.ts'
import { openObjectStore, openRecordStore } from './stores.ts'
import { probeStore } from './objects/probe.ts'
import { storeReadiness, type StoreReadiness } from './objects/readiness.ts'
import type { RecordStore } from './records/port.ts'

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
  const store = openObjectStore(config)
  const readiness = storeReadiness({
    store, createBucket: config.OBJECT_STORE !== 's3' || config.S3_CREATE_BUCKET, probe: () => probeStore(store, records.multiparts),
    onProbed: abilities => log.info({ action: 'objects.probe.done', store: store.name, ...abilities })
  })
  const stopAsking = await firstProbe(readiness, log)

  const running = runningUploads(records.uploads, error => log.warn({ action: 'ingest.progress.failed', err: error }))
  const context: IngestContext = {
    config, store, readiness, records, running, trust,
    profiles: profilesOf(config),
    manifestReaders: pLimit(MANIFEST_READERS_MAX),
    slots: createSlots(config.MAX_CONCURRENT_UPLOADS, config.UPLOAD_RETRY_AFTER_SECONDS)
  }
  const health = healthOf(readiness, records)
  const server = await createServer({ config, logger: log, health })
  await server.register(healthRoutes, { health })
  await server.register(ingestRoutes, { context, guard: requireIngest(config) })
  await server.register(uploadRoutes, { context, guard: requireCaller() })
  await server.register(extensionRoutes, { extensions: records.extensions, guard: requireCaller() })
  await server.ready()

  const sweeper = startSweeper({
    store, records, log, ttlMs: config.STAGING_TTL_HOURS * 3_600_000, intervalMs: config.SWEEP_INTERVAL_SECONDS * 1000
  })
  let stopped: Promise<void> | undefined

  /** Uploads that outlast the grace get an answer; what is still open when it had time to leave is closed. */
  async function cutOff(): Promise<void> {
    await running.abortAll(new PenstockError('SERVICE_BUSY', { why: 'service_busy', retryAfterSeconds: config.UPLOAD_RETRY_AFTER_SECONDS }))
    setTimeout(() => server.server.closeAllConnections(), SHUTDOWN_FLUSH_MS).unref()
  }

  async function stop(): Promise<void> {
    health.stopping = true
    stopAsking()
    await sweeper.stop()
    const grace = setTimeout(() => void cutOff(), config.SHUTDOWN_GRACE_MS)
    await server.close()
    clearTimeout(grace)
    running.close()
    await records.close()
    await store.close()
  }

  return {
    server,
    start: () => server.listen({ host: config.HOST, port: config.PORT, listenTextResolver: listeningLine }),
    stop: () => stopped ??= stop()
  }
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
async function firstProbe(readiness: StoreReadiness, log: Logger): Promise<() => void> {
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
  if (await Promise.race([ask(), slow])) return () => {}
  const timer = setInterval(async () => { if (await ask()) clearInterval(timer) }, STORE_RETRY_INTERVAL_MS)
  timer.unref()
  return () => clearInterval(timer)
}

function healthOf(readiness: StoreReadiness, records: RecordStore): Health & { stopping: boolean } {
  const asks = { 'object storage': sharedCheck(() => readiness.ensure(), 0), records: sharedCheck(() => records.check()) }
  return {
    stopping: false,
    async ready() {
      const reasons: string[] = []
      await Promise.all(Object.entries(asks).map(async ([name, ask]) => {
        try {
          await ask()
        } catch {
          reasons.push(`${name} not reachable`)
        }
      }))
      return { ready: reasons.length === 0, reasons }
    }
  }
}
