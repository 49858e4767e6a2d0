/**
 * Records in Postgres, for several nodes. A lost connection costs the calls that were using it and nothing else: the
 * pool drops it and the next call opens another. Hints have a connection of their own (postgres-hints.ts).
 */
import { Kysely, PostgresDialect } from 'kysely'
import type { PostgresPool, PostgresPoolClient } from 'kysely'
import { DatabaseError, Pool, types } from 'pg'
import type { ClientBase, ClientConfig, PoolClient, PoolConfig } from 'pg'
import { POSTGRES_CONNECTIONS_MAX, POSTGRES_CONNECT_TIMEOUT_MS, POSTGRES_STATEMENT_TIMEOUT_MS } from '../limits.ts'
import { kyselyRecordStore } from './kysely-record-store.ts'
import { RecordStoreFailed } from './port.ts'
import { postgresHints } from './postgres-hints.ts'
import type { RecordStore } from './port.ts'
import type { Tables } from './schema.ts'

export interface PostgresOptions {
  /** postgres://… It may hold a password and is repeated in no message. */
  url: string
  /** Connections of this process; one more where somebody subscribed to hints. */
  maxConnections?: number
  /** epoch milliseconds; for tests */
  now?: () => number
}

/** Connects at the first call of a method. @throws RecordStoreFailed where the address is none */
export function postgresRecordStore({ url, maxConnections = POSTGRES_CONNECTIONS_MAX, now = Date.now }: PostgresOptions): RecordStore {
  // the error of the URL parser would carry the whole address
  if (!URL.canParse(url)) throw new RecordStoreFailed('the address of the postgres record store is not valid')
  const pool = openPool(url, maxConnections)
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) })
  return kyselyRecordStore({ name: 'postgres', db, now }, postgresHints(clientConfig(url)))
}

function openPool(url: string, max: number): PostgresPool {
  const pool = new Pool(poolConfig(url, max))
  // pg emits 'error' when a connection dies, on the pool where it was idle and on the client where it was in use.
  // Unheard, either ends the process. The call in flight rejects by itself, and the pool has dropped the client.
  pool.on('error', () => {})
  pool.on('connect', client => client.on('error', () => {}))
  return { options: pool.options, connect: async () => discardBroken(await pool.connect()), end: () => pool.end() }
}

function poolConfig(url: string, max: number): PoolConfig {
  return { ...clientConfig(url), max, onConnect: commitDurably }
}

function clientConfig(url: string): ClientConfig {
  return {
    connectionString: url,
    application_name: 'penstock',
    connectionTimeoutMillis: POSTGRES_CONNECT_TIMEOUT_MS,
    statement_timeout: POSTGRES_STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: POSTGRES_STATEMENT_TIMEOUT_MS,
    // on our side too: a server that went away without a word sends no timeout
    query_timeout: POSTGRES_STATEMENT_TIMEOUT_MS + POSTGRES_CONNECT_TIMEOUT_MS,
    keepAlive: true,
    types: { getTypeParser }
  }
}

/** A default of the role or the database may be to answer commits before they are on disk. Stricter settings than `on` stay. */
async function commitDurably(client: ClientBase): Promise<void> {
  await client.query(`select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'`)
}

/** bigint as a number: all of ours are bytes and milliseconds below 2^53. For this pool only. */
const getTypeParser: typeof types.getTypeParser = (oid: number, format?: 'text' | 'binary') =>
  oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format as 'text')

/**
 * A client whose query failed for any reason but the server's own answer is not given to the next user: after a
 * timeout on our side it still waits for the old answer.
 */
function discardBroken(client: PoolClient): PostgresPoolClient {
  let broken = false
  const query = async (sql: string, parameters: unknown[]) => {
    try {
      return await client.query(sql, parameters)
    } catch (error) {
      broken ||= !(error instanceof DatabaseError)
      throw error
    }
  }
  return { query: query as unknown as PostgresPoolClient['query'], release: destroy => client.release(destroy === true || broken) }
}
