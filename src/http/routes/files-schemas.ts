/** Bodies and answers of the file routes. A response schema is also the list of what may leave. */
import { Type, type Static } from 'typebox'
import {
  FILENAME_GIVEN_MAX_CHARACTERS, FILE_SEARCH_ROWS_MAX, IDENTITY_MAX_CHARACTERS, PAGE_DEFAULT, PAGE_MAX, SIGNED_URL_DEFAULT_SECONDS, SIGNED_URL_MAX_SECONDS
} from '../../limits.ts'
import type { FileAccess, FileRecord } from '../../records/jobs-port.ts'

const ACCESS = ['account', 'public', 'restricted'] as const satisfies FileAccess[]

const id = '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11'
const sha256 = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'
const NO_CONTROLS = String.raw`^[^\u0000-\u001f\u007f-\u009f]+$`
const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) => Type.Union([type, Type.Null()])
const Filename = Type.String({ maxLength: FILENAME_GIVEN_MAX_CHARACTERS, description: 'it is cleaned' })
const Access = Type.Enum(ACCESS, { description: 'who may read it: callers of the same account, every caller, or its owner and those it is shared with' })

export const FileForm = Type.Object({
  access: Type.Optional(Type.Enum(ACCESS, { description: 'before the file; `account` without it' })),
  filename: Type.Optional(Type.String({ maxLength: FILENAME_GIVEN_MAX_CHARACTERS, description: 'before the file; its own without it' })),
  file: Type.Optional(Type.String({ format: 'binary', description: 'the file' }))
})
export const FileFields = Type.Object({ access: Type.Optional(Access), filename: Type.Optional(Filename) }, { additionalProperties: false })
export type FileFields = Static<typeof FileFields>

export const NewFile = Type.Object({
  file_id: Type.String(), public_url: Type.String(), size: Type.Integer(), content_type: Type.String(), sha256: Type.String()
}, {
  description: 'the file is there',
  headers: { Location: { type: 'string', description: 'where it is' } },
  examples: [{ file_id: id, public_url: `https://penstock.example.com/files/${id}`, size: 5, content_type: 'text/plain', sha256 }]
})

export const File = Type.Object({
  file_id: Type.String(),
  filename: Type.String(),
  content_type: Type.String(),
  size: Type.Integer(),
  sha256: Type.String(),
  access: Type.Enum(ACCESS),
  owner: Nullable(Type.String({ description: 'user id; null: callers without one' })),
  account: Nullable(Type.String()),
  created_at: Type.String({ format: 'date-time' }),
  public_url: Type.String()
}, {
  description: 'the file',
  examples: [{
    file_id: id, filename: 'notes.txt', content_type: 'text/plain', size: 5, sha256, access: 'account', owner: 'ada', account: 'acme',
    created_at: '2026-07-01T12:00:00.000Z', public_url: `https://penstock.example.com/files/${id}`
  }]
})
export type File = Static<typeof File>

export function showFile(file: FileRecord, base = ''): File {
  const { id: fileId, filename, size, contentType, access, owner } = file
  return {
    file_id: fileId, filename, content_type: contentType, size, sha256: file.sha256, access, owner: owner.subject, account: owner.account,
    created_at: new Date(file.createdAt).toISOString(), public_url: `${base}/files/${fileId}`
  }
}

export const Files = Type.Object({ items: Type.Array(File), next_cursor: Nullable(Type.String()) }, { description: 'one page' })

export const FileListQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_DEFAULT }),
  cursor: Type.Optional(Type.String({ maxLength: 256, description: '`next_cursor` of the page before' })),
  type: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9!#$&^_.+/-]{1,127}$', description: 'content types that begin so, as `image/`' })),
  q: Type.Optional(Type.String({
    minLength: 1, maxLength: FILENAME_GIVEN_MAX_CHARACTERS,
    description: `part of the name, whatever its case. One request looks at the ${FILE_SEARCH_ROWS_MAX} next files: with \`type\` or \`q\` a page may hold fewer than \`limit\`, or none, and yet have a \`next_cursor\``
  }))
})
export type FileListQuery = Static<typeof FileListQuery>

export const FileParams = Type.Object({ id: Type.String({ maxLength: 128 }) })
export type FileParams = Static<typeof FileParams>

export const FileQuery = Type.Object({
  inline: Type.Optional(Type.String({ description: '`1`: shown in place, where it is an image, video, audio or PDF' })),
  redirect: Type.Optional(Type.String({ description: '`1`: 302 to the store, where clients can reach it (`PUBLIC_S3_ENDPOINT`)' })),
  expires: Type.Optional(Type.String({ description: 'of a signed address' })),
  signature: Type.Optional(Type.String({ description: 'of a signed address: no other credential is looked at' }))
})
export type FileQuery = Static<typeof FileQuery>

export const Elsewhere = Type.Null({ description: 'the bytes are at `Location`; or (browsers, `FRONTEND_URL`) sign in there', headers: { Location: { type: 'string' } } })

export const FileChange = Type.Object({ filename: Type.Optional(Filename), access: Type.Optional(Access) }, {
  additionalProperties: false, minProperties: 1, examples: [{ filename: 'minutes.txt' }, { access: 'restricted' }]
})
export type FileChange = Static<typeof FileChange>

export const GrantParams = Type.Object({
  id: Type.String({ maxLength: 128 }),
  subject: Type.String({ minLength: 1, maxLength: IDENTITY_MAX_CHARACTERS, pattern: NO_CONTROLS, description: 'user id, within the account of the file' })
})
export type GrantParams = Static<typeof GrantParams>

export const SignBody = Type.Object({
  expires_in: Type.Optional(Type.Integer({ minimum: 1, maximum: SIGNED_URL_MAX_SECONDS, description: `seconds; ${SIGNED_URL_DEFAULT_SECONDS} without it` })),
  inline: Type.Optional(Type.Boolean({ description: 'shown in place' }))
}, { additionalProperties: false, examples: [{ expires_in: 3600 }] })
export type SignBody = Static<typeof SignBody>

export const SignAnswer = Type.Object({ url: Type.String(), expires_at: Type.String({ format: 'date-time' }) }, { description: 'an address that needs no credential' })

export const PermissionForm = Type.Object({ file_id: Type.String({ format: 'uuid' }) })
export type PermissionForm = Static<typeof PermissionForm>
