/**
 * Folders of runs, below `workDir`: `<host>.<pid>.<random>`, removed when the run is over. A worker that is killed leaves its
 * own; the next to start removes those of processes of this host that are no more, and any that are old.
 */
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { WORKER_LEFTOVERS_MAX_AGE_MS } from '../../limits.ts'

const HOST = hostname().replaceAll(/[^A-Za-z0-9-]/g, '-')
const NAME = /^(?<host>[A-Za-z0-9-]+)\.(?<pid>\d+)\.[A-Za-z0-9]{6}$/

/** A fresh, empty folder. */
export async function makeFolder(workDir: string): Promise<string> {
  await mkdir(workDir, { recursive: true })
  return await mkdtemp(join(workDir, `${HOST}.${process.pid}.`))
}

export async function removeFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3 })
}

/** Best effort. */
export async function removeLeftovers(workDir: string): Promise<void> {
  for (const name of await readdir(workDir).catch(() => [])) {
    const { host, pid } = NAME.exec(name)?.groups ?? {}
    if (host === undefined) continue
    const path = join(workDir, name)
    const dead = host === HOST && !isAlive(Number(pid))
    const old = (await stat(path).catch(() => undefined))?.mtimeMs ?? Infinity
    if (dead || old < Date.now() - WORKER_LEFTOVERS_MAX_AGE_MS) await removeFolder(path).catch(() => {})
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
