/**
 * A process that runs one command, and with which that command ends. It leads a process group of its own; the command, and
 * whatever that starts, is in it. The group is killed, this process with it,
 *
 *   - when the command has ended: what it left running does not stay
 *   - when standard input ends, which is when the worker is gone, however that came about
 *
 * Standard input: one line of JSON, `{ file, args, cwd, env }`. File descriptor 3: one line of JSON in the end, how it ended.
 * Output and errors of the command go where those of this process go.
 */
import { spawn } from 'node:child_process'
import { writeSync } from 'node:fs'

export interface GuardOrder { file: string, args: string[], cwd: string, env: Record<string, string> }
export type GuardReport = { code: number | null, signal: string | null } | { error: string }

const REPORT_FD = 3

function killAll(): void {
  process.kill(-process.pid, 'SIGKILL')
}

function finish(report: GuardReport): void {
  try {
    writeSync(REPORT_FD, `${JSON.stringify(report)}\n`)
  } finally {
    killAll()
  }
}

function start(line: string): void {
  const { file, args, cwd, env } = JSON.parse(line) as GuardOrder
  const child = spawn(file, args, { cwd, env, stdio: ['ignore', 'inherit', 'inherit'], shell: false })
  child.once('error', error => finish({ error: error.message }))
  child.once('exit', (code, signal) => finish({ code, signal }))
}

let head = ''
let started = false
process.stdin.setEncoding('utf8')
process.stdin.on('data', (chunk: string) => {
  if (started) return
  head += chunk
  if (!head.includes('\n')) return
  started = true
  start(head.slice(0, head.indexOf('\n')))
})
process.stdin.on('end', killAll)
process.stdin.on('error', killAll)
