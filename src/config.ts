/**
 * Configuration from environment variables: one table says name, form, default and purpose of each. It is read once;
 * everything that is wrong or missing is reported together. `.env.example` is held against this table by a test.
 *
 * An empty value counts as unset. Numbers are plain decimal digits: Number() would take '', ' 5 ', '1e3' and '0x10'.
 */
import { isIP } from 'node:net'
import { isAbsolute, join, relative, resolve } from 'node:path'

interface Variable<T> {
  /** Default as it would be written in `.env`; undefined: unset. */
  readonly default: string | undefined
  readonly doc: string
  /** Throws a short text that completes "<NAME> …". */
  parse(text: string): T
}

function variable<T>(doc: string, parse: (text: string) => T): Variable<T | undefined>
function variable<T>(doc: string, parse: (text: string) => T, fallback: string): Variable<T>
function variable<T>(doc: string, parse: (text: string) => T, fallback?: string): Variable<T | undefined> {
  return { default: fallback, doc, parse }
}

class Invalid extends Error {}

const anything = (value: string): string => value

function integer(min: number, max = Number.MAX_SAFE_INTEGER) {
  return (value: string): number => {
    const number = /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN
    if (!(number >= min && number <= max)) throw new Invalid(`must be a whole number from ${min} to ${max}, not '${value}'`)
    return number
  }
}

function decimal(value: string): number {
  if (!/^\d{1,9}(\.\d{1,9})?$/.test(value) || Number(value) <= 0) throw new Invalid(`must be a number above 0, not '${value}'`)
  return Number(value)
}

function boolean(value: string): boolean {
  if (value !== 'true' && value !== 'false') throw new Invalid(`must be true or false, not '${value}'`)
  return value === 'true'
}

function choice<const T extends string>(...allowed: readonly T[]) {
  return (value: string): T => {
    const found = allowed.find(each => each === value)
    if (found === undefined) throw new Invalid(`must be one of ${allowed.join(', ')}, not '${value}'`)
    return found
  }
}

function httpUrl(value: string): string {
  if (!URL.canParse(value) || !/^https?:$/.test(new URL(value).protocol)) throw new Invalid('must be an http or https address')
  return value.replace(/\/+$/, '')
}

/** Paths are put behind it. A user in it would be a second credential. */
function baseUrl(value: string): string {
  const url = new URL(httpUrl(value))
  if (url.search !== '' || url.hash !== '' || url.username !== '' || url.password !== '') throw new Invalid('must be an http or https address without a query, a fragment or a user')
  return httpUrl(url.href)
}

/** Asked exactly as it is: a slash at its end counts. RFC 6749, section 3.2: it may have a query, and no fragment. */
function endpointUrl(value: string): string {
  const url = new URL(issuerUrl(value))
  if (url.hash !== '' || url.username !== '' || url.password !== '') throw new Invalid('must be an http or https address without a fragment or a user')
  return value
}

function origin(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.href !== `${url.origin}/`) throw new Invalid('must be an http or https address of a host and a port, without a path or a user')
  return url.origin
}

/** What the service keeps under names of its own is nobody's to name. */
function keyPrefixes(value: string): string[] {
  return value.split(',').map(each => each.trim()).filter(Boolean).map(each => {
    if (!/^([A-Za-z0-9][A-Za-z0-9._-]*\/)+$/.test(each) || each.startsWith('sha256/')) throw new Invalid(`lists '${each}', which is no prefix of keys such as media/`)
    return each
  })
}

function origins(value: string): string[] {
  return value.split(',').map(each => each.trim()).filter(Boolean).map(each => {
    if (!URL.canParse(each) || new URL(each).origin !== each) throw new Invalid(`lists '${each}', which is no origin such as https://app.example.com`)
    return each
  })
}

function extensions(value: string): string[] {
  return value.split(',').map(each => each.trim().toLowerCase()).filter(Boolean).map(each => {
    if (!/^\.[a-z0-9]{1,16}$/.test(each)) throw new Invalid(`lists '${each}', which is no ending such as .mp4`)
    return each
  })
}

function postgresUrl(value: string): string {
  // the value holds a password: it is never repeated in the message
  if (!URL.canParse(value) || !/^postgres(ql)?:$/.test(new URL(value).protocol)) throw new Invalid('must be a postgres:// address')
  return value
}

function isEscaped(text: string): boolean {
  try {
    return decodeURIComponent(text) !== undefined
  } catch {
    return false
  }
}

