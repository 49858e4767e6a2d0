/**
 * Reads the TAP stream of `tap -R tap` and says, file by file, what passed, failed and was skipped.
 *
 * tap writes a file as one top-level point, preceded by its subtests, each level four spaces further in:
 *
 *     # Subtest: test/a.test.ts
 *         # Subtest: adds numbers
 *             ok 1 - one and one
 *             1..1
 *         ok 1 - adds numbers # time=1ms
 *         1..1
 *     ok 1 - test/a.test.ts # time=9ms
 *
 * A test is a subtest without subtests of its own, or an assertion that stands beside them: a loop of a thousand
 * assertions is one test. A test with a skipped assertion is skipped: it did not show what its name says. A point that
 * is not ok although nothing below it failed (a crash, a timeout, a plan that was not met) is a failure itself.
 */

export interface TestResult {
  readonly outcome: 'passed' | 'failed' | 'skipped'
  /** Names from the file down to the test. */
  readonly path: readonly string[]
  /** Of a skip: its reason. Of a failure: the diagnostics, as they were written. */
  readonly text: string
}

export interface FileResult {
  readonly file: string
  readonly ok: boolean
  readonly timeMs: number
  readonly results: readonly TestResult[]
}

export interface Counts { passed: number, failed: number, skipped: number }

interface Point {
  ok: boolean
  name: string
  directive: 'skip' | 'todo' | undefined
  reason: string
  timeMs: number
  diagnostics: string[]
  /** Points of the subtest that this point closes; undefined for an assertion. */
  children: Point[] | undefined
}

const POINT = /^(not )?ok\b(?: \d+)?(?: - )?(.*)$/
const DIRECTIVE = /(?<!\\)#\s*(skip|todo)\S*\s*(.*)$/i
const TIME = /\s*(?<!\\)#\s*time=([\d.]+)ms\s*$/

function parsePoint(line: string): Point | undefined {
  const match = POINT.exec(line)
  if (match === null) return undefined
  let rest = match[2] ?? ''
  const time = TIME.exec(rest)
  if (time !== null) rest = rest.slice(0, time.index)
  const directive = DIRECTIVE.exec(rest)
  if (directive !== null) rest = rest.slice(0, directive.index)
  return {
    ok: match[1] === undefined,
    name: rest.trim().replaceAll('\\#', '#').replaceAll('\\\\', '\\'),
    directive: directive?.[1]?.toLowerCase() as 'skip' | 'todo' | undefined,
    reason: directive?.[2]?.trim() ?? '',
    timeMs: Number(time?.[1] ?? 0),
    diagnostics: [],
    children: undefined
  }
}

/** Collects the points of each level until the point that closes the level arrives. */
export class TapReader {
  /** Points seen so far, by depth; a deeper level belongs to the next point one level up. */
  readonly #levels: Point[][] = [[]]
  #last: { point: Point, depth: number } | undefined
  #inDiagnostics = false
  readonly #onFile: (result: FileResult) => void

  constructor(onFile: (result: FileResult) => void) {
    this.#onFile = onFile
  }

  /** Takes one line without its line break. */
  line(text: string): void {
    if (this.#diagnostics(text)) return
    const spaces = /^ */.exec(text)?.[0].length ?? 0
    if (spaces % 4 !== 0) return
    const depth = spaces / 4
    const content = text.slice(spaces)
    if (content.startsWith('# Subtest: ')) return this.#open(depth + 1)
    const point = parsePoint(content)
    if (point !== undefined) this.#point(point, depth)
  }

  /** Ends the stream: a failed top-level point stands for the runner itself. */
  end(): void {
    this.#flush()
  }

  #diagnostics(text: string): boolean {
    const last = this.#last
    if (last === undefined) return false
    const indent = ' '.repeat(last.depth * 4 + 2)
    if (!this.#inDiagnostics) {
      if (text === `${indent}---`) return (this.#inDiagnostics = true)
      this.#flush()
      return false
    }
    if (text === `${indent}...`) {
      this.#inDiagnostics = false
      this.#flush()
    } else last.point.diagnostics.push(text.startsWith(indent) ? text.slice(indent.length) : text)
    return true
  }

  /** A new subtest begins at this depth: what was there belonged to one that never got its closing point. */
  #open(depth: number): void {
    this.#levels.length = Math.min(this.#levels.length, depth)
    while (this.#levels.length <= depth) this.#levels.push([])
  }

  #point(point: Point, depth: number): void {
    point.children = this.#levels[depth + 1]
    this.#levels.length = Math.min(this.#levels.length, depth + 1)
    while (this.#levels.length <= depth) this.#levels.push([])
    if (depth > 0) this.#levels[depth]?.push(point)
    this.#last = { point, depth }
  }

  /** The diagnostics of the last point are complete: a file can be reported. */
  #flush(): void {
    const last = this.#last
    this.#last = undefined
    if (last === undefined || last.depth > 0) return
    const { point } = last
    this.#onFile({ file: point.name, ok: point.ok, timeMs: point.timeMs, results: resultsOf(point, []) })
  }
}

function resultsOf(point: Point, above: readonly string[]): TestResult[] {
  const path = [...above, point.name]
  const children = point.children ?? []
  if (point.directive !== undefined) return [{ outcome: 'skipped', path, text: point.reason || point.directive }]
  if (children.length === 0) return point.ok && point.children === undefined ? [passed(path)] : [bare(point, path)]
  const innermost = children.every(child => child.children === undefined)
  const found = innermost && above.length > 0 ? [innermostResult(point, path)] : children.flatMap(child => resultsOf(child, path))
  const explained = point.ok || found.some(each => each.outcome === 'failed')
  return explained ? found : [...found, failed(path, point)]
}

function innermostResult(point: Point, path: readonly string[]): TestResult {
  const children = point.children ?? []
  const wrong = children.filter(child => !child.ok && child.directive === undefined)
  const first = wrong[0]
  if (first !== undefined) {
    const others = wrong.length > 1 ? `\n(and ${wrong.length - 1} more)` : ''
    return { outcome: 'failed', path: [...path, first.name], text: first.diagnostics.join('\n') + others }
  }
  if (!point.ok) return failed(path, point)
  const skipped = children.find(child => child.directive !== undefined)
  if (skipped !== undefined) return { outcome: 'skipped', path, text: skipped.reason || skipped.name }
  return passed(path)
}

/** A subtest in which nothing was asserted shows nothing. */
function bare(point: Point, path: readonly string[]): TestResult {
  return point.ok ? { outcome: 'skipped', path, text: 'nothing was asserted' } : failed(path, point)
}

const passed = (path: readonly string[]): TestResult => ({ outcome: 'passed', path, text: '' })
const failed = (path: readonly string[], point: Point): TestResult => ({ outcome: 'failed', path, text: point.diagnostics.join('\n') })

export function countResults(results: readonly TestResult[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
  for (const { outcome } of results) counts[outcome] += 1
  return counts
}

/** The closing line: `N passed, N failed`, and `, N skipped` when there are any. */
export function closingLine({ passed: good, failed: bad, skipped }: Counts): string {
  return `${good} passed, ${bad} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}
