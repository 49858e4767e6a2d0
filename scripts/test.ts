/**
 * `npm test`: runs the test files under tap and ends with a line of its own, `N passed, N failed` (`, N skipped`).
 *
 *     npm test                                everything
 *     npm test -- ingest objects/fs           files whose path contains one of the words
 *     npm test -- ingest --grep=aborted       options (always as --name=value) go to tap
 *
 * Tests of servers that are not there skip, and are listed with their reasons. Files that take minutes (LONG) are left out, unless
 * they are named, and listed too. PENSTOCK_REQUIRE=minio,postgres,redis,nginx,ffmpeg,docker,python (any list) runs them all and makes every skip a
 * failure of the run: that is how CI runs it.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { closingLine, countResults, TapReader } from './tap-results.ts'
import type { FileResult, TestResult } from './tap-results.ts'

const ROOT = join(import.meta.dirname, '..')
const JOBS = 2
/** Of one file; a file that needs longer calls t.setTimeout itself. */
const FILE_TIMEOUT_SECONDS = 120
/** Files that take the whole machine, or are hurt by neighbours: one at a time, after the others. */
const ALONE = /(^|\/)(compose|chaos|(job-)?kill[^/]*)\.test\.ts$/

/** Files of minutes: containers, rounds of kills over many processes, and benchmarks that only show that they run. */
const LONG = /(^|\/)(compose|chaos|job-kill-rounds|bench-[^/]*)\.test\.ts$/

function selectFiles(words: readonly string[], whole: boolean): { files: string[], leftOut: string[] } {
  const all = globSync('test/**/*.test.ts', { cwd: ROOT }).toSorted()
  const leftOut = words.length === 0 && !whole ? all.filter(file => LONG.test(file)) : []
  const chosen = words.length === 0 ? all.filter(file => !leftOut.includes(file)) : all.filter(file => words.some(word => file.includes(word.replace(/^\.\//, ''))))
  return { files: [...chosen.filter(file => !ALONE.test(file)), ...chosen.filter(file => ALONE.test(file))], leftOut }
}

function tapArguments(files: readonly string[], options: readonly string[]): string[] {
  const run = createRequire(import.meta.url).resolve('tap/package.json').replace('package.json', 'dist/esm/run.mjs')
  const serial = files.filter(file => ALONE.test(file)).map(file => `--serial=${file}`)
  return [run, '--disable-coverage', '--reporter=tap', '--no-color', `--jobs=${JOBS}`, `--timeout=${FILE_TIMEOUT_SECONDS}`, ...serial, ...options, ...files]
}

/** What tap says of a whole file is mostly how it was started: only how it ended is of use. */
function diagnosticsOf({ path, text }: TestResult): string {
  const lines = text.split('\n')
  const useful = path.length > 1 ? lines : lines.filter(line => /^(exitCode|signal|expired|error|message):? /.test(line))
  return useful.map(line => `      ${line}`.trimEnd()).join('\n')
}

function printFile({ file, timeMs, results, ok }: FileResult): void {
  const counts = countResults(results)
  const mark = ok && counts.failed === 0 ? (counts.passed === 0 ? '-' : '✓') : '✗'
  console.log(`${mark} ${file}: ${closingLine(counts)} (${(timeMs / 1000).toFixed(1)} s)`)
  for (const each of results.filter(({ outcome }) => outcome === 'failed')) {
    console.log(`\n    ✗ ${each.path.slice(1).join(' > ') || 'the file as a whole'}`)
    console.log(`${diagnosticsOf(each)}\n`)
  }
}

function printSkipped(results: readonly TestResult[]): void {
  if (results.length === 0) return
  console.log(`\nSKIPPED, so not shown by this run:`)
  for (const { path, text } of results) console.log(`  - ${path.join(' > ')}: ${text}`)
}

async function runTap(args: readonly string[]): Promise<{ reported: FileResult[], exitCode: number }> {
  const reported: FileResult[] = []
  const reader = new TapReader(file => {
    reported.push(file)
    printFile(file)
  })
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
  const stop = (signal: NodeJS.Signals) => child.kill(signal)
  process.on('SIGTERM', stop).on('SIGINT', stop)
  const closed = once(child, 'close')
  for await (const line of createInterface({ input: child.stdout, crlfDelay: Infinity })) reader.line(line)
  reader.end()
  const [code] = await closed as [number | null]
  return { reported, exitCode: code ?? 1 }
}

/** tap drops the results of other files when one runs out of time: what it did not report is not taken for green. */
function unreported(files: readonly string[], reported: readonly FileResult[]): FileResult[] {
  const seen = new Set(reported.map(({ file }) => file))
  return files.filter(file => !seen.has(file)).map(file => ({
    file, ok: false, timeMs: 0, results: [{ outcome: 'failed', path: [file], text: 'error: tap gave no result of this file' }]
  }))
}

const required = process.env.PENSTOCK_REQUIRE ?? ''
const words = process.argv.slice(2).filter(arg => !arg.startsWith('-'))
const options = process.argv.slice(2).filter(arg => arg.startsWith('-'))
const { files, leftOut } = selectFiles(words, required !== '')
if (files.length === 0) {
  console.error(`no test file has ${words.join(' or ') || '.test.ts'} in its path`)
  process.exit(1)
}

if (required.split(',').includes('minio')) {
  // once, before several files would each begin to install it; loaded only here, so that a fault in src is a failed test and no failed runner
  const { provideMinio } = await import('./servers/minio.ts')
  await provideMinio(line => console.log(line))
}
if (required.split(',').includes('python')) {
  const { providePython } = await import('./servers/python.ts')
  await providePython(line => console.log(line))
}
if (required.split(',').includes('ffmpeg')) {
  const { provideFfmpeg } = await import('./servers/ffmpeg.ts')
  await provideFfmpeg(line => console.log(line))
}
if (required.split(',').includes('redis')) {
  const { provideRedis } = await import('./servers/redis.ts')
  await provideRedis(line => console.log(line))
}
if (required.split(',').includes('nginx')) {
  const { provideNginx } = await import('./servers/nginx.ts')
  await provideNginx(line => console.log(line))
}

const { reported, exitCode } = await runTap(tapArguments(files, options))
const missing = unreported(files, reported)
missing.forEach(printFile)
const results = [...reported, ...missing].flatMap(file => file.results)
const counts = countResults(results)
if (counts.failed === 0 && exitCode !== 0) {
  console.log(`\n✗ tap ended with exit code ${exitCode}, though no test failed`)
  counts.failed = 1
}
printSkipped(results.filter(({ outcome }) => outcome === 'skipped'))
if (leftOut.length > 0) console.log(`\nLEFT OUT, since they take minutes (\`npm test -- compose chaos job-kill bench-\` runs them, and so does .ci/run):\n${leftOut.map(file => `  - ${file}`).join('\n')}`)
if (required !== '' && counts.skipped > 0) console.log(`\nPENSTOCK_REQUIRE=${required}: a skipped test is a failure of this run`)
console.log(`\n${closingLine(counts)}`)
process.exitCode = counts.failed > 0 || results.length === 0 || (required !== '' && counts.skipped > 0) ? 1 : 0
