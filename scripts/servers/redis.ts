/**
 * A real Redis on loopback, for development and tests. It keeps nothing on disk: stopped, it has forgotten everything.
 *
 *     node scripts/servers/redis.ts     finds it or gets it, and prints where it is (debian.ts says how)
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram, provideProgram, type Program } from './debian.ts'
import { freePort, signalProcess, startTethered, type TetheredServer } from './tethered.ts'

const REDIS = { name: 'Redis', files: ['redis-server', 'valkey-server'], debian: 'redis-server' }
const PING_TIMEOUT_MS = 1_000

export interface Redis {
  /** redis://127.0.0.1:<port>, with the password where it has one */
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Sends a signal; returns when the server has ended. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** Starts it again, empty, on the same port. */
  restart(): Promise<void>
  /** Stands still, with its connections open, until `resume`. */
  pause(): void
  resume(): void
  /** Idempotent. */
  stop(): Promise<void>
}

export interface RedisOptions {
  /** Asked of who connects; letters and digits. */
  password?: string
  program?: Program
}

export const findRedis = (): Promise<Program | undefined> => findProgram(REDIS)

/** @throws Error that says what to do */
export const provideRedis = (say: (line: string) => void): Promise<Program> => provideProgram(REDIS, say)

export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const program = options.program ?? await provideRedis(line => process.stderr.write(`${line}\n`))
  const folder = await mkdtemp(join(tmpdir(), 'penstock-redis-'))
  const port = await freePort()
  const password = options.password === undefined ? [] : ['--requirepass', options.password]
  const start = (): Promise<TetheredServer> => startTethered({
    name: 'Redis', env: program.env,
    command: [program.path, '--bind', '127.0.0.1', '--port', String(port), '--dir', folder, '--save', '', '--appendonly', 'no', ...password],
    isReady: () => answers(port)
  })
  let server: TetheredServer
  try {
    server = await start()
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  return {
    url: options.password === undefined ? `redis://127.0.0.1:${port}` : `redis://:${options.password}@127.0.0.1:${port}`,
    port,
    get pid() { return server.pid },
    kill: signal => server.end(signal),
    async restart() {
      await server.end('SIGTERM')
      server = await start()
    },
    pause: () => signalProcess(server.pid, 'SIGSTOP'),
    resume: () => signalProcess(server.pid, 'SIGCONT'),
    async stop() {
      signalProcess(server.pid, 'SIGCONT')
      await server.end('SIGTERM')
      await rm(folder, { recursive: true, force: true })
    }
  }
}

/** Whatever it says to PING, be it that a password is wanted: it is there. */
async function answers(port: number): Promise<boolean> {
  return await new Promise(done => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'))
    socket.setTimeout(PING_TIMEOUT_MS, () => socket.destroy())
    socket.once('data', () => {
      done(true)
      socket.destroy()
    })
    socket.once('error', () => {})
    socket.once('close', () => done(false))
  })
}

if (import.meta.main) console.log((await provideRedis(line => console.error(line))).path)
