/** The tables of jobs-changes-tables.ts as Kysely sees them. */
import { sql } from 'kysely'
import type { SqlBool } from 'kysely'

export interface JobWebhooksTable {
  job_id: string
  /** of the last event that was dealt with */
  seq: number
  /** of the newest event of the job */
  last_seq: number
  /** at the event behind `seq`, so far */
  attempts: number
  /** who delivers; null: nobody */
  lease: string | null
  lease_until: number
}

export interface JobFarewellsTable {
  job_id: string
  /** JSON of a JobEvent */
  event: string
  /** JSON of a JobRecord */
  job: string
  expires_at: number
}

export interface JobCountsTable { shard: number, status: 'completed' | 'failed', jobs: number }

export interface NodesTable {
  id: string
  /** JSON */
  workers: string
  seen_at: number
}

/** Of webhooks, word for word as in the partial index. */
export const UNTOLD = sql<SqlBool>`seq < last_seq`
