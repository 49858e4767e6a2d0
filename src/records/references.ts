/**
 * What points at objects: finalized uploads, versions of extensions, files, inputs of jobs, models. The collector leaves
 * a hash alone while one of them does.
 */
import { sql } from 'kysely'
import type { RecordsTransaction } from './schema.ts'

/** Does a row point at this hash? Call it under the lock of the hash. */
export async function isReferenced(trx: RecordsTransaction, sha256: string): Promise<boolean> {
  const { rows } = await sql`select 1 as found where exists (select 1 from uploads where sha256 = ${sha256} and status = 'finalized')
    or exists (select 1 from extension_versions where content_hash = ${sha256})
    or exists (select 1 from files where sha256 = ${sha256})
    or exists (select 1 from job_inputs where sha256 = ${sha256})
    or exists (select 1 from models where sha256 = ${sha256})`.execute(trx)
  return rows.length > 0
}
