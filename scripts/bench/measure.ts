/** Reads what a process has cost from /proc (Linux only). */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

const MIB = 1024 * 1024
const SAMPLE_INTERVAL_MS = 100

/** User and system time so far, in clock ticks: 10 ms each on most machines. */
function cpuTicks(pid: number, withChildren = false): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // the second field is the program's name in parentheses and may hold anything; the rest begins with field 3
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, withChildren ? 15 : 13).reduce((sum, ticks) => sum + Number(ticks), 0)
}

function ticksPerSecond(): number {
  return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
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
  const samples: number[] = []
  const sampler = setInterval(() => samples.push(statusMib(pid, 'VmRSS')), SAMPLE_INTERVAL_MS)
  const cpuBefore = cpuSeconds(pid)
  const before = performance.now()
  try {
    const result = await work()
    const wallSeconds = (performance.now() - before) / 1000
    samples.push(statusMib(pid, 'VmRSS'))
    const cost = { wallSeconds, cpuSeconds: cpuSeconds(pid) - cpuBefore, peakRssMib: statusMib(pid, 'VmHWM'), medianRssMib: median(samples) }
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

/** The value that `percent` of them do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * percent / 100) - 1)] ?? Number.NaN
}

/** CPU seconds that a process has used so far. */
export function cpuSeconds(pid: number): number {
  return cpuTicks(pid) / ticksPerSecond()
}

/** The same with what children used that have ended. */
export function cpuSecondsWithChildren(pid: number): number {
  return cpuTicks(pid, true) / ticksPerSecond()
}

/** Of the machine while `work` runs: the part of its processors that did something, from 0 to 1. */
export async function machineBusy<T>(work: () => Promise<T>): Promise<{ busy: number, result: T }> {
  const before = machineTicks()
  const result = await work()
  const after = machineTicks()
  return { busy: 1 - (after.idle - before.idle) / Math.max(after.all - before.all, 1), result }
}

function machineTicks(): { idle: number, all: number } {
  // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already
  const fields = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/\s+/).slice(1, 9).map(Number)
  return { idle: (fields[3] ?? 0) + (fields[4] ?? 0), all: fields.reduce((sum, each) => sum + each, 0) }
}
