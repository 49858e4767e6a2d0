/**
 * Kysely's dialect over `node:sqlite`. Kysely has one for better-sqlite3; this driver differs from it in three things:
 *
 *   - a transaction begins with BEGIN IMMEDIATE. A deferred one that reads and then writes fails with
 *     SQLITE_BUSY_SNAPSHOT where another process wrote in between, and no waiting helps it.
 *   - waiting for another writer's lock is done here, with timers. SQLite's own busy handler sleeps on the thread that
 *     runs the event loop: every upload would stand still, and two stores of one process would wait for each other.
 *   - statements that write outside a transaction are committed in groups: those that come in one turn of the event loop
 *     share one transaction, and so one fsync, which is most of what a write costs. Each still succeeds or fails by
 *     itself, and its promise settles only after the commit. Reads have a connection of their own, which never sees what
 *     is not committed.
 */
import { CompiledQuery, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import type { DatabaseConnection, Dialect, Driver, QueryResult } from 'kysely'
import { GroupCommit } from './sqlite-group-commit.ts'
import { SqliteHandle } from './sqlite-handle.ts'

export function nodeSqliteDialect(file: string): Dialect {
  return {
    createAdapter: () => new NodeSqliteAdapter(),
    createDriver: () => new NodeSqliteDriver(file),
    createIntrospector: db => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler()
  }
}

/** Many connections at once: the driver keeps writers apart by itself. */
class NodeSqliteAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true
  }
}

class NodeSqliteDriver implements Driver {
  readonly #file: string
  #writer: SqliteHandle | undefined
  #reader: SqliteHandle | undefined
  #group: GroupCommit | undefined

  constructor(file: string) {
    this.#file = file
  }

  async init(): Promise<void> {
    this.#writer = await SqliteHandle.open(this.#file)
    this.#reader = await SqliteHandle.open(this.#file, { readOnly: true })
    this.#group = new GroupCommit(this.#writer)
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new NodeSqliteConnection(this.#writer!, this.#reader!, this.#group!)
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await (connection as NodeSqliteConnection).begin()
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await (connection as NodeSqliteConnection).end('commit')
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await (connection as NodeSqliteConnection).end('rollback')
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    await this.#group?.idle()
    this.#reader?.close()
    this.#writer?.close()
  }
}

class NodeSqliteConnection implements DatabaseConnection {
  readonly #writer: SqliteHandle
  readonly #reader: SqliteHandle
  readonly #group: GroupCommit
  /** Gives the writer to the next; set while this connection is in a transaction. */
  #release: (() => void) | undefined

  constructor(writer: SqliteHandle, reader: SqliteHandle, group: GroupCommit) {
    this.#writer = writer
    this.#reader = reader
    this.#group = group
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    if (this.#release !== undefined) return this.#writer.run(query)
    if (query.query?.kind === 'SelectQueryNode') return await this.#reader.runPatiently(query)
    return await this.#group.write(query)
  }

  async begin(): Promise<void> {
    const release = await this.#group.takeWriter()
    try {
      await this.#writer.runPatiently(CompiledQuery.raw('begin immediate'))
      this.#release = release
    } catch (error) {
      release()
      throw error
    }
  }

  async end(how: 'commit' | 'rollback'): Promise<void> {
    try {
      // some errors, such as a full disk, have ended the transaction already
      if (how === 'commit' || this.#writer.inTransaction) this.#writer.run(CompiledQuery.raw(how))
    } catch (error) {
      if (how === 'commit') throw error // Kysely rolls back next, and that releases
      this.#giveBack()
      throw error
    }
    this.#giveBack()
  }

  streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('this dialect does not stream')
  }

  #giveBack(): void {
    this.#release?.()
    this.#release = undefined
  }
}
