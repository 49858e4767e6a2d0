/** Bodies and answers of the token routes. A response schema is also the list of what may leave: only NewToken has a value. */
import { Type, type Static } from 'typebox'
import { IDENTITY_MAX_CHARACTERS, PAGE_DEFAULT, PAGE_MAX, SCOPE_MAX_CHARACTERS, TOKEN_LIFETIME_MAX_SECONDS, TOKEN_SCOPES_MAX } from '../../limits.ts'

const KINDS = ['api', 'public', 'guest'] as const

/** Whom a token stands for. The same characters as in the claims of a JWT. */
const Name = (description: string) => Type.String({ minLength: 1, maxLength: IDENTITY_MAX_CHARACTERS, pattern: String.raw`^[^\p{C}]+$`, description })
/** RFC 6749, section 3.3. */
const Scope = Type.String({ pattern: String.raw`^[\x21\x23-\x5b\x5d-\x7e]{1,${SCOPE_MAX_CHARACTERS}}$` })
const Time = Type.String({ format: 'date-time' })
const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) => Type.Union([type, Type.Null()])

export const TokenBody = Type.Object({
  kind: Type.Enum(KINDS, { description: 'api: a program that speaks for a user; public: a public form of an account; guest: someone who is let in for a short while' }),
  account: Name('that it belongs to'),
  subject: Type.Optional(Name('whose it is: required of api and guest, not known of public')),
  scopes: Type.Optional(Type.Array(Scope, { maxItems: TOKEN_SCOPES_MAX, uniqueItems: true, description: 'of api alone; none without it, and never that of administrators' })),
  expires_in: Type.Optional(Type.Integer({ minimum: 1, maximum: TOKEN_LIFETIME_MAX_SECONDS, description: 'seconds. Without it until it is removed; a guest an hour, and a day at most' }))
}, {
  additionalProperties: false,
  examples: [
    { kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:upload', 'penstock:job.read', 'penstock:job.write'], expires_in: 2_592_000 },
    { kind: 'public', account: 'acme' },
    { kind: 'guest', account: 'acme', subject: 'guest-1', expires_in: 3600 }
  ]
})
export type TokenBody = Static<typeof TokenBody>

const facts = {
  id: Type.String(),
  kind: Type.Enum(KINDS),
  account: Type.String(),
  subject: Nullable(Type.String()),
  scopes: Type.Array(Type.String()),
  created_at: Time,
  expires_at: Nullable(Type.String({ format: 'date-time', description: 'null: until it is removed' }))
}
const Facts = Type.Object(facts)
export type TokenFacts = Static<typeof Facts>

const ofAda: TokenFacts = {
  id: '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11', kind: 'api', account: 'acme', subject: 'ada', scopes: ['penstock:upload'],
  created_at: '2026-01-31T12:00:00.000Z', expires_at: '2026-03-02T12:00:00.000Z'
}
const ofForm: TokenFacts = { ...ofAda, id: 'c1a3a1f0-5b1d-4a52-8a5e-6f5a0d3c9e22', kind: 'public', subject: null, scopes: [], expires_at: null }

export const NewToken = Type.Object({ ...facts, token: Type.String({ description: 'the value: it is shown this once' }) }, {
  description: 'the token', examples: [{ ...ofAda, token: 'pst_EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-ab' }]
})

export const Tokens = Type.Object({ items: Type.Array(Facts), next_cursor: Nullable(Type.String()) }, {
  description: 'one page, without values', examples: [{ items: [ofAda, ofForm], next_cursor: null }]
})

export const ListQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_DEFAULT }),
  cursor: Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: 'next_cursor of the page before' }))
})

export const TokenParams = Type.Object({ id: Type.String({ maxLength: 128 }) })
export type TokenParams = Static<typeof TokenParams>

export const NoToken = Type.Null({ description: 'done' })
