/**
 * A command of EXEC_TASKS_FILE over any input. It gets a folder of its own, which is its home and where it works:
 *
 *   input, ref_images-0 …     what was given
 *   output/                   every file in it becomes a result
 *
 * Lines of JSON on its standard output tell of its progress: `{ "progress": 40, "message": "…" }`, and with `{ "error": "…" }`
 * why it fails; anything else there is passed over. An exit code other than 0 fails the run.
 */
import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Type } from 'typebox'
import { EXEC_FILES_MAX_DEFAULT, EXEC_OUTPUT_MAX_DEFAULT_BYTES, EXEC_TIMEOUT_DEFAULT_MS } from '../../limits.ts'
import type { ExecTask, ExecTasks } from '../exec-tasks.ts'
import { assertWithin, listOutput } from '../exec/output-folder.ts'
import { runCommand } from '../exec/run-command.ts'
import { plainReason } from '../plain-reason.ts'
import { InferenceFailed, type StagedResult } from '../port.ts'
import type { Task, TaskContext } from '../task.ts'

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.json': 'application/json', '.txt': 'text/plain; charset=utf-8', '.csv': 'text/csv; charset=utf-8', '.pdf': 'application/pdf', '.zip': 'application/zip',
  '.png': 'image/png', '.jpg': 'image/jpeg', '.jpeg': 'image/jpeg', '.webp': 'image/webp', '.gif': 'image/gif', '.avif': 'image/avif', '.tiff': 'image/tiff',
  '.mp4': 'video/mp4', '.webm': 'video/webm', '.mov': 'video/quicktime', '.mp3': 'audio/mpeg', '.wav': 'audio/wav', '.ogg': 'audio/ogg', '.flac': 'audio/flac'
}

export const exec: Task = {
  name: 'exec',
  input: 'any',
  params: Type.Object({
    command: Type.Optional(Type.String({ maxLength: 128, description: 'name in EXEC_TASKS_FILE; without it the model\'s name' }))
  }, { additionalProperties: false }),
  async run(context) {
    const { name, argv: [file, ...args], limits = {} } = commandOf(context)
    const { timeoutMs = EXEC_TIMEOUT_DEFAULT_MS, maxOutputBytes = EXEC_OUTPUT_MAX_DEFAULT_BYTES, maxFiles = EXEC_FILES_MAX_DEFAULT } = limits
    const cwd = await context.folder()
    const output = join(cwd, 'output')
    await mkdir(output)
    const input = await placeInputs(context, cwd)
    const progress = progressReader(context)
    // what it keeps elsewhere in its folder counts too, but for the inputs and the folder of its results
    const given = { bytes: context.inputs.reduce((sum, { size }) => sum + size, 0), files: context.inputs.length + 1 }
    const ended = await runCommand({
      file: file!, args: args.map(arg => arg.replaceAll('{input}', input).replaceAll('{output}', output)), cwd, env: environment(cwd),
      timeoutMs, signal: context.signal, onLine: progress.read, measure: () => assertWithin(cwd, { maxOutputBytes, maxFiles }, given)
    })
    assertSucceeded(name, ended, progress.error())
    return await writeAll(context, await listOutput(output, { maxOutputBytes, maxFiles }))
  }
}

function commandOf({ execTasks, params, model }: TaskContext): ExecTask {
  if (execTasks === null) throw new InferenceFailed('invalid_input', 'no commands can be run here')
  const name = (params.command as string | undefined) ?? model.name
  const found = (execTasks as ExecTasks).tasks.find(task => task.name === name)
  if (found === undefined) throw new InferenceFailed('invalid_input', `there is no command "${name}"`)
  return found
}

/** Returns the path of the first. */
async function placeInputs(context: TaskContext, folder: string): Promise<string> {
  const counts = new Map<string, number>()
  const paths: string[] = []
  for (const input of context.inputs) {
    const count = counts.get(input.name) ?? 0
    counts.set(input.name, count + 1)
    const path = join(folder, input.name === 'input' && count === 0 ? 'input' : `${input.name === 'input' ? 'input' : 'ref_images'}-${count}`)
    await pipeline(await context.open(input), createWriteStream(path, { flags: 'wx' }), { signal: context.signal })
    paths.push(path)
  }
  if (paths[0] === undefined) throw new InferenceFailed('invalid_input', 'there is no input')
  return paths[0]
}

function environment(home: string): Record<string, string> {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: home, TMPDIR: home, LANG: 'C.UTF-8' }
}

function progressReader(context: TaskContext): { read(line: string): void, error(): string | undefined } {
  let error: string | undefined
  return {
    error: () => error,
    read(line) {
      const value = parse(line)
      if (typeof value.error === 'string') error = plainReason(value.error)
      const { progress, message } = value
      const known = typeof progress === 'number' && Number.isFinite(progress)
      if (!known && typeof message !== 'string') return
      context.progress({ progress: known ? progress : null, ...(typeof message === 'string' && { message: plainReason(message) }) })
    }
  }
}

function parse(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? value as Record<string, unknown> : {}
  } catch {
    return {}
  }
}

function assertSucceeded(name: string, { code, signal }: { code: number | null, signal: string | null }, error: string | undefined): void {
  if (code === 0 && error === undefined) return
  // killed from outside: most likely there was no memory left
  if (signal === 'SIGKILL' && error === undefined) throw new InferenceFailed('resource_exhausted', `the command "${name}" was killed`)
  throw new InferenceFailed('invalid_input', error ?? `the command "${name}" ended with ${code === null ? signal : `exit code ${code}`}`)
}

async function writeAll(context: TaskContext, files: readonly { name: string, path: string }[]): Promise<StagedResult[]> {
  const results: StagedResult[] = []
  for (const { name, path } of files) {
    context.signal.throwIfAborted()
    const contentType = CONTENT_TYPES[extname(name).toLowerCase()] ?? 'application/octet-stream'
    results.push(await context.writeFile({ name, filename: name, contentType }, path))
  }
  return results
}
