/**
 * Credentials that the administrator gives out. A value is shown once, in the answer that makes it, and is nowhere
 * afterwards: lists show whom a token stands for, and its id, by which it is removed.
 *
 * Tokens of guests carry their own proof and are in no table: they are neither listed nor removed, and therefore live a day
 * at most.
 */
import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import type { Static } from 'typebox'
import type { Config } from '../../config.ts'
import { PenstockError } from '../../errors.ts'
import { callerOf } from '../../identity/guards.ts'
import { mintGuestToken } from '../../identity/guest-tokens.ts'
import { mintToken } from '../../identity/minted-tokens.ts'
import { actorOf } from '../../identity/principal.ts'
import { GUEST_TOKEN_DEFAULT_SECONDS, GUEST_TOKEN_MAX_SECONDS, IDENTITY_MAX_CHARACTERS, TOKEN_BODY_MAX_BYTES } from '../../limits.ts'
import type { TokenRecord, TokenRecords } from '../../records/access-port.ts'
import { page } from '../cursor.ts'
import { invalidFields, type InvalidField } from '../error-translation.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'
import { adminSecurity } from '../openapi.ts'
import { ListQuery, NewToken, NoToken, TokenBody, TokenParams, Tokens, type TokenFacts } from './tokens-schemas.ts'

export interface TokenRoutesOptions {
  tokens: TokenRecords
  config: Pick<Config, 'GUEST_TOKEN_SECRET' | 'SCOPE_ADMIN'>
  guard: onRequestAsyncHookHandler
}

const tags = { tags: ['tokens'], security: adminSecurity }
const errors = ['INSUFFICIENT_SCOPE', 'RECORDS_UNAVAILABLE'] as const

export async function tokenRoutes(app: FastifyInstance, { tokens, config, guard }: TokenRoutesOptions): Promise<void> {
  app.addHook('onSend', async (_request, reply) => { void reply.header('cache-control', 'no-store') })

  app.post<{ Body: TokenBody }>('/admin/tokens', {
    onRequest: guard,
    bodyLimit: TOKEN_BODY_MAX_BYTES,
    config: { errors },
    schema: {
      ...tags, summary: 'Make a token', description: 'The answer is the only place where its value ever is.',
      body: TokenBody, response: { 201: NewToken }
    }
  }, async (request, reply) => {
    const { value, facts } = await mint(tokens, config, request.body)
    logged(request, 'created', { token_id: facts.id, kind: facts.kind, account: facts.account, subject: facts.subject, scopes: facts.scopes, expires_at: facts.expires_at })
    return reply.code(201).send({ ...facts, token: value })
  })

  app.get<{ Querystring: Static<typeof ListQuery> }>('/admin/tokens', {
    onRequest: guard,
    config: { errors },
    schema: {
      ...tags, summary: 'Tokens, newest first', description: 'Those that are over too, for a while. Tokens of guests are not kept.',
      querystring: ListQuery, response: { 200: Tokens }
    }
  }, async request => {
    const { rows, next_cursor } = await page(request.query, query => tokens.list(query))
    return { items: rows.map(factsOf), next_cursor }
  })

  app.delete<{ Params: TokenParams }>('/admin/tokens/:id', {
    onRequest: guard,
    config: { errors: [...errors, 'TOKEN_NOT_FOUND'] },
    schema: { ...tags, summary: 'Remove a token: it is refused from then on, by every node', params: TokenParams, response: { 204: NoToken } }
  }, async (request, reply) => {
    const id = tokenIdOf(request.params.id)
    // 204 would say that the token holds no more, which of one that is not here nobody knows
    if (!await tokens.remove(id)) throw new PenstockError('TOKEN_NOT_FOUND')
    logged(request, 'removed', { token_id: id })
    return reply.code(204).send()
  })
  refuseOtherMethods(app)
}

/** Who did what with which token, for whoever looks back. Never the value. */
function logged(request: FastifyRequest, what: 'created' | 'removed', fields: Record<string, unknown>): void {
  request.log.info({ action: `identity.token.${what}`, actor: actorOf(callerOf(request)), ...fields })
}

async function mint(tokens: TokenRecords, config: TokenRoutesOptions['config'], body: TokenBody): Promise<{ value: string, facts: TokenFacts }> {
  const faults = faultsOf(body, config)
  if (faults.length > 0) throw invalidFields(faults)
  const { kind, account, subject = null, scopes = [], expires_in: expiresInSeconds = null } = body
  if (kind === 'guest') return await mintForGuest(config.GUEST_TOKEN_SECRET!, account, subject!, expiresInSeconds ?? GUEST_TOKEN_DEFAULT_SECONDS)
  const { value, record } = await mintToken(tokens, { kind, account, subject, scopes, expiresInSeconds })
  return { value, facts: factsOf(record) }
}

async function mintForGuest(secret: string, account: string, subject: string, expiresInSeconds: number): Promise<{ value: string, facts: TokenFacts }> {
  const id = randomUUID()
  const { token, expiresAt } = await mintGuestToken(secret, { id, account, subject, expiresInSeconds })
  const lifetimeMs = expiresInSeconds * 1000
  return { value: token, facts: { id, kind: 'guest', account, subject, scopes: [], created_at: time(expiresAt - lifetimeMs), expires_at: time(expiresAt) } }
}

/** What a schema cannot say: which fields go with which kind. */
function faultsOf({ kind, account, subject, scopes, expires_in }: TokenBody, config: TokenRoutesOptions['config']): InvalidField[] {
  const faults: InvalidField[] = []
  const unless = (holds: boolean, field: keyof TokenBody, message: string) => { if (!holds) faults.push({ field, message }) }
  unless(kind !== 'guest' || config.GUEST_TOKEN_SECRET !== undefined, 'kind', 'cannot be guest: the service has no secret to sign it with (GUEST_TOKEN_SECRET)')
  unless(account.length <= IDENTITY_MAX_CHARACTERS, 'account', 'is too long')
  unless(kind === 'public' || subject !== undefined, 'subject', `is required of kind ${kind}`)
  unless(kind !== 'public' || subject === undefined, 'subject', 'is not known of kind public: it stands for the account alone')
  unless((subject ?? '').length <= IDENTITY_MAX_CHARACTERS, 'subject', 'is too long')
  unless(kind === 'api' || scopes === undefined, 'scopes', `are not known of kind ${kind}`)
  unless(scopes?.includes(config.SCOPE_ADMIN) !== true, 'scopes', `cannot have ${config.SCOPE_ADMIN}: these tokens are of users`)
  unless(kind !== 'guest' || (expires_in ?? 0) <= GUEST_TOKEN_MAX_SECONDS, 'expires_in', `must be <= ${GUEST_TOKEN_MAX_SECONDS} of kind guest`)
  return faults
}

/** @throws TOKEN_NOT_FOUND for what was never an id */
function tokenIdOf(id: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw new PenstockError('TOKEN_NOT_FOUND')
  return id.toLowerCase()
}

function factsOf({ id, kind, account, subject, scopes, createdAt, expiresAt }: TokenRecord): TokenFacts {
  return { id, kind, account, subject, scopes, created_at: time(createdAt), expires_at: expiresAt === null ? null : time(expiresAt) }
}

function time(ms: number): string {
  return new Date(ms).toISOString()
}
