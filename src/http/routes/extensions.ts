/** The extension registry, read only: rows are made by finalizing bundles. */
import type { FastifyInstance, onRequestAsyncHookHandler } from 'fastify'
import { Type, type Static } from 'typebox'
import { PenstockError } from '../../errors.ts'
import { PAGE_DEFAULT, PAGE_MAX } from '../../limits.ts'
import type { ExtensionRecord, ExtensionRecords, VersionRecord } from '../../records/port.ts'
import { page } from '../cursor.ts'
import { adminSecurity } from '../openapi.ts'
import { refuseOtherMethods } from '../method-not-allowed.ts'

const PageQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_DEFAULT }),
  cursor: Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: 'next_cursor of the page before' }))
})
const Params = Type.Object({ id: Type.String({ maxLength: 128 }) })
const Time = Type.String({ format: 'date-time' })
const sha256 = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'
const NextCursor = Type.Union([Type.String(), Type.Null()])

export const Extensions = Type.Object({
  items: Type.Array(Type.Object({
    id: Type.String(), name: Type.String(), publisher: Type.Optional(Type.String()), latest_version: Type.String(), created_at: Time
  })),
  next_cursor: NextCursor
}, { description: 'one page', examples: [{
  items: [{ id: '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11', name: 'invoice-tools', publisher: 'acme', latest_version: '1.2.3', created_at: '2026-01-31T12:00:00.000Z' }],
  next_cursor: null
}] })
export const Versions = Type.Object({
  items: Type.Array(Type.Object({
    id: Type.String(), version: Type.String(), content_hash: Type.String(), canonical_key: Type.String(),
    manifest: Type.Unknown(), signature: Type.Unknown(), created_at: Time
  })),
  next_cursor: NextCursor
}, { description: 'one page', examples: [{
  items: [{
    id: 'c1a3a1f0-5b1d-4a52-8a5e-6f5a0d3c9e22', version: '1.2.3', content_hash: sha256, canonical_key: `sha256/${sha256}/bundle.tar.zst`,
    manifest: { name: 'invoice-tools', publisher: 'acme', version: '1.2.3', runtime: 'wasm-js@1' },
    signature: { required: false, verified: false }, created_at: '2026-01-31T12:00:00.000Z'
  }],
  next_cursor: null
}] })

export async function extensionRoutes(app: FastifyInstance, { extensions, guard }: { extensions: ExtensionRecords, guard: onRequestAsyncHookHandler }): Promise<void> {
  app.get<{ Querystring: Static<typeof PageQuery> }>('/extensions', {
    onRequest: guard,
    config: { errors: ['RECORDS_UNAVAILABLE'] },
    schema: { tags: ['extensions'], security: adminSecurity, summary: 'Extensions, newest first', querystring: PageQuery, response: { 200: Extensions } }
  }, async request => {
    const { rows, next_cursor } = await page(request.query, query => extensions.list(query))
    return { items: rows.map(showExtension), next_cursor }
  })

  app.get<{ Params: Static<typeof Params>, Querystring: Static<typeof PageQuery> }>('/extensions/:id/versions', {
    onRequest: guard,
    config: { errors: ['EXTENSION_NOT_FOUND', 'RECORDS_UNAVAILABLE'] },
    schema: { tags: ['extensions'], security: adminSecurity, summary: 'Versions of an extension, newest first', params: Params, querystring: PageQuery, response: { 200: Versions } }
  }, async request => {
    const { id } = request.params
    if (await extensions.get(id) === undefined) throw new PenstockError('EXTENSION_NOT_FOUND')
    const { rows, next_cursor } = await page(request.query, query => extensions.listVersions(id, query))
    return { items: rows.map(showVersion), next_cursor }
  })
  refuseOtherMethods(app)
}

function showExtension({ id, name, publisher, latestVersion, createdAt }: ExtensionRecord) {
  return { id, name, ...(publisher === null ? {} : { publisher }), latest_version: latestVersion, created_at: new Date(createdAt).toISOString() }
}

function showVersion({ id, version, contentHash, canonicalKey, manifest, signature, createdAt }: VersionRecord) {
  return { id, version, content_hash: contentHash, canonical_key: canonicalKey, manifest, signature, created_at: new Date(createdAt).toISOString() }
}
