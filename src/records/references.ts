/**
 * What points at objects: finalized uploads, versions of extensions, files, inputs of jobs, models. The collector leaves
 * a hash alone while one of them does. Media and results of jobs are files; no table counts.
 */
import { sql } from 'kysely'
import type { RawBuilder, SqlBool } from 'kysely'
import type { RecordsTransaction } from './schema.ts'

/** A condition: does a row point at this hash? */
export function pointedAt(sha256: RawBuilder<unknown>): RawBuilder<SqlBool> {
  return sql<SqlBool>`(exists (select 1 from uploads where uploads.sha256 = ${sha256} and uploads.status = 'finalized')
    or exists (select 1 from extension_versions where extension_versions.content_hash = ${sha256})
    or exists (select 1 from files where files.sha256 = ${sha256})
    or exists (select 1 from job_inputs where job_inputs.sha256 = ${sha256})
    or exists (select 1 from models where models.sha256 = ${sha256}))`
}

/** Does a row point at this hash? Call it under the lock of the hash. */
export async function isReferenced(trx: RecordsTransaction, sha256: string): Promise<boolean> {
  const { rows } = await sql`select 1 as found where ${pointedAt(sql`${sha256}`)}`.execute(trx)
  return rows.length > 0
}
