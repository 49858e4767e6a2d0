import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { closingLine, countResults, TapReader } from '../../scripts/tap-results.ts'
import type { FileResult } from '../../scripts/tap-results.ts'

const ROOT = join(import.meta.dirname, '../..')

function readTap(text: string): FileResult[] {
  const files: FileResult[] = []
  const reader = new TapReader(file => files.push(file))
  for (const line of text.split('\n')) reader.line(line)
  reader.end()
  return files
}

/** A project of its own that holds the runner and these test files. */
function makeProject(t: Test, files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'penstock-runner-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  for (const folder of ['scripts', 'test']) mkdirSync(join(root, folder))
  for (const file of ['scripts/test.ts', 'scripts/tap-results.ts', 'package.json']) copyFileSync(join(ROOT, file), join(root, file))
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'))
  for (const [name, body] of Object.entries(files)) writeFileSync(join(root, 'test', name), `import t from 'tap'\n${body}\n`)
  return root
}

/** Runs `npm test` there; what this run's own tap put into the environment must not reach it. */
async function runTests(root: string, args: string[] = [], env: Record<string, string> = {}): Promise<{ code: number, lines: string[] }> {
  const clean = Object.entries(process.env).filter(([name]) => !/TAP|PENSTOCK_/.test(name))
  return new Promise(resolve => {
    execFile(process.execPath, [join(root, 'scripts/test.ts'), ...args], { env: { ...Object.fromEntries(clean), ...env } }, (error, stdout) => {
      resolve({ code: error === null ? 0 : Number(error.code), lines: stdout.trimEnd().split('\n') })
    })
  })
}

t.test('a test is counted once, however many assertions it makes and however deep it is', async t => {
  const [file] = readTap(`TAP version 14
# Subtest: test/a.test.ts
    # Subtest: outer
        ok 1 - beside
        # Subtest: deep
            ok 1 - one
            ok 2 - two \\# not a directive
            1..2
        ok 2 - deep # time=2.0ms
        1..2
    ok 1 - outer # time=8.3ms
    noise that a program wrote
    1..1
ok 1 - test/a.test.ts # time=14.8ms`)
  t.same(file?.results.map(each => [each.outcome, each.path.join(' > ')]), [
    ['passed', 'test/a.test.ts > outer > beside'],
    ['passed', 'test/a.test.ts > outer > deep']
  ])
  t.equal(file?.timeMs, 14.8)
})

t.test('every form of a skip is counted and keeps its reason', async t => {
  const files = readTap(`# Subtest: test/a.test.ts
    ok 1 - needs a server # SKIP no server here
    # Subtest: found out inside
        ok 1 - the program is not installed # SKIP
        1..1
    ok 2 - found out inside # time=1ms
    ok 3 - later # TODO not yet
    # Subtest: empty
        1..0
    ok 4 - empty # time=1ms
    1..4
ok 1 - test/a.test.ts # time=1ms
# Subtest: test/b.test.ts
    1..0 # no engine
ok 2 - test/b.test.ts # SKIP no engine`)
  const results = files.flatMap(file => file.results)
  t.same(results.map(each => each.outcome), Array.from({ length: 5 }, () => 'skipped'))
  t.same(results.map(each => each.text), ['no server here', 'the program is not installed', 'not yet', 'nothing was asserted', 'no engine'])
})

t.test('a failure is reported with its diagnostics, and a crash that no test explains is one too', async t => {
  const files = readTap(`# Subtest: test/a.test.ts
    # Subtest: breaks
        not ok 1 - should be equal
          ---
          compare: ===
          ok 7 - part of the diagnostics
          ...
        1..1
    not ok 1 - breaks # time=4ms
      ---
      at: somewhere
      ...
    1..1
not ok 1 - test/a.test.ts # time=5ms
  ---
  exitCode: 1
  ...
# Subtest: test/b.test.ts
    1..0 # no tests found
not ok 2 - test/b.test.ts # time=5ms
  ---
  exitCode: 7
  ...`)
  t.same(files.map(file => countResults(file.results)), [{ passed: 0, failed: 1, skipped: 0 }, { passed: 0, failed: 1, skipped: 0 }])
  t.equal(files[0]?.results[0]?.text, 'compare: ===\nok 7 - part of the diagnostics')
  t.equal(files[1]?.results[0]?.text, 'exitCode: 7')
})

t.test('the closing line names skips only where there are any', async t => {
  t.equal(closingLine({ passed: 3, failed: 0, skipped: 0 }), '3 passed, 0 failed')
  t.equal(closingLine({ passed: 3, failed: 1, skipped: 2 }), '3 passed, 1 failed, 2 skipped')
})

t.test('a green run ends with its closing line and exit code 0', async t => {
  const root = makeProject(t, {
    'good.test.ts': `t.test('adds', async t => { t.equal(1 + 1, 2) })`,
    'absent.test.ts': `t.test('needs a server', { skip: 'no server here' }, async () => {})`
  })
  const { code, lines } = await runTests(root)
  t.equal(code, 0)
  t.equal(lines.at(-1), '1 passed, 0 failed, 1 skipped')
  t.match(lines.join('\n'), 'test/absent.test.ts > needs a server: no server here')
  const required = await runTests(root, [], { PENSTOCK_REQUIRE: 'postgres' })
  t.equal(required.code, 1, 'where servers are required, a skip fails the run')
  const chosen = await runTests(root, ['good'], { PENSTOCK_REQUIRE: 'postgres' })
  t.equal(chosen.code, 0)
  t.equal(chosen.lines.at(-1), '1 passed, 0 failed')
})

t.test('files that take minutes are left out and listed, and run where they are named or servers are required', async t => {
  const root = makeProject(t, {
    'good.test.ts': `t.test('adds', async t => { t.equal(1 + 1, 2) })`,
    'chaos.test.ts': `t.test('takes long', async t => { t.equal(1 + 1, 2) })`
  })
  const plain = await runTests(root)
  t.same([plain.code, plain.lines.at(-1)], [0, '1 passed, 0 failed'])
  t.match(plain.lines.join('\n'), /LEFT OUT[^]*- test\/chaos\.test\.ts/)
  for (const { code, lines } of [await runTests(root, ['chaos', 'good']), await runTests(root, [], { PENSTOCK_REQUIRE: 'postgres' })]) {
    t.same([code, lines.at(-1)], [0, '2 passed, 0 failed'])
    t.notMatch(lines.join('\n'), 'LEFT OUT')
  }
})

t.test('a failing assertion, a crash, a hanging file and an unknown name each fail the run', async t => {
  const root = makeProject(t, {
    'wrong.test.ts': `t.test('adds', async t => { t.equal(1 + 1, 3) })`,
    'crash.test.ts': `throw new Error('meant to be seen: a file that crashes')`,
    'hangs.test.ts': `t.test('waits', async () => { await new Promise(resolve => setTimeout(resolve, 60_000)) })`
  })
  for (const [name, shown] of [['wrong', 'should be equal'], ['crash', 'exitCode: 1'], ['hangs', 'timeout!']] as const) {
    const { code, lines } = await runTests(root, [name, '--timeout=1'])
    t.equal(code, 1, name)
    t.match(lines.join('\n'), shown)
    t.match(lines.at(-1), /^0 passed, [1-9]\d* failed$/)
  }
  t.equal((await runTests(root, ['nothing-of-this-name'])).code, 1)
})