/** The value may hold a password: it is never repeated in the message. */
function redisUrl(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined
  if (url === undefined || !/^rediss?:$/.test(url.protocol) || url.hostname === '' || !/^(\/\d{0,3})?$/.test(url.pathname) || url.search !== '' || url.hash !== '' || !isEscaped(url.username + url.password)) {
    throw new Invalid('must be a redis:// or rediss:// address: [user:password@]host[:port][/number of the database]')
  }
  return value
}

/** Number of proxies in front, or their addresses as CIDR list. */
function proxies(value: string): number | string[] {
  if (/^\d{1,2}$/.test(value)) return Number(value)
  return value.split(',').map(each => each.trim()).filter(Boolean).map(each => {
    if (!isRange(each)) throw new Invalid(`lists '${each}', which is no address or CIDR range; a hop count is a plain number`)
    return each
  })
}

function isRange(text: string): boolean {
  const [address = '', bits, ...more] = text.split('/')
  const version = isIP(address)
  return version !== 0 && more.length === 0 && (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128)))
}

function scopeName(value: string): string {
  if (!/^[\x21\x23-\x5b\x5d-\x7e]+$/.test(value)) throw new Invalid('must be a scope token (RFC 6749, section 3.3)')
  return value
}

/** It is repeated in a header of answers. */
function claimName(value: string): string {
  if (!/^[\x21\x23-\x5b\x5d-\x7e]{1,255}$/.test(value)) throw new Invalid('must be the name of a claim, in printable ASCII without quotes')
  return value
}

function scopeNames(value: string): string[] {
  return value.split(' ').filter(Boolean).map(scopeName)
}

/** RFC 6750, section 2.1: what can stand in an Authorization header. The value is never repeated in a message. */
function bearerToken(value: string): string {
  if (!/^[A-Za-z0-9\-._~+/]+=*$/.test(value)) throw new Invalid('must consist of letters, digits and - . _ ~ + / (and = at its end): anything else can never match')
  return value
}

const SECRET_MIN_CHARACTERS = 16

/** The value is never repeated in a message. */
function secret(value: string): string {
  if (value.length < SECRET_MIN_CHARACTERS) throw new Invalid(`must have at least ${SECRET_MIN_CHARACTERS} characters`)
  return value
}

/** RFC 7518, section 3.2: a key of HS256 has at least the length of its hash. */
const HMAC_SECRET_MIN_CHARACTERS = 32

/** The value is never repeated in a message. */
function hmacSecret(value: string): string {
  if (value.length < HMAC_SECRET_MIN_CHARACTERS) throw new Invalid(`must have at least ${HMAC_SECRET_MIN_CHARACTERS} characters`)
  return value
}

const nodeToken = (value: string): string => secret(bearerToken(value))

/** It is compared with what tokens say, character by character: a slash at its end counts. */
function issuerUrl(value: string): string {
  httpUrl(value)
  return value
}

const ROLES = ['api', 'worker', 'gpu-node'] as const
export type Role = typeof ROLES[number]

function roles(value: string): Role[] {
  const names = value.split(',').map(each => each.trim()).filter(Boolean)
  if (names.length === 0) throw new Invalid(`must list some of ${ROLES.join(', ')}`)
  return names.map(choice(...ROLES))
}

const GIB = 1024 ** 3
const ADMIN_TOKEN_MIN_CHARACTERS = 16

