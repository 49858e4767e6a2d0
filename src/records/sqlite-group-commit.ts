/**
 * Who writes when. There is one writer at a time: a transaction, or a group of single statements. Statements that come in
 * while another writes, or in the same turn of the event loop, make the next group: begin, each statement, commit. A
 * statement that fails is undone by SQLite alone and leaves the others as they are; a commit that fails undoes and fails
 * all of them.
 */
import { CompiledQuery, type QueryResult } from 'kysely'
import { SQLITE_GROUP_MAX } from '../limits.ts'
import type { SqliteHandle } from './sqlite-handle.ts'

interface Write {
  query: CompiledQuery
  resolve(result: QueryResult<never>): void
  reject(error: unknown): void
}

const BEGIN = CompiledQuery.raw('begin immediate')
const COMMIT = CompiledQuery.raw('commit')
const ROLLBACK = CompiledQuery.raw('rollback')

export class GroupCommit {
  readonly #writer: SqliteHandle
  #waiting: Write[] = []
  #scheduled = false
  /** Settles when the writer is free. */
  #free: Promise<void> = Promise.resolve()

  constructor(writer: SqliteHandle) {
    this.#writer = writer
  }

  /** One statement outside a transaction. Settles when it is durable, or failed. */
  async write<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const { promise, resolve, reject } = Promise.withResolvers<QueryResult<never>>()
    this.#waiting.push({ query, resolve, reject })
    this.#schedule()
    return await promise
  }

  /** The writer, for a transaction. The returned function gives it to the next. */
  async takeWriter(): Promise<() => void> {
    const before = this.#free
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#free = promise
    await before
    return resolve
  }

  /** Settles when everything that was asked for is done. */
  async idle(): Promise<void> {
    while (this.#scheduled || this.#waiting.length > 0) await this.#free.then(() => new Promise(setImmediate))
    await this.#free
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(async () => {
      const release = await this.takeWriter()
      this.#scheduled = false
      const group = this.#waiting.splice(0, SQLITE_GROUP_MAX)
      if (this.#waiting.length > 0) this.#schedule()
      await this.#commit(group)
      release()
    })
  }

  async #commit(group: Write[]): Promise<void> {
    try {
      const outcomes = await this.#runAll(group)
      for (const settle of outcomes) settle()
    } catch (error) {
      if (this.#writer.inTransaction) this.#writer.run(ROLLBACK)
      for (const { reject } of group) reject(error)
    }
  }

  /** What to tell each of them once all is durable. */
  async #runAll(group: Write[]): Promise<(() => void)[]> {
    if (group.length === 1) {
      const { query, resolve } = group[0]!
      const result = await this.#writer.runPatiently<never>(query)
      return [() => resolve(result)]
    }
    await this.#writer.runPatiently(BEGIN)
    const outcomes = group.map(write => this.#runOne(write))
    this.#writer.run(COMMIT)
    return outcomes
  }

  #runOne({ query, resolve, reject }: Write): () => void {
    try {
      const result = this.#writer.run<never>(query)
      return () => resolve(result)
    } catch (error) {
      // a full disk and the like end the transaction: then nothing of this group was written
      if (!this.#writer.inTransaction) throw error
      return () => reject(error)
    }
  }
}
