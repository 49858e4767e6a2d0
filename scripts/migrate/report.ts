/**
 * What became of each entry: a JSON file that is written as it goes, so that it costs no memory, and gets its name when it
 * is whole; and a table for people. A report that was asked for is opened before anything is done.
 */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { REASONS_SHOWN_MAX } from './limits.ts'
import { bytesText, plain } from './show.ts'
import type { Outcome, WorkResult } from './work.ts'

export interface Report {
  note(outcome: Outcome): void
  /** Writes the end, and gives the file its name. */
  finish(result: WorkResult): void
}

/** @throws where the file cannot be made */
export function openReport(file: string | undefined, command: string): Report {
  if (file === undefined) return { note() {}, finish() {} }
  const unfinished = `${file}.part`
  const descriptor = openSync(unfinished, 'w', 0o640)
  const write = (text: string): void => { writeAll(descriptor, Buffer.from(text)) }
  write(`{"command":${JSON.stringify(command)},"started_at":${JSON.stringify(new Date())},"entries":[`)
  let separator = '\n'
  return {
    note({ name, outcome, reason, size, facts }) {
      write(`${separator}${JSON.stringify({ name, outcome, reason, size, ...facts })}`)
      separator = ',\n'
    },
    finish({ totals, ended }) {
      write(`\n],"totals":${JSON.stringify(totals)},"ended":${JSON.stringify(ended ?? null)},"finished_at":${JSON.stringify(new Date())}}\n`)
      fsyncSync(descriptor)
      closeSync(descriptor)
      renameSync(unfinished, file)
    }
  }
}

function writeAll(descriptor: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length;) at += writeSync(descriptor, bytes, at)
}

export interface Reasons {
  note(outcome: Outcome): void
  /** Lines of a table, most frequent first. */
  lines(): string[]
}

/** Counts reasons; those that come after REASONS_SHOWN_MAX different ones are counted as one. */
export function countReasons(): Reasons {
  const counts = new Map<string, { count: number, example: string }>()
  return {
    note({ outcome, name, reason }) {
      if (reason === undefined) return
      const text = `${outcome}: ${reason}`
      const key = counts.has(text) || counts.size < REASONS_SHOWN_MAX ? text : `${outcome}: other reasons`
      const known = counts.get(key)
      if (known === undefined) counts.set(key, { count: 1, example: name })
      else known.count += 1
    },
    lines: () => [...counts].toSorted((a, b) => b[1].count - a[1].count)
      .map(([text, { count, example }]) => `  ${String(count).padStart(7)} × ${plain(text)}${count === 1 ? ` (${plain(example)})` : `, as ${plain(example)}`}`)
  }
}

export function totalsTable({ totals, ended }: WorkResult, dryRun: boolean): string[] {
  const rows: [string, number, string][] = [
    dryRun ? ['planned', totals.planned, bytesText(totals.bytes)] : ['done', totals.done, bytesText(totals.bytes)],
    ['skipped', totals.skipped, ''], ['failed', totals.failed, '']
  ]
  const lines = rows.map(([name, count, bytes]) => `${name.padEnd(8)}${String(count).padStart(8)}${bytes.padStart(14)}`.trimEnd())
  return ended === undefined ? lines : [...lines, `ended before it was through: ${plain(ended)}`]
}
