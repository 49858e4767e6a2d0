/** POST /upload-proxy: raw bytes in, a staging key out. The body is only bytes here, whatever its Content-Type says. */
import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import { assertMayIngestKind } from '../../identity/permissions.ts'
import { actorOf } from '../../identity/principal.ts'
import type { IngestContext } from '../../ingest/context.ts'
import { ownerOf } from '../../ingest/ownership.ts'
import { readUploadRequest, type UploadRequest } from '../../ingest/upload-request.ts'
import { ClientGone, receiveUpload, type ReceivedUpload } from '../../ingest/upload.ts'
import { onBroken } from '../broken-bodies.ts'
import { isFault } from '../errors.ts'
import { writeContinue } from '../expect-continue.ts'
import { adminSecurity } from '../openapi.ts'
import type { LimitedConfig } from '../rate-limits.ts'
import { uploadErrors } from './ingest-errors.ts'
import { UploadAnswer, UploadQuery } from './ingest-schemas.ts'

/** What every route of the family gets. */
export interface IngestRouteOptions {
  context: IngestContext
  /** the route and its aliases */
  paths: readonly string[]
  guard: onRequestAsyncHookHandler
  limit: LimitedConfig
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Where the upload got to, once its route was reached. */
    uploadLine: UploadLine | null
  }
}

export async function uploadRoute(app: FastifyInstance, { context, paths, guard, limit }: IngestRouteOptions): Promise<void> {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.decorateRequest('uploadLine', null)
  app.addHook('onSend', async (request, reply) => {
    if (reply.statusCode < 400) return
    logFailure(request, reply)
    if (request.uploadLine?.admitted !== true) countRefusal(context, request, reply)
  })
  for (const path of paths) {
    app.post(path, {
      onRequest: guard,
      config: { ...limit, continueLater: true, tellsWhy: true, errors: uploadErrors },
      attachValidation: true, // the contract has an order of its own, see upload-request.ts
      schema: {
        tags: ['ingest'],
        security: adminSecurity,
        summary: 'Stream one upload into staging',
        description: 'The body is the bytes themselves, whatever its Content-Type says. They go into the store while they arrive.',
        consumes: ['application/octet-stream'],
        querystring: UploadQuery,
        response: { 200: UploadAnswer }
      }
    }, (request, reply) => upload(context, request, reply))
  }
}

async function upload(context: IngestContext, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const principal = request.principal!
  const line = lineOf(request)
  request.log.debug({ action: 'ingest.upload.request', ...line.facts() })
  try {
    const wanted = readUploadRequest(request.query as Record<string, unknown>, request.headers, context.profiles, profile => assertMayIngestKind(principal, profile.kind, context.config))
    line.admitted = true
    const received = await receiveUpload(context, wanted, request.raw, {
      owner: ownerOf(principal), log: request.log, lost: lossOf(request, reply),
      onReady(key, bytes) {
        line.begun = { key, bytes }
        writeContinue(request, reply)
      }
    })
    const { id, filename, size, sha256, etag } = received
    request.log.info({ action: 'ingest.upload.success', result: 'succeeded', ...line.facts(), id, filename, size, sha256, etag, duration_ms: Math.round(reply.elapsedTime) })
    return answer(reply, wanted, received)
  } catch (error) {
    if (!(error instanceof ClientGone)) {
      line.error = error
      throw error
    }
    request.log.info({ action: 'ingest.upload.client_aborted', result: 'client_aborted', ...line.facts(), duration_ms: Math.round(reply.elapsedTime) })
    return reply.hijack().raw.destroy()
  }
}

/** The request's own 'close' comes as soon as its body was read, and says nothing about the client. */
export function lossOf(request: FastifyRequest, reply: FastifyReply): AbortSignal {
  const lost = new AbortController()
  onBroken(request.raw, error => lost.abort(error))
  reply.raw.once('close', () => { if (!reply.raw.writableFinished) lost.abort() })
  if (reply.raw.destroyed) lost.abort()
  return lost.signal
}

function answer(reply: FastifyReply, wanted: UploadRequest, received: ReceivedUpload): unknown {
  const { id, key, filename, size, sha256, etag } = received
  reply.header('repr-digest', `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`)
  return {
    upload: { key, strategy: 'staging', id }, filename, size, sha256, etag,
    ...(wanted.declaredSha256 === undefined ? {} : { declaredHash: wanted.declaredSha256 })
  }
}

/** What is known of an upload for the one line about its end. */
interface UploadLine {
  begun?: { key: string, bytes: () => number }
  error?: unknown
  /** It was a request that makes sense: from then on ingest counts it. */
  admitted?: boolean
  facts(): Record<string, unknown>
}

function lineOf(request: FastifyRequest): UploadLine {
  const line: UploadLine = {
    facts: () => ({
      actor: request.principal === null ? 'anonymous' : actorOf(request.principal), ...queryFacts(request.query),
      bytes: line.begun?.bytes() ?? 0, ...(line.begun && { key: line.begun.key })
    })
  }
  request.uploadLine = line
  return line
}

/** What the caller asked for, cut short: it goes into every line of this upload. */
function queryFacts(query: unknown): Record<string, unknown> {
  const { filename, size, kind } = query as Record<string, unknown>
  return { filename: String(filename ?? '').slice(0, 255), size: String(size ?? '').slice(0, 20), ...(kind === undefined ? {} : { kind: String(kind).slice(0, 20) }) }
}

/** One line for every answer that is a failure: also of guards, limits and what else comes before the upload. */
function logFailure(request: FastifyRequest, reply: FastifyReply): void {
  const line = request.uploadLine ?? lineOf(request)
  const facts = { result: reply.getHeader('x-upload-proxy-why'), ...line.facts(), duration_ms: Math.round(reply.elapsedTime) }
  if (request.errorCode === null || !isFault(request.errorCode)) request.log.info({ action: 'ingest.upload.refused', ...facts })
  else request.log.error({ action: 'ingest.upload.error', err: line.error, ...facts })
}

function countRefusal({ observer, profiles }: IngestContext, request: FastifyRequest, reply: FastifyReply): void {
  const { kind } = request.query as { kind?: unknown }
  observer?.uploadEnded({
    kind: typeof kind === 'string' && Object.hasOwn(profiles, kind) ? kind : 'unknown',
    outcome: String(reply.getHeader('x-upload-proxy-why')), bytes: 0, seconds: reply.elapsedTime / 1000
  })
}
