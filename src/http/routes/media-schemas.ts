/** Bodies and answers of the media routes, and of GET /events. A response schema is also the list of what may leave. */
import { Type, type Static } from 'typebox'
import { FILENAME_GIVEN_MAX_CHARACTERS, MEDIA_PATH_MAX_CHARACTERS, PAGE_DEFAULT, PAGE_MAX } from '../../limits.ts'
import { mediaAddress, mediaPath } from '../../files/media-path.ts'
import { holderOf } from '../../files/access.ts'
import type { Principal } from '../../identity/principal.ts'
import type { MediaFile } from '../../records/access-port.ts'
import { eventDocs } from '../event-stream.ts'

const user = '3f1c9a7be02d4c58a1d6e9b07f42c815'
const id = '6f1c2a5e-0f0b-4e36-9f0c-2f6f3a1d7b11'
const objectPath = `media/${user}/${id}/cat.png`
const base = 'https://penstock.example.com'
const Nullable = <T extends Parameters<typeof Type.Union>[0][number]>(type: T) => Type.Union([type, Type.Null()])
const Path = Type.String({ minLength: 1, maxLength: MEDIA_PATH_MAX_CHARACTERS })

export const InitBody = Type.Object({
  filename: Type.String({ minLength: 1, maxLength: FILENAME_GIVEN_MAX_CHARACTERS, description: 'it is cleaned' }),
  contentType: Type.String({ maxLength: 127, pattern: '^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$', description: 'the upload must be sent with just this one' }),
  size: Type.Optional(Type.Integer({ minimum: 1, description: 'bytes; where it is given, nothing else is taken' }))
}, { additionalProperties: false, examples: [{ filename: 'cat.png', contentType: 'image/png', size: 48_213 }] })
export type InitBody = Static<typeof InitBody>

export const InitAnswer = Type.Object({
  uploadURL: Type.String({ description: 'PUT the bytes here, once' }),
  objectPath: Type.String(),
  expiresAt: Type.String({ format: 'date-time' }),
  requiredHeaders: Type.Record(Type.String(), Type.String(), { description: 'to be sent with the bytes' }),
  maxBytes: Type.Integer()
}, {
  description: 'where the bytes are to go',
  examples: [{ uploadURL: `${base}/media/upload/…`, objectPath, expiresAt: '2026-07-01T12:15:00.000Z', requiredHeaders: { 'content-type': 'image/png' }, maxBytes: 524_288_000 }]
})

export const TokenParams = Type.Object({ token: Type.String({ maxLength: 256 }) })
export type TokenParams = Static<typeof TokenParams>

export const Received = Type.Null({ description: 'the bytes are there', headers: { ETag: { type: 'string' } } })

export const CompleteBody = Type.Object({
  objectPath: Path,
  process: Type.Optional(Type.Object({
    model: Type.String({ minLength: 1, maxLength: 128 }),
    version: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    params: Type.Optional(Type.Record(Type.String(), Type.Unknown()))
  }, { additionalProperties: false, description: 'makes a job with the file as its input' }))
}, { additionalProperties: false, examples: [{ objectPath, process: { model: 'upscale-2x', params: {} } }] })
export type CompleteBody = Static<typeof CompleteBody>

export const CompleteAnswer = Type.Object({ url: Type.String(), path: Type.String(), jobId: Type.Optional(Type.String({ description: 'of `process`' })) }, {
  description: 'the file is in the library', examples: [{ url: `${base}/${objectPath}`, path: objectPath }]
})

export const MediaListQuery = Type.Object({
  prefix: Type.Optional(Type.String({ maxLength: MEDIA_PATH_MAX_CHARACTERS, description: 'of the path behind `media/<user>/`: `images` and `videos` are what jobs made' })),
  limit: Type.Integer({ minimum: 1, maximum: PAGE_MAX, default: PAGE_DEFAULT }),
  cursor: Type.Optional(Type.String({ maxLength: 256, description: '`next_cursor` of the page before' }))
})
export type MediaListQuery = Static<typeof MediaListQuery>

const Item = Type.Object({ path: Type.String(), url: Type.String(), size: Type.Integer(), contentType: Type.String(), lastModified: Type.String({ format: 'date-time' }) })
export const MediaItems = Type.Object({ items: Type.Array(Item), next_cursor: Nullable(Type.String()) }, {
  description: 'one page',
  examples: [{ items: [{ path: objectPath, url: `${base}/${objectPath}`, size: 48_213, contentType: 'image/png', lastModified: '2026-07-01T12:01:00.000Z' }], next_cursor: null }]
})

/** As the holder sees it. */
export function showMedia(principal: Principal, file: MediaFile, publicBase = ''): Static<typeof Item> {
  const path = mediaPath(holderOf(principal), file.mediaName)
  return { path, url: `${publicBase}${mediaAddress(path)}`, size: file.size, contentType: file.contentType, lastModified: new Date(file.createdAt).toISOString() }
}

const Part = (description: string) => Type.String({ maxLength: MEDIA_PATH_MAX_CHARACTERS, description })
export const MediaParams = Type.Object({ user: Part('the caller, as its paths say it'), folder: Part('id of the upload; or `images`, `videos`'), name: Part('of the file') })

export const MediaReadQuery = Type.Object({ inline: Type.Optional(Type.String({ description: '`1`: shown in place, where it is an image, video, audio or PDF' })) })
export type MediaReadQuery = Static<typeof MediaReadQuery>

export const Activity = eventDocs('what happens to files, media, uploads and jobs of the caller, as it happens', [
  { id: 41, event: 'ready', data: { seq: 41 } },
  { id: 42, event: 'media_added', data: { file_id: id, filename: 'cat.png', path: objectPath, at: '2026-07-01T12:01:00.000Z' } },
  { id: 43, event: 'job_queued', data: { job_id: '0f8fad5b-d9cb-469f-a165-70867728950e', at: '2026-07-01T12:01:00.100Z' } }
])
