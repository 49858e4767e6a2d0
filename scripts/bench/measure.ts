/** Reads what a process has cost from /proc (Linux only). */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

const MIB = 1024 * 1024
const SAMPLE_INTERVAL_MS = 100

/** User and system time so far, in clock ticks: 10 ms each on most machines. */
function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // the second field is the program's name in parentheses and may hold anything; the rest begins with field 3
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

function statusMib(pid: number, name: 'VmRSS' | 'VmHWM'): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(match?.[1]) * 1024 / MIB
}

/** Bytes that went through read and write calls of the process, sockets included. */
export function ioBytes(pid: number): { read: number, written: number } {
  const io = readFileSync(`/proc/${pid}/io`, 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(io)?.[1])
  return { read: field('rchar'), written: field('wchar') }
}

export interface Cost {
  readonly wallSeconds: number
  readonly cpuSeconds: number
  /** Highest resident size while it ran, MiB: the kernel's own mark, which no sample misses. */
  readonly peakRssMib: number
  /** Median of samples of the resident size, MiB. */
  readonly medianRssMib: number
}

/** What the process costs while `work` runs. */
export async function measure<T>(pid: number, work: () => Promise<T>): Promise<{ cost: Cost, result: T }> {
  writeFileSync(`/proc/${pid}/clear_refs`, '5') // resets VmHWM to the present size
  const ticksPerSecond = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
  const samples: number[] = []
  const sampler = setInterval(() => samples.push(statusMib(pid, 'VmRSS')), SAMPLE_INTERVAL_MS)
  const ticksBefore = cpuTicks(pid)
  const before = performance.now()
  try {
    const result = await work()
    const wallSeconds = (performance.now() - before) / 1000
    samples.push(statusMib(pid, 'VmRSS'))
    const cpuSeconds = (cpuTicks(pid) - ticksBefore) / ticksPerSecond
    const cost = { wallSeconds, cpuSeconds, peakRssMib: statusMib(pid, 'VmHWM'), medianRssMib: median(samples) }
    return { cost, result }
  } finally {
    clearInterval(sampler)
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] ?? Number.NaN : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2
}
