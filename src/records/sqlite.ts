/**
 * Records in one SQLite file, through the module built into Node.
 *
 * Several processes may share the file (the service and the collector), and several stores of one process. WAL lets
 * readers go on beside the one writer; `synchronous=FULL` makes every commit durable before it returns.
 */
import { Kysely } from 'kysely'
import { kyselyRecordStore } from './kysely-record-store.ts'
import type { RecordStore } from './port.ts'
import type { Tables } from './schema.ts'
import { nodeSqliteDialect } from './sqlite-dialect.ts'

export interface SqliteOptions {
  /** Made where it is missing, with its folder; neither is readable for others. */
  file: string
  /** epoch milliseconds; for tests */
  now?: () => number
}

/** Opens the file at the first call of a method. */
export function sqliteRecordStore({ file, now = Date.now }: SqliteOptions): RecordStore {
  return kyselyRecordStore({ name: 'sqlite', db: new Kysely<Tables>({ dialect: nodeSqliteDialect(file) }), now })
}
