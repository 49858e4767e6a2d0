/** One open SQLite database: prepared statements, and waiting for other writers without holding up the event loop. */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { StatementSync, SQLInputValue } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CompiledQuery, QueryResult } from 'kysely'
import { SQLITE_BUSY_PAUSE_MAX_MS, SQLITE_BUSY_TIMEOUT_MS, SQLITE_STATEMENTS_MAX } from '../limits.ts'

type Statement = Pick<CompiledQuery, 'sql' | 'parameters'>
interface Prepared { readonly statement: StatementSync, readonly reader: boolean }

export class SqliteHandle {
  readonly #database: DatabaseSync
  /** in order of use, least recent first */
  readonly #prepared = new Map<string, Prepared>()

  private constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Makes the folder and the file where they are missing, for this user only. */
  static async open(file: string, { readOnly = false } = {}): Promise<SqliteHandle> {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    // the files of the log get the mode of this one
    closeSync(openSync(file, 'a', 0o600))
    const database = new DatabaseSync(file, { timeout: SQLITE_BUSY_TIMEOUT_MS })
    try {
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 0')
      if (readOnly) database.exec('PRAGMA query_only = ON')
    } catch (error) {
      database.close()
      throw error
    }
    return new SqliteHandle(database)
  }

  get inTransaction(): boolean {
    return this.#database.isTransaction
  }

  run<R>({ sql, parameters }: Statement): QueryResult<R> {
    const { statement, reader } = this.#prepare(sql)
    const values = parameters as SQLInputValue[]
    if (reader) return { rows: statement.all(...values) as R[] }
    return { numAffectedRows: BigInt(statement.run(...values).changes), rows: [] }
  }

  /** Tries again while another process writes, for SQLITE_BUSY_TIMEOUT_MS. Only for what stands outside a transaction. */
  async runPatiently<R>(statement: Statement): Promise<QueryResult<R>> {
    const deadline = performance.now() + SQLITE_BUSY_TIMEOUT_MS
    for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, SQLITE_BUSY_PAUSE_MAX_MS)) {
      try {
        return this.run(statement)
      } catch (error) {
        if (!isBusy(error) || performance.now() > deadline) throw error
        await sleep(pauseMs)
      }
    }
  }

  close(): void {
    this.#prepared.clear()
    if (this.#database.isOpen) this.#database.close()
  }

  #prepare(sql: string): Prepared {
    const known = this.#prepared.get(sql)
    const prepared = known ?? newPrepared(this.#database.prepare(sql))
    this.#prepared.delete(sql)
    this.#prepared.set(sql, prepared)
    if (this.#prepared.size > SQLITE_STATEMENTS_MAX) this.#prepared.delete(this.#prepared.keys().next().value!)
    return prepared
  }
}

function newPrepared(statement: StatementSync): Prepared {
  return { statement, reader: statement.columns().length > 0 }
}

/** SQLITE_BUSY with any of its extensions: the low byte of the extended result code. */
function isBusy(error: unknown): boolean {
  const { errcode } = error as { errcode?: unknown }
  return typeof errcode === 'number' && (errcode & 0xff) === 5
}
