/** `/openapi.json` and `/docs`, made from the schemas of the routes. Register before any route. */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifySchema } from 'fastify'
import type { Config } from '../config.ts'
import { catalogue } from '../errors.ts'
import { FlatError, NestedError, OipError, codeOf, statusOf } from './error-bodies.ts'
import { errorsWithoutRoute, failuresOf, headersOf, type DocumentedRoute, type Headers } from './error-docs.ts'
import { refuseOtherMethods } from './method-not-allowed.ts'

/** `security` of routes for administrators. */
export const adminSecurity = [{ adminToken: [] }, { adminHeader: [] }]

const description = `Bytes stream in once, are hashed on the way, and become immutable content-addressed objects.

Every answer carries \`X-Request-Id\`. Errors are nested (\`{ error: { code, message, details, request_id } }\`), except on
\`/upload-proxy\`, \`/finalize\` and \`/abort\`, where they are flat (\`{ error, code, details? }\`).

Besides what each route lists, a request may be answered with:

${errorsWithoutRoute.map(name => `- ${statusOf(name, 'nested')} \`${codeOf(name, 'nested')}\` (flat: \`${codeOf(name, 'flat')}\`): ${catalogue[name].message}`).join('\n')}`

const tags = [
  { name: 'ingest', description: 'upload, finalize, abort' },
  { name: 'extensions', description: 'the registry of bundles' },
  { name: 'jobs', description: 'models over files and tensors: jobs, their progress and their results' },
  { name: 'inference', description: 'the Open Inference Protocol v2 (KServe, Triton)' },
  { name: 'legacy', description: 'unversioned routes for a trusted network (`LEGACY_ROUTES`)' },
  { name: 'health', description: 'for load balancers and orchestrators' }
]

/** Only what the page itself serves. Swagger UI draws its icons from data: addresses. */
const docsPolicy = {
  'default-src': ["'none'"],
  'script-src': ["'self'"],
  'style-src': ["'self'"],
  'img-src': ["'self'", 'data:'],
  'connect-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'none'"],
  'frame-ancestors': ["'none'"]
}

interface Parameters { properties?: Record<string, { default?: unknown }>, required?: string[] }

/** What has a default need not be given. */
function optionalDefaults(parameters: unknown): object | undefined {
  if (parameters === undefined) return undefined
  const { properties = {}, required = [] } = parameters as Parameters
  return { ...parameters as Parameters, required: required.filter(name => properties[name]?.default === undefined) }
}

/** The schema of a route, with what it does not say itself: a body that is raw, headers of its answers, its failures. */
function documented(route: DocumentedRoute): FastifySchema {
  const { schema = {}, config } = route
  const querystring = optionalDefaults(schema.querystring)
  const answers = Object.entries((schema.response ?? {}) as Record<string, { headers?: Headers }>)
    .map(([status, answer]) => [status, { description: 'done', ...answer, headers: { ...headersOf(route), ...answer.headers } }])
  return {
    ...schema,
    ...(querystring && { querystring }),
    ...(config?.continueLater === true && { body: { type: 'string', format: 'binary' } }),
    response: { ...failuresOf(route), ...Object.fromEntries(answers) as Record<string, object> }
  }
}

export function openapi(app: FastifyInstance, config: Config): void {
  app.addSchema(NestedError)
  app.addSchema(FlatError)
  app.addSchema(OipError)
  void app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Penstock', description, version: '0.1.0', license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      ...(config.PUBLIC_BASE_URL !== undefined && { servers: [{ url: config.PUBLIC_BASE_URL }] }),
      tags,
      components: {
        securitySchemes: {
          adminToken: { type: 'http', scheme: 'bearer', description: 'ADMIN_TOKEN' },
          adminHeader: { type: 'apiKey', in: 'header', name: 'x-alga-admin', description: '`true`, where the service trusts the header' }
        }
      }
    },
    transform: ({ schema, url, route }) => ({ url, schema: schema?.hide === true ? schema : documented({ schema, ...(route.config && { config: route.config }) }) }),
    refResolver: { buildLocalReference: (json, _baseUri, _fragment, index) => String(json.$id ?? `def-${index}`) }
  })
  void app.register(async scope => {
    await scope.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: docsPolicy,
      theme: { title: 'Penstock API' },
      uiConfig: { validatorUrl: null, docExpansion: 'list' }
    })
    scope.get('/openapi.json', { schema: { hide: true } }, async () => scope.swagger())
    refuseOtherMethods(scope)
  })
}
