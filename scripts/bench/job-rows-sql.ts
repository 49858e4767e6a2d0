/**
 * Fills the tables of jobs by SQL that SQLite and Postgres both take. Of the rows before the last that wait, two of ten have
 * failed and the others are completed. Row i was made i seconds after EPOCH_MS.
 */
import { holderText } from '../../src/records/jobs-schema.ts'
import { ownerText } from '../../src/records/schema.ts'
import type { Owner } from '../../src/records/port.ts'

const EPOCH_MS = 1_700_000_000_000
/** Few enough that a page of each is full with a thousand rows. */
const OWNER_COUNT = 10
const USER_COUNT = 20
const MODEL_COUNT = 5
/** Makes every number as long as the others. */
const ID_BASE = 1_000_000_000

const idOf = (row: number) => `job-${ID_BASE + row}`

/** Who and what there is. */
export const ROWS = {
  owner: (number: number): Owner => ({ subject: null, account: `account-${number % OWNER_COUNT}`, clientId: null }),
  user: (number: number) => `user-${number % USER_COUNT}`,
  model: (number: number) => `model-${number % MODEL_COUNT}`,
  cursor: (row: number) => ({ createdAt: EPOCH_MS + row * 1000, id: idOf(row) })
}

/** Text with `@n@` where the number of an owner or user goes, as an expression of SQL. */
function withNumber(text: string, number: string): string {
  return `'${text.replaceAll("'", "''").replaceAll('@n@', `' || ${number} || '`)}'`
}

const OWNER_NUMBER = `(i % ${OWNER_COUNT})`
const USER_NUMBER = `(i % ${USER_COUNT})`
const ID = `'job-' || (${ID_BASE} + i)`
const FILE_ID = `'file-' || (${ID_BASE} + i)`
const DIGEST = `'${'a'.repeat(54)}' || (${ID_BASE} + i)`
const CREATED_AT = `(${EPOCH_MS} + cast(i as bigint) * 1000)`
const COMPLETED = '(i % 10 > 1)'

type Columns = Record<string, string>

function jobColumns(first: number): Columns {
  const finished = (value: string, otherwise = 'null') => `case when i < ${first} then ${value} else ${otherwise} end`
  return {
    id: ID, run: '1', subject: 'null', account: withNumber('account-@n@', OWNER_NUMBER), client_id: 'null',
    owner: withNumber(ownerText({ subject: null, account: 'account-@n@', clientId: null }), OWNER_NUMBER),
    user_id: withNumber('user-@n@', USER_NUMBER), holder: withNumber(holderText(null, 'user-@n@'), USER_NUMBER),
    model_name: withNumber('model-@n@', `(i % ${MODEL_COUNT})`), model_version: `'1'`, model_sha256: `'${'b'.repeat(64)}'`,
    task: `'tensor'`, params: `'{}'`, status: finished(`case when ${COMPLETED} then 'completed' else 'failed' end`, `'queued'`),
    stage: 'null', progress: finished(`case when ${COMPLETED} then 100 end`), priority: '0', attempt: finished('1', '0'),
    attempt_token: 'null', worker: 'null', cancel_requested: '0',
    failure: finished(`case when ${COMPLETED} then null else '{"code":"invalid_input","message":"it was not"}' end`),
    first_timings: `'{}'`, stage_timings: `'{}'`,
    execution: finished(`case when ${COMPLETED} then '{"provider":"cpu","device":"cpu","worker":"1","cached":false}' end`),
    cache: '1', memo_key: DIGEST, webhook: 'null', idempotency_key: 'null', idempotency_hash: 'null', last_seq: finished('2', '1'),
    available_at: finished('null', '0'), lease_until: 'null', created_at: CREATED_AT, updated_at: CREATED_AT,
    started_at: finished(CREATED_AT), completed_at: finished(CREATED_AT)
  }
}

function insert(table: string, rows: number, columns: Columns, where = 'true'): string {
  return `insert into ${table} (${Object.keys(columns).join(', ')})
    with recursive n(i) as (select 1 union all select i + 1 from n where i < ${rows})
    select ${Object.values(columns).join(', ')} from n where ${where}`
}

/** Statements that make `rows` jobs, of which the last `waiting` wait. */
export function fillStatements(rows: number, waiting: number): string[] {
  const first = rows - waiting + 1
  const done = `i < ${first} and ${COMPLETED}`
  const file = { sha256: DIGEST, key: `'sha256/' || ${DIGEST} || '/object'`, size: '100' }
  const event = { job_id: ID, stage: 'null', data: `'{}'`, created_at: CREATED_AT }
  return [
    insert('jobs', rows, jobColumns(first)),
    insert('job_inputs', rows, { job_id: ID, name: `'input'`, position: '0', file_id: 'null', ...file, content_type: `'application/json'` }),
    insert('job_results', rows, { job_id: ID, position: '0', name: `'output.json'`, file_id: FILE_ID }, done),
    insert('files', rows, {
      id: FILE_ID, filename: `'output.json'`, content_type: `'application/json'`, ...file, access: `'account'`, subject: 'null',
      account: withNumber('account-@n@', OWNER_NUMBER), client_id: 'null',
      owner: withNumber(ownerText({ subject: null, account: 'account-@n@', clientId: null }), OWNER_NUMBER), created_at: CREATED_AT
    }, done),
    insert('job_events', rows, { ...event, seq: '1', event: `'generation_started'` }),
    insert('job_events', rows, { ...event, seq: '2', event: `case when ${COMPLETED} then 'generation_complete' else 'generation_failed' end` }, `i < ${first}`)
  ]
}