export const variables = {
  HOST: variable('address to listen on', anything, '127.0.0.1'),
  PORT: variable('port to listen on; 0 draws a free one', integer(0, 65_535), '4000'),
  NODE_ENV: variable('production turns on its refusals and HSTS', choice('development', 'test', 'production'), 'development'),
  PUBLIC_BASE_URL: variable('address under which callers see this service: for its documentation, and a name and origin it may be called by', httpUrl),
  TRUST_PROXY: variable('proxies whose X-Forwarded-For counts: a hop count or a CIDR list; unset trusts none', proxies),
  CORS_ORIGIN: variable('origins that browsers may call from, comma-separated; unset allows none', origins),
  LOG_LEVEL: variable('least level that is logged', choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'), 'info'),
  SHUTDOWN_GRACE_MS: variable('how long uploads in flight may go on after SIGTERM', integer(0, 3_600_000), '25000'),

  OBJECT_STORE: variable('where objects live: fs (under DATA_DIR), s3, or memory (for trying out)', choice('fs', 's3', 'memory'), 'fs'),
  DATA_DIR: variable('folder of the embedded stores', anything, './data'),
  S3_ENDPOINT: variable('address of the S3 server; unset means AWS', httpUrl),
  S3_REGION: variable('region to sign for', anything, 'us-east-1'),
  S3_BUCKET: variable('bucket; required with OBJECT_STORE=s3', anything),
  S3_ACCESS_KEY_ID: variable('access key; required with OBJECT_STORE=s3', anything),
  S3_SECRET_ACCESS_KEY: variable('secret key; required with OBJECT_STORE=s3', anything),
  S3_FORCE_PATH_STYLE: variable('bucket in the path, not in the host name (MinIO and most others)', boolean, 'true'),
  PUBLIC_S3_ENDPOINT: variable('address of the S3 server for clients, in presigned addresses; unset: clients reach it through this service alone', httpUrl),
  S3_CREATE_BUCKET: variable('make the bucket at start if it is not there', boolean, 'false'),

  DATABASE_URL: variable('postgres:// address of the records; unset means SQLite in DATA_DIR', postgresUrl),
  REDIS_URL: variable('redis:// or rediss:// address of counters that all nodes share, and of session tokens; unset: each node counts for itself', redisUrl),

  MAX_BUNDLE_SIZE_BYTES: variable('largest bundle', integer(1, 5 * 1024 * GIB), '209715200'),
  MAX_OBJECT_SIZE_BYTES: variable('largest object', integer(1, 5 * 1024 * GIB), '209715200'),
  MAX_MODEL_SIZE_BYTES: variable('largest model', integer(1, 5 * 1024 * GIB), '2147483648'),
  MAX_CONCURRENT_UPLOADS: variable('bodies arriving at once in this process', integer(1, 100_000), '64'),
  UPLOAD_IDLE_TIMEOUT_MS: variable('a body without progress for this long is ended with 408', integer(10, 86_400_000), '30000'),
  UPLOAD_RETRY_AFTER_SECONDS: variable('Retry-After when all upload slots are taken', integer(1, 86_400), '30'),
  STAGING_TTL_HOURS: variable('uploads that are not finalized go after this long; decimals allowed', decimal, '24'),
  SWEEP_INTERVAL_SECONDS: variable('how often the sweeper looks', integer(1, 86_400), '300'),
  FINALIZE_REHASH: variable('always: read every staged object again at finalize; auto: only what did not pass through', choice('auto', 'always'), 'auto'),
  SIGNING_TRUST_BUNDLE: variable('PEM file of public keys and certificates; set, it makes bundle signatures required', anything),
  EXT_BUNDLES_ALLOW_INSECURE: variable('skip the admin check of ingest; refused in production', boolean, 'false'),
  EXT_BUNDLES_RATELIMIT_MAX: variable('requests per window on each ingest route and caller; 0 switches it off', integer(0), '30'),
  EXT_BUNDLES_RATELIMIT_WINDOW_MS: variable('window of EXT_BUNDLES_RATELIMIT_MAX', integer(1), '60000'),
  REFUSED_RATE_LIMIT_MAX: variable('refused requests (401, 403) per window and address; 0 switches it off', integer(0), '120'),
  REFUSED_RATE_LIMIT_WINDOW_MS: variable('window of REFUSED_RATE_LIMIT_MAX', integer(1), '60000'),
  FILES_UPLOAD_RATE_LIMIT_MAX: variable('uploads of files and media per window and caller; 0 switches it off', integer(0), '10'),
  FILES_UPLOAD_RATE_LIMIT_WINDOW_MS: variable('window of FILES_UPLOAD_RATE_LIMIT_MAX', integer(1), '60000'),
  FILES_DOWNLOAD_RATE_LIMIT_MAX: variable('reads of files and media per window and caller; 0 switches it off', integer(0), '100'),
  FILES_DOWNLOAD_RATE_LIMIT_WINDOW_MS: variable('window of FILES_DOWNLOAD_RATE_LIMIT_MAX', integer(1), '60000'),
  MAX_FILE_SIZE_BYTES: variable('largest shared file', integer(1, 5 * 1024 * GIB), '104857600'),
  SIGNED_URL_SECRET: variable('key of signed addresses of files; unset: drawn once and kept in the records', secret),
  PERMISSION_CALLBACK_URL: variable('who is asked (POST, form field file_id) before a read of a file is refused; unset: nobody', httpUrl),
  FRONTEND_URL: variable('where browsers that open a file without a credential are sent to sign in; unset: nowhere', httpUrl),

  MAX_MEDIA_SIZE_BYTES: variable('largest file of a media library', integer(1, 5 * GIB), '524288000'),
  MEDIA_UPLOAD_MODE: variable('where clients send media: proxy, to this service; direct, to the S3 server at PUBLIC_S3_ENDPOINT', choice('proxy', 'direct'), 'proxy'),

  REDIS_SESSION_SECRET: variable('salt under which another service keeps its session tokens in Redis; unset: no session token is taken', anything),
  REDIS_SESSION_PREFIX: variable('what the keys of session tokens begin with', anything, ':1:'),
  REDIS_SESSION_ITERATIONS: variable('iterations of PBKDF2 that lead from a session token to its key', integer(1, 10_000_000), '1'),
  REDIS_SESSION_SCOPES: variable('scopes of users that a session is of, separated by spaces; unset: none, so files and media alone', scopeNames),
  ADMIN_TOKEN: variable('bearer token of the administrator; at least 16 characters in production and where HOST lets other machines in', bearerToken),
  TRUST_ADMIN_HEADER: variable('take x-alga-admin: true as the administrator; default false in production, and where ADMIN_TOKEN is set and HOST lets other machines in', boolean),
  METRICS_TOKEN: variable('bearer token that may read /metrics, beside administrators; at least 16 characters', nodeToken),
  ROLES: variable('what this process does: some of api, worker and gpu-node (runs what other machines send it)', roles, 'api,worker'),
  MODELS_DIR: variable('folder of models to load at start, <name>/<version>/model.onnx and model.json; unset: the built-in ones', anything),
  MODEL_CACHE_DIR: variable('where workers keep models by digest; unset: models under DATA_DIR', anything),
  DEFAULT_IMAGE_MODEL: variable('image model for callers that name none', anything, 'upscale-2x'),
  DEFAULT_VIDEO_MODEL: variable('model of images that videos go through, for callers that name none', anything, 'upscale-2x'),
  ALLOWED_VIDEO_EXTENSIONS: variable('endings of names of videos that /api/upload takes, comma-separated', extensions, '.mp4,.avi,.mkv,.mov,.wmv,.webm'),
  DEVICE: variable('execution provider: auto takes the best that is there, any other must be there', choice('auto', 'cuda', 'webgpu', 'cpu'), 'auto'),
  WORKERS: variable('workers of this process; unset: one on a GPU, else one less than there are cores', integer(1, 256)),
  WORKER_ISOLATION: variable('process: a worker that dies or is killed hurts nobody; thread: less memory, but a run that hangs cannot be ended, and one that crashes ends the service', choice('process', 'thread'), 'process'),
  WORKER_THREADS: variable('threads of one run; unset: cores divided by workers', integer(1, 1024)),
  WORKER_MAX_JOBS: variable('a worker is replaced after this many runs; 0: never', integer(0), '1000'),
  WORKER_MAX_RSS_BYTES: variable('a worker that holds more memory after a run is replaced; 0: never', integer(0), '4294967296'),
  INFER_URL: variable('server of the Open Inference Protocol v2 (Triton, KServe, OpenVINO) where models run in place of our workers; unset: here', baseUrl),
  INFER_TOKEN: variable('bearer token that INFER_URL takes', bearerToken),
  EXEC_TASKS_FILE: variable('JSON file of the commands that the task exec may run; unset: none', anything),
  INFER_MAX_BYTES: variable('largest body of a synchronous inference', integer(1, GIB), '16777216'),
  INFER_TIMEOUT_MS: variable('how long a synchronous inference may take', integer(1, 3_600_000), '30000'),
  INFER_RATE_LIMIT_MAX: variable('requests per window and caller under /v2; 0 switches it off', integer(0), '0'),
  INFER_RATE_LIMIT_WINDOW_MS: variable('window of INFER_RATE_LIMIT_MAX', integer(1), '60000'),

  MULTIPART_INPUT_MAX_BYTES: variable('largest input of a job in a multipart body', integer(1, 5 * 1024 * GIB), '524288000'),
  ACTIVE_JOBS_PER_USER: variable('unfinished jobs of one user at once; 0: no limit', integer(0), '0'),
  QUEUE_MAX: variable('most jobs that may wait', integer(1), '10000'),
  JOB_LEASE_MS: variable('how long a job belongs to a worker that gives no sign of life', integer(500, 3_600_000), '30000'),
  JOB_MAX_ATTEMPTS: variable('attempts of one job before it has failed', integer(1, 100), '3'),
  JOB_TIMEOUT_MS: variable('longest run of one attempt', integer(100, 86_400_000), '600000'),
  CANCEL_GRACE_MS: variable('how long a cancelled run may take to end before its worker is killed', integer(0, 600_000), '2000'),
  JOB_RETENTION_DAYS: variable('finished jobs go after this many days; 0 keeps them', integer(0, 36_500), '0'),
  WEBHOOK_SECRET: variable('key of the signature of webhooks; unset: webhooks are refused', secret),
  WEBHOOK_ALLOW_PRIVATE: variable('let webhooks go to private, loopback and link-local addresses', boolean, 'false'),
  API_V1_RATE_LIMIT_MAX: variable('requests per window and caller under /api/v1 and /generate; 0 switches it off', integer(0), '300'),
  API_V1_RATE_LIMIT_WINDOW_MS: variable('window of API_V1_RATE_LIMIT_MAX', integer(1), '300000'),
  LEGACY_ROUTES: variable('serve /jobs and /queues/stats without credentials; in production only where HOST is loopback, or as production', choice('false', 'true', 'production'), 'false'),
  OIDC_TOKEN_URL: variable('where this service gets its own token for the file gateway (client credentials); needed with the next four, or none of them', endpointUrl),
  OIDC_CLIENT_ID: variable('what it is called there', anything),
  OIDC_CLIENT_SECRET: variable('its secret there', anything),
  FILE_GATEWAY_BASE_URL: variable('file gateway that results are promoted to, with PUT <this>/files/<key>; https in production', baseUrl),
  FILE_GATEWAY_AUDIENCE: variable('audience of the token that the file gateway takes', anything),
  PROMOTE_TIMEOUT_MS: variable('how long promoting one result may take in all', integer(100, 86_400_000), '300000'),
  OIDC_ISSUER: variable('issuer of JWTs, exactly as their iss says it; unset: no JWT is taken', issuerUrl),
  OIDC_AUDIENCE: variable('what the aud of a JWT has to name; required with OIDC_ISSUER', anything),
  OIDC_JWKS_URL: variable('where the keys of the issuer are; unset: its discovery document says it', httpUrl),
  OIDC_TENANT_ID: variable('the only tenant whose JWTs are taken; unset: all', anything),
  OIDC_CLAIM_TENANT: variable('claim of a JWT that names its tenant', claimName, 'tenant_id'),
  OIDC_CLAIM_ACCOUNT: variable('claim of a JWT that names its account; the tenant where it is missing', claimName, 'account_id'),
  JWT_CLOCK_TOLERANCE_SEC: variable('how far the clocks of issuers may differ from ours', integer(0, 600), '60'),
  JWKS_CACHE_MAX_AGE_MS: variable('keys of the issuer are fetched anew after this long', integer(1000, 86_400_000), '600000'),
  JWKS_COOLDOWN_MS: variable('least time between two fetches of the keys, whatever tokens arrive', integer(100, 3_600_000), '30000'),
  GUEST_TOKEN_SECRET: variable('key of the JWTs of guests (HS256), at least 32 characters; unset: no guest is let in', hmacSecret),
  AI_INTERNAL_TOKEN: variable('bearer token of the other nodes, for routes of GPU nodes alone; at least 16 characters', nodeToken),
  AI_TRANSFER_MODE: variable('how jobs reach a model: path, workers of this process read the bucket; remote, the bytes go to AI_SERVICE_URL and back', choice('path', 'remote'), 'path'),
  AI_SERVICE_URL: variable('GPU node of AI_TRANSFER_MODE=remote: scheme, host and port alone', origin),
  WORK_UPLOAD_DIR: variable('where a GPU node finds inputPath of /process; unset: node-inputs under DATA_DIR', anything),
  WORK_RESULT_DIR: variable('where a GPU node keeps results; unset: node-results under DATA_DIR', anything),
  WORK_TTL_MINUTES: variable('files in WORK_UPLOAD_DIR and results go after this long', integer(1, 525_600), '60'),
  MAX_FILE_SIZE_MB: variable('largest video of /api/upload, and largest input that a GPU node takes, in MiB', integer(1, 5 * 1024 * 1024), '500'),
  OBJECT_PATH_PREFIXES: variable('object keys that inputPath and outputPath of /process may name begin with one of these, comma-separated', keyPrefixes, 'media/,work/'),
  SCOPE_JOB_READ: variable('scope that may read jobs', scopeName, 'penstock:job.read'),
  SCOPE_JOB_WRITE: variable('scope that may create and change jobs', scopeName, 'penstock:job.write'),
  SCOPE_UPLOAD: variable('scope that may upload objects', scopeName, 'penstock:upload'),
  SCOPE_ADMIN: variable('scope of administrators', scopeName, 'penstock:admin')
} as const satisfies Record<string, Variable<unknown>>

type Variables = typeof variables
/** Settings by the name of their variable, checked, with their defaults. */
export type Settings = { readonly [Name in keyof Variables]: Variables[Name] extends { parse(text: string): infer T } ? T : never }

/** What the service runs with: the settings, and what follows from several of them. */
export interface Config extends Settings {
  readonly production: boolean
  readonly trustAdminHeader: boolean
  /** No credential scheme is configured and this is not production: a caller without credential is the local developer. */
  readonly developer: boolean
  /** True when HOST can only be reached from this machine. */
  readonly loopback: boolean
  /** What of the environment workers get. */
  readonly workerEnvironment: Readonly<Record<string, string>>
}

/** All faults of a configuration at once, one a line. */
export class ConfigError extends Error {
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super(`the configuration is not usable:\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
    this.name = 'ConfigError'
    this.faults = faults
  }
}

const S3_NAMES = ['S3_ENDPOINT', 'PUBLIC_S3_ENDPOINT', 'S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY'] as const
const S3_REQUIRED = ['S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY'] as const

function groupFaults(settings: Settings): string[] {
  if (settings.OBJECT_STORE === 's3') {
    return [
      ...S3_REQUIRED.filter(name => settings[name] === undefined).map(name => `${name} is missing: OBJECT_STORE=s3 needs it`),
      ...(settings.MEDIA_UPLOAD_MODE === 'direct' && settings.PUBLIC_S3_ENDPOINT === undefined ? ['PUBLIC_S3_ENDPOINT is missing: MEDIA_UPLOAD_MODE=direct needs it'] : [])
    ]
  }
  return [
    ...S3_NAMES.filter(name => settings[name] !== undefined).map(name => `${name} is set, but OBJECT_STORE is ${settings.OBJECT_STORE}: set OBJECT_STORE=s3, or remove it`),
    ...(settings.MEDIA_UPLOAD_MODE === 'direct' ? ['OBJECT_STORE must be s3: MEDIA_UPLOAD_MODE=direct needs it'] : [])
  ]
}

function redisFaults({ REDIS_URL, REDIS_SESSION_SECRET }: Settings): string[] {
  return REDIS_SESSION_SECRET !== undefined && REDIS_URL === undefined ? ['REDIS_URL is missing: REDIS_SESSION_SECRET needs it'] : []
}

const PROMOTE_GROUP = ['OIDC_TOKEN_URL', 'OIDC_CLIENT_ID', 'OIDC_CLIENT_SECRET', 'FILE_GATEWAY_BASE_URL', 'FILE_GATEWAY_AUDIENCE'] as const

function promoteFaults(settings: Settings): string[] {
  const set = PROMOTE_GROUP.find(name => settings[name] !== undefined)
  const insecure = settings.NODE_ENV === 'production' && settings.FILE_GATEWAY_BASE_URL?.startsWith('http:') === true
  return [
    ...(set === undefined ? [] : PROMOTE_GROUP.filter(name => settings[name] === undefined).map(name => `${name} is missing: ${set} needs it`)),
    ...(insecure ? ['FILE_GATEWAY_BASE_URL must be an https address in production: a token goes there'] : [])
  ]
}

function nodeFaults(settings: Settings): string[] {
  const { ROLES: does, AI_TRANSFER_MODE: mode, AI_SERVICE_URL: url, AI_INTERNAL_TOKEN: token, OBJECT_STORE: objects, NODE_ENV } = settings
  const isNode = does.includes('gpu-node')
  return [
    ...(mode === 'remote' && url === undefined ? ['AI_SERVICE_URL is missing: AI_TRANSFER_MODE=remote needs it'] : []),
    ...(mode === 'path' && url !== undefined ? ['AI_SERVICE_URL is set, but AI_TRANSFER_MODE is path: set AI_TRANSFER_MODE=remote, or remove it'] : []),
    ...(mode === 'remote' && isNode ? ['AI_TRANSFER_MODE=remote and ROLES=gpu-node exclude each other: a GPU node runs what it is sent itself'] : []),
    ...(isNode && objects === 'memory' ? ['ROLES=gpu-node needs OBJECT_STORE=fs or s3: workers cannot read the memory of this process'] : []),
    ...(isNode && token === undefined && NODE_ENV === 'production' ? ['AI_INTERNAL_TOKEN is missing: in production a GPU node is not open'] : []),
    ...(isNode ? [folderFaults('WORK_UPLOAD_DIR', settings), folderFaults('WORK_RESULT_DIR', settings)].flat() : [])
  ]
}

/** Whatever lies in such a folder goes when it is old enough. */
function folderFaults(name: 'WORK_UPLOAD_DIR' | 'WORK_RESULT_DIR', { [name]: folder, DATA_DIR: data, MODELS_DIR: models, MODEL_CACHE_DIR: cache }: Settings): string[] {
  if (folder === undefined) return []
  const own: [string, string | undefined][] = [['DATA_DIR', data], ['MODELS_DIR', models], ['MODEL_CACHE_DIR', cache]]
  const held = own.find(([, path]) => path !== undefined && isWithin(path, folder))
  const holder = [join(data, 'objects'), join(data, 'models'), models, cache].find(path => path !== undefined && isWithin(folder, path))
  const what = held !== undefined ? `holds ${held[0]}` : holder !== undefined ? `lies in ${holder}` : undefined
  return what === undefined ? [] : [`${name} ${what}: files there would be removed after WORK_TTL_MINUTES`]
}

function isWithin(path: string, folder: string): boolean {
  const way = relative(resolve(folder), resolve(path))
  return !isAbsolute(way) && way !== '..' && !way.startsWith('../')
}

function inferFaults({ INFER_URL: url, INFER_TOKEN: token, DEVICE: device, AI_TRANSFER_MODE: mode, PUBLIC_BASE_URL: ours }: Settings): string[] {
  if (url === undefined) return token === undefined ? [] : ['INFER_TOKEN is set, but INFER_URL is missing']
  return [
    ...(mode === 'remote' ? ['INFER_URL and AI_TRANSFER_MODE=remote exclude each other: jobs go to the one or to the other'] : []),
    ...(device === 'cuda' || device === 'webgpu' ? [`DEVICE is ${device}, but with INFER_URL models run there: remove one of them`] : []),
    ...(url === ours ? ['INFER_URL is PUBLIC_BASE_URL: this service cannot have its models run by itself'] : [])
  ]
}

/** The host of an address, or of what stands where only a host or `host:port` is asked for. */
function hostOf(text: string): string {
  const url = text.includes('://') ? text : `http://${text}`
  return URL.canParse(url) ? new URL(url).hostname.toLowerCase() : ''
}

/** Text that asks to be replaced, or a host that can never be (RFC 2606), also in a list. */
function isPlaceholder(value: string): boolean {
  return value.includes('REPLACE-ME') || value.split(',').some(each => /(^|\.)invalid\.?$/.test(hostOf(each.trim())))
}

function oidcFaults({ OIDC_ISSUER, OIDC_AUDIENCE, OIDC_JWKS_URL, OIDC_TENANT_ID }: Settings): string[] {
  if (OIDC_ISSUER !== undefined) return OIDC_AUDIENCE === undefined ? ['OIDC_AUDIENCE is missing: without it the JWTs of every service of the issuer would be taken'] : []
  return Object.entries({ OIDC_AUDIENCE, OIDC_JWKS_URL, OIDC_TENANT_ID }).filter(([, value]) => value !== undefined)
    .map(([name]) => `${name} is set, but OIDC_ISSUER is missing`)
}

function productionFaults(settings: Settings, env: NodeJS.ProcessEnv): string[] {
  const faults = Object.keys(variables).filter(name => isPlaceholder(env[name] ?? ''))
    .map(name => `${name} still holds a placeholder`)
  if (settings.LEGACY_ROUTES === 'true' && !isLoopback(settings.HOST)) faults.push('LEGACY_ROUTES=true is refused in production where HOST is not loopback: LEGACY_ROUTES=production says that it is meant')
  if (settings.EXT_BUNDLES_ALLOW_INSECURE) faults.push('EXT_BUNDLES_ALLOW_INSECURE is refused in production')
  if (!isForNodesAlone(settings) && settings.ADMIN_TOKEN === undefined && settings.OIDC_ISSUER === undefined && settings.TRUST_ADMIN_HEADER !== true) {
    faults.push('ADMIN_TOKEN is missing: production needs an admin credential (or OIDC_ISSUER, or TRUST_ADMIN_HEADER=true behind a proxy that strips x-alga-admin)')
  }
  return faults
}

/** Its callers are other nodes, who have AI_INTERNAL_TOKEN: there is nothing for an administrator or the developer to do. */
function isForNodesAlone({ ROLES: does }: Settings): boolean {
  return does.includes('gpu-node') && !does.includes('api')
}

/** Set, callers have to prove who they are: there is no local developer. */
const CREDENTIAL_SCHEMES = ['ADMIN_TOKEN', 'OIDC_ISSUER', 'GUEST_TOKEN_SECRET', 'REDIS_SESSION_SECRET'] as const satisfies (keyof Settings)[]

function hasCredentialScheme(settings: Settings): boolean {
  return CREDENTIAL_SCHEMES.some(name => settings[name] !== undefined) || (isForNodesAlone(settings) && settings.AI_INTERNAL_TOKEN !== undefined)
}

/** Whoever can connect can also try tokens, so that its length alone must make that hopeless. */
function tokenFaults({ ADMIN_TOKEN: token, AI_INTERNAL_TOKEN, HOST, NODE_ENV }: Settings): string[] {
  const guessable = token !== undefined && token.length < ADMIN_TOKEN_MIN_CHARACTERS
  return [
    ...(guessable && (NODE_ENV === 'production' || !isLoopback(HOST)) ? [`ADMIN_TOKEN is shorter than ${ADMIN_TOKEN_MIN_CHARACTERS} characters`] : []),
    ...(token !== undefined && token === AI_INTERNAL_TOKEN ? ['AI_INTERNAL_TOKEN equals ADMIN_TOKEN: nodes would be administrators'] : [])
  ]
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

/**
 * Where programs, libraries and certificates are, which GPU to use, and how memory is managed: no setting of this service, so
 * that no secret is in the environment of a worker or of a command that it runs.
 */
const FOR_WORKERS = /^(PATH|HOME|TMPDIR|LANG|LC_[A-Z]+|TZ|LD_LIBRARY_PATH|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)|XDG_(RUNTIME_DIR|CACHE_HOME)|(CUDA|NVIDIA|VK|VIPS|MALLOC|OMP)_[A-Z0-9_]+)$/

function forWorkers(env: NodeJS.ProcessEnv): Readonly<Record<string, string>> {
  return Object.freeze(Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => FOR_WORKERS.test(entry[0]) && entry[1] !== undefined)))
}

