/**
 * Tables of the media library, and of what callers are told. Part of the third step of the schema (migrations.ts).
 *
 * Media that can be read are files with a name in the library of whom they belong to: `media_name` is the path behind
 * `media/<user>/`, `media_folder` the list that it is in. So there is nothing beside the file that could get out of step
 * with it, and whatever removes the file removes it from the library. Results of jobs that were there before get their
 * names here. What was begun and is not complete yet has a table of its own.
 *
 * Activity is written by triggers, in the transaction and by the statement that it tells of: no way of changing a job or a
 * file goes past it, and claiming a job stays one statement. Its rows are numbered later (activity.ts): a number that is
 * drawn while they are written would make all transactions of one holder wait for each other.
 */
import type { DatabaseName } from './schema.ts'

/** Of results of jobs, by content type: how their names end. */
const ENDINGS: Readonly<Record<string, string>> = {
  'image/png': 'png', 'image/jpeg': 'jpg', 'image/webp': 'webp', 'image/gif': 'gif', 'image/avif': 'avif', 'image/tiff': 'tiff',
  'video/mp4': 'mp4', 'video/webm': 'webm', 'video/quicktime': 'mov', 'video/x-matroska': 'mkv'
}
const OTHER_ENDING = 'bin'

export type MediaFolder = 'images' | 'videos' | 'uploads'

/** Where a result of a job is in the library of its owner. Neither an image nor a video: nowhere. */
export function resultName(jobId: string, index: number, contentType: string): { folder: MediaFolder, name: string } | undefined {
  const folder = contentType.startsWith('image/') ? 'images' : contentType.startsWith('video/') ? 'videos' : undefined
  return folder && { folder, name: `${folder}/${jobId}_${index}.${ENDINGS[contentType] ?? OTHER_ENDING}` }
}

/** resultName() of what is there already. */
const namePastResults = (): string => {
  const endings = Object.entries(ENDINGS).map(([type, ending]) => `when '${type}' then '${ending}'`).join(' ')
  const folder = `case when content_type like 'image/%' then 'images' else 'videos' end`
  return `update files set media_folder = ${folder},
    media_name = ${folder} || '/' || job_results.job_id || '_' || job_results.position || '.' || case content_type ${endings} else '${OTHER_ENDING}' end
    from job_results where job_results.file_id = files.id and (content_type like 'image/%' or content_type like 'video/%')`
}

const library = (text: string): string[] => [
  `alter table files add column media_folder ${text}`,
  `alter table files add column media_name ${text}`,
  namePastResults(),
  // a job is its owner's alone, and so is what it made
  `update files set access = 'restricted' where id in (select file_id from job_results)`,
  'create index files_media on files (account, subject, media_folder, created_at, id) where media_folder is not null',
  'create index files_media_name on files (account, subject, media_name) where media_name is not null',
  `create table media_uploads (
    id ${text} not null primary key,
    subject ${text},
    account ${text},
    client_id ${text},
    filename text not null,
    content_type text not null,
    size bigint,
    status ${text} not null,
    upload_id ${text},
    expires_at bigint not null,
    created_at bigint not null
  )`,
  'create index media_uploads_oldest on media_uploads (created_at, id)'
]

/** `position`: in the order of writing. */
const activity = (text: string, database: DatabaseName): string[] => [
  `create table activity (
    position ${database === 'sqlite' ? 'integer primary key' : 'bigint generated always as identity primary key'},
    holder ${text} not null,
    seq bigint,
    event ${text} not null,
    data text not null,
    created_at bigint not null
  )`,
  'create index activity_new on activity (holder, position) where seq is null',
  'create unique index activity_numbered on activity (holder, seq) where seq is not null',
  `create table activity_heads (
    holder ${text} not null primary key,
    last_seq bigint not null
  )`
]

type Row = 'new' | 'old'
const NOW: Record<DatabaseName, string> = {
  sqlite: `cast(unixepoch('subsec') * 1000 as integer)`,
  postgres: 'floor(extract(epoch from clock_timestamp()) * 1000)::bigint'
}

/** holderId() of a row. */
function holderOf(row: Row): string {
  return ['account', 'subject'].map(column => `coalesce(replace(replace(${row}.${column}, '~', '~0'), '/', '~1'), '~')`).join(` || '/' || `)
}

interface Note { name: string, on: string, when?: string, row: Row, event: string, data: Record<string, string>, at?: string }

const JOB_EVENTS = `case new.status when 'queued' then 'job_queued' when 'processing' then 'job_started' when 'completed' then 'job_complete'
  when 'failed' then 'job_failed' else 'job_cancelled' end`
const fileEvent = (row: Row, what: string) => `case when ${row}.media_name is null then 'file_${what}' else 'media_${what}' end`
const fileData = (row: Row) => ({ file_id: `${row}.id`, filename: `${row}.filename`, media_name: `${row}.media_name` })

const NOTES: readonly Note[] = [
  { name: 'job_made', on: 'insert on jobs', when: `new.status = 'queued'`, row: 'new', event: `'job_queued'`, data: { job_id: 'new.id' }, at: 'new.created_at' },
  { name: 'job_changed', on: 'update of status on jobs', when: 'new.status <> old.status', row: 'new', event: JOB_EVENTS, data: { job_id: 'new.id' }, at: 'new.updated_at' },
  { name: 'job_gone', on: 'delete on jobs', row: 'old', event: `'job_removed'`, data: { job_id: 'old.id' } },
  { name: 'file_made', on: 'insert on files', row: 'new', event: fileEvent('new', 'added'), data: fileData('new'), at: 'new.created_at' },
  { name: 'file_gone', on: 'delete on files', row: 'old', event: fileEvent('old', 'removed'), data: fileData('old') },
  {
    name: 'upload_final', on: 'update of status on uploads', when: `new.status = 'finalized' and old.status <> 'finalized'`, row: 'new',
    event: `'upload_finalized'`, data: { upload_id: 'new.id', kind: 'new.kind', filename: 'new.filename', sha256: 'new.sha256' }, at: 'new.updated_at'
  }
]

function trigger(database: DatabaseName, { name, on, when, row, event, data, at = NOW[database] }: Note): string[] {
  const pairs = Object.entries(data).map(([key, value]) => `'${key}', ${value}`).join(', ')
  const json = database === 'sqlite' ? `json_object(${pairs})` : `json_build_object(${pairs})::text`
  const insert = `insert into activity (holder, event, data, created_at) values (${holderOf(row)}, ${event}, ${json}, ${at});`
  const head = `create trigger activity_${name} after ${on} for each row ${when === undefined ? '' : `when (${when})`}`
  if (database === 'sqlite') return [`${head} begin ${insert} end`]
  return [
    `create function activity_${name}() returns trigger language plpgsql as $$ begin ${insert} return null; end $$`,
    `${head} execute function activity_${name}()`
  ]
}

/** @param text column type of identifiers, which are compared byte by byte */
export function mediaTables(text: string, database: DatabaseName): string[] {
  return [...library(text), ...activity(text, database), ...NOTES.flatMap(note => trigger(database, note))]
}
