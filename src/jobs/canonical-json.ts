/** One text for equal values: what is hashed to see whether two requests, or two runs, are the same. */
import { createHash } from 'node:crypto'

/** JSON with the keys of every object in order. What is undefined is left out. Recurses: bound the depth first. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, each: unknown) => isObject(each) ? Object.fromEntries(Object.entries(each).toSorted(byKey)) : each)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Where keys are numbers, objects are in the order of those anyway. */
function byKey([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1
}

/** Hex. */
export function sha256Of(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}

export interface Computation {
  model: { name: string, version: string, sha256: string }
  task: string
  params: Record<string, unknown>
  inputs: readonly { name: string, position: number, sha256: string }[]
}

/** Equal for computations that give the same results. Name and version count: results may hold them. */
export function memoKeyOf({ model: { name, version, sha256 }, task, params, inputs }: Computation): string {
  const given = inputs.map(input => [input.name, input.position, input.sha256])
  return sha256Of(canonicalJson([name, version, sha256, task, params, given]))
}

/** Are objects and arrays nested more than `max` deep? Recurses no deeper than that. */
export function isDeeperThan(value: unknown, max: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (max === 0) return true
  for (const each of Array.isArray(value) ? value : Object.values(value)) {
    if (typeof each === 'object' && isDeeperThan(each, max - 1)) return true
  }
  return false
}
