/** `/openapi.json` and `/docs`, made from the schemas of the routes. Register before any route. */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifySchema } from 'fastify'
import type { Config } from '../config.ts'
import { catalogue } from '../errors.ts'
import { FlatError, NestedError, OipError, codeOf, statusOf } from './error-bodies.ts'
import { errorsWithoutRoute, failuresOf, headersOf, type DocumentedRoute, type Headers } from './error-docs.ts'
import { refuseOtherMethods } from './method-not-allowed.ts'

/** `security` of routes for administrators, and of those for users and services. */
export const adminSecurity = [{ bearer: [] }, { adminHeader: [] }]

/** `security` of routes that users come to with a browser, and that guests and public forms may use. */
export const anySecurity = [{ bearer: [] }, { adminHeader: [] }, { sessionCookie: [] }, { guest: [] }, { publicForm: [] }]

const description = `Bytes stream in once, are hashed on the way, and become immutable content-addressed objects.

Every answer carries \`X-Request-Id\`. Errors are nested (\`{ error: { code, message, details, request_id } }\`), except on
\`/upload-proxy\`, \`/finalize\` and \`/abort\`, where they are flat (\`{ error, code, details? }\`).

Besides what each route lists, a request may be answered with:

${errorsWithoutRoute.map(name => `- ${statusOf(name, 'nested')} \`${codeOf(name, 'nested')}\` (flat: \`${codeOf(name, 'flat')}\`): ${catalogue[name].message}`).join('\n')}`

const tags = [
  { name: 'ingest', description: 'upload, finalize, abort' },
  { name: 'extensions', description: 'the registry of bundles' },
  { name: 'files', description: 'shared: uploaded once, read by those who may' },
  { name: 'jobs', description: 'models over files and tensors: jobs, their progress and their results' },
  { name: 'video', description: 'videos through a model of images, for an application that does nothing else: jobs by other names' },
  { name: 'inference', description: 'the Open Inference Protocol v2 (KServe, Triton)' },
  { name: 'gpu-node', description: 'models for nodes on other machines (`ROLES=gpu-node`)' },
  { name: 'tokens', description: 'credentials that the administrator gives out' },
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
  if (required.length === 0) return parameters as Parameters
  return { ...parameters as Parameters, required: required.filter(name => properties[name]?.default === undefined) }
}

/** The same of a body, which may be of several media types. */
function documentedBody(body: unknown): object | undefined {
  const { content } = (body ?? {}) as { content?: Record<string, { schema: unknown }> }
  if (content === undefined) return optionalDefaults(body)
  return { ...body as object, content: Object.fromEntries(Object.entries(content).map(([type, media]) => [type, { ...media, schema: optionalDefaults(media.schema) }])) }
}

/** The schema of a route, with what it does not say itself: a body that is raw, headers of its answers, its failures. */
function documented(route: DocumentedRoute): FastifySchema {
  const { schema = {}, config } = route
  const querystring = optionalDefaults(schema.querystring)
  const body = documentedBody(schema.body)
  const answers = Object.entries((schema.response ?? {}) as Record<string, { headers?: Headers }>)
    .map(([status, answer]) => [status, { description: 'done', ...answer, headers: { ...headersOf(route), ...answer.headers } }])
  return {
    ...schema,
    ...(querystring && { querystring }),
    ...(body && { body }),
    ...(config?.continueLater === true && { body: { type: 'string', format: 'binary' } }),
    response: { ...failuresOf(route), ...Object.fromEntries(answers) as Record<string, object> }
  }
}

interface Document { paths?: Record<string, Record<string, { requestBody?: { required?: boolean, content: Record<string, { schema?: { anyOf?: { type?: string }[] } }> } }>> }

/** A body that may be null may be left out; the plugin asks for every body. */
function withOptionalBodies(document: Document): Document {
  for (const { requestBody } of Object.values(document.paths ?? {}).flatMap(path => Object.values(path))) {
    const schemas = Object.values(requestBody?.content ?? {}).map(({ schema }) => schema)
    if (requestBody !== undefined && schemas.some(schema => schema?.anyOf?.some(({ type }) => type === 'null'))) requestBody.required = false
  }
  return document
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
          bearer: { type: 'http', scheme: 'bearer', description: 'ADMIN_TOKEN, a JWT of OIDC_ISSUER, an API token (`pst_…`) or a session token' },
          sessionCookie: { type: 'apiKey', in: 'cookie', name: 'file_service_auth', description: 'an API token or a session token; also as `token`' },
          guest: { type: 'apiKey', in: 'header', name: 'X-Guest-Authorization', description: 'the JWT of a guest; also as cookie `guest-token`' },
          publicForm: { type: 'apiKey', in: 'header', name: 'X-Public-Authorization', description: '`Token <token of a public form>`; also as cookie `public-token`' },
          adminHeader: { type: 'apiKey', in: 'header', name: 'x-alga-admin', description: '`true`, where the service trusts the header' }
        }
      }
    },
    transform: ({ schema, url, route }) => ({ url, schema: schema?.hide === true ? schema : documented({ schema, ...(route.config && { config: route.config }) }) }),
    transformObject: document => withOptionalBodies((document as { openapiObject: Document }).openapiObject),
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
