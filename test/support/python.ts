/** A Python with Triton's client for a test: scripts/servers/python.ts says where it comes from. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { findPython, providePython } from '../../scripts/servers/python.ts'
import { isRequired } from './minio.ts'

const HOW = 'there is no Python with Triton\'s client: `node scripts/servers/python.ts` makes one'
const SCRIPT_TIMEOUT_MS = 60_000

const run = promisify(execFile)

/** Runs a script with arguments; what it prints is JSON. @throws with all that it wrote where it fails */
export type Python = (script: string, ...args: string[]) => Promise<unknown>

/**
 * Call it with the file's `t`. Where there is none the tests are skipped, saying so, unless PENSTOCK_REQUIRE lists
 * `python`: then it is installed, or the tests fail.
 */
export async function pythonOrSkip(t: Test, { timeoutMs = SCRIPT_TIMEOUT_MS }: { timeoutMs?: number } = {}): Promise<Python | undefined> {
  const interpreter = isRequired('python') ? await providePython(line => console.error(line)) : await findPython()
  if (interpreter === undefined) {
    console.error(`SKIPPED: ${HOW}, PENSTOCK_REQUIRE=python makes this a failure`)
    void t.test('what needs a Python', { skip: HOW }, () => {})
    return undefined
  }
  return async (script, ...args) => {
    const { stdout } = await run(interpreter, [script, ...args], { timeout: timeoutMs, maxBuffer: 16 * 1024 * 1024 })
    return JSON.parse(stdout) as unknown
  }
}
