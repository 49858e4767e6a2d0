/**
 * Finds what a service has started and left behind (Linux only): everything that a service starts, and what that starts in
 * turn, is told where temporary files go, so that a TMPDIR of its own marks it.
 */
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

const POLL_INTERVAL_MS = 100

/** Process → its parent, of all that carry the mark. One that has ended and was not waited for has no environment. */
async function marked(tmpdir: string): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  for (const name of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(name)) continue
    const environ = await readFile(`/proc/${name}/environ`, 'utf8').catch(() => '')
    if (!environ.split('\0').includes(`TMPDIR=${tmpdir}`)) continue
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '')
    // the second field is the program's name in parentheses and may hold anything; then come the state and the parent
    found.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
  }
  return found
}

/** What the living services have started, directly or not. */
export async function childrenOf(tmpdir: string, services: readonly number[]): Promise<number[]> {
  const found = await marked(tmpdir)
  return [...found.keys()].filter(pid => !services.includes(pid) && descends(found, pid, services))
}

/** What none of the living services has started, though a dead one did. */
export async function orphansOf(tmpdir: string, services: readonly number[]): Promise<number[]> {
  const found = await marked(tmpdir)
  return [...found.keys()].filter(pid => !descends(found, pid, services))
}

function descends(parents: ReadonlyMap<number, number>, pid: number, ancestors: readonly number[]): boolean {
  for (let at: number | undefined = pid; at !== undefined; at = parents.get(at)) if (ancestors.includes(at)) return true
  return false
}

/** Returns those that are still there after `graceMs`. */
export async function outliving(tmpdir: string, services: readonly number[], graceMs: number): Promise<number[]> {
  for (const deadline = performance.now() + graceMs; ;) {
    const orphans = await orphansOf(tmpdir, services)
    if (orphans.length === 0 || performance.now() > deadline) return orphans
    await delay(POLL_INTERVAL_MS)
  }
}
