import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ConfigError, readConfig, variables } from '../src/config.ts'

const ROOT = join(import.meta.dirname, '..')

interface Entry { readonly name: string, readonly value: string | undefined, readonly doc: string }

/** Reads a `.env` file in which every setting stands below its one line of doc. */
function readEntries(text: string): Entry[] {
  const lines = text.split('\n')
  return lines.flatMap((line, index) => {
    const match = /^(# )?([A-Z][A-Z0-9_]*)=(.*)$/.exec(line)
    if (match === null) return []
    return [{ name: match[2] ?? '', value: match[1] === undefined ? match[3] : undefined, doc: (lines[index - 1] ?? '').replace(/^# /, '') }]
  })
}

function faultsOf(env: NodeJS.ProcessEnv): readonly string[] {
  try {
    readConfig(env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

const PRODUCTION = { NODE_ENV: 'production', ADMIN_TOKEN: 'sixteen-or-more-characters' }
const S3 = { OBJECT_STORE: 's3', S3_BUCKET: 'bucket', S3_ACCESS_KEY_ID: 'id', S3_SECRET_ACCESS_KEY: 'secret' }

t.test('.env.example lists every variable with its default and its doc, in the order of the table', async t => {
  const [settings = '', composeOnly = ''] = readFileSync(join(ROOT, '.env.example'), 'utf8').split(/^## Only for compose\.yaml.*$/m)
  const expected = Object.entries(variables).map(([name, each]) => ({ name, value: each.default, doc: each.doc }))
  t.same(readEntries(settings), expected)
  t.same(readEntries(composeOnly).filter(({ name }) => name in variables), [], 'what only compose reads is no setting')
})

t.test('.env.example as it stands is a configuration that works', async t => {
  const entries = readEntries(readFileSync(join(ROOT, '.env.example'), 'utf8'))
  const env = Object.fromEntries(entries.flatMap(({ name, value }) => value === undefined ? [] : [[name, value]]))
  t.same(readConfig(env), readConfig({}))
})

t.test('compose.yaml hands every setting to the service, fixed by the stack or overridable from .env', async t => {
  const compose = readFileSync(join(ROOT, 'compose.yaml'), 'utf8')
  for (const name of Object.keys(variables)) t.match(compose, new RegExp(`^ +${name}: `, 'm'), name)
  const needed = [...compose.matchAll(/\$\{([A-Z_]+):\?/g)].map(match => match[1] ?? '')
  t.ok(needed.length > 0)
  const listed = new Set(readEntries(readFileSync(join(ROOT, '.env.example'), 'utf8')).map(({ name }) => name))
  for (const name of needed) t.ok(listed.has(name), `${name} is needed, so .env.example explains it`)
})

t.test('with nothing set, everything is embedded and only this machine is the developer', async t => {
  const config = readConfig({})
  t.match(config, { OBJECT_STORE: 'fs', DATA_DIR: './data', HOST: '127.0.0.1', PORT: 4000, DATABASE_URL: undefined })
  t.match(config, { production: false, developer: true, trustAdminHeader: true, loopback: true })
  t.ok(Object.isFrozen(config))
})

t.test('every fault is named at once, one a line', async t => {
  const env = { PORT: '70000', NODE_ENV: 'staging', S3_ENDPOINT: 'ftp://store', S3_FORCE_PATH_STYLE: 'yes', STAGING_TTL_HOURS: '0', SCOPE_UPLOAD: 'two words' }
  const faults = faultsOf(env)
  for (const name of Object.keys(env)) t.equal(faults.filter(fault => fault.startsWith(`${name} must be`)).length, 1, name)
  t.throws(() => readConfig(env), { name: 'ConfigError', message: /PORT must be[^]*NODE_ENV must be one of development, test, production, not 'staging'/ })
})

t.test('a value that is wrong is one fault, whatever it is of, and what hangs together with it is looked at when it is right', async t => {
  // of what takes any text there may be none, or one of a group that is not whole
  for (const name of Object.keys(variables)) t.ok(faultsOf({ [name]: '\0 wrong' }).filter(fault => fault.startsWith(`${name} `)).length <= 1, name)
  t.same(faultsOf({ OBJECT_STORE: 'gcs', S3_BUCKET: 'b', ROLES: 'gpu-node,all' }).map(fault => fault.split(' ')[0]), ['OBJECT_STORE', 'ROLES'])
  t.same(faultsOf({ NODE_ENV: 'production', ADMIN_TOKEN: 'too short' }).map(fault => fault.split(' ')[0]), ['ADMIN_TOKEN'])
})

t.test('an empty value counts as unset', async t => {
  t.equal(readConfig({ PORT: '' }).PORT, 4000)
  t.equal(readConfig({ ADMIN_TOKEN: '' }).ADMIN_TOKEN, undefined)
  t.equal(readConfig({ MAX_OBJECT_SIZE_BYTES: '' }).MAX_OBJECT_SIZE_BYTES, 209_715_200)
})

t.test('whole numbers are plain decimal digits within their bounds', async t => {
  for (const value of [' 5', '5 ', '1e3', '0x10', '-1', '+5', '5.0', '٥', '1_000', 'Infinity', 'NaN', '99999999999999999']) {
    t.match(faultsOf({ MAX_OBJECT_SIZE_BYTES: value })[0], `MAX_OBJECT_SIZE_BYTES must be a whole number from 1 to`, value)
  }
  t.equal(faultsOf({ MAX_OBJECT_SIZE_BYTES: '0' }).length, 1)
  t.equal(readConfig({ MAX_OBJECT_SIZE_BYTES: '1' }).MAX_OBJECT_SIZE_BYTES, 1)
  t.equal(readConfig({ PORT: '0' }).PORT, 0)
  t.equal(readConfig({ PORT: '65535' }).PORT, 65_535)
  t.equal(faultsOf({ PORT: '65536' }).length, 1)
})

t.test('hours may have decimals, and nothing else a number could be', async t => {
  t.equal(readConfig({ STAGING_TTL_HOURS: '0.001' }).STAGING_TTL_HOURS, 0.001)
  for (const value of ['0', '0.0', '.5', '1.', '1e3', '-1', ' 1']) t.match(faultsOf({ STAGING_TTL_HOURS: value })[0], 'STAGING_TTL_HOURS must be', value)
})

t.test('proxies are a hop count or a list of ranges, origins are origins', async t => {
  t.equal(readConfig({ TRUST_PROXY: '2' }).TRUST_PROXY, 2)
  t.same(readConfig({ TRUST_PROXY: '10.0.0.0/8, ::1' }).TRUST_PROXY, ['10.0.0.0/8', '::1'])
  t.match(faultsOf({ TRUST_PROXY: 'true' })[0], 'TRUST_PROXY lists')
  t.same(readConfig({ CORS_ORIGIN: 'https://a.example, http://localhost:3000' }).CORS_ORIGIN, ['https://a.example', 'http://localhost:3000'])
  for (const value of ['*', 'https://a.example/', 'a.example']) t.match(faultsOf({ CORS_ORIGIN: value })[0], 'CORS_ORIGIN lists', value)
})

t.test('a wrong DATABASE_URL is named without repeating the password in it', async t => {
  const faults = faultsOf({ DATABASE_URL: 'mysql://user:hunter2@host/db' })
  t.match(faults[0], 'DATABASE_URL must be a postgres:// address')
  t.notMatch(faults.join(), 'hunter2')
})

t.test('the S3 group is whole or absent', async t => {
  t.same(faultsOf(S3), [])
  t.same(faultsOf({ OBJECT_STORE: 's3' }).map(fault => fault.split(' ')[0]), ['S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY'])
  t.match(faultsOf({ ...S3, S3_SECRET_ACCESS_KEY: '' }), ['S3_SECRET_ACCESS_KEY is missing: OBJECT_STORE=s3 needs it'])
  t.match(faultsOf({ S3_BUCKET: 'bucket' }), [/^S3_BUCKET is set, but OBJECT_STORE is fs/])
})

t.test('production needs an administrator and refuses the insecure switch', async t => {
  t.same(faultsOf(PRODUCTION), [])
  t.match(faultsOf({ NODE_ENV: 'production' }), [/^ADMIN_TOKEN is missing/])
  t.same(faultsOf({ NODE_ENV: 'production', TRUST_ADMIN_HEADER: 'true' }), [], 'a proxy in front may be the one who knows the administrator')
  t.match(faultsOf({ ...PRODUCTION, ADMIN_TOKEN: 'fifteen-letters' }), ['ADMIN_TOKEN is shorter than 16 characters'])
  t.match(faultsOf({ ...PRODUCTION, EXT_BUNDLES_ALLOW_INSECURE: 'true' }), ['EXT_BUNDLES_ALLOW_INSECURE is refused in production'])
  t.equal(readConfig({ EXT_BUNDLES_ALLOW_INSECURE: 'true' }).EXT_BUNDLES_ALLOW_INSECURE, true, 'outside production it is a choice')
})

t.test('an admin token that no Authorization header can carry is refused', async t => {
  for (const ADMIN_TOKEN of ['two words of a sentence', ' leads-with-a-blank', 'ends-with-a-newline\n', 'tab\tin-the-middle', 'ümlaut-in-the-token', 'a=b-in-the-middle-x', 'comma,in-the-middle', '"quoted-with-quotes"', '=starts-with-equals']) {
    const faults = faultsOf({ ADMIN_TOKEN })
    t.equal(faults.length, 1, ADMIN_TOKEN)
    t.match(faults[0], /^ADMIN_TOKEN must consist of letters, digits and /)
    t.notOk(faults.join().includes(ADMIN_TOKEN), 'the message does not repeat it')
  }
  for (const ADMIN_TOKEN of ['abcDEF0123456789', 'a-b.c_d~e+f/g', 'cGFkZGVkIGJhc2U2NA==']) t.same(faultsOf({ ADMIN_TOKEN }), [], ADMIN_TOKEN)
})

t.test('a short admin token will do only where nobody else can connect', async t => {
  t.same(faultsOf({ ADMIN_TOKEN: 'short' }), [])
  t.same(faultsOf({ ADMIN_TOKEN: 'short', HOST: '0.0.0.0' }), ['ADMIN_TOKEN is shorter than 16 characters'])
  t.same(faultsOf({ ADMIN_TOKEN: 'sixteen-letters-', HOST: '0.0.0.0' }), [])
})

t.test('placeholders are refused in production only', async t => {
  const env = { ADMIN_TOKEN: 'REPLACE-ME-with-a-long-secret', PUBLIC_BASE_URL: 'https://upload.example.invalid/x' }
  t.same(faultsOf(env), [])
  t.same(faultsOf({ ...env, NODE_ENV: 'production' }), ['PUBLIC_BASE_URL still holds a placeholder', 'ADMIN_TOKEN still holds a placeholder'])
  t.same(faultsOf({ ...PRODUCTION, ...S3, S3_ENDPOINT: 'http://store.invalid:9000' }), ['S3_ENDPOINT still holds a placeholder'])
  for (const [name, value] of [
    ['CORS_ORIGIN', 'https://b.example,https://a.invalid'], ['CORS_ORIGIN', 'https://a.invalid, https://b.example'], ['HOST', 'x.invalid'],
    ['DATABASE_URL', 'postgres://user:pass@DB.INVALID:5432/penstock'], ['PUBLIC_BASE_URL', 'https://upload.invalid./']
  ] as const) t.same(faultsOf({ ...PRODUCTION, [name]: value }), [`${name} still holds a placeholder`], value)
  t.same(faultsOf({ ...PRODUCTION, CORS_ORIGIN: 'https://invalid.example', HOST: '::', DATA_DIR: './invalid' }), [], 'a host of that name elsewhere')
})

t.test('production trusts no admin header, and an admin token ends the developer', async t => {
  t.match(readConfig(PRODUCTION), { production: true, developer: false, trustAdminHeader: false })
  t.match(readConfig({ ...PRODUCTION, TRUST_ADMIN_HEADER: 'true' }), { trustAdminHeader: true })
  t.match(readConfig({ ADMIN_TOKEN: 'x' }), { developer: false, trustAdminHeader: true })
  t.match(readConfig({ ADMIN_TOKEN: 'sixteen-letters-', HOST: '0.0.0.0' }), { trustAdminHeader: false })
  t.match(readConfig({ HOST: '0.0.0.0' }), { trustAdminHeader: true })
  t.match(readConfig({ TRUST_ADMIN_HEADER: 'false' }), { developer: true, trustAdminHeader: false })
})

t.test('only addresses of this machine count as loopback', async t => {
  for (const [host, loopback] of [['127.0.0.1', true], ['127.9.9.9', true], ['::1', true], ['localhost', true], ['0.0.0.0', false], ['::', false], ['127.0.0.1.example', false]] as const) {
    t.equal(readConfig({ HOST: host }).loopback, loopback, host)
  }
})

t.test('workers get paths and GPU settings of the environment, and no secret', async t => {
  const { workerEnvironment } = readConfig({ ...S3, PATH: '/bin', CUDA_VISIBLE_DEVICES: '1', NODE_OPTIONS: '--inspect', ADMIN_TOKEN: 'a-long-enough-token', AWS_SECRET_ACCESS_KEY: 'x' })
  t.same(workerEnvironment, { PATH: '/bin', CUDA_VISIBLE_DEVICES: '1' })
})

t.test('an address of Redis is one, without options, and its password is in no message', async t => {
  for (const good of ['redis://127.0.0.1', 'redis://:hunter2@redis:6379/1', 'rediss://user:p%40ss@[::1]:6380/15']) t.same(faultsOf({ REDIS_URL: good }), [])
  for (const bad of ['127.0.0.1:6379', 'http://hunter2@host', 'redis://', 'redis://:hunter2@host/name', 'redis://:hunter2@host/1/2', 'redis://:hunter2@host?family=6', 'redis://:hunter2@host#x', 'redis://:hunter2%zz@host', '/tmp/redis.sock']) {
    const [fault = '', ...more] = faultsOf({ REDIS_URL: bad })
    t.match(fault, /^REDIS_URL must be a redis:\/\/ or rediss:\/\/ address/, bad)
    t.notMatch(fault, /hunter2/)
    t.same(more, [])
  }
})

t.test('session tokens need a Redis to be in, and are a credential scheme', async t => {
  t.same(faultsOf({ REDIS_SESSION_SECRET: 'salt' }), ['REDIS_URL is missing: REDIS_SESSION_SECRET needs it'])
  t.match(readConfig({ REDIS_SESSION_SECRET: 'salt', REDIS_URL: 'redis://127.0.0.1' }), { developer: false, REDIS_SESSION_PREFIX: ':1:', REDIS_SESSION_ITERATIONS: 1 })
  t.match(readConfig({ REDIS_URL: 'redis://127.0.0.1' }), { developer: true })
})

t.test('an issuer needs an audience, and what belongs to an issuer needs one', async t => {
  t.match(faultsOf({ OIDC_ISSUER: 'https://id.example.com' }), [/^OIDC_AUDIENCE is missing/])
  t.same(faultsOf({ OIDC_JWKS_URL: 'https://id.example.com/keys', OIDC_TENANT_ID: 'x' }), ['OIDC_JWKS_URL is set, but OIDC_ISSUER is missing', 'OIDC_TENANT_ID is set, but OIDC_ISSUER is missing'])
  t.match(faultsOf({ OIDC_ISSUER: 'id.example.com', OIDC_AUDIENCE: 'x' }), [/^OIDC_ISSUER must be an http or https address/])
  t.equal(readConfig({ OIDC_ISSUER: 'https://id.example.com/', OIDC_AUDIENCE: 'x' }).OIDC_ISSUER, 'https://id.example.com/', 'a slash at its end counts')
  t.match(faultsOf({ OIDC_CLAIM_ACCOUNT: 'a"b', OIDC_CLAIM_TENANT: 'ä' }), [/^OIDC_CLAIM_TENANT must be/, /^OIDC_CLAIM_ACCOUNT must be/])
})

t.test('with a credential scheme there is no developer, and an issuer is an admin credential', async t => {
  const issuer = { OIDC_ISSUER: 'https://id.example.com', OIDC_AUDIENCE: 'x' }
  for (const env of [issuer, { GUEST_TOKEN_SECRET: 'x'.repeat(32) }, { ADMIN_TOKEN: 'x'.repeat(16) }]) {
    const name = Object.keys(env).join()
    t.match(readConfig(env), { developer: false, trustAdminHeader: true }, name)
    t.match(readConfig({ ...env, HOST: '0.0.0.0' }), { developer: false, trustAdminHeader: false }, name)
  }
  t.match(readConfig({ NODE_ENV: 'production', ...issuer }), { production: true, developer: false, trustAdminHeader: false })
  t.match(faultsOf({ NODE_ENV: 'production', GUEST_TOKEN_SECRET: 'x'.repeat(32) }), [/^ADMIN_TOKEN is missing/])
})

t.test('secrets that are too short, or the same, are refused without being repeated', async t => {
  t.match(faultsOf({ GUEST_TOKEN_SECRET: 'hush'.repeat(7) }), [/^GUEST_TOKEN_SECRET must have at least 32 characters$/])
  t.match(faultsOf({ AI_INTERNAL_TOKEN: 'hush' }), [/^AI_INTERNAL_TOKEN must have at least 16 characters$/])
  t.match(faultsOf({ AI_INTERNAL_TOKEN: 'h ush' }), [/^AI_INTERNAL_TOKEN must consist of/])
  t.match(faultsOf({ AI_INTERNAL_TOKEN: 'hush'.repeat(4), ADMIN_TOKEN: 'hush'.repeat(4) }), [/^AI_INTERNAL_TOKEN equals ADMIN_TOKEN/])
})

t.test('models run at an inference server, or at a GPU, or at a GPU node', async t => {
  const url = 'http://triton:8000/models'
  t.match(readConfig({ INFER_URL: `${url}/`, INFER_TOKEN: 'token' }), { INFER_URL: url, INFER_TOKEN: 'token' })
  t.same(faultsOf({ INFER_URL: url, ROLES: 'gpu-node', DEVICE: 'cpu' }), [])
  t.match(faultsOf({ INFER_TOKEN: 'token' }), [/^INFER_TOKEN is set, but INFER_URL is missing$/])
  t.match(faultsOf({ INFER_URL: url, INFER_TOKEN: 'a token' }), [/^INFER_TOKEN must consist of/])
  t.match(faultsOf({ INFER_URL: url, DEVICE: 'cuda' }), [/^DEVICE is cuda, but/])
  t.match(faultsOf({ INFER_URL: url, AI_TRANSFER_MODE: 'remote', AI_SERVICE_URL: 'http://node' }), [/^INFER_URL and AI_TRANSFER_MODE=remote exclude/])
  t.match(faultsOf({ INFER_URL: 'http://us/', PUBLIC_BASE_URL: 'http://us' }), [/^INFER_URL is PUBLIC_BASE_URL/])
  for (const wrong of ['triton:8000', 'grpc://triton', 'http://a:b@triton', 'http://triton?a=b']) t.match(faultsOf({ INFER_URL: wrong }), [/^INFER_URL must be/], wrong)
})

t.test('the settings of promote are all there or none, and the gateway is https in production', async t => {
  const group = {
    OIDC_TOKEN_URL: 'https://id.example.com/token/?realm=main', OIDC_CLIENT_ID: 'penstock', OIDC_CLIENT_SECRET: 'secret',
    FILE_GATEWAY_BASE_URL: 'https://files.example.com/gateway/', FILE_GATEWAY_AUDIENCE: 'files'
  }
  t.match(readConfig(group), { ...group, FILE_GATEWAY_BASE_URL: 'https://files.example.com/gateway', PROMOTE_TIMEOUT_MS: 300_000 }, 'a slash at the end of the token endpoint counts')
  t.match(readConfig({ ...PRODUCTION, ...group }), { production: true })
  const names = Object.keys(group)
  for (const name of names) {
    const [others, alone] = [{ ...group, [name]: '' }, { [name]: group[name as keyof typeof group] }]
    t.match(faultsOf(others), [new RegExp(`^${name} is missing`)], `without ${name}`)
    t.same(faultsOf(alone).map(fault => fault.split(' ')[0]), names.filter(each => each !== name), `${name} alone`)
  }
  t.same(faultsOf({ PROMOTE_TIMEOUT_MS: '1000' }), [])
  t.match(faultsOf({ ...PRODUCTION, ...group, FILE_GATEWAY_BASE_URL: 'http://files.example.com' }), [/^FILE_GATEWAY_BASE_URL must be an https address in production/])
  t.same(faultsOf({ ...group, FILE_GATEWAY_BASE_URL: 'http://files.example.com' }), [])
  for (const url of ['files.example.com', 'ftp://files.example.com', 'https://files.example.com/?a=b', 'https://files.example.com/#a', 'https://a:b@files.example.com']) {
    t.match(faultsOf({ ...group, FILE_GATEWAY_BASE_URL: url }), [/^FILE_GATEWAY_BASE_URL must be/], url)
  }
  for (const url of ['id.example.com', 'https://id.example.com/#a', 'https://a:b@id.example.com']) t.match(faultsOf({ ...group, OIDC_TOKEN_URL: url }), [/^OIDC_TOKEN_URL must be/], url)
})

t.test('two machines: each half of a pair names the other, and a node in production is not open', async t => {
  const remote = { AI_TRANSFER_MODE: 'remote', AI_SERVICE_URL: 'http://gpu:4000' }
  const node = { ROLES: 'gpu-node' }
  t.match(readConfig(remote), { AI_TRANSFER_MODE: 'remote', AI_SERVICE_URL: 'http://gpu:4000' })
  t.equal(readConfig({ ...remote, AI_SERVICE_URL: 'https://gpu:443/' }).AI_SERVICE_URL, 'https://gpu')
  t.match(readConfig(node), { ROLES: ['gpu-node'], WORK_TTL_MINUTES: 60, MAX_FILE_SIZE_MB: 500, OBJECT_PATH_PREFIXES: ['media/', 'work/'] })
  t.match(faultsOf({ AI_TRANSFER_MODE: 'remote' }), [/^AI_SERVICE_URL is missing/])
  t.match(faultsOf({ AI_SERVICE_URL: 'http://gpu:4000' }), [/^AI_SERVICE_URL is set/])
  t.match(faultsOf({ AI_TRANSFER_MODE: 'both' }), [/^AI_TRANSFER_MODE must be one of path, remote/])
  for (const url of ['gpu:4000', 'http://gpu:4000/base', 'http://user:secret@gpu:4000', 'http://gpu?x', 'ftp://gpu', 'http://']) {
    const faults = faultsOf({ ...remote, AI_SERVICE_URL: url })
    t.match(faults, [/^AI_SERVICE_URL must be/], url)
    t.notMatch(faults.join(), 'secret')
  }
  t.match(faultsOf({ ...remote, ...node }), [/exclude each other/])
  t.match(faultsOf({ ...node, OBJECT_STORE: 'memory' }), [/^ROLES=gpu-node needs OBJECT_STORE=fs or s3/])
  t.match(faultsOf({ ...PRODUCTION, ...node }), [/^AI_INTERNAL_TOKEN is missing/])
  t.match(faultsOf({ ...PRODUCTION, ...node, AI_INTERNAL_TOKEN: '' }), [/^AI_INTERNAL_TOKEN is missing/])
  t.same(faultsOf({ ...PRODUCTION, ...node, AI_INTERNAL_TOKEN: 'a-token-of-the-nodes' }), [])
  const alone = { NODE_ENV: 'production', ...node, AI_INTERNAL_TOKEN: 'a-token-of-the-nodes' }
  t.same(faultsOf(alone), [], 'nobody but other nodes has anything to do there')
  t.same(faultsOf({ ...alone, ROLES: 'worker,gpu-node' }), [])
  t.match(faultsOf({ ...alone, AI_INTERNAL_TOKEN: '' }), [/^AI_INTERNAL_TOKEN is missing/])
  t.match(readConfig({ ...alone, NODE_ENV: '', HOST: '0.0.0.0' }), { developer: false, trustAdminHeader: false }, 'nor is anybody else let in elsewhere')
  t.match(readConfig({ ...alone, NODE_ENV: '', ROLES: 'api,gpu-node' }), { developer: true }, 'the token of nodes says nothing of other callers')
  for (const ROLES of ['api,gpu-node', 'worker', 'api']) t.match(faultsOf({ ...alone, ROLES }), [/^ADMIN_TOKEN is missing/], ROLES)
  t.match(faultsOf({ ...node, AI_INTERNAL_TOKEN: 'short' }), [/^AI_INTERNAL_TOKEN must have at least 16/])
  for (const name of ['WORK_UPLOAD_DIR', 'WORK_RESULT_DIR']) {
    const holds = (folder: string, more = {}): readonly string[] => faultsOf({ ...node, DATA_DIR: '/data/penstock', MODELS_DIR: '/models', MODEL_CACHE_DIR: '/cache/models', [name]: folder, ...more })
    for (const folder of ['/', '/data', '/data/penstock', '/data/penstock/../penstock/']) t.match(holds(folder), [`${name} holds DATA_DIR: files there would be removed after WORK_TTL_MINUTES`], folder)
    t.match(holds('.', { DATA_DIR: 'data' }), [`${name} holds DATA_DIR`])
    t.match(holds('/models'), [`${name} holds MODELS_DIR`])
    t.match(holds('/cache'), [`${name} holds MODEL_CACHE_DIR`])
    t.match(holds('/models/x'), [`${name} lies in /models`])
    t.match(holds('/data/penstock/objects/media'), [`${name} lies in /data/penstock/objects`])
    for (const folder of ['/work', '/data/penstock/inputs', '/data/penstock-inputs', '/data/..inputs']) t.same(holds(folder), [], folder)
    t.same(holds('/data', { ROLES: 'api' }), [], 'nobody removes anything there')
  }
  for (const prefixes of ['media', '/media/', 'media/../', 'sha256/', '.x/', 'a//b/', '../']) t.match(faultsOf({ OBJECT_PATH_PREFIXES: prefixes }), [/^OBJECT_PATH_PREFIXES lists/], prefixes)
})
