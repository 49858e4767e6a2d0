/**
 * A server that cannot outlive us: it runs below a small shell that holds our pipe as its input. When this process ends,
 * however it ends, the pipe closes and the shell ends the server. A kill -9 of the test run leaves nothing behind.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const READY_TIMEOUT_MS = 30_000
const READY_INTERVAL_MS = 20
const STOP_TIMEOUT_MS = 10_000
const OUTPUT_KEPT_CHARACTERS = 4096

export interface TetheredServer {
  readonly pid: number
  /** Sends a signal; returns when the server has ended, by force where the signal does not end it in time. Idempotent. */
  end(signal: NodeJS.Signals): Promise<void>
}

export interface TetheredOptions {
  /** for messages */
  name: string
  command: readonly [string, ...string[]]
  env?: NodeJS.ProcessEnv
  /** Whether it answers. Asked until it does. */
  isReady(): Promise<boolean>
  /** Shell command that ends what outlives the process of the command; may use `env`. */
  whenCutOff?: string
  /** default: a signal to the process */
  signal?(signal: NodeJS.Signals): Promise<void>
}

// `read` returns when the pipe closes; what comes after it ends a server that still runs
const SHELL = `
exec 3<&0
"$@" </dev/null >&2 3<&- & server=$!
{ while read -r _; do :; done; eval "$TETHER_CUT_OFF"; kill -9 $server; } <&3 >/dev/null 2>&1 & watcher=$!
echo $server
wait $server
kill $watcher`

/** Returns when it answers. @throws Error with what it wrote where it does not */
export async function startTethered({ name, command, env = process.env, isReady, whenCutOff = ':', signal: send }: TetheredOptions): Promise<TetheredServer> {
  const shell = spawn('sh', ['-c', SHELL, 'sh', ...command], {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true, // a Ctrl-C is for this process, which then ends the server in good order
    env: { ...env, TETHER_CUT_OFF: whenCutOff }
  })
  let output = ''
  shell.stderr.on('data', chunk => { output = (output + String(chunk)).slice(-OUTPUT_KEPT_CHARACTERS) })
  shell.stdin.on('error', () => {}) // it has ended before us
  const ended = new Promise<void>(done => shell.once('exit', () => done()))
  const hasEnded = (): boolean => shell.exitCode !== null || shell.signalCode !== null
  const pid = await firstNumber(shell)
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (!hasEnded()) {
      if (send === undefined) signalProcess(pid, signal)
      else await send(signal)
      await Promise.race([ended, delay(STOP_TIMEOUT_MS, undefined, { ref: false })])
    }
    shell.stdin.end()
    await ended
  }
  try {
    await ready(isReady, hasEnded)
  } catch (error) {
    await end('SIGKILL')
    throw new Error(`${name} did not start: ${output.trim()}`, { cause: error })
  }
  return { pid, end }
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done, fail) => server.once('error', fail).listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise(done => server.close(done))
  return port
}

async function firstNumber(shell: ChildProcess): Promise<number> {
  const line = await new Promise<string>((done, fail) => {
    shell.once('error', fail)
    shell.stdout?.once('data', chunk => done(String(chunk)))
  })
  return Number(line)
}

export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function ready(isReady: () => Promise<boolean>, hasEnded: () => boolean): Promise<void> {
  for (const until = Date.now() + READY_TIMEOUT_MS; Date.now() < until; await delay(READY_INTERVAL_MS)) {
    if (hasEnded()) throw new Error('it ended')
    if (await isReady()) return
  }
  throw new Error(`it did not answer within ${READY_TIMEOUT_MS} ms`)
}
