/** A database as the second step of the schema left it, with a job and its results: what the media library has to take over. */
import { jobsTables } from '../../src/records/jobs-tables.ts'
import { firstSchema } from './first-schema.ts'

export const PAST = { job: '0f8fad5b-d9cb-469f-a165-70867728950e', owner: { subject: 'ada', account: null, clientId: null } }

const TYPES = ['image/png', 'application/json', 'video/mp4', 'image/x-unknown']

/** @param text column type of identifiers: `text`, and in Postgres `text collate "C"` */
export function secondSchema(text: string): string {
  const owner = JSON.stringify(Object.values(PAST.owner))
  const job = {
    id: PAST.job, run: 1, subject: 'ada', owner, holder: 'h', model_name: 'm', model_version: '1', model_sha256: 'm', task: 't', params: '{}', status: 'completed', priority: 0,
    attempt: 1, cancel_requested: 0, first_timings: '{}', stage_timings: '{}', cache: 1, memo_key: 'k', last_seq: 2, created_at: 1, updated_at: 2, completed_at: 2
  }
  const files = TYPES.map((content_type, index) => ({ id: `file-${index}`, filename: `r${index}`, content_type, size: 1, sha256: 'a', key: 'k', access: 'account', subject: 'ada', owner, created_at: 2 }))
  const results = TYPES.map((_, position) => ({ job_id: PAST.job, position, name: `r${position}`, file_id: `file-${position}` }))
  const inserts = [['jobs', job], ...files.map(row => ['files', row] as const), ...results.map(row => ['job_results', row] as const)] as const
  return [
    firstSchema(text), ...jobsTables(text).map(statement => `${statement};`), `insert into schema_migrations values (2, 'jobs, files, models', 1);`,
    ...inserts.map(([table, row]) => `insert into ${table} (${Object.keys(row).join(', ')}) values (${Object.values(row).map(value => typeof value === 'number' ? value : `'${value}'`).join(', ')});`)
  ].join('\n')
}
