/**
 * A Python with Triton's HTTP client, numpy, ONNX and ONNX Runtime, for tests against clients that are not ours, and for
 * scripts/export-model.py, with Schemathesis, which asks the service what its OpenAPI document says, and with a parser of PromQL:
 * a virtual environment in .cache/python of this checkout, made from PyPI where it is missing
 * (a minute, once). Versions are pinned; a change of them makes it anew.
 *
 *     node scripts/servers/python.ts     makes it, and prints the path of its interpreter
 */
import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'

const FOLDER = resolve(import.meta.dirname, '../../.cache/python')
const INTERPRETER = join(FOLDER, 'bin', 'python')
/** Written last: what it lists is all there. */
const INSTALLED = join(FOLDER, 'requirements.txt')
const REQUIREMENTS = ['tritonclient[http]==2.73.0', 'numpy==2.4.6', 'onnx==1.23.2', 'onnxruntime==1.32.0', 'schemathesis==4.32.5', 'promql-parser==0.12.0']
const INSTALL_TIMEOUT_MS = 600_000

const run = promisify(execFile)

/** The interpreter, without installing anything. */
export async function findPython(): Promise<string | undefined> {
  const installed = await readFile(INSTALLED, 'utf8').catch(() => '')
  if (installed !== REQUIREMENTS.join('\n')) return undefined
  return await run(INTERPRETER, ['--version']).then(() => INTERPRETER, () => undefined)
}

/** Finds it or makes it. @throws Error that says what to do */
export async function providePython(say: (line: string) => void): Promise<string> {
  const found = await findPython()
  if (found !== undefined) return found
  const base = await findBase()
  say(`Python packages are not there: installing ${REQUIREMENTS.join(', ')} into ${FOLDER} (a minute, once)`)
  await rm(FOLDER, { recursive: true, force: true })
  await mkdir(dirname(FOLDER), { recursive: true })
  await step('python3 -m venv failed (Debian: apt-get install python3-venv)', base, ['-m', 'venv', FOLDER])
  await step('pip install failed', INTERPRETER, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary', ':all:', ...REQUIREMENTS])
  await writeFile(INSTALLED, REQUIREMENTS.join('\n'))
  return INTERPRETER
}

async function findBase(): Promise<string> {
  const version = await run('python3', ['-c', 'import sys; print(sys.version_info >= (3, 11))']).then(({ stdout }) => stdout.trim(), () => undefined)
  if (version === undefined) throw new Error('there is no python3 on PATH: install Python 3.11 or newer with its venv module')
  if (version !== 'True') throw new Error('python3 is too old: Python 3.11 or newer is needed')
  return 'python3'
}

async function step(problem: string, command: string, args: readonly string[]): Promise<void> {
  try {
    await run(command, args, { timeout: INSTALL_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 })
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string, message: string }
    throw new Error(`${problem}: ${stderr.trim() || message}`, { cause: error })
  }
}

if (import.meta.main) console.log(await providePython(line => console.error(line)))
