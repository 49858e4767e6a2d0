/** Headers for browsers: nothing of the API may be framed, sniffed or run as a page; CORS only for listed origins. */
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'

const exposedHeaders = [
  'X-Request-Id', 'X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset', 'RateLimit-Limit', 'RateLimit-Remaining',
  'RateLimit-Reset', 'Retry-After', 'Location', 'ETag', 'Repr-Digest', 'Accept-Ranges', 'Content-Disposition', 'Content-Range', 'X-Upload-Proxy-Why'
]

export function securityHeaders(app: FastifyInstance, config: Config): void {
  void app.register(helmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    frameguard: { action: 'deny' },
    referrerPolicy: { policy: 'strict-origin-when-cross-origin' },
    // the answers are data for whoever may ask: CORS decides which pages may read them
    crossOriginResourcePolicy: { policy: config.CORS_ORIGIN === undefined ? 'same-origin' : 'cross-origin' },
    hsts: config.production ? { maxAge: 31_536_000, includeSubDomains: true } : false
  })
}

export function crossOrigin(app: FastifyInstance, config: Config): void {
  if (config.CORS_ORIGIN === undefined) return
  void app.register(cors, {
    origin: config.CORS_ORIGIN,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders,
    // pages of these origins may come with the cookies of their users
    credentials: true,
    maxAge: 600,
    // an OPTIONS that is no preflight is a request like any other, not an error in the plugin's own words
    strictPreflight: false
  })
}
