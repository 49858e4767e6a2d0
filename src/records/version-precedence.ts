/** Precedence of versions (Semantic Versioning 2.0.0, section 11). A whole number N stands for N.0.0. */

const VERSION = /^(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/
const NUMERIC = /^\d+$/

/**
 * Below 0 where `a` comes before `b`, above 0 where it comes after, 0 where they are of one precedence (build metadata
 * does not count). Text that is no version comes before every version.
 */
export function compareVersions(a: string, b: string): number {
  const left = parse(a)
  const right = parse(b)
  if (left === null || right === null) return Number(left !== null) - Number(right !== null)
  for (const part of [1, 2, 3]) {
    const order = compareNumbers(left[part]!, right[part]!)
    if (order !== 0) return order
  }
  return comparePreReleases(left[4], right[4])
}

function parse(version: string): RegExpExecArray | null {
  return VERSION.exec(NUMERIC.test(version) ? `${version}.0.0` : version)
}

/** A version without pre-release comes after all of its pre-releases. */
function comparePreReleases(a: string | undefined, b: string | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  const left = a.split('.')
  const right = b.split('.')
  for (const [index, identifier] of left.entries()) {
    const other = right[index]
    if (other === undefined) return 1
    const order = compareIdentifiers(identifier, other)
    if (order !== 0) return order
  }
  return left.length - right.length
}

/** Numeric identifiers come before the others. */
function compareIdentifiers(a: string, b: string): number {
  const [left, right] = [NUMERIC.test(a), NUMERIC.test(b)]
  if (left && right) return compareNumbers(a, b)
  if (left !== right) return left ? -1 : 1
  return compareText(a, b)
}

/** Digits of any length: a manifest may hold numbers beyond what a double can tell apart. */
function compareNumbers(a: string, b: string): number {
  const [left, right] = [a.replace(/^0+(?=\d)/, ''), b.replace(/^0+(?=\d)/, '')]
  return left.length - right.length || compareText(left, right)
}

function compareText(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
