/** What a benchmark found: rows of numbers, and the figures that are held against a bound. */
import { cpus } from 'node:os'

export interface Figure {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** Given where the project promises one. */
  readonly bound?: { readonly at: 'most' | 'least', readonly value: number }
}

export interface Report {
  readonly name: string
  readonly setup: Record<string, string | number>
  /** One row for each measurement, all with the same columns. */
  readonly rows: readonly Record<string, string | number>[]
  readonly figures: readonly Figure[]
}

export const machine = () => ({ node: process.version, cpu: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}` })

export function isMet({ value, bound }: Figure): boolean | undefined {
  if (bound === undefined) return undefined
  return bound.at === 'most' ? value <= bound.value : value >= bound.value
}

function show(value: string | number): string {
  if (typeof value === 'string' || Number.isInteger(value)) return String(value)
  return value.toFixed(Math.abs(value) < 10 ? 3 : 1)
}

function table(rows: readonly Record<string, string | number>[]): string {
  const columns = Object.keys(rows[0] ?? {})
  const lines = [columns, ...rows.map(row => columns.map(column => show(row[column] ?? '')))]
  const widths = columns.map((_, index) => Math.max(...lines.map(line => line[index]?.length ?? 0)))
  return lines.map(line => line.map((cell, index) => cell.padStart(widths[index] ?? 0)).join('  ')).join('\n')
}

function sentence(figure: Figure): string {
  const met = isMet(figure)
  const promise = figure.bound === undefined ? '' : `  (at ${figure.bound.at} ${figure.bound.value}: ${met === true ? 'met' : 'MISSED'})`
  return `  ${figure.name}: ${show(figure.value)} ${figure.unit}${promise}`
}

export function format({ name, setup, rows, figures }: Report): string {
  const described = Object.entries(setup).map(([key, value]) => `${key} ${value}`).join(', ')
  return `\n${name}: ${described}\n\n${table(rows)}\n\n${figures.map(sentence).join('\n')}\n`
}
