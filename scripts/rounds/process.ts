/** The service as a process of its own, for the scripts that kill it. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

export interface Service { child: ChildProcess, url: string }

const MAIN = join(import.meta.dirname, '../../src/main.ts')

/** Starts it and waits until it listens. `logFile`: where its log is kept, for people. @throws where it ends before */
export async function startService(env: Record<string, string>, logFile?: string): Promise<Service> {
  const child = spawn(process.execPath, [MAIN], { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  // whoever kills services is not outlived by one
  const end = (): void => { child.kill('SIGKILL') }
  process.once('exit', end)
  child.once('exit', () => process.removeListener('exit', end))
  if (logFile !== undefined) child.stdout.pipe(createWriteStream(logFile, { flags: 'a' }))
  for await (const line of createInterface({ input: child.stdout })) {
    const entry = JSON.parse(line) as { action?: string, address?: string }
    if (entry.action !== 'service.listening') continue
    child.stdout.resume()
    return { child, url: entry.address! }
  }
  throw new Error('the service ended before it listened')
}

export async function kill({ child }: Service): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

/** For commands: a signal ends them as a fault does, so that what they have started goes with them. */
export function exitOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
}