/** Reads the environment. @throws ConfigError naming everything that is wrong */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const faults: string[] = []
  const wrong: string[] = []
  const parsed: Record<string, unknown> = {}
  for (const [name, each] of Object.entries<Variable<unknown>>(variables)) {
    const fallback = each.default === undefined ? undefined : each.parse(each.default)
    try {
      parsed[name] = env[name] === undefined || env[name] === '' ? fallback : each.parse(env[name])
    } catch (error) {
      if (!(error instanceof Invalid)) throw error
      faults.push(`${name} ${error.message}`)
      parsed[name] = fallback
      wrong.push(name)
    }
  }
  const settings = parsed as unknown as Settings
  const production = settings.NODE_ENV === 'production'
  const together = [
    ...groupFaults(settings), ...oidcFaults(settings), ...redisFaults(settings), ...promoteFaults(settings), ...nodeFaults(settings), ...inferFaults(settings),
    ...(production ? productionFaults(settings, env) : []), ...tokenFaults(settings)
  ]
  // of a variable that is wrong by itself nobody knows yet how it goes with others
  faults.push(...together.filter(fault => !wrong.some(name => new RegExp(`\\b${name}\\b`).test(fault))))
  if (faults.length > 0) throw new ConfigError(faults)
  const loopback = isLoopback(settings.HOST)
  return Object.freeze({
    ...settings,
    production,
    // who sets a token and lets other machines in wants it to be asked for
    trustAdminHeader: settings.TRUST_ADMIN_HEADER ?? (!production && (loopback || !hasCredentialScheme(settings))),
    developer: !production && !hasCredentialScheme(settings),
    loopback,
    workerEnvironment: forWorkers(env)
  })
}
