/** The processes of a service over the same stores: one that does everything, an API and two nodes of workers, or more of each. */
import { once } from 'node:events'
import { randomInt } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { childrenOf } from './orphans.ts'
import { kill, startService, type Service } from './process.ts'

const POLL_INTERVAL_MS = 20

export interface Node { readonly name: string, readonly api: boolean, readonly env: Record<string, string>, readonly logFile: string, service: Service | undefined }

/** Where all of them keep temporary files: whatever they start is known by that. */
export const temporaryFolder = (dataDir: string) => join(dataDir, 'tmp')

interface NodeOptions { name: string, role: string, workers?: number, dataDir: string, env: Record<string, string> }

/** @param env of the stores, and what is to be other than here */
export function nodeOf({ name, role, workers = 1, dataDir, env }: NodeOptions): Node {
  return {
    name, api: role.includes('api'), logFile: join(dataDir, `${name}.log`), service: undefined,
    env: {
      PORT: '0', LOG_LEVEL: 'info', DEVICE: 'cpu', ROLES: role, WORKERS: String(workers), WORKER_THREADS: '1', TMPDIR: temporaryFolder(dataDir),
      // as many machines as processes, where they share nothing but the stores
      DATA_DIR: join(dataDir, name), API_V1_RATE_LIMIT_MAX: '0', REFUSED_RATE_LIMIT_MAX: '0', ...env
    }
  }
}

export function nodesOf({ env, split, dataDir }: { env: Record<string, string>, split: boolean, dataDir: string }): Node[] {
  const roles: [name: string, role: string, workers: number][] = split ? [['api', 'api', 1], ['worker-1', 'worker', 1], ['worker-2', 'worker', 1]] : [['all', 'api,worker', 2]]
  return roles.map(([name, role, workers]) => nodeOf({ name, role, workers, dataDir, env }))
}

export async function startMissing(nodes: readonly Node[]): Promise<void> {
  await Promise.all(nodes.map(async node => { node.service ??= await startService(node.env, node.logFile) }))
}

export const pidsOf = (nodes: readonly Node[]) => nodes.flatMap(({ service }) => service?.child.pid ?? [])

/** Those that ended though nobody killed them. */
export function endedByThemselves(nodes: readonly Node[]): string[] {
  return nodes.filter(({ service }) => service !== undefined && (service.child.exitCode !== null || service.child.signalCode !== null))
    .map(({ name, service }) => `${name} ended by itself with ${service!.child.exitCode ?? service!.child.signalCode}`)
}

export async function killNode(node: Node): Promise<void> {
  const { service } = node
  node.service = undefined
  if (service !== undefined) await kill(service)
}

/** Asks it to end in good order. Returns a fault where it does not. */
export async function endNode(node: Node, timeoutMs: number): Promise<string[]> {
  const { service } = node
  node.service = undefined
  if (service === undefined || service.child.exitCode !== null || service.child.signalCode !== null) return []
  const gone = once(service.child, 'exit')
  service.child.kill('SIGTERM')
  const force = setTimeout(() => service.child.kill('SIGKILL'), timeoutMs)
  const [code, signal] = await gone as [number | null, string | null]
  clearTimeout(force)
  return code === 0 ? [] : [`${node.name} was asked to end and ended with ${code ?? signal}`]
}

export async function apiOf(nodes: readonly Node[]): Promise<string> {
  for (;;) {
    const url = nodes.find(({ api }) => api)?.service?.url
    if (url !== undefined) return url
    await delay(POLL_INTERVAL_MS)
  }
}

/** One of the nodes, now and then all of them. Returns how many. */
export async function killNodes(nodes: readonly Node[]): Promise<number> {
  const victims = randomInt(4) === 0 ? nodes : [nodes[randomInt(nodes.length)]!]
  await Promise.all(victims.map(killNode))
  return victims.length
}

/** One worker's process. Returns how many: none where there is none just now. */
export async function killWorker(nodes: readonly Node[], tmp: string): Promise<number> {
  const workers = await childrenOf(tmp, pidsOf(nodes))
  if (workers.length === 0) return 0
  try {
    process.kill(workers[randomInt(workers.length)]!, 'SIGKILL')
    return 1
  } catch {
    // it had just ended by itself
    return 0
  }
}

/** What commands and workers wrote for themselves: their own folders, and temporary files. */
export async function leftFiles(dataDir: string, nodes: readonly Node[]): Promise<string[]> {
  const folders = [temporaryFolder(dataDir), ...nodes.map(({ env }) => join(env.DATA_DIR!, 'work'))]
  const found = await Promise.all(folders.map(async folder => (await readdir(folder).catch(() => [])).map(name => `${join(folder, name)} was left`)))
  return found.flat()
}
