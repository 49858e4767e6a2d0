/** What a worker writes to its standard output and error, line by line to the log; a line without end is cut. */
import type { Readable } from 'node:stream'
import { WORKER_LOG_LINE_MAX_CHARACTERS } from '../../limits.ts'

export function readLines(stream: Readable, onLine: (line: string) => void): void {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('error', () => {})
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') onLine(line.slice(0, WORKER_LOG_LINE_MAX_CHARACTERS))
    if (rest.length < WORKER_LOG_LINE_MAX_CHARACTERS) return
    onLine(rest.slice(0, WORKER_LOG_LINE_MAX_CHARACTERS))
    rest = ''
  })
  stream.on('end', () => { if (rest !== '') onLine(rest) })
}
