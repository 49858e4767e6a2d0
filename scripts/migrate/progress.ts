/** What is seen while it runs: on a terminal one bar, and a line for each failure; elsewhere a line for each entry. */
import { BAR_INTERVAL_MS } from './limits.ts'
import { bytesText, plain, secondsText } from './show.ts'
import type { Outcome } from './work.ts'

export interface Expected { entries: number, bytes: number }

export interface Progress {
  /** What there is in all, once it is known. */
  expect(expected: Expected): void
  note(outcome: Outcome): void
  stop(): void
}

export interface ProgressOptions {
  out: NodeJS.WriteStream
  /** bytes moved until now */
  moved(): number
}

export function showProgress(options: ProgressOptions): Progress {
  return options.out.isTTY ? bar(options) : lines(options)
}

const WORDS: Record<Outcome['outcome'], string> = { done: 'done   ', planned: 'planned', skipped: 'skipped', failed: 'failed ' }

export function lineOf({ name, outcome, reason, size }: Outcome): string {
  const what = reason === undefined ? size === undefined ? '' : `  ${bytesText(size)}` : `: ${plain(reason)}`
  return `${WORDS[outcome]} ${plain(name)}${what}`
}

function lines({ out }: ProgressOptions): Progress {
  return { expect() {}, note: outcome => { out.write(`${lineOf(outcome)}\n`) }, stop() {} }
}

const ERASE = '\r\u001b[K'
const BAR_CHARACTERS = 24

function bar({ out, moved }: ProgressOptions): Progress {
  const startedAt = performance.now()
  let seen = 0
  let expected: Expected | undefined
  const draw = (): void => { out.write(`${ERASE}${barText({ seen, expected, bytes: moved(), seconds: (performance.now() - startedAt) / 1000 }).slice(0, out.columns - 1)}`) }
  const timer = setInterval(draw, BAR_INTERVAL_MS)
  return {
    expect(all) { expected = all },
    note(outcome) {
      seen += 1
      if (outcome.outcome === 'failed') out.write(`${ERASE}${lineOf(outcome)}\n`)
    },
    stop() {
      clearInterval(timer)
      draw()
      out.write('\n')
    }
  }
}

export interface BarState { seen: number, expected: Expected | undefined, bytes: number, seconds: number }

/** By bytes where their sum is known, or by entries. */
export function barText({ seen, expected, bytes, seconds }: BarState): string {
  const rate = `${bytesText(seconds > 0 ? Math.round(bytes / seconds) : 0)}/s`
  if (expected === undefined) return `${seen} entries  ${bytesText(bytes)}  ${rate}`
  // those that were there already move no bytes: the entries say how far it is
  const part = expected.entries === 0 ? 1 : Math.min(1, seen / expected.entries)
  const filled = Math.round(part * BAR_CHARACTERS)
  const left = part > 0 ? secondsText(seconds / part * (1 - part)) : '–'
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_CHARACTERS - filled)} ${Math.floor(part * 100)}%  ${seen}/${expected.entries}  ${bytesText(bytes)}  ${rate}  ${left} left`
}
