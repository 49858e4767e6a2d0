/**
 * Every kind of caller at once, each with the headers that it sends: at a service where every scheme of credentials is
 * configured, and (the developer) at one where none is.
 */
import { pbkdf2Sync } from 'node:crypto'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import type { Test } from 'tap'
import { startIssuer } from './jwks.ts'
import { redisOrSkip } from './redis.ts'
import { seederOf, type Seeder } from './seed.ts'
import { nowSeconds, signGuest } from './sign-token.ts'
import { ADMIN, startApp, type StartedApp } from './start-app.ts'

export interface TestService extends StartedApp { seeder: Seeder }

export interface Caller { at: TestService, headers: Record<string, string> }

export const CALLERS = {
  none: 'sends no credential',
  bad: 'sends a bearer token that nobody knows',
  old: 'alice, with a JWT that is over',
  ten: 'alice, with a JWT of another tenant',
  adm: 'the administrator, with ADMIN_TOKEN',
  hdr: 'the administrator, with x-alga-admin',
  root: 'a user whose JWT has the scope of administrators',
  svc: 'the client app of acme itself, every other scope',
  bare: 'alice, with a JWT without scopes',
  ali: 'alice of acme through app, every other scope',
  bob: 'bob of acme through app, every other scope',
  car: 'carol of umbrella through app, every other scope',
  key: 'alice, with an API token of every other scope',
  ses: 'alice, with a session in Redis (where there is one)',
  gst: 'a guest of acme',
  pub: 'a public form of acme',
  node: 'a node, with the token of nodes',
  dev: 'sends no credential to a service that knows none'
} as const

export type CallerName = keyof typeof CALLERS

export const SCOPES = 'penstock:job.read penstock:job.write penstock:upload'
const ADMIN_TOKEN = 'a-token-of-the-admin'
const GUEST_TOKEN_SECRET = 'a-secret-of-the-guests-of-32-byte'
const AI_INTERNAL_TOKEN = 'a-token-of-the-nodes'
const REDIS_SESSION_SECRET = 'a-salt-of-sessions'
const TENANT = 'tenant-1'

export interface Callers {
  services: TestService[]
  callers: Partial<Record<CallerName, Caller>>
}

const UNLIMITED = { API_V1_RATE_LIMIT_MAX: '0', LEGACY_ROUTES: 'true', INFER_TIMEOUT_MS: '10' }

/** GPU nodes too, which have a model. */
async function asNode(t: Test): Promise<Record<string, string>> {
  const folder = await mkdtemp(join(tmpdir(), 'penstock-models-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await symlink(join(import.meta.dirname, '../../src/inference/models/color-classes'), join(folder, 'color-classes'))
  return { ROLES: 'api,gpu-node', WORKERS: '1', DEVICE: 'cpu', MODELS_DIR: folder }
}

/** Where there is no Redis, nobody has a session. */
export async function startCallers(t: Test): Promise<Callers> {
  const unlimited = { ...UNLIMITED, ...await asNode(t) }
  const issuer = await startIssuer(t)
  const redis = await redisOrSkip(t)
  const full = await serve(t, {
    ...unlimited, ...issuer.env, ADMIN_TOKEN, GUEST_TOKEN_SECRET, AI_INTERNAL_TOKEN, OIDC_TENANT_ID: TENANT,
    ...(redis && { REDIS_URL: redis.url, REDIS_SESSION_SECRET })
  })
  const open = await serve(t, unlimited)
  const at = full
  const user = async (claims: Record<string, unknown>): Promise<Caller> => ({ at, headers: await issuer.bearer({ tenant_id: TENANT, scope: SCOPES, ...claims }) })
  return {
    services: [full, open],
    callers: {
      none: { at, headers: {} },
      bad: { at, headers: bearer('a-token-that-nobody-knows') },
      old: await user({ exp: nowSeconds() - 3600 }),
      ten: await user({ tenant_id: 'tenant-2' }),
      adm: { at, headers: bearer(ADMIN_TOKEN) },
      hdr: { at, headers: ADMIN },
      root: await user({ sub: 'root', scope: 'penstock:admin' }),
      svc: await user({ sub: 'app' }),
      bare: await user({ scope: undefined }),
      ali: await user({}),
      bob: await user({ sub: 'bob' }),
      car: await user({ sub: 'carol', account_id: 'umbrella' }),
      key: { at, headers: bearer(await minted(at, { kind: 'api', account: 'acme', subject: 'alice', scopes: SCOPES.split(' ') })) },
      ...(redis && { ses: { at, headers: bearer(await session(redis.url, { user_id: 'alice', account_id: 'acme' })) } }),
      gst: { at, headers: { 'x-guest-authorization': await signGuest(GUEST_TOKEN_SECRET) } },
      pub: { at, headers: { 'x-public-authorization': `Token ${await minted(at, { kind: 'public', account: 'acme' })}` } },
      node: { at, headers: bearer(AI_INTERNAL_TOKEN) },
      dev: { at: open, headers: {} }
    }
  }
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` }
}

async function minted(at: TestService, token: Record<string, unknown>): Promise<string> {
  const { status, body } = await at.post('/admin/tokens', token)
  if (status !== 201) throw new Error(JSON.stringify(body))
  return (body as { token: string }).token
}

/** As the service that keeps sessions writes them. */
async function session(url: string, value: Record<string, unknown>): Promise<string> {
  const token = 'a-session-of-somebody'
  const redis = new Redis(url)
  await redis.set(`:1:${pbkdf2Sync(token, REDIS_SESSION_SECRET, 1, 32, 'sha256').toString('hex')}`, JSON.stringify(value))
  redis.disconnect()
  return token
}

async function serve(t: Test, env: Record<string, string>): Promise<TestService> {
  const app = await startApp(t, env)
  const seeder = seederOf(t, app)
  await seeder.model('identity')
  await seeder.model('resize', 'image-to-image')
  return { ...app, seeder }
}
