/** A job with its inputs, results and promotions, read in one statement: they are of one moment. */
import { sql } from 'kysely'
import type { Kysely, RawBuilder } from 'kysely'
import { PROMOTIONS_SHOWN_MAX } from '../limits.ts'
import { jobOf } from './jobs-schema.ts'
import type { JobRow } from './jobs-schema.ts'
import type { JobRecord } from './jobs-port.ts'
import type { DatabaseName, Records, RecordsTransaction, Tables } from './schema.ts'
import type { Work } from './transact.ts'

/** The two databases call the same functions differently. */
const JSON_OBJECT: Record<DatabaseName, RawBuilder<unknown>> = { sqlite: sql`json_object`, postgres: sql`json_build_object` }
const JSON_ARRAY: Record<DatabaseName, RawBuilder<unknown>> = { sqlite: sql`json_group_array`, postgres: sql`json_agg` }

const inputs = (name: DatabaseName) => sql<string>`(select cast(coalesce(${JSON_ARRAY[name]}(${JSON_OBJECT[name]}(
  'name', part.name, 'position', part.position, 'fileId', part.file_id, 'sha256', part.sha256, 'key', part.key, 'size', part.size, 'contentType', part.content_type, 'filename', part.filename)), '[]') as text)
  from (select * from job_inputs where job_id = jobs.id order by name, position) as part)`

const results = (name: DatabaseName) => sql<string>`(select cast(coalesce(${JSON_ARRAY[name]}(${JSON_OBJECT[name]}(
  'name', part.name, 'fileId', part.id, 'sha256', part.sha256, 'key', part.key, 'size', part.size, 'contentType', part.content_type)), '[]') as text)
  from (select job_results.name, files.id, files.sha256, files.key, files.size, files.content_type
    from job_results join files on files.id = job_results.file_id where job_results.job_id = jobs.id order by job_results.position) as part)`

/** Newest first. */
const promotions = (name: DatabaseName) => sql<string>`(select cast(coalesce(${JSON_ARRAY[name]}(${JSON_OBJECT[name]}(
  'source', part.source, 'target', part.target_object_key, 'size', part.size, 'sha256', part.sha256, 'promotedAt', part.promoted_at)), '[]') as text)
  from (select * from promotions where job_id = jobs.id and promoted_at is not null order by promoted_at desc, source desc, target_object_key desc limit ${sql.lit(PROMOTIONS_SHOWN_MAX)}) as part)`

/** The query for whole jobs, to be narrowed. */
export function selectJobs({ name }: Records, db: Kysely<Tables> | RecordsTransaction) {
  return db.selectFrom('jobs').selectAll('jobs').select([inputs(name).as('inputs'), results(name).as('results'), promotions(name).as('promotions')])
}

export async function readJob(records: Records, db: Kysely<Tables> | RecordsTransaction, id: string): Promise<JobRecord | undefined> {
  const row = await selectJobs(records, db).where('jobs.id', '=', id).executeTakeFirst()
  return row && jobOf(row)
}

/** The row, locked to the end of the transaction. With a token only where it is run under that. */
export async function lockJob({ name }: Records, { trx }: Work, id: string, token?: string): Promise<JobRow | undefined> {
  return trx.selectFrom('jobs').selectAll().where('id', '=', id)
    .$if(token !== undefined, query => query.where('status', '=', 'processing').where('attempt_token', '=', token!))
    .$if(name === 'postgres', query => query.forUpdate()).executeTakeFirst()
}
