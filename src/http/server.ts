/**
 * The Fastify instance with everything that holds for all routes, in the order in which a request meets it. Routes come
 * afterwards, as plugins; a plugin calls flatErrors (or leaves the nested default) at its beginning and
 * refuseOtherMethods at its end.
 */
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type RawReplyDefaultExpression, type RawRequestDefaultExpression, type RawServerDefault } from 'fastify'
import type { Config } from '../config.ts'
import { PenstockError } from '../errors.ts'
import type { CredentialSources } from '../identity/credential-sources.ts'
import { resolvePrincipal } from '../identity/guards.ts'
import { HEADERS_MAX_BYTES, HEADERS_TIMEOUT_MS, JSON_BODY_MAX_BYTES, KEEP_ALIVE_TIMEOUT_MS, PATH_PART_MAX_CHARACTERS } from '../limits.ts'
import type { RedisClient } from '../redis.ts'
import { endStalledBodies } from './body-timeout.ts'
import { EdgeLogController, logCompletions } from './completion-line.ts'
import { countRequests, type HttpObserver } from './count-requests.ts'
import { connections, type Connections } from './connections.ts'
import { nestedErrors } from './errors.ts'
import { endEventStreamsOnClose } from './event-stream.ts'
import { continueAfterGuards, routeExpectations } from './expect-continue.ts'
import { refuseMalformed, refuseUnroutable, rememberRequests } from './malformed.ts'
import { collectMethods } from './method-not-allowed.ts'
import { openapi } from './openapi.ts'
import { readQueryNumbers } from './query-numbers.ts'
import { rateLimits } from './rate-limits.ts'
import { echoRequestIds, requestIdOf } from './request-ids.ts'
import type { Health } from './routes/health.ts'
import { crossOrigin, securityHeaders } from './security-headers.ts'
import { refuseWhileStopping } from './shutdown.ts'
import { refuseTransferCodings } from './transfer-codings.ts'
import { closeOnUnreadBodies } from './unread-bodies.ts'

/** The instance that route plugins get. */
export type App = FastifyInstance<RawServerDefault, RawRequestDefaultExpression, RawReplyDefaultExpression, FastifyBaseLogger, TypeBoxTypeProvider>

export interface ServerOptions {
  config: Config
  logger: FastifyBaseLogger
  health: Health
  /** Where credentials are looked up that say nothing themselves. */
  credentials?: Pick<CredentialSources, 'tokens' | 'sessions'>
  /** Is told of every request. */
  observer?: HttpObserver
  /** Counts the requests of all nodes. */
  redis?: Pick<RedisClient, 'count'>
}

/**
 * Whom to believe X-Forwarded-For. A number is a count of proxies: Fastify itself reads a plain number as "nobody", since
 * it cannot check the peer; here the peer is the first hop, and no more entries count than there are proxies.
 */
function trustProxyOf(config: Config): false | string[] | ((address: string, hop: number) => boolean) {
  const proxies = config.TRUST_PROXY
  if (proxies === undefined || proxies === 0) return false
  return typeof proxies === 'number' ? (_address, hop) => hop < proxies : proxies
}

function makeHttpServer(handler: RequestListener, open: Connections) {
  const server = createHttpServer({
    maxHeaderSize: HEADERS_MAX_BYTES,
    headersTimeout: HEADERS_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    // a slow upload is no fault; bodies that stop arriving are ended by whoever reads them
    requestTimeout: 0,
    // Node would answer by itself, without a body or an id; requireHost answers instead
    requireHostHeader: false
  }, open.inTurn(handler))
  open.mind(server)
  routeExpectations(server)
  return server
}

function makeInstance({ config, logger }: ServerOptions, open: Connections): App {
  return Fastify({
    loggerInstance: logger,
    logController: new EdgeLogController({ requestIdLogLabel: 'request_id' }),
    genReqId: requestIdOf,
    trustProxy: trustProxyOf(config),
    bodyLimit: JSON_BODY_MAX_BYTES,
    routerOptions: { maxParamLength: PATH_PART_MAX_CHARACTERS },
    serverFactory: handler => makeHttpServer(handler as RequestListener, open),
    clientErrorHandler: refuseMalformed,
    frameworkErrors: refuseUnroutable,
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    ajv: {
      customOptions: {
        // what a schema does not know is refused, not dropped: a misspelt name must not go unnoticed
        removeAdditional: false,
        // '1e3', ' 5 ' and '0x10' would become numbers, and '5' in a body one too; for queries see query-numbers.ts
        coerceTypes: false,
        // one issue at a time: a body of millions of wrong entries must not make as many issues
        allErrors: false
      }
    }
  }).withTypeProvider<TypeBoxTypeProvider>()
}

function requireHost(app: App): void {
  app.addHook('onRequest', async request => {
    if (request.raw.httpVersion === '1.1' && request.headers.host === undefined) {
      throw new PenstockError('BAD_REQUEST', { message: 'the Host header is missing' })
    }
  })
}

function refuseUnknownPaths(app: App): void {
  app.setNotFoundHandler(() => {
    throw new PenstockError('NOT_FOUND')
  })
  // before the framework would read and parse a body that nobody wants
  app.addHook('onRequest', async request => {
    if (request.is404) throw new PenstockError('NOT_FOUND')
  })
}

/** Makes the instance. It is not listening, and has no routes but those of the docs. */
export function createServer(options: ServerOptions): App {
  const { config, health, logger } = options
  const open = connections(logger)
  const app = makeInstance(options, open)
  // JSON is the only body that is parsed; everything else is 415, or a stream that its route takes over
  app.removeContentTypeParser('text/plain')
  app.decorateRequest('errorCode', null)
  collectMethods(app)
  nestedErrors(app)
  endEventStreamsOnClose(app)

  rememberRequests(app)
  logCompletions(app)
  countRequests(app, options.observer)
  echoRequestIds(app)
  securityHeaders(app, config)
  crossOrigin(app, config)
  requireHost(app)
  refuseTransferCodings(app)
  refuseWhileStopping(app, health, open)
  refuseUnknownPaths(app)
  resolvePrincipal(app, config, options.credentials)
  rateLimits(app, config, options.redis)
  readQueryNumbers(app)
  continueAfterGuards(app)
  endStalledBodies(app, config.UPLOAD_IDLE_TIMEOUT_MS)
  closeOnUnreadBodies(app)

  openapi(app, config)
  return app
}
